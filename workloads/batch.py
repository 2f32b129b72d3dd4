"""Batch: the inputs of one step as numpy arrays, and what a set of batches does to the tables. No torch."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from workloads import indices, lengths, pairs
from workloads.spec import ModelSpec, SpecError, TableSpec
from workloads.work import TableTouch

Ints = NDArray[np.int64]
Singles = NDArray[np.float32]

# Streams keep the parts of one (seed, table, batch) independent. numpy pads seeds with zeros, so what has no table
# takes a number that no table has rather than leaving the place out.
_INDICES, _LENGTHS, _WEIGHTS, _DENSE, _LABELS = range(1, 6)
_NO_TABLE = 2**32 - 1
MARKED_ROWS = 1 << 26
COUNTED_ROWS = 16
"""Up to so many table rows a lookup, counting into an array of them is faster than sorting the lookups."""
KS_LOOKUPS, KS_LEAST, KS_ALL = 1 << 16, 1 << 12, 1 << 20
"""Lookups compared with the law: at most so many of a table, and of all tables (but for the least of each)."""


class TableInput(NamedTuple):
    """One table's part of a batch: indices (n,), offsets (B+1,) that start at 0, weights (n,) or None."""

    indices: Ints
    offsets: Ints
    weights: Singles | None


@dataclass(frozen=True)
class Batch:
    """Inputs of one step for T tables and B samples.

    dense (B, num_dense) float32 in [0, 1); indices (N,) int64, all of table 0 first; offsets (T*B+1,) int64: bag
    t*B + b is indices[offsets[t*B+b] : offsets[t*B+b+1]]; labels (B,) float32 of 0 and 1; weights (N,) float32 in
    [0.5, 1.5) where a table is weighted (1 for the others), else None. remapped: replayed lookups of rows that their
    table does not have, folded into it.
    """

    dense: Singles
    indices: Ints
    offsets: Ints
    labels: Singles
    weights: Singles | None
    seed: int
    number: int
    remapped: int = 0

    @property
    def batch_size(self) -> int:
        """Samples."""
        return self.labels.size

    @property
    def num_tables(self) -> int:
        """Tables."""
        return (self.offsets.size - 1) // self.batch_size

    def table(self, t: int) -> TableInput:
        """Views of table `t`'s part (the offsets are a rebased copy)."""
        offsets = self.offsets[t * self.batch_size : (t + 1) * self.batch_size + 1]
        part = slice(int(offsets[0]), int(offsets[-1]))
        weights = None if self.weights is None else self.weights[part]
        return TableInput(self.indices[part], offsets - offsets[0], weights)


def make_batch(
    spec: ModelSpec, batch_size: int, seed: int, batch_number: int = 0, num_threads: int | None = None
) -> Batch:
    """Batch number `batch_number` of `seed`; the same on any number of threads.

    Raises SpecError for a batch size or seed out of range and for unknown laws; lookups that are replayed are not drawn
    here (workloads.inputs).
    """
    if spec.replay:
        raise SpecError("replay", spec.replay, "batches of a file, which workloads.inputs makes")
    _require_whole("batch_size", batch_size, 1)
    _require_whole("seed", seed, 0)
    _require_whole("batch_number", batch_number, 0)
    seeds = [(seed, t, batch_number) for t in range(len(spec.tables))]
    per_bag = [
        lengths.draw_lengths(table, (*s, _LENGTHS), batch_size) for table, s in zip(spec.tables, seeds, strict=True)
    ]
    offsets = np.zeros(len(spec.tables) * batch_size + 1, dtype=np.int64)
    np.cumsum(np.concatenate(per_bag), out=offsets[1:])
    firsts = [batch_number * round(batch_size * table.pooling_factor) for table in spec.tables]
    rows = _draw_indices(spec.tables, seeds, firsts, offsets[::batch_size], num_threads)
    if pairs.has_pairs(spec):
        _replace_by_pairs(spec, rows, batch_size)
    return Batch(
        dense=_generator(seed, _DENSE, batch_number).random((batch_size, spec.num_dense), dtype=np.float32),
        indices=rows,
        offsets=offsets,
        labels=_generator(seed, _LABELS, batch_number).integers(0, 2, batch_size).astype(np.float32),
        weights=_draw_weights(spec, seeds, offsets[::batch_size]),
        seed=seed,
        number=batch_number,
    )


def _require_whole(field: str, value: int, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise SpecError(field, value, f"a whole number of at least {least}")


def _generator(seed: int, stream: int, batch_number: int) -> np.random.Generator:
    return np.random.Generator(np.random.SFC64([seed, _NO_TABLE, batch_number, stream]))


def _draw_indices(
    tables: tuple[TableSpec, ...],
    seeds: list[tuple[int, int, int]],
    firsts: list[int],
    bounds: Ints,
    num_threads: int | None,
) -> Ints:
    """All tables' indices (N,); table t fills bounds[t]..bounds[t+1], in blocks that threads take as they come."""
    out = np.empty(int(bounds[-1]), dtype=np.int64)
    jobs = [
        (table, (*seeds[t], _INDICES), block, out[start : min(start + indices.BLOCK, int(bounds[t + 1]))], firsts[t])
        for t, table in enumerate(tables)
        for block, start in enumerate(range(int(bounds[t]), int(bounds[t + 1]), indices.BLOCK))
    ]
    threads = num_threads or len(os.sched_getaffinity(0))
    if threads == 1 or out.size <= indices.BLOCK:
        for job in jobs:
            indices.fill_indices(*job)
        return out
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda job: indices.fill_indices(*job), jobs))
    return out


def _replace_by_pairs(spec: ModelSpec, rows: Ints, batch_size: int) -> None:
    """The last table's indices, in place, from those of the N tables before it: one hashed pair per lookup."""
    pairs.check(spec)
    features = len(spec.tables) - 1
    values = rows[: features * batch_size].reshape(features, batch_size).T
    rows[features * batch_size :] = pairs.hashed_pairs(values, spec.tables[-1].num_rows).reshape(-1)


def _draw_weights(spec: ModelSpec, seeds: list[tuple[int, int, int]], bounds: Ints) -> Singles | None:
    if not any(t.weighted for t in spec.tables):
        return None
    out = np.ones(int(bounds[-1]), dtype=np.float32)
    for t, table in enumerate(spec.tables):
        if table.weighted:
            part = out[bounds[t] : bounds[t + 1]]
            np.random.Generator(np.random.SFC64([*seeds[t], _WEIGHTS])).random(out=part, dtype=np.float32)
            part += np.float32(0.5)
    return out


def touch(spec: ModelSpec, batches: Sequence[Batch]) -> tuple[TableTouch, ...]:
    """What `batches` do to each table: mean lookups and distinct rows per batch, distinct rows over all.

    Takes five bytes per table row (one where a table has more than 2^26), one table at a time.
    """
    return tuple(_touch_table(table, [b.table(t).indices for b in batches]) for t, table in enumerate(spec.tables))


def _touch_table(table: TableSpec, rows: list[Ints]) -> TableTouch:
    seen = np.zeros(table.num_rows, dtype=np.bool_)
    last = np.empty(min(table.num_rows, MARKED_ROWS), dtype=np.int32)
    distinct = 0
    for part in rows:
        distinct += _count_distinct(part, table.num_rows, last)
        seen[part] = True
    return TableTouch(
        lookups=sum(p.size for p in rows) / len(rows),
        unique_rows=distinct / len(rows),
        rotation_unique_rows=int(np.count_nonzero(seen)),
    )


def _count_distinct(rows: Ints, num_rows: int, last: NDArray[np.int32]) -> int:
    """Distinct values of `rows` (n,): each row keeps the place of its last lookup in `last`, which need hold nothing.

    Several times as fast as sorting; tables too large for a place per row are sorted.
    """
    if num_rows > last.size:
        return int(np.unique(rows).size)
    places = np.arange(rows.size, dtype=np.int32)
    last[rows] = places
    return int(np.count_nonzero(last[rows] == places))


@functools.lru_cache(maxsize=64)
def expected_touch(spec: ModelSpec, batch_size: int, num_batches: int = 1) -> tuple[TableTouch, ...]:
    """The same as `touch`, expected from the laws instead of counted."""
    return tuple(_expected_table(t, batch_size * t.pooling_factor, num_batches) for t in spec.tables)


def _expected_table(table: TableSpec, lookups: float, num_batches: int) -> TableTouch:
    return TableTouch(
        lookups=lookups,
        unique_rows=indices.expected_unique(table, lookups),
        rotation_unique_rows=round(indices.expected_unique(table, lookups, num_batches)),
    )


class Reuse(NamedTuple):
    """Share of lookups that repeat one of the working set, over all tables under `temporal`: asked, and expected."""

    asked: float
    delivered: float


def expected_reuse(spec: ModelSpec, batch_size: int) -> Reuse | None:
    """What a batch delivers of the asked reuse; None without a table under `temporal`.

    Less than asked where a table has few lookups in a batch for its working set: none repeats one of another batch.
    """
    found = [(batch_size * t.pooling_factor, t) for t in spec.tables if t.indices == "temporal"]
    if not found:
        return None
    lookups = math.fsum(n for n, _ in found)
    return Reuse(
        asked=math.fsum(n * t.reuse for n, t in found) / lookups,
        delivered=math.fsum(n * indices.delivered_reuse(t, n) for n, t in found) / lookups,
    )


class Achieved(msgspec.Struct, frozen=True, kw_only=True):
    """What the drawn inputs of one table look like, whatever was asked.

    unique_frac: distinct rows over lookups, all batches together. length_mean, length_p99: rows per bag.
    top1_frac: share of lookups that go to the rows these very inputs look up most, 1 % of the table's rows (at least
    one): in a sample that is sparse for its table far more than the law's. top1_ranks_frac: to the first 1 % of the
    law's ranks, whatever was drawn; None where there is no distance from the law either.
    index_ks: Kolmogorov-Smirnov distance of `index_ks_lookups` indices, evenly spaced, from the asked law; None where
    lookups are replayed or the law's are not independent draws. length_ks: that of all `length_ks_bags` lengths; None
    where they are fixed or replayed.
    """

    unique_frac: float
    length_mean: float
    length_p99: float
    top1_frac: float
    top1_ranks_frac: float | None = None
    index_ks: float | None = None
    index_ks_lookups: int = 0
    length_ks: float | None = None
    length_ks_bags: int = 0


def achieved(spec: ModelSpec, batches: Sequence[Batch]) -> tuple[Achieved, ...]:
    """Statistics of each table's inputs over `batches`."""
    seed = batches[0].seed
    most = min(KS_LOOKUPS, max(KS_LEAST, KS_ALL // len(spec.tables)))
    # Hashed pairs are no draws of their table's law.
    derived = len(spec.tables) - 1 if pairs.has_pairs(spec) else None
    return tuple(
        _achieved_table(t, (seed, i), [b.table(i) for b in batches], 0 if i == derived else most)
        for i, t in enumerate(spec.tables)
    )


def _achieved_table(table: TableSpec, seed: tuple[int, int], parts: list[TableInput], most: int) -> Achieved:
    num_rows = table.num_rows
    rows = np.concatenate([p.indices for p in parts])
    per_bag = np.concatenate([np.diff(p.offsets) for p in parts])
    if not rows.size:
        return Achieved(unique_frac=0.0, length_mean=0.0, length_p99=0.0, top1_frac=0.0)
    distinct, counts = _counts(rows, num_rows)
    top = min(counts.size, max(1, num_rows // 100))
    hottest = np.partition(counts, counts.size - top)[counts.size - top :]
    compared = rows[:: math.ceil(rows.size / most)] if most else rows[:0]
    return Achieved(
        unique_frac=counts.size / rows.size,
        length_mean=float(per_bag.mean()),
        length_p99=float(np.quantile(per_bag, 0.99)),
        top1_frac=float(hottest.sum()) / rows.size,
        top1_ranks_frac=indices.top_mass(table, distinct, counts, seed) if most else None,
        index_ks=indices.distance(table, compared, seed),
        index_ks_lookups=compared.size,
        length_ks=lengths.distance(table, per_bag),
        length_ks_bags=per_bag.size,
    )


def _counts(rows: Ints, num_rows: int) -> tuple[Ints, NDArray[np.intp]]:
    """Distinct values of `rows` (n,) and how often each is there."""
    if num_rows > COUNTED_ROWS * rows.size:
        return np.unique(rows, return_counts=True)
    counts = np.bincount(rows)
    distinct = np.flatnonzero(counts).astype(np.int64, copy=False)
    return distinct, counts[distinct]
