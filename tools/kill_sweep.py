"""Kill a sweep at random moments and resume it: `python -m tools.kill_sweep [--kills 20] [--seed 1]`

Each time the whole process group gets SIGKILL at a random moment of a 12-case sweep; then --resume must end with 12
records, each once, all ok, no torn line, and a report. Prints one line per kill and ends with 1 at the first violation.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SWEEP = """
[limits]
budget_s = 0.1
min_repeat_s = 0.01
trace = false
[[grid]]
preset = "tiny"
[grid.axes]
batch_size = [1, 8, 64, 512]
backend = ["bag", "fused_bag", "tbe"]
"""
LONGEST_S = 8.0


def command(*arguments: str) -> list[str]:
    """The command line of this very checkout."""
    return [sys.executable, "-m", "bench", *arguments]


def kill_once(folder: Path, after_s: float) -> Path:
    """Start the sweep, kill its process group, return the run folder."""
    process = subprocess.Popen(
        command("sweep", str(folder / "twelve.toml"), "--out", str(folder)),
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    while not list(folder.glob("*/run.json")) and process.poll() is None:
        time.sleep(0.01)
    time.sleep(after_s)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return next(folder.glob("*/run.json")).parent


def count(run: Path) -> int:
    """Whole lines before the resume."""
    path = run / "records.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def violations(run: Path) -> list[str]:
    """What is wrong after the resume."""
    records = [json.loads(line) for line in (run / "records.jsonl").read_text().splitlines()]
    keys = [record["key"] for record in records]
    checks = {
        f"{len(records)} records instead of 12": len(records) != 12,
        "a duplicate": len(set(keys)) != len(keys),
        "a record that is not ok": any(r["outcome"]["status"] != "ok" for r in records),
        "no report": not (run / "report.html").exists(),
    }
    return [what for what, wrong in checks.items() if wrong]


def main() -> None:
    """Kill and resume as often as asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    subprocess.run(command("machine", "--json"), stdout=subprocess.DEVNULL, check=True)
    for number in range(1, options.kills + 1):
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "twelve.toml").write_text(SWEEP)
            after_s = chance.uniform(0, LONGEST_S)
            run = kill_once(Path(folder), after_s)
            before = count(run)
            resume = subprocess.run(command("sweep", "--resume", str(run)), capture_output=True, text=True, check=False)
            wrong = violations(run) if resume.returncode == 0 else [f"exit {resume.returncode}: {resume.stderr[-500:]}"]
            print(f"kill {number:2}: after {after_s:4.1f} s, {before:2} records then, {'; '.join(wrong) or 'all well'}")
            if wrong:
                raise SystemExit(1)


if __name__ == "__main__":
    main()
