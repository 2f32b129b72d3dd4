"""The regression gate: pure decisions apart from running. Start reading at decide.py and run.py."""
