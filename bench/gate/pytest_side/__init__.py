"""The plugin that the gate loads into a side's pytest; a folder of its own, to be put on its path."""
