"""The errors of reading traces."""

from __future__ import annotations

from pathlib import Path


class TraceError(ValueError):
    """A trace that cannot be used: which file, where, what was found and what to do."""

    def __init__(self, path: Path | str, what: str) -> None:
        """`what` completes the sentence '<path>: ...'."""
        super().__init__(f"{path}: {what}")
        self.path = Path(path)
        self.what = what


class NoTraceError(TraceError):
    """A file of another kind: whole, as far as one can see, and without events."""
