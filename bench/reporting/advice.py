"""What one case's own numbers say to change: a sentence with its evidence, and what it is worth where that is known."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from bench import metrics, stats
from bench.records import KEEPS_MEMORY, Record
from bench.reporting.format import percent, short, times

FAULTS_PER_STEP = 1.0
TOLD_FRAC = 0.03
"""A kernel share below this is not worth a sentence."""


def advice(record: Record, records: Sequence[Record]) -> list[str]:
    """Sentences on one measured case; `records` are all of its run, where a twin under another setting may stand."""
    if record.measurement is None or record.outcome.status != "ok":
        return []
    found = (_page_faults(record, records), _small_pages(record))
    return [text for text in found if text]


def faults_per_step(record: Record) -> float:
    """Minor page faults of a timed step."""
    found = record.measurement
    steps = found.steps_per_repeat * len(found.times_s) if found else 0
    return found.minor_faults / steps if found and steps else 0.0


def kernel_frac(record: Record) -> float:
    """Share of the CPU time during the repeats that was the kernel's; 0 where it was not recorded."""
    found = record.measurement
    used_s = found.user_s + found.system_s if found else 0.0
    return found.system_s / used_s if found and used_s else 0.0


def allocator_of(record: Record) -> str:
    """As read back from the process; as asked in records from before it was."""
    return (record.settings.allocator if record.settings else "") or record.case.allocator


def _page_faults(record: Record, records: Sequence[Record]) -> str | None:
    faults, share = faults_per_step(record), kernel_frac(record)
    if faults <= FAULTS_PER_STEP or share < TOLD_FRAC:
        return None
    seen = f"{percent(share)} of the CPU time is the kernel's, with {short(faults)} page faults a step"
    if allocator_of(record) in KEEPS_MEMORY:
        return (
            f"{seen}, though the allocator ({allocator_of(record)}) keeps what is freed: something in the step maps "
            "memory anew each time"
        )
    return f"{seen}; pin the allocator: {_worth(record, records) or f'at most {1 / (1 - share):.1f}×'}"


def _worth(record: Record, records: Sequence[Record]) -> str | None:
    """What pinning brought the same case in this run, or None where it has no such twin."""
    wanted = msgspec.structs.replace(record.case, allocator="pinned")
    twin = next((r for r in records if r.case == wanted and r.outcome.status == "ok" and metrics.step_s(r)), None)
    if twin is None or twin.measurement is None or record.measurement is None:
        return None
    ratio = stats.ratio_of_medians(record.measurement.times_s, twin.measurement.times_s)
    return f"{times(*ratio)} in this run"


def _small_pages(record: Record) -> str | None:
    if record.measurement is None or "small_pages" not in record.measurement.flags or record.settings is None:
        return None
    granted = record.settings.transparent_huge_pages
    if "[never]" in granted:
        return (
            "tables lie on 4 KiB pages because transparent huge pages are off: "
            "`echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled`"
        )
    return "tables were asked on huge pages and the kernel granted few: free memory is fragmented or short"
