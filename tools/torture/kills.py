"""Random kills: a sweep whose parent, worker or fork server gets SIGKILL, SIGTERM or SIGINT at random moments."""

from __future__ import annotations

import os
import random
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Literal

import msgspec

from bench.errors import Exit
from bench.records import Record
from tools.torture.sweeps import (
    CASES,
    NUM_CASES,
    Sweep,
    leftovers,
    readable,
    run_dir_in,
    told_keys,
    whole_lines,
    write_sweep,
)
from tools.torture.trial import Trial

Victim = Literal["parent", "worker", "server"]
VICTIMS: tuple[Victim, ...] = ("parent", "worker", "server")
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
UNBORN = (-signal.SIGTERM, -signal.SIGINT)
"""How Python itself ends on a signal, before the program has begun."""
DEADLY = ("SIGKILL", "SIGTERM")
KILLS_PER_SWEEP = 10


class Kill(msgspec.Struct, frozen=True):
    """One kill: who got what, and how many records there were."""

    victim: Victim
    signal: str
    records: int


class _Story:
    """A sweep with kills and resumes until it is complete; what was seen on the way."""

    def __init__(self, home: Path, chance: random.Random) -> None:
        self._home, self._chance = home, chance
        self._out = home / "runs"
        self.kills: list[Kill] = []
        self.told: set[str] = set()
        self.lines: dict[bytes, None] = {}
        self.wrong: list[str] = []

    def run(self) -> None:
        """Kill and resume until KILLS_PER_SWEEP kills are done, then let it end."""
        while True:
            run = run_dir_in(self._out)
            file = str(write_sweep(self._home, CASES))
            sweep = Sweep(self._home, ["--resume", str(run)] if run else [file, "--out", str(self._out)])
            while len(self.kills) < KILLS_PER_SWEEP and sweep.running():
                self._kill_one(sweep)
            code = sweep.ended()
            self._saw(sweep, code)
            if code not in (Exit.OK, Exit.CASE_FAILED, Exit.INTERRUPTED, -signal.SIGKILL, *UNBORN):
                self.wrong.append(f"exit {code}: {sweep.said()[-400:]}")
                return
            if code in (Exit.OK, Exit.CASE_FAILED):
                return

    def _kill_one(self, sweep: Sweep) -> None:
        victim = self._chance.choice(VICTIMS)
        self._wait(sweep)
        if victim == "worker":
            sweep.wait_until(lambda: sweep.worker() is not None)
        pid = {"parent": sweep.process.pid, "worker": sweep.worker(), "server": sweep.server()}[victim]
        if pid is None or not sweep.running():
            return
        number = self._chance.choice(SIGNALS)
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return
        self.kills.append(Kill(victim, number.name, len(whole_lines(run_dir_in(self._out)))))
        if victim == "parent":
            sweep.ended()

    def _wait(self, sweep: Sweep) -> None:
        """A moment of the start, of a case, or of the report."""
        moment = self._chance.random()
        if moment < 0.3:
            time.sleep(self._chance.uniform(0, 5))
        elif moment < 0.9:
            wanted = len(whole_lines(run_dir_in(self._out))) + self._chance.randint(0, 2)
            sweep.wait_until(lambda: len(whole_lines(run_dir_in(self._out))) >= wanted)
            time.sleep(self._chance.uniform(0, 0.7))
        else:
            sweep.wait_until(lambda: "drawing the report" in sweep.said())
            time.sleep(self._chance.uniform(0, 2))

    def _saw(self, sweep: Sweep, code: int) -> None:
        self.told |= told_keys(sweep.said())
        self.lines |= dict.fromkeys(whole_lines(run_dir_in(self._out)))
        if "Traceback" in sweep.said() and code not in UNBORN:
            self.wrong.append(f"a traceback: {sweep.said()[-400:]}")


def killed_sweep(number: int, seed: int) -> Trial:
    """One sweep with its kills, judged."""
    chance = random.Random(f"kills {seed} {number}")
    with tempfile.TemporaryDirectory(prefix="torture-") as folder:
        story = _Story(Path(folder), chance)
        story.run()
        run = run_dir_in(Path(folder) / "runs")
        if run is None:
            return Trial("kills", number, len(story.kills), wrong=("no run folder", *story.wrong))
        return _judged(number, story, run, Path(folder))


def _judged(number: int, story: _Story, run: Path, home: Path) -> Trial:
    records, wrong = readable(run)
    keys, final = [r.key for r in records], set(whole_lines(run))
    lost = len(story.told - set(keys)) + len(set(story.lines) - final)
    wrong += [*story.wrong, *_wrong(records, Counter(k.victim for k in story.kills if k.signal != "SIGINT"))]
    wrong += [] if (run / "report.html").exists() else ["no report"]
    wrong += [f"process {pid} was left behind" for pid in leftovers(home)]
    told = tuple(f"{k.signal} to {k.victim} at {k.records}" for k in story.kills)
    return Trial("kills", number, len(story.kills), lost, len(keys) - len(set(keys)), tuple(wrong), told)


def _wrong(records: list[Record], killed: Counter[str]) -> list[str]:
    """A case may have failed only because its worker was killed, or its server twice; all others are measured."""
    failed = [r for r in records if r.outcome.status != "ok"]
    odd = [r for r in failed if r.outcome.kind != "crash" or not (r.outcome.signal in DEADLY or _lost_twice(r))]
    empty = [r for r in records if r.outcome.status == "ok" and not (r.measurement and min(r.measurement.times_s) > 0)]
    found = [f"{r.key}: {r.outcome.status}, {r.outcome.reason}" for r in odd] + [f"{r.key}: no times" for r in empty]
    if len(failed) > killed["worker"] + killed["server"] // 2:
        found.append(
            f"{len(failed)} failed cases by {killed['worker']} kills of workers, {killed['server']} of servers"
        )
    if len({r.key for r in records}) != NUM_CASES:
        found.append(f"{len(records)} records of {NUM_CASES} cases")
    return found


def _lost_twice(record: Record) -> bool:
    return "the fork server ended" in (record.outcome.reason or "")
