"""Files of a run folder by the paths that its records hold. Records may come from anywhere, so paths are checked."""

from __future__ import annotations

from pathlib import Path

_SUFFIX = ".pt.trace.json.gz"


def inside(home: Path, relative: str) -> bool:
    """Whether a file lies there, below `home`."""
    found = (home / relative).resolve()
    return found.is_relative_to(home.resolve()) and found.is_file()


def page_path(trace: str) -> str:
    """The page of a trace, beside it; both relative to the run."""
    folder, slash, name = trace.rpartition("/")
    return f"{folder}{slash}{name.removesuffix(_SUFFIX)}.html"
