"""What a sweep of very many tiny cases costs beside measuring: `python -m tools.many_cases [--cases 2000] [--json]`

Runs the sweep with the timing budget at its least, watches the parent's memory, then times show, report and the start
of a resume that has half of the records. Nothing else should run meanwhile. `--keep DIR` leaves the run there.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median, quantiles
from typing import NamedTuple

from bench import store
from bench.records import Record

ROOT = Path(__file__).parent.parent
PER_SEED = 16
SWEEP = """[limits]
budget_s = 0.001
min_repeat_s = 0.001
min_repeats = 3
remeasured = 0
trace = false
[[grid]]
preset = "tiny"
[grid.axes]
seed = {seeds}
batch_size = [1, 8, 64, 256]
backend = ["bag", "fused_bag"]
phase = ["forward", "train_step"]
"""


class Memory(NamedTuple):
    """Resident bytes of the parent when this many records were there."""

    records: int
    rss_bytes: int


def command(*arguments: str) -> list[str]:
    """The command line of this very checkout."""
    return [sys.executable, "-m", "bench", *arguments]


def rss_bytes(pid: int) -> int:
    """Resident memory of a process; 0 when it has gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS")), 0)


def lines_in(path: Path) -> int:
    """How many records there are."""
    return path.read_bytes().count(b"\n") if path.exists() else 0


def watched_sweep(home: Path, period_s: float = 2.0) -> tuple[Path, list[Memory], float]:
    """Run the sweep: its run folder, the parent's memory as it went, and seconds until its last record."""
    with (home / "said.txt").open("wb") as said:
        began = time.perf_counter()
        process = subprocess.Popen(
            command("sweep", str(home / "many.toml"), "--out", str(home)), cwd=ROOT, stdout=said, stderr=said
        )
        seen, last_s = [Memory(0, 0)], 0.0
        while process.poll() is None:
            time.sleep(period_s)
            run = next(iter(home.glob("*/run.json")), None)
            number = lines_in(run.parent / store.RECORDS) if run else 0
            if number > seen[-1].records:
                seen.append(Memory(number, rss_bytes(process.pid)))
                last_s = time.perf_counter() - began
    if process.returncode:
        raise SystemExit((home / "said.txt").read_text()[-2000:])
    return next(home.glob("*/run.json")).parent, seen[1:], last_s


def timed(*arguments: str) -> float:
    """Seconds of one command."""
    began = time.perf_counter()
    subprocess.run(command(*arguments), cwd=ROOT, capture_output=True, check=True)
    return time.perf_counter() - began


def resume_start_s(run: Path, home: Path) -> float:
    """Seconds that a resume of the half-done run needs until it knows what is left to do."""
    half = Path(shutil.copytree(run, home / "half"))
    lines = (half / store.RECORDS).read_bytes().splitlines(keepends=True)
    (half / store.RECORDS).write_bytes(b"".join(lines[: len(lines) // 2]))
    return timed("sweep", "--resume", str(half), "--plan", "--json")


def facts(records: Sequence[Record], seen: Sequence[Memory], sweep_s: float) -> dict[str, float]:
    """The figures of the sweep itself."""
    costs = [r.costs for r in records if r.costs]
    beside = [c.total_s - c.measure_s for c in costs]
    parts = ("build_s", "inputs_s", "prepare_s", "check_s", "measure_s", "fixed_s", "total_s")
    found = {f"{part}_p50": median(getattr(c, part) for c in costs) for part in parts}
    # After its last record the parent reads all of them for the report, which is another matter.
    during = [m for m in seen if m.records < len(records)] or list(seen)
    early = next((m for m in during if m.records >= len(records) / 10), during[-1])
    return found | {
        "beside_measuring_s_p50": median(beside),
        "beside_measuring_s_p99": quantiles(beside, n=100)[98],
        "fixed_s_p99": quantiles([c.fixed_s for c in costs], n=100)[98],
        "sweep_s_per_case": sweep_s / len(records),
        "parent_rss_bytes_at_10_percent": early.rss_bytes,
        "parent_rss_bytes_before_the_last": during[-1].rss_bytes,
        "records_bytes_per_case": 0.0,
    }


def main() -> None:
    """Run, time, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--keep", type=Path, help="copy the run folder here")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="many-cases-") as folder:
        home = Path(folder)
        seeds = list(range(max(1, options.cases // PER_SEED)))
        (home / "many.toml").write_text(SWEEP.format(seeds=seeds))
        run, seen, sweep_s = watched_sweep(home)
        records = store.read_records(run)
        told = {"cases": len(records), **facts(records, seen, sweep_s)}
        told["records_bytes_per_case"] = (run / store.RECORDS).stat().st_size / len(records)
        told["show_s"] = timed("show", str(run))
        told["report_s"] = timed("report", str(run))
        told["report_bytes"] = (run / "report.html").stat().st_size
        told["resume_start_s"] = resume_start_s(run, home)
        if options.keep:
            shutil.copytree(run, options.keep / run.name)
    if options.json:
        print(json.dumps(told))
    else:
        print("\n".join(f"{name:32} {value:.4g}" for name, value in told.items()))


if __name__ == "__main__":
    main()
