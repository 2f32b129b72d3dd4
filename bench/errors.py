"""Errors a user can mend. The command line prints them and ends with exit code 2."""

from __future__ import annotations

import errno
from enum import IntEnum


class UsageError(Exception):
    """Bad use or configuration: says what was found and what to do."""


class SchemaError(UsageError):
    """A results file that cannot be read: says which file, line and field."""


class StoppedError(Exception):
    """The user ended it: says what is kept and how to go on."""


class Exit(IntEnum):
    """Exit codes, the same for every verb."""

    OK = 0
    REGRESSION = 1
    USAGE = 2
    CASE_FAILED = 3
    NOT_COMPARABLE = 4
    INVALID = 5
    INTERRUPTED = 130


CURES = {
    errno.ENOSPC: "make room",
    errno.EDQUOT: "make room, or ask for a larger quota",
    errno.EROFS: "make it writable, or name another place",
    errno.EACCES: "make it writable, or name another place",
    errno.EPERM: "make it writable, or name another place",
    errno.EIO: "check that disk",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "end something that holds many files open",
}
"""What to do about faults of the machine, by error number."""


def machine_fault(error: BaseException) -> str | None:
    """What was found and what to do, where an error is the machine's (disk full, read-only, ...); else None."""
    if not isinstance(error, OSError) or error.errno not in CURES:
        return None
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror}: {CURES[error.errno]}, then try again"
