"""Are drawn inputs what was asked, and how fast? `python -m tools.input_laws [--seeds 20] [--draws 1000000]`

Prints, per index law, the smallest and median p-value of chi-square tests of so many draws against the exact law, one
test per seed, and how many are below 0.001 beside how many must be expected among so many tests of right draws.
`--speed` measures instead (on an otherwise idle machine): indices drawn per second by every law, with all threads the
process may use, generators that others use beside them, and the filling of tables; medians over `--tries`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from statistics import median

import numpy as np
from numpy.typing import NDArray

from profiles.allocator import pinned_environment
from workloads import indices
from workloads.batch import make_batch
from workloads.spec import ModelSpec, TableSpec

EXPONENTS = (0.0, 0.5, 0.8, 1.0, 1.05, 1.15, 1.5, 2.0)
SEEDS = 20
DRAWS = 1_000_000
DOUBTFUL = 0.001
STEPS = ((0.01, 0.5), (0.2, 0.3), (0.79, 0.2))
SPEED_ROWS = 10_000_000
SPEED_INDICES = 1 << 24
FILL_BYTES = 1 << 30


def table_of(num_rows: int = 5000, **law: object) -> TableSpec:
    """One table under a law."""
    return TableSpec(name="t", num_rows=num_rows, dim=64, **({"steps": STEPS} | law))  # type: ignore[arg-type]


def draw(table: TableSpec, draws: int, seed: int) -> NDArray[np.int64]:
    """So many indices as the first batch of table 0 would have them."""
    out = np.empty(draws, np.int64)
    for block, start in enumerate(range(0, draws, indices.BLOCK)):
        indices.fill_indices(table, (seed, 0, 0, 1), block, out[start : start + indices.BLOCK])
    return out


def p_value(table: TableSpec, rows: NDArray[np.int64], seed: int) -> float:
    """Chi-square p-value of `rows` against the exact law; rows expected fewer than ten times count as one class."""
    from scipy import stats

    ranks = np.arange(table.num_rows)
    if indices.law_of(table).scattered:
        indices.scatter(ranks, table.num_rows, (seed, 0))
    expected = indices.law_probabilities(table) * rows.size
    counts = np.bincount(rows, minlength=table.num_rows)[ranks]
    frequent = expected >= 10
    observed = np.append(counts[frequent], counts[~frequent].sum())
    asked = np.append(expected[frequent], expected[~frequent].sum())
    keep = asked > 0
    if observed[~keep].any():
        return 0.0
    return float(stats.chisquare(observed[keep], asked[keep] * rows.size / asked[keep].sum()).pvalue)


def laws() -> Iterator[tuple[str, TableSpec]]:
    """Every law of independent draws, zipf at every exponent, plain and shifted."""
    for exponent in EXPONENTS:
        for shift in (0.0, 30.5):
            told = f"zipf {exponent:g}" + (f", shift {shift:g}" if shift else "")
            yield told, table_of(indices="zipf", exponent=exponent, shift=shift)
    for name in indices.names():
        if name != "zipf" and indices.LAWS[name].unique is None:
            yield name, table_of(indices=name)


def print_laws(seeds: int, draws: int) -> None:
    """One line per law, then the count that chance explains."""
    print(f"chi-square against the exact law, {draws:,} draws, {seeds} seeds each")
    everything: list[float] = []
    for name, table in laws():
        found = [p_value(table, draw(table, draws, seed), seed) for seed in range(seeds)]
        everything += found
        below = sum(p < DOUBTFUL for p in found)
        print(f"{name:22} smallest p {min(found):8.5f}  median {median(found):5.3f}  below {DOUBTFUL}: {below}")
    below = sum(p < DOUBTFUL for p in everything)
    expected = DOUBTFUL * len(everything)
    print(f"{below} of {len(everything)} tests below {DOUBTFUL}; {expected:.2f} expected of right draws")


def rate(job: Callable[[], object], amount: float, tries: int) -> float:
    """Median amount per second over tries, after one that is not counted."""
    job()
    found = []
    for _ in range(tries):
        began = time.perf_counter()
        job()
        found.append(amount / (time.perf_counter() - began))
    return median(found)


def our_laws() -> Iterator[tuple[str, Callable[[], object]]]:
    """Whole batches of one table, as cases get them: drawn, scattered, with offsets."""
    for name in ("zipf", *(n for n in indices.names() if n != "zipf")):
        spec = ModelSpec(
            name="speed",
            variant="embedding",
            tables=(table_of(SPEED_ROWS, indices=name, pooling_factor=SPEED_INDICES / 4096),),
        )
        yield f"{name} (ours)", lambda spec=spec: make_batch(spec, 4096, 0)  # type: ignore[misc]


def others() -> Iterator[tuple[str, Callable[[], object], int]]:
    """What else people draw indices with; numbers of indices that take about a second."""
    import torch

    generator, few = np.random.default_rng(0), SPEED_INDICES // 8
    gamma = 1 - 1.05

    def inverse_cdf() -> torch.Tensor:
        u = torch.rand(SPEED_INDICES, dtype=torch.float64)
        return ((u * (float(SPEED_ROWS + 1) ** gamma - 1) + 1) ** (1 / gamma)).long() - 1

    weights = torch.arange(1, SPEED_ROWS + 1, dtype=torch.float64).pow(-1.05)
    yield "torch inverse CDF, no scatter", inverse_cdf, SPEED_INDICES
    yield "torch.randint", lambda: torch.randint(0, SPEED_ROWS, (SPEED_INDICES,)), SPEED_INDICES
    yield "torch.multinomial", lambda: torch.multinomial(weights, few, replacement=True), few
    yield "numpy zipf 1.05, unbounded", lambda: generator.zipf(1.05, few), few
    yield "numpy integers", lambda: generator.integers(0, SPEED_ROWS, SPEED_INDICES), SPEED_INDICES


def print_speed(tries: int) -> None:
    """Indices per second, then table filling."""
    import torch

    from workloads.tables import fill_table

    threads = len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    print(f"{threads} threads, {SPEED_ROWS:,} rows, zipf exponent 1.05; medians of {tries} tries")
    for name, job in our_laws():
        print(f"{name:32} {rate(job, SPEED_INDICES, tries) / 1e6:8.1f} M indices/s")
    for name, job, amount in others():
        print(f"{name:32} {rate(job, amount, tries) / 1e6:8.1f} M indices/s")
    weight = torch.empty(FILL_BYTES // 256, 64)
    print(f"{'table fill, pages there':32} {rate(lambda: fill_table(weight, 0, 0), FILL_BYTES, tries) / 1e9:8.2f} GB/s")
    for name, environ in (
        ("table fill, new huge pages", pinned_environment()),
        ("table fill, new 4 KiB pages", pinned_environment(huge_pages=False)),
    ):
        print(f"{name:32} {median(filled_anew(environ) for _ in range(tries)) / 1e9:8.2f} GB/s")


def filled_anew(environ: Mapping[str, str]) -> float:
    """Bytes per second of filling the first table of a new process, whose every page is new."""
    command = [sys.executable, "-m", "tools.input_laws", "--fill-once"]
    return float(subprocess.run(command, env=environ, capture_output=True, text=True, check=True).stdout)


def fill_once() -> float:
    """Bytes per second of filling one table that this process has just got."""
    import torch

    from workloads.tables import fill_table

    fill_table(torch.empty(1 << 12, 64), 0, 0)
    weight = torch.empty(FILL_BYTES // 256, 64)
    began = time.perf_counter()
    fill_table(weight, 0, 0)
    return FILL_BYTES / (time.perf_counter() - began)


def main() -> None:
    """Print what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--draws", type=int, default=DRAWS)
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--tries", type=int, default=5)
    parser.add_argument("--fill-once", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.fill_once:
        print(fill_once())
    elif options.speed:
        print_speed(options.tries)
    else:
        print_laws(options.seeds, options.draws)


if __name__ == "__main__":
    main()
