"""Several windows of one rank are no ranks of a job: told by the rank, or by the file names of the profiler. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

_ENDING = re.compile(r"(\.[0-9]{10,}\.pt\.trace)?(\.json)?(\.gz)?$")
"""tensorboard_trace_handler writes each cycle as WORKER.TIME.pt.trace.json, packed or not."""


def same_rank(found: Iterable[tuple[int | None, str]]) -> str:
    """What (rank, file) belong to one rank, as a sentence; empty where each trace is of another."""
    files: dict[int | str, list[str]] = {}
    for rank, file in found:
        files.setdefault(rank if rank is not None else _worker(file), []).append(file)
    several = [(key, held) for key, held in files.items() if len(held) > 1]
    if not several:
        return ""
    key, held = several[0]
    whose = f"rank {key}" if isinstance(key, int) else "one process, by their names"
    more = f" and of {len(several) - 1} more" if len(several) > 1 else ""
    return f"{len(held)} traces are of {whose} ({', '.join(held)}){more}: name one trace of each rank"


def _worker(file: str) -> str:
    path = Path(file)
    return str(path.with_name(_ENDING.sub("", path.name, count=1) or path.name))
