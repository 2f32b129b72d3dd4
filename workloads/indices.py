"""Index laws: which rows of a table are looked up. A law is three functions and an entry in LAWS at the end.

Ranks are 0-based, 0 the most popular; a bijection over the table scatters them, so that hot rows are not neighbours.
Everything is a function of (seed, table number, batch number) alone: indices are drawn in blocks of fixed size,
each from its own generator, so any number of threads gives the same ones. No torch.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from workloads.spec import REPLAY, TableSpec, unknown

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

BLOCK = 1 << 16
EXACT_RANKS = 1 << 16
BINS = 4096
_BIJECTION = 101


class Law(NamedTuple):
    """A distribution over ranks 0..E-1.

    draw(generator, table, position, out): fill `out` (n,) with ranks; `position` is the number of the first of them in
    the table's stream of lookups. mass(table, ranks): the probability that a rank is below each of `ranks` (floats
    from 0 to E). scattered: whether ranks must be spread over the table by the bijection. unique(table, lookups,
    batches): expected distinct rows of so many batches of `lookups` each where lookups depend on each other; None where
    they are independent draws.
    """

    draw: Callable[[np.random.Generator, TableSpec, int, Ints], None]
    mass: Callable[[TableSpec, Floats], Floats]
    scattered: bool
    unique: Callable[[TableSpec, float, int], float] | None = None


def fill_indices(table: TableSpec, seed: tuple[int, ...], block: int, out: Ints, first: int = 0) -> None:
    """Fill `out` (at most BLOCK,) with block number `block` of the table's indices; `seed` names table and batch.

    `first` is the number of the batch's first lookup in the table's stream, which only laws with an order read.
    """
    law = law_of(table)
    generator = np.random.Generator(np.random.SFC64([*seed, block]))
    law.draw(generator, table, first + block * BLOCK, out)
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


def expected_unique(table: TableSpec, lookups: float, batches: int = 1) -> float:
    """Distinct rows expected in `batches` batches of `lookups` each; of n independent draws, sum of 1 - (1 - p)^n.

    The first 65,536 ranks are summed exactly, the rest in 4,096 bins whose ranks share the bin's mean probability
    (relative error under 1e-4, since p varies little within a bin). Laws whose lookups depend on each other have
    their own formula. Of replayed lookups only the bound is known: each a row of its own, while there are rows.
    """
    if table.indices == REPLAY:
        return min(lookups * batches, float(table.num_rows))
    # Equal tables are computed once: name and dim do not matter.
    return _expected_unique(msgspec.structs.replace(table, name="", dim=1), lookups, batches)


@functools.lru_cache(maxsize=256)
def _expected_unique(table: TableSpec, lookups: float, batches: int) -> float:
    own = law_of(table).unique
    if own is not None:
        return own(table, lookups, batches)
    head = min(table.num_rows, EXACT_RANKS)
    edges = np.arange(head + 1, dtype=np.float64)
    if table.num_rows > head:
        tail = np.unique(np.rint(np.geomspace(head, table.num_rows, BINS + 1)))
        edges = np.concatenate([edges, tail[1:]])
    sizes = np.diff(edges)
    chance = np.clip(np.diff(law_of(table).mass(table, edges)) / sizes, 0.0, 1.0 - 1e-16)
    return float(np.sum(sizes * -np.expm1(lookups * batches * np.log1p(-chance))))


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
    return _bijection(num_rows, seed[:2])


@functools.lru_cache(maxsize=1 << 14)
def _bijection(num_rows: int, seed: tuple[int, ...]) -> tuple[int, int]:
    """Asked for in every block of a table, and always the same."""
    limit = (2**63 - 1) // num_rows - 1
    factor = max(1, min(int(num_rows * 0.6180339887498949), limit))
    while math.gcd(factor, num_rows) != 1:
        factor -= 1
    shift = int(np.random.Generator(np.random.SFC64([*seed, 0, _BIJECTION])).integers(num_rows))
    return factor, shift


def ranks_of(table: TableSpec, rows: Ints, seed: tuple[int, ...]) -> Ints:
    """Ranks (n,) of `rows` (n,): the bijection undone. Only for tables of fewer than 2^31 rows."""
    if not law_of(table).scattered:
        return rows
    factor, shift = bijection(table.num_rows, seed)
    inverse = pow(factor, -1, table.num_rows) if table.num_rows > 1 else 0
    return np.asarray((rows - shift) % table.num_rows * inverse % table.num_rows)


def has_ranks(table: TableSpec) -> bool:
    """Whether drawn rows can be held against their law: independent draws, and ranks that can be found back."""
    return table.indices != REPLAY and law_of(table).unique is None and table.num_rows < 2**31


def top_mass(table: TableSpec, rows: Ints, counts: NDArray[np.intp], seed: tuple[int, ...]) -> float | None:
    """Share of lookups that go to the law's first 1 % of ranks (at least one), of `rows` (n,) looked up `counts` times.

    None where lookups are replayed or not independent draws, or the table has 2^31 rows or more.
    """
    if not has_ranks(table) or not rows.size:
        return None
    hot = ranks_of(table, rows, seed) < max(1, table.num_rows // 100)
    return float(counts[hot].sum() / counts.sum())


def distance(table: TableSpec, rows: Ints, seed: tuple[int, ...]) -> float | None:
    """Kolmogorov-Smirnov distance of `rows` from the table's law, at most 1; near 1/sqrt(n) where they follow it.

    None where lookups are replayed or not independent draws, or the table has 2^31 rows or more.
    """
    if not has_ranks(table) or not rows.size:
        return None
    law = law_of(table)
    ranks, counts = np.unique(ranks_of(table, rows, seed), return_counts=True)
    reached = np.cumsum(counts) / rows.size
    asked: Floats = ranks.astype(np.float64)
    above = reached - law.mass(table, asked + 1.0)
    below = np.subtract(reached - counts / rows.size, law.mass(table, asked))
    return float(max(np.abs(above).max(), np.abs(below).max()))


def _draw_uniform(generator: np.random.Generator, table: TableSpec, position: int, out: Ints) -> None:
    _uniform(generator, table.num_rows, out)


def _uniform(generator: np.random.Generator, count: int, out: Ints) -> None:
    # 32-bit draws are about twice as fast; both are exactly uniform (Lemire's rejection).
    dtype = np.uint32 if count <= 2**32 - 1 else np.int64
    out[:] = generator.integers(0, count, out.size, dtype=dtype)


def _mass_uniform(table: TableSpec, ranks: Floats) -> Floats:
    return ranks / table.num_rows


def _draw_zipf(generator: np.random.Generator, table: TableSpec, position: int, out: Ints) -> None:
    """Bounded power law x^-a on [1+q, E+1+q), floored: exact for any exponent a >= 0 and shift q >= 0.

    With g = 1 - a and K = (E+1+q)/(1+q) the inverse of the distribution function is y = (1 + r*(K^g - 1))^(1/g), in
    the limit K^r at g = 0, times 1+q; written with expm1 and log1p it stays accurate near g = 0. A shift above 0
    (Zipf-Mandelbrot) flattens the head.
    """
    y = generator.random(out.size)
    gamma, log_k = 1.0 - table.exponent, _log_span(table)
    if gamma == 0.0:
        y *= log_k
    else:
        y *= math.expm1(gamma * log_k)
        np.log1p(y, out=y)
        y /= gamma
    if table.shift:
        np.expm1(y, out=y)
        y *= 1.0 + table.shift
        out[:] = y
    else:
        np.exp(y, out=y)
        out[:] = y
        out -= 1
    # Rounding may land on K itself, or just below 1.
    np.clip(out, 0, table.num_rows - 1, out=out)


def _log_span(table: TableSpec) -> float:
    return math.log1p(table.num_rows / (1.0 + table.shift))


def _mass_zipf(table: TableSpec, ranks: Floats) -> Floats:
    gamma, log_k = 1.0 - table.exponent, _log_span(table)
    logs = np.log1p(ranks / (1.0 + table.shift))
    if gamma == 0.0:
        return np.asarray(logs / log_k)
    return np.asarray(np.expm1(gamma * logs) / math.expm1(gamma * log_k))


def _hot_classes(table: TableSpec) -> tuple[Ints, Floats]:
    """First ranks of the hot and the other rows, then E; and the probability below each."""
    hot = min(table.hot_rows, table.num_rows)
    share = table.hot_share if hot < table.num_rows else 1.0
    return np.array([0, hot, table.num_rows]), np.array([0.0, share, 1.0])


def _step_classes(table: TableSpec) -> tuple[Ints, Floats]:
    """First ranks of the classes, then E; and the probability below each. A class may be empty in a small table."""
    rows, shares = np.array(table.steps or ((1.0, 1.0),)).T
    edges = np.rint(np.concatenate([[0.0], np.cumsum(rows)]) * table.num_rows).astype(np.int64)
    edges[-1] = table.num_rows
    chances = np.where(np.diff(edges) > 0, shares, 0.0)
    below = np.concatenate([[0.0], np.cumsum(chances)])
    return (edges, below / below[-1]) if below[-1] > 0 else (edges, edges / table.num_rows)


def _by_classes(classes: Callable[[TableSpec], tuple[Ints, Floats]]) -> Law:
    """A law of classes of rows, each uniform inside: piecewise linear distribution function."""

    def draw(generator: np.random.Generator, table: TableSpec, position: int, out: Ints) -> None:
        edges, below = classes(table)
        out[:] = np.interp(generator.random(out.size), below, edges)
        np.clip(out, 0, table.num_rows - 1, out=out)

    def mass(table: TableSpec, ranks: Floats) -> Floats:
        edges, below = classes(table)
        return np.asarray(np.interp(ranks, edges, below))

    return Law(draw, mass, scattered=True)


def _draw_sequential(generator: np.random.Generator, table: TableSpec, position: int, out: Ints) -> None:
    """Rows one after the other, around and around: batch follows on batch where lengths are fixed."""
    out[:] = np.arange(position, position + out.size)
    np.remainder(out, table.num_rows, out=out)


def _unique_sequential(table: TableSpec, lookups: float, batches: int) -> float:
    return min(lookups * batches, float(table.num_rows))


def _draw_temporal(generator: np.random.Generator, table: TableSpec, position: int, out: Ints) -> None:
    """Fresh uniform rows, of which a share `reuse` is replaced by the row of one of the last `working_set` lookups.

    Distances back are uniform; they end at the start of a block, so no lookup repeats one of an earlier batch: what a
    batch draws depends on its number alone. Chains of repeats are followed by doubling.
    """
    _uniform(generator, table.num_rows, out)
    own = np.arange(out.size)
    back = own - generator.integers(1, table.working_set + 1, out.size)
    source = np.where((generator.random(out.size) < table.reuse) & (back >= 0), back, own)
    while True:
        further = source[source]
        if np.array_equal(further, source):
            break
        source = further
    out[:] = out[source]


def _unique_temporal(table: TableSpec, lookups: float, batches: int) -> float:
    """Distinct rows among the fresh lookups: all but a share `reuse`, which near a block's start finds no past."""
    fresh = batches * (lookups - _repeats_of_batch(table, lookups))
    return float(-table.num_rows * np.expm1(fresh * np.log1p(-1.0 / (table.num_rows + 1e-9))))


def delivered_reuse(table: TableSpec, lookups: float) -> float:
    """Share of the `lookups` of one batch that repeat an earlier one under `temporal`, whatever `reuse` asks for."""
    return _repeats_of_batch(table, lookups) / lookups if lookups else 0.0


def _repeats_of_batch(table: TableSpec, lookups: float) -> float:
    full, rest = divmod(lookups, BLOCK)
    return full * _repeats(table, BLOCK) + _repeats(table, rest)


def _repeats(table: TableSpec, lookups: float) -> float:
    """Expected repeats among the first `lookups` of a block: at place i the past reaches min(i, w) lookups of w."""
    window = min(lookups, float(table.working_set))
    return table.reuse * (lookups - window + window * max(window - 1, 0.0) / (2 * table.working_set))


LAWS = {
    "hot_set": _by_classes(_hot_classes),
    "sequential": Law(_draw_sequential, _mass_uniform, scattered=False, unique=_unique_sequential),
    "steps": _by_classes(_step_classes),
    "temporal": Law(_draw_temporal, _mass_uniform, scattered=False, unique=_unique_temporal),
    "uniform": Law(_draw_uniform, _mass_uniform, scattered=False),
    "zipf": Law(_draw_zipf, _mass_zipf, scattered=True),
}
