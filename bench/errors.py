"""Errors a user can mend. The command line prints them and ends with exit code 2."""

from __future__ import annotations

from enum import IntEnum


class UsageError(Exception):
    """Bad use or configuration: says what was found and what to do."""


class SchemaError(UsageError):
    """A results file that cannot be read: says which file, line and field."""


class Exit(IntEnum):
    """Exit codes, the same for every verb."""

    OK = 0
    REGRESSION = 1
    USAGE = 2
    CASE_FAILED = 3
    NOT_COMPARABLE = 4
    INVALID = 5
    INTERRUPTED = 130
