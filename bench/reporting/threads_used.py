"""Cases that left CPUs idle which they were given: which backends, how many."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from bench import metrics
from bench.records import Record
from bench.reporting.format import words
from profiles.machine import Machine

IDLE_SHARE = 0.65
"""A case that keeps less than this share of its threads busy ran mostly on one of them (of two)."""
EMBEDDING_SHARE = 0.5


def used_share(record: Record, machine: Machine) -> float | None:
    """CPUs kept busy over threads given; None on a GPU, on one thread, or where nobody looked."""
    used = metrics.value(record, machine, "cpus_used")
    threads = record.settings.num_threads if record.settings else 0
    return used / threads if used is not None and threads > 1 and record.case.device == "cpu" else None


def idle_threads(found: Sequence[Record], machine: Machine) -> list[str]:
    """One sentence on the backends whose embedding, most of the step, leaves threads idle; none where all are used.

    Steps of which the embedding is a small part are left out: they tell of the model around it.
    """
    parts: list[str] = []
    others: list[str] = []
    for backend in dict.fromkeys(r.case.backend for r in found):
        mostly = [r for r in found if r.case.backend == backend and _mostly_embedding(r, machine)]
        own = [r for r in mostly if used_share(r, machine) is not None]
        shares = [s for r in own if (s := used_share(r, machine)) is not None]
        if not shares:
            continue
        told = f"{backend} {_cpus(own, machine)}"
        (parts if median(shares) < IDLE_SHARE else others).append(told)
    if not parts:
        return []
    beside = f", where {words(others)}" if others else ""
    return [
        f"Of the CPUs given, the embedding's operators keep busy: {words(parts)}{beside}. "
        "What runs on one thread cannot reach a roof that was measured with all of them."
    ]


def _mostly_embedding(record: Record, machine: Machine) -> bool:
    share = metrics.stages(record, machine).get("embedding", {}).get("share_frac")
    return share is not None and share >= EMBEDDING_SHARE


def _cpus(own: Sequence[Record], machine: Machine) -> str:
    pairs = [
        (used, r.settings.num_threads)
        for r in own
        if (used := metrics.value(r, machine, "cpus_used")) is not None and r.settings
    ]
    used, threads = (median(column) for column in zip(*pairs, strict=True))
    return f"{used:.1f} of {threads:g}"
