"""The environment a fork server must be started with, by the settings of its cases."""

from __future__ import annotations

import os

from bench.records import Allocator, Case
from profiles.allocator import HUGE_PAGE_ENV, PINNED_ENV

Environment = dict[str, str | None]
"""Variables to set, or to remove (None)."""


def environment(allocator: Allocator, huge_pages: bool) -> Environment:
    """Allocator pinned or glibc's default, tables on huge pages or not; what the user's shell says is overruled."""
    pinned = {name: value if allocator == "pinned" else None for name, value in PINNED_ENV.items()}
    huge = {name: value if huge_pages else None for name, value in HUGE_PAGE_ENV.items()}
    return {**pinned, **huge}


def environment_of(case: Case) -> Environment:
    """The environment of a case."""
    return environment(case.allocator, case.huge_pages)


def in_force() -> dict[str, str]:
    """The variables as this process was started with."""
    names = (*PINNED_ENV, *HUGE_PAGE_ENV, "LD_PRELOAD", "GLIBC_TUNABLES")
    return {name: os.environ[name] for name in names if name in os.environ}
