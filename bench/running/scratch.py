"""Folders for what a case leaves, such as compiler caches. The parent removes them, since workers get killed."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

PREFIX = "dlrm-bench-"


@contextlib.contextmanager
def scratch() -> Iterator[str]:
    """An empty folder, named after this process, that is gone afterwards."""
    name = f"{PREFIX}{os.getpid()}-"
    with tempfile.TemporaryDirectory(prefix=name, ignore_cleanup_errors=True) as folder:
        yield folder


def remove_leftovers() -> None:
    """Remove the folders of our own programs that were killed. To be called by who holds the machine."""
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*-*"):
        pid = path.name.removeprefix(PREFIX).partition("-")[0]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists() and _is_ours(path):
            shutil.rmtree(path, ignore_errors=True)


def _is_ours(path: Path) -> bool:
    try:
        found = path.lstat()
    except OSError:
        return False
    return found.st_uid == os.getuid() and path.is_dir() and not path.is_symlink()
