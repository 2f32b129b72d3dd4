"""Hashed pairs of values: the lookups of poly2's hashed form, derived from those of its other tables. No torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from workloads.spec import ModelSpec, SpecError, has_pair_table

_MIX = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


def has_pairs(spec: ModelSpec) -> bool:
    """Whether the spec's last table is looked up by hashed pairs of the values of the others."""
    return has_pair_table(spec)


def check(spec: ModelSpec) -> None:
    """Raise SpecError unless the last table can hold the pairs of the N others.

    All tables have dim 1 and sum pooling; the N others are looked up once a sample, the last N(N-1)/2 times, uniformly
    as far as its own law is concerned (hashing spreads values evenly).
    """
    *features, pair_table = spec.tables
    n = len(features)
    rules = [
        (n >= 2, "tables", len(spec.tables), "at least 3 for form 'hashed': two features and the table of pairs"),
        (spec.num_dense == 0, "num_dense", spec.num_dense, "0 for form 'hashed': values are hashed, dense have none"),
        (pair_table.pooling_factor == n * (n - 1) / 2, "pooling_factor", pair_table.pooling_factor, _pairs_text(n)),
        (pair_table.indices == "uniform", "indices", pair_table.indices, "'uniform' for the table of pairs (the last)"),
    ]
    rules += [(t.dim == 1, "dim", t.dim, f"1 for form 'hashed' (table {t.name!r})") for t in spec.tables]
    rules += [
        (t.pooling_factor == 1 and t.lengths == "fixed", "pooling_factor", t.pooling_factor, f"fixed 1 ({t.name!r})")
        for t in features
    ]
    rules += [
        (
            t.lengths == "fixed" and t.pooling == "sum" and not t.weighted,
            "lengths",
            t.lengths,
            f"plain sum ({t.name!r})",
        )
        for t in spec.tables
    ]
    for holds, field, value, allowed in rules:
        if not holds:
            raise SpecError(field, value, allowed)


def _pairs_text(n: int) -> str:
    return f"{n * (n - 1) // 2} for the table of pairs (the last): one lookup per pair of {n} features"


def hashed_pairs(values: NDArray[np.int64], num_rows: int) -> NDArray[np.int64]:
    """Rows (B, P) of a table of `num_rows` for all pairs i < j of values (B, N): a 64-bit mix of (i, j, x_i, x_j)."""
    left, right = np.triu_indices(values.shape[1], 1)
    unsigned = values.astype(np.uint64)
    pair = (left * values.shape[1] + right).astype(np.uint64)
    key = _mix(unsigned[:, left] + _MIX[0] * (pair + np.uint64(1)))
    key = _mix(key + unsigned[:, right])
    return np.asarray(key % np.uint64(num_rows), dtype=np.int64)


def _mix(key: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """splitmix64's finalizer: every input bit changes every output bit with probability near a half."""
    key = (key ^ (key >> np.uint64(30))) * _MIX[1]
    key = (key ^ (key >> np.uint64(27))) * _MIX[2]
    return key ^ (key >> np.uint64(31))
