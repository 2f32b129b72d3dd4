"""Index laws: which rows of a table are looked up. A law is three functions and an entry in LAWS at the end.

Ranks are 0-based, 0 the most popular; a bijection over the table scatters them, so that hot rows are not neighbours.
Everything is a function of (seed, table number, batch number) alone: indices are drawn in blocks of fixed size,
each from its own generator, so any number of threads gives the same ones. No torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from workloads.spec import TableSpec, unknown

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

BLOCK = 1 << 16
EXACT_RANKS = 1 << 16
BINS = 4096
_BIJECTION = 101


class Law(NamedTuple):
    """A distribution over ranks 0..E-1.

    draw(generator, table, out): fill `out` (n,) with ranks. mass(table, ranks): the probability that a rank is below
    each of `ranks` (floats from 0 to E). scattered: whether ranks must be spread over the table by the bijection.
    """

    draw: Callable[[np.random.Generator, TableSpec, Ints], None]
    mass: Callable[[TableSpec, Floats], Floats]
    scattered: bool


def fill_indices(table: TableSpec, seed: tuple[int, ...], block: int, out: Ints) -> None:
    """Fill `out` (at most BLOCK,) with block number `block` of the table's indices; `seed` names table and batch."""
    law = law_of(table)
    generator = np.random.Generator(np.random.SFC64([*seed, block]))
    law.draw(generator, table, out)
    if law.scattered:
        scatter(out, table.num_rows, seed)


def law_of(table: TableSpec) -> Law:
    """The table's law. Raises SpecError, with the nearest known name, for an unknown one."""
    if table.indices not in LAWS:
        raise unknown("indices", table.indices, names())
    return LAWS[table.indices]


def names() -> list[str]:
    """Ids of all laws."""
    return sorted(LAWS)


def law_probabilities(table: TableSpec) -> Floats:
    """The exact law: probability of each rank (E,). Takes 16 bytes a row."""
    edges = np.arange(table.num_rows + 1, dtype=np.float64)
    return np.diff(law_of(table).mass(table, edges))


def expected_unique(table: TableSpec, lookups: float) -> float:
    """Distinct rows expected among `lookups` independent draws: sum over rows of 1 - (1 - p)^n.

    The first 65,536 ranks are summed exactly, the rest in 4,096 bins whose ranks share the bin's mean probability
    (relative error under 1e-4, since p varies little within a bin).
    """
    head = min(table.num_rows, EXACT_RANKS)
    edges = np.arange(head + 1, dtype=np.float64)
    if table.num_rows > head:
        tail = np.unique(np.rint(np.geomspace(head, table.num_rows, BINS + 1)))
        edges = np.concatenate([edges, tail[1:]])
    sizes = np.diff(edges)
    chance = np.clip(np.diff(law_of(table).mass(table, edges)) / sizes, 0.0, 1.0 - 1e-16)
    return float(np.sum(sizes * -np.expm1(lookups * np.log1p(-chance))))


def scatter(ranks: Ints, num_rows: int, seed: tuple[int, ...]) -> None:
    """Ranks to rows in place by the bijection (a*rank + b) mod num_rows; b depends on `seed`'s first two entries."""
    factor, shift = bijection(num_rows, seed)
    ranks *= factor
    ranks += shift
    np.remainder(ranks, num_rows, out=ranks)


def bijection(num_rows: int, seed: tuple[int, ...]) -> tuple[int, int]:
    """Factor a, coprime to num_rows, and shift b below num_rows, such that a*(num_rows-1) + b fits 63 bits.

    a is near the golden section of num_rows, which keeps any run of ranks far apart; very large tables take the
    largest factor that cannot overflow.
    """
    limit = (2**63 - 1) // num_rows - 1
    factor = max(1, min(int(num_rows * 0.6180339887498949), limit))
    while math.gcd(factor, num_rows) != 1:
        factor -= 1
    shift = int(np.random.Generator(np.random.SFC64([*seed[:2], 0, _BIJECTION])).integers(num_rows))
    return factor, shift


def _draw_uniform(generator: np.random.Generator, table: TableSpec, out: Ints) -> None:
    # 32-bit draws are about twice as fast; both are exactly uniform (Lemire's rejection).
    dtype = np.uint32 if table.num_rows <= 2**32 else np.int64
    out[:] = generator.integers(0, table.num_rows, out.size, dtype=dtype)


def _mass_uniform(table: TableSpec, ranks: Floats) -> Floats:
    return ranks / table.num_rows


def _draw_zipf(generator: np.random.Generator, table: TableSpec, out: Ints) -> None:
    """Bounded power law x^-a on [1, E+1), floored: exact for any exponent a >= 0.

    The inverse of the distribution function is y = (1 + r*(K^g - 1))^(1/g) with g = 1 - a and K = E + 1, in the
    limit K^r at g = 0; written with expm1 and log1p it stays accurate near g = 0.
    """
    y = generator.random(out.size)
    gamma, log_k = 1.0 - table.exponent, math.log(table.num_rows + 1)
    if gamma == 0.0:
        y *= log_k
    else:
        y *= math.expm1(gamma * log_k)
        np.log1p(y, out=y)
        y /= gamma
    np.exp(y, out=y)
    out[:] = y
    out -= 1
    # Rounding may land on K itself, or just below 1.
    np.clip(out, 0, table.num_rows - 1, out=out)


def _mass_zipf(table: TableSpec, ranks: Floats) -> Floats:
    gamma, log_k = 1.0 - table.exponent, math.log(table.num_rows + 1)
    logs = np.log1p(ranks)
    if gamma == 0.0:
        return np.asarray(logs / log_k)
    return np.asarray(np.expm1(gamma * logs) / math.expm1(gamma * log_k))


LAWS = {
    "uniform": Law(_draw_uniform, _mass_uniform, scattered=False),
    "zipf": Law(_draw_zipf, _mass_zipf, scattered=True),
}
