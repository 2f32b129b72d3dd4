"""Pooling-factor laws: how many rows each bag looks up. A law is two functions and an entry in LAWS. No torch.

The mean asked for is the mean delivered, batch by batch: a law maps uniform numbers to lengths by its inverse
distribution function, and the numbers are stratified, one in each B-th part of [0, 1), in random order. Bags may be
empty under every law but `fixed`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from workloads.spec import REPLAY, TableSpec, unknown

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_UNUSED = np.random.Generator(np.random.SFC64(0))


class Law(NamedTuple):
    """draw(generator, table, batch_size): lengths (B,). mass(table, lengths): the probability that a length is at most
    each of `lengths` (whole numbers as floats, from -1)."""

    draw: Callable[[np.random.Generator, TableSpec, int], Ints]
    mass: Callable[[TableSpec, Floats], Floats]


def draw_lengths(table: TableSpec, seed: tuple[int, ...], batch_size: int) -> Ints:
    """Lengths (B,) of the table's bags, mean `pooling_factor`. Raises SpecError for an unknown law."""
    if table.lengths not in LAWS:
        raise unknown("lengths", table.lengths, names())
    if table.lengths == "fixed":
        # Making a generator takes longer than filling a small batch.
        return _fixed(_UNUSED, table, batch_size)
    return LAWS[table.lengths].draw(np.random.Generator(np.random.SFC64(list(seed))), table, batch_size)


def names() -> list[str]:
    """Ids of all laws."""
    return sorted(LAWS)


def distance(table: TableSpec, drawn: Ints) -> float | None:
    """Kolmogorov-Smirnov distance of lengths (n,) from the table's law; None where they are fixed or replayed.

    Below 1/sqrt(n) where they follow it, since they are stratified.
    """
    if table.lengths in (REPLAY, "fixed") or not drawn.size:
        return None
    found, counts = np.unique(drawn, return_counts=True)
    reached = np.cumsum(counts) / drawn.size
    mass, asked = LAWS[table.lengths].mass, found.astype(np.float64)
    above = np.abs(reached - mass(table, asked))
    # Below a length that was drawn nothing has come since the one before it.
    below = np.abs(reached - counts / drawn.size - mass(table, asked - 1))
    return float(max(above.max(), below.max()))


def _strata(generator: np.random.Generator, batch_size: int) -> Floats:
    """(B,) uniform numbers in [0, 1), one in each B-th part, in random order."""
    inside = generator.random(batch_size)
    return np.asarray((generator.permutation(batch_size) + inside) / batch_size)


def _fixed(generator: np.random.Generator, table: TableSpec, batch_size: int) -> Ints:
    return np.full(batch_size, int(table.pooling_factor), dtype=np.int64)


def _mass_fixed(table: TableSpec, k: Floats) -> Floats:
    return np.asarray(k >= table.pooling_factor, dtype=np.float64)


def _uniform(generator: np.random.Generator, table: TableSpec, batch_size: int) -> Ints:
    """0 to 2*L, all equally likely; where 2*L is not whole, 0 to floor(2*L) and one more for some bags."""
    widest = math.floor(2 * table.pooling_factor)
    lengths = np.floor(_strata(generator, batch_size) * (widest + 1)).astype(np.int64)
    extra = table.pooling_factor - widest / 2
    return np.asarray(lengths + (_strata(generator, batch_size) < extra))


def _mass_uniform(table: TableSpec, k: Floats) -> Floats:
    widest = math.floor(2 * table.pooling_factor)
    extra = table.pooling_factor - widest / 2
    plain, longer = (np.clip((at + 1) / (widest + 1), 0.0, 1.0) for at in (k, k - 1))
    return np.asarray((1 - extra) * plain + extra * longer)


def _poisson(generator: np.random.Generator, table: TableSpec, batch_size: int) -> Ints:
    """P(k) = L^k e^-L / k!, from the table of its distribution function."""
    below = _poisson_table(table.pooling_factor)
    found = np.searchsorted(below, _strata(generator, batch_size), side="right")
    return np.minimum(found, below.size - 1).astype(np.int64)


def _poisson_table(mean: float) -> Floats:
    """P(at most k) for k from 0 to 12 standard deviations above the mean."""
    k = np.arange(math.ceil(mean + 12 * math.sqrt(mean) + 12))
    log_factorials = np.concatenate([[0.0], np.cumsum(np.log(k[1:]))])
    return np.asarray(np.cumsum(np.exp(k * math.log(mean) - mean - log_factorials)))


def _mass_poisson(table: TableSpec, k: Floats) -> Floats:
    below = np.concatenate([[0.0], _poisson_table(table.pooling_factor)])
    return np.asarray(below[np.clip(k + 1, 0, below.size - 1).astype(np.int64)])


def _geometric(generator: np.random.Generator, table: TableSpec, batch_size: int) -> Ints:
    """P(k) = p (1-p)^k from k = 0, p = 1/(1+L): an empty bag is the likeliest."""
    log_tail = math.log(table.pooling_factor / (1 + table.pooling_factor))
    return np.floor(np.log1p(-_strata(generator, batch_size)) / log_tail).astype(np.int64)


def _mass_geometric(table: TableSpec, k: Floats) -> Floats:
    return np.asarray(-np.expm1((k + 1) * math.log(table.pooling_factor / (1 + table.pooling_factor))))


def _lognormal(generator: np.random.Generator, table: TableSpec, batch_size: int) -> Ints:
    """exp(normal) with standard deviation `length_spread`, scaled to the mean L and rounded to whole lengths.

    The scaling takes out what the few longest bags of a batch happen to be. Rounding is systematic: lengths are
    differences of the rounded running sum, so each is its number rounded up or down and the sum stays.
    """
    wide = np.exp(table.length_spread * _normal_quantile(_strata(generator, batch_size)))
    ends = np.cumsum(wide * (table.pooling_factor / wide.mean()))
    return np.diff(np.floor(ends + generator.random()), prepend=0.0).astype(np.int64)


def _normal_quantile(u: Floats) -> Floats:
    """The inverse of the normal distribution function: Acklam's rational approximation, relative error 1.2e-9."""
    a = (
        -39.69683028665376,
        220.9460984245205,
        -275.9285104469687,
        138.3577518672690,
        -30.66479806614716,
        2.506628277459239,
    )
    b = (-54.47609879822406, 161.5858368580409, -155.6989798598866, 66.80131188771972, -13.28068155288572, 1.0)
    c = (-0.007784894002430293, -0.3223964580411365, -2.400758277161838, -2.549732539343734, 4.374664141464968)
    d = (0.007784695709041462, 0.3224671290700398, 2.445134137142996, 3.754408661907416, 1.0)
    tail = np.minimum(u, 1 - u)
    q = np.sqrt(-2 * np.log(np.maximum(tail, 1e-300)))
    outer = np.polyval((*c, 2.938163982698783), q) / np.polyval(d, q) * np.where(u < 0.5, 1.0, -1.0)
    r = u - 0.5
    inner = r * np.polyval(a, r * r) / np.polyval(b, r * r)
    return np.asarray(np.where(tail < 0.02425, outer, inner))


def _mass_lognormal(table: TableSpec, k: Floats) -> Floats:
    """X rounded up or down by chance is at most k with probability E[max(k+1-X, 0)] - E[max(k-X, 0)]."""
    return _shortfall(table, k + 1) - _shortfall(table, k)


def _shortfall(table: TableSpec, k: Floats) -> Floats:
    """E[max(k - X, 0)] for X lognormal with mean L: k Phi(z) - L Phi(z - s), z = (ln(k/L) + s^2/2) / s."""
    mean, spread = table.pooling_factor, table.length_spread
    if spread == 0:
        return np.maximum(k - mean, 0.0)
    at = np.maximum(k, 1e-300)
    z = (np.log(at / mean) + spread**2 / 2) / spread
    return np.asarray(np.where(k > 0, at * _normal_mass(z) - mean * _normal_mass(z - spread), 0.0))


def _normal_mass(z: Floats) -> Floats:
    return np.array([0.5 * math.erfc(-x / math.sqrt(2)) for x in z.tolist()])


LAWS = {
    "fixed": Law(_fixed, _mass_fixed),
    "geometric": Law(_geometric, _mass_geometric),
    "lognormal": Law(_lognormal, _mass_lognormal),
    "poisson": Law(_poisson, _mass_poisson),
    "uniform": Law(_uniform, _mass_uniform),
}
