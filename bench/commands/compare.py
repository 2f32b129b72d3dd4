"""The compare verb: two runs side by side, sweep runs or files of pytest-benchmark."""

from __future__ import annotations

from pathlib import Path

import msgspec

from bench import store
from bench.between import between, log_ratios
from bench.commands.output import print_json, print_table
from bench.errors import Exit
from bench.gate.advisory import ADVICE, Timed, agreement, compare, timed
from bench.gate.render.words import percent, time_cell
from bench.pytesting.read import read_benchmarks


def compare_runs(base: Path, head: Path, *, as_json: bool) -> int:
    """Print the comparison; 4 where no case could be compared, else 0. Never a verdict."""
    apart = between([*_log_ratios(base), *_log_ratios(head)])
    found = compare(_read(base), _read(head), apart)
    agreed = agreement(found, apart)
    if as_json:
        told = {"agree": agreed.agree, "compared": agreed.compared, "apart_frac": apart.frac if apart else None}
        print_json({"advice": ADVICE, "agreement": told, "cases": msgspec.to_builtins(found)})
    else:
        rows = [
            [
                c.case,
                time_cell(c.base_step_s),
                time_cell(c.head_step_s),
                f"{percent(c.change_frac)} [{percent(c.low_frac)}, {percent(c.high_frac)}]" if c.base_step_s else "-",
                c.reason.message,
            ]
            for c in found
        ]
        print_table(f"{base} against {head}", ["case", "base", "head", "change", ""], rows, right=[1, 2, 3])
        print(f"{agreed.words}.\n{ADVICE[0].upper()}{ADVICE[1:]}.")
    return Exit.OK if any(c.change_frac is not None for c in found) else Exit.NOT_COMPARABLE


def _read(run: Path) -> list[Timed]:
    """A run folder, or a file that pytest-benchmark wrote."""
    if _is_foreign(run):
        return read_benchmarks(run)
    store.read_manifest(run)
    return timed(store.read_records(run))


def _log_ratios(run: Path) -> list[float]:
    """Of the cases that a run measured twice; a file of pytest-benchmark tells none."""
    return [] if _is_foreign(run) else log_ratios(store.read_records(run), store.read_remeasured(run))


def _is_foreign(run: Path) -> bool:
    return run.suffix == ".json" and not run.is_dir()
