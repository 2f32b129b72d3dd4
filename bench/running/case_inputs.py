"""How many inputs a case rotates through, and what they really are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from bench.records import InputStats, Limits, Replayed
from bench.running.request import Request
from workloads.batch import Achieved, Batch
from workloads.spec import ModelSpec
from workloads.work import TableTouch

LLC_MULTIPLE = 4
"""Rotated inputs touch distinct rows of this many last-level caches, so that no row waits there for its next use."""


COVERAGE_LOOKUPS = 3
"""Past this many lookups per table row nearly every row has been touched: more inputs touch nothing new."""


GENERATE_LOOKUPS_PER_S = 7e6
"""Lookups drawn, counted and converted per second of measuring time, so that inputs never take longer than timing."""


GENERATE_TABLE_S = 1e-4
"""What one table of one batch costs however few its lookups: generators, views, counting. Small batches are this."""


MAX_INPUT_BYTES = 2 * 2**30


UNKNOWN_LLC_BYTES = 64 * 2**20


def num_batches(request: Request) -> int:
    """How many batches to rotate through.

    Enough that their distinct rows exceed four last-level caches, or that nearly every row has been touched, or that
    no step of the whole measurement would meet a batch again; bounded by memory and by the time to make them.
    """
    from workloads import inputs, placements

    case, limits, spec = request.case, request.limits, request.case.model
    if spec is None or case.cache_mode == "hot":
        return 1
    llc_bytes = request.llc_bytes or UNKNOWN_LLC_BYTES
    lookups = case.batch_size * spec.lookups_per_sample
    stored = placements.as_stored(spec, case.backend, case.device, case.placement)
    unique_bytes = inputs.unique_bytes(stored, case.batch_size)
    enough = math.ceil(LLC_MULTIPLE * llc_bytes / max(unique_bytes, 1))
    covering = math.ceil(max(COVERAGE_LOOKUPS * t.num_rows / (case.batch_size * t.pooling_factor) for t in spec.tables))
    batch_bytes = 2 * 8 * lookups + 4 * case.batch_size * (spec.num_dense + 1)
    # A precise case may stop after the least number of repeats, long before its budget is used.
    surely_s = min(limits.budget_s, limits.min_repeats * limits.min_repeat_s)
    batch_s = lookups / GENERATE_LOOKUPS_PER_S + GENERATE_TABLE_S * (len(spec.tables) + 1)
    affordable = min(MAX_INPUT_BYTES / batch_bytes, surely_s / batch_s)
    return max(2, min(enough, covering, int(affordable)))


def measured_as_long(limits: Limits, inputs_s: float) -> Limits:
    """Limits under which a case is measured at least as long as its inputs took to make (repeats allowing).

    Two batches are always made, and of a model with thousands of lookups a sample these may take seconds.
    """
    repeats = math.ceil(inputs_s / limits.min_repeat_s) if limits.min_repeat_s > 0 else 0
    return msgspec.structs.replace(
        limits,
        budget_s=max(limits.budget_s, inputs_s),
        min_repeats=max(limits.min_repeats, min(limits.max_repeats, repeats)),
    )


def input_stats(
    spec: ModelSpec,
    made: Sequence[Batch],
    touches: Sequence[TableTouch],
    llc_bytes: int,
    *,
    wrapped: bool = False,
    cold: bool = False,
    measured_llc_bytes: int = 0,
) -> InputStats:
    """What the inputs really are; residency compares the bytes they touch with the last-level cache.

    measured_llc_bytes: where reads really slow down, 0 where that is not known. cold: caches are flushed before every
    step, which begins in memory however little it touches.
    """
    from workloads.batch import achieved, expected_reuse

    lookups = sum(t.lookups for t in touches)
    unique = sum(t.unique_rows for t in touches)
    touched = sum(t.rotation_unique_rows * table.row_bytes for t, table in zip(touches, spec.tables, strict=True))
    found = achieved(spec, made)
    share = [t.lookups / max(lookups, 1) for t in touches]
    reuse = expected_reuse(spec, made[0].batch_size)
    return InputStats(
        num_batches=len(made),
        lookups_per_step=lookups,
        unique_rows_per_step=unique,
        unique_frac=unique / max(lookups, 1),
        mean_length=sum(a.length_mean for a in found) / len(found),
        p99_length=max(a.length_p99 for a in found),
        top_1pct_mass=sum(s * a.top1_frac for s, a in zip(share, found, strict=True)),
        top_1pct_ranks_mass=_ranks_mass(touches, found),
        rotation_unique_bytes=touched,
        llc_bytes=llc_bytes,
        measured_llc_bytes=measured_llc_bytes,
        residency=residency(touched, llc_bytes, measured_llc_bytes, cold=cold),
        **_distances(found),
        reuse_asked=reuse.asked if reuse else None,
        reuse_delivered=reuse.delivered if reuse else None,
        replay=_replayed(spec, made, wrapped),
    )


def _ranks_mass(touches: Sequence[TableTouch], found: Sequence[Achieved]) -> float | None:
    """Of the tables whose law has ranks, weighted by their lookups."""
    known = [
        (t.lookups, a.top1_ranks_frac) for t, a in zip(touches, found, strict=True) if a.top1_ranks_frac is not None
    ]
    lookups = math.fsum(n for n, _ in known)
    return math.fsum(n * mass for n, mass in known) / lookups if lookups else None


def _distances(found: Sequence[Achieved]) -> dict[str, Any]:
    """Of the tables whose draws can be compared, the one that is farthest from its law for its number of draws."""

    def farthest(field: str, number: str) -> dict[str, Any]:
        known = [(getattr(a, field), getattr(a, number)) for a in found if getattr(a, field) is not None]
        ks, n = max(known, key=lambda pair: pair[0] * math.sqrt(pair[1]), default=(None, 0))
        return {field: ks, number: n}

    return farthest("index_ks", "index_ks_lookups") | farthest("length_ks", "length_ks_bags")


def _replayed(spec: ModelSpec, made: Sequence[Batch], wrapped: bool) -> Replayed | None:
    from workloads.inputs import rows_remapped_frac

    if spec.captured is None:
        return None
    return Replayed(
        file=Path(spec.replay).name,
        digest=spec.captured.digest,
        samples=spec.captured.samples,
        tables=spec.captured.tables,
        remapped_frac=rows_remapped_frac(made),
        wrapped=wrapped,
    )


def residency(touched_bytes: int, llc_bytes: int, measured_bytes: int = 0, *, cold: bool = False) -> Any:
    """`dram` where the rows touched exceed twice the last-level cache, `cache` where they fill less than half of it.

    Where the measured curve of reads has an edge (`measured_bytes`), `dram` must lie beyond it and `cache` within half
    of it too: what a machine reports may be shared, or not be all there is. After a flush small tables are `mixed`:
    first uses of a step come from memory, further ones from the cache.
    """
    if llc_bytes <= 0:
        return "unknown"
    edge = measured_bytes or llc_bytes
    if touched_bytes > max(2 * llc_bytes, edge):
        return "dram"
    return "cache" if touched_bytes < min(llc_bytes, edge) / 2 and not cold else "mixed"
