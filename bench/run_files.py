"""Files of a run folder by the paths that its records hold. Records may come from anywhere, so paths are checked."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

_SUFFIX = ".pt.trace.json.gz"


def inside(home: Path, relative: str) -> bool:
    """Whether a file lies there, below `home`."""
    found = (home / relative).resolve()
    return found.is_relative_to(home.resolve()) and found.is_file()


def open_own(path: Path, flags: int) -> int:
    """A descriptor of a plain file of a run folder. OSError where it is a link, which leads elsewhere, or a pipe."""
    fd = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "not a plain file", str(path))
    return fd


def page_path(trace: str) -> str:
    """The page of a trace, beside it; both relative to the run."""
    folder, slash, name = trace.rpartition("/")
    return f"{folder}{slash}{name.removesuffix(_SUFFIX)}.html"
