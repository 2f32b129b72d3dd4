"""One benchmark at a time on a machine: a lock that the kernel frees when its holder ends, however it ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

from bench.errors import UsageError

SHARED_MODE = 0o666
COMMAND_CHARS = 200


class Holder(msgspec.Struct, frozen=True):
    """Who holds the lock: written into its file."""

    pid: int
    command: str


@contextlib.contextmanager
def machine_lock() -> Iterator[None]:
    """Hold this machine for one benchmark. Raises UsageError naming the holder's pid and command where it is taken."""
    path = Path(os.environ.get("DLRM_BENCH_LOCK", "/tmp/dlrm-bench.lock"))
    fd = _opened(path)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UsageError(_taken(path)) from None
        _say_who(fd)
        yield
    finally:
        os.close(fd)


def _opened(path: Path) -> int:
    """A lock of ours is made for everyone. In a sticky folder another user's can only be opened as it is, or read."""
    refused: OSError | None = None
    for flags in (os.O_RDWR | os.O_CREAT, os.O_RDWR, os.O_RDONLY):
        try:
            fd = os.open(path, flags, SHARED_MODE)
        except OSError as error:
            refused = refused or error
            continue
        with contextlib.suppress(OSError):
            os.fchmod(fd, SHARED_MODE)
        return fd
    raise UsageError(_unusable(path, refused))


def _unusable(path: Path, error: OSError | None) -> str:
    why = error.strerror if error else "no reason given"
    return f"{path}: cannot be locked ({why}); name another file that every user shares in DLRM_BENCH_LOCK"


def _say_who(fd: int) -> None:
    """A full disk, or a lock of another user's, must not stop a benchmark: then its holder stays unnamed."""
    command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])[:COMMAND_CHARS]
    with contextlib.suppress(OSError):
        os.ftruncate(fd, 0)
        os.pwrite(fd, msgspec.json.encode(Holder(os.getpid(), command)), 0)


def _taken(path: Path) -> str:
    return (
        f"another benchmark runs on this machine ({_holder(path)}); timings would disturb each other: "
        "wait for it, or end it"
    )


def _holder(path: Path) -> str:
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Holder)
    except (OSError, ValueError):
        return f"its pid is unknown; it holds {path}"
    if not Path(f"/proc/{found.pid}").exists():
        return f"its pid is unknown here; it holds {path}"
    return f"pid {found.pid}: {found.command}"
