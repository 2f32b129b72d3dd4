"""What the pytest plugin does, apart from its hooks; and pytest-benchmark's JSON, read and written."""
