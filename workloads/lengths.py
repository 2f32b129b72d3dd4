"""Pooling-factor laws: how many rows each bag looks up. A law is a function and its entry in LAWS. No torch.

The mean asked for is the mean delivered, batch by batch: a law maps uniform numbers to lengths by its inverse
distribution function, and the numbers are stratified, one in each B-th part of [0, 1), in random order. Bags may be
empty under every law but `fixed`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from workloads.spec import TableSpec, unknown

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Draw = Callable[[np.random.Generator, TableSpec, int], Ints]


def draw_lengths(table: TableSpec, seed: tuple[int, ...], batch_size: int) -> Ints:
    """Lengths (B,) of the table's bags, mean `pooling_factor`. Raises SpecError for an unknown law."""
    if table.lengths not in LAWS:
        raise unknown("lengths", table.lengths, names())
    return LAWS[table.lengths](np.random.Generator(np.random.SFC64(list(seed))), table, batch_size)


def names() -> list[str]:
    """Ids of all laws."""
    return sorted(LAWS)


def _strata(generator: np.random.Generator, batch_size: int) -> Floats:
    """(B,) uniform numbers in [0, 1), one in each B-th part, in random order."""
    inside = generator.random(batch_size)
    return np.asarray((generator.permutation(batch_size) + inside) / batch_size)


def _fixed(generator: np.random.Generator, table: TableSpec, batch_size: int) -> Ints:
    return np.full(batch_size, int(table.pooling_factor), dtype=np.int64)


def _uniform(generator: np.random.Generator, table: TableSpec, batch_size: int) -> Ints:
    """0 to 2*L, all equally likely; where 2*L is not whole, 0 to floor(2*L) and one more for some bags."""
    widest = math.floor(2 * table.pooling_factor)
    lengths = np.floor(_strata(generator, batch_size) * (widest + 1)).astype(np.int64)
    extra = table.pooling_factor - widest / 2
    return np.asarray(lengths + (_strata(generator, batch_size) < extra))


def _poisson(generator: np.random.Generator, table: TableSpec, batch_size: int) -> Ints:
    """P(k) = L^k e^-L / k!, from the table of its distribution function within 12 standard deviations."""
    mean = table.pooling_factor
    k = np.arange(math.ceil(mean + 12 * math.sqrt(mean) + 12))
    log_factorials = np.concatenate([[0.0], np.cumsum(np.log(k[1:]))])
    below = np.cumsum(np.exp(k * math.log(mean) - mean - log_factorials))
    found = np.searchsorted(below, _strata(generator, batch_size), side="right")
    return np.minimum(found, k.size - 1).astype(np.int64)


def _geometric(generator: np.random.Generator, table: TableSpec, batch_size: int) -> Ints:
    """P(k) = p (1-p)^k from k = 0, p = 1/(1+L): an empty bag is the likeliest."""
    log_tail = math.log(table.pooling_factor / (1 + table.pooling_factor))
    return np.floor(np.log1p(-_strata(generator, batch_size)) / log_tail).astype(np.int64)


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


LAWS: dict[str, Draw] = {
    "fixed": _fixed,
    "geometric": _geometric,
    "lognormal": _lognormal,
    "poisson": _poisson,
    "uniform": _uniform,
}
