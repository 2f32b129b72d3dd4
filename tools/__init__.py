"""Experiments on the suite itself, run by hand: what they print is quoted in docs and never a test threshold."""
