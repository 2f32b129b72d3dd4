"""Which cases took longer to make their inputs than to be measured? `python -m tools.input_costs RUN...`

Prints the share of each run's wall time by part, then every case whose inputs took longer; ends with 1 where there is
one. Records are as the run left them: nothing is run here.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from bench import store
from bench.records import Record

PARTS = ("build_s", "inputs_s", "check_s", "measure_s", "trace_s", "fixed_s")


def offenders(records: Sequence[Record]) -> list[Record]:
    """Cases whose inputs took longer than their measurement, the worst first."""
    found = [r for r in records if r.costs and r.outcome.status == "ok" and r.costs.inputs_s > r.costs.measure_s]
    return sorted(found, key=ratio, reverse=True)


def ratio(record: Record) -> float:
    """Seconds of inputs over seconds of measuring."""
    costs = record.costs
    return costs.inputs_s / max(costs.measure_s, 1e-9) if costs else 0.0


def shares(records: Sequence[Record]) -> str:
    """The parts of the run's wall time in words."""
    known = [r.costs for r in records if r.costs]
    if not known:
        return "no case was measured"
    total_s = sum(c.total_s for c in known)
    parts = [f"{part.removesuffix('_s')} {sum(getattr(c, part) for c in known) / total_s:.0%}" for part in PARTS]
    return f"{len(known)} cases, {total_s:.1f} s: {', '.join(parts)}"


def main() -> None:
    """One paragraph per run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    wrong = 0
    for run in parser.parse_args().runs:
        records = store.read_records(run)
        found = offenders(records)
        wrong += len(found)
        worst = max(map(ratio, records), default=0.0)
        print(f"{run}: {shares(records)}; inputs at most {worst:.2f} of measuring")
        for record in found:
            print(f"  {record.key}: inputs {record.costs.inputs_s:.2f} s, measuring {record.costs.measure_s:.2f} s")  # type: ignore[union-attr]
    raise SystemExit(1 if wrong else 0)


if __name__ == "__main__":
    main()
