"""A sweep of tiny cases as a user runs it, in a process of its own: start, watch, signal, judge what it left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import store
from bench.errors import UsageError
from bench.records import Record

ROOT = Path(__file__).parent.parent.parent
LIMITS = "[limits]\nbudget_s = 0.2\nmin_repeat_s = 0.005\nmin_repeats = 3\ntrace = {trace}\ntimeout_s = 60\n"
CASES = '[[grid]]\npreset = "tiny"\n[grid.axes]\nbatch_size = [1, 8, 64, 512]\nbackend = ["bag", "tbe"]\n'
NUM_CASES = 8
PATIENCE_S = 300.0


class Sweep:
    """One sweep that runs in the folder `home`; what it prints goes to a file there. `prefix` starts it."""

    def __init__(self, home: Path, arguments: Sequence[str], prefix: Sequence[str] = ()) -> None:
        self._said = home / "said.txt"
        with self._said.open("wb") as said:
            self.process = subprocess.Popen(
                [*prefix, sys.executable, "-m", "bench", "sweep", *arguments],
                stdout=subprocess.DEVNULL,
                stderr=said,
                env=os.environ | {"PYTHONPATH": str(ROOT), "DLRM_BENCH_LOCK": str(home / "bench.lock")},
                cwd=home,
                start_new_session=True,
            )

    def said(self) -> str:
        """What it has printed so far."""
        return self._said.read_text(errors="replace")

    def running(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    def ended(self) -> int:
        """Wait for its end; the exit code. It is killed, and RuntimeError raised, where it hangs."""
        try:
            return self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            raise RuntimeError(f"a sweep did not end within {PATIENCE_S:g} s: {self.said()[-500:]}") from None

    def wait_until(self, reached: Callable[[], bool]) -> None:
        """Wait for something, or for its end."""
        deadline = time.monotonic() + PATIENCE_S
        while self.running() and not reached() and time.monotonic() < deadline:
            time.sleep(0.005)

    def server(self) -> int | None:
        """Pid of a fork server, where one runs."""
        return next(iter(children(self.process.pid)), None)

    def worker(self) -> int | None:
        """Pid of the worker, where one runs."""
        server = self.server()
        return next(iter(children(server)), None) if server else None


def children(pid: int) -> list[int]:
    """Pids of its children."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def write_sweep(home: Path, cases: str, *, trace: bool = False) -> Path:
    """A sweep file of these grids."""
    path = home / "torture.toml"
    path.write_text(LIMITS.format(trace=str(trace).lower()) + cases)
    return path


def run_dir_in(folder: Path) -> Path | None:
    """The run folder, once it has its manifest."""
    return next((path.parent for path in folder.glob("*/run.json")), None)


def whole_lines(run: Path | None) -> list[bytes]:
    """Lines of records.jsonl that end in a newline."""
    path = run / store.RECORDS if run else None
    if path is None or not path.exists():
        return []
    data = path.read_bytes()
    return data[: data.rfind(b"\n") + 1].splitlines()


def told_keys(said: str) -> set[str]:
    """Keys of the cases that it said were recorded, in lines like `[3/8] key: 0.1 ms/step`."""
    lines = (line for line in said.splitlines() if line.startswith("[") and "] " in line)
    return {line.split("] ", 1)[1].partition(": ")[0] for line in lines}


def leftovers(home: Path) -> list[int]:
    """Processes that still run in this folder, a moment after all should have ended."""
    deadline = time.monotonic() + 10
    while (found := _working_in(home)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return found


def _working_in(home: Path) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cwd"):
        try:
            if path.readlink().is_relative_to(home):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def readable(run: Path) -> tuple[list[Record], list[str]]:
    """Records, and what is wrong with the file where something is."""
    try:
        store.read_manifest(run)
        return store.read_records(run), []
    except UsageError as error:
        return [], [str(error)]
