"""What each verb does, a file per family. bench/cli.py parses and dispatches here."""
