"""A recorded gate run with one case of every kind, and its golden outputs (written by running this file)."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import msgspec

from bench.gate import presets
from bench.gate.conclude import conclude
from bench.gate.ledger import CONTROLS
from bench.gate.log import SCHEMA_VERSION, Began, Blocks, Counted, Ended, EpochPlan, Failed, GateManifest, Line
from bench.gate.render.document import document
from bench.gate.render.github import workflow_commands
from bench.gate.render.junit import junit
from bench.gate.render.markdown import markdown
from bench.gate.revisions import Revision
from bench.gate.suite import SuiteCase
from bench.gate.verdict import GateReport
from bench.records import Case
from workloads.presets import load_preset

GOLDEN = Path(__file__).parent / "data" / "gate"
CHANGES = {"steps.py:slower": 0.10, "steps.py:faster": -0.10, "steps.py:same": 0.0, "steps.py:copies": 0.0}
CHANGES |= dict.fromkeys(CONTROLS, 0.0)
NOISY = "steps.py:noisy"
COUNTERS = {"operators": 10.0, "copies": 1.0}
TRACEBACK = 'Traceback (most recent call last):\n  File "steps.py", line 3\nValueError: no <table> & no "rows"\x1b[0m'


def suite_case(name: str, *, base: bool = True, head: bool = True) -> SuiteCase:
    case = Case(code=name)
    return SuiteCase(name=name, base=case if base else None, head=case if head else None)


def sample_manifest(**changes: object) -> GateManifest:
    names = (*(n for n in CHANGES if n not in CONTROLS), NOISY, "steps.py:raises", "steps.py:dies", "steps.py:gpu")
    model = Case(model=load_preset("tiny").spec, batch_size=8)
    cases = (
        *(suite_case(n) for n in names),
        suite_case("steps.py:gone", head=False),
        suite_case("steps.py:added"),
        SuiteCase(name="tiny", base=model, head=msgspec.structs.replace(model, batch_size=16)),
    )
    made = GateManifest(
        schema_version=SCHEMA_VERSION,
        kind="gate",
        created_at="2026-01-02T03:04:05+00:00",
        argv=("gate", "--base", "main", "mine.toml"),
        suite=("mine.toml",),
        repository="/repository",
        folder="/repository",
        base=Revision(asked="main", commit="a" * 40, python="/usr/bin/python3"),
        head=Revision(asked=".", commit="b" * 40, changes="c" * 16, python="/usr/bin/python3"),
        cases=cases,
        preset=presets.load("default"),
        seed=7,
        budget_s=None,
        machine="A Processor",
        machine_hash="0" * 16,
        llc_bytes=1 << 25,
        version="0.1.0",
    )
    return msgspec.structs.replace(made, **changes)


def counted(name: str, side: str, **changes: object) -> Counted:
    made = Counted(case=name, side="base", outcome="ok", step_s=1e-3, counters=COUNTERS, torch="2")
    return msgspec.structs.replace(made, side=side, **changes)


def counting_lines() -> list[Line]:
    lines: list[Line] = []
    for name in (*(n for n in CHANGES if n not in CONTROLS), NOISY, "steps.py:dies", "tiny"):
        more = COUNTERS | {"copies": 2.0} if name == "steps.py:copies" else COUNTERS
        lines += [counted(name, "base"), counted(name, "head", counters=more)]
    lines += [
        counted("steps.py:raises", "base"),
        counted("steps.py:raises", "head", outcome="error", message="ValueError: no rows", detail=TRACEBACK),
        counted("steps.py:gpu", "base", outcome="skipped", message="device cuda: no CUDA GPU on this machine"),
        counted("steps.py:gone", "base"),
        counted("steps.py:added", "base", outcome="absent", message="steps.py has no function added"),
        counted("steps.py:added", "head"),
        Ended(epoch=0, elapsed_s=3.0),
    ]
    return lines


def blocks(chance: random.Random, epoch: int, name: str, change_frac: float, sd: float = 0.01, k: int = 4) -> Blocks:
    shift = math.log1p(change_frac) + chance.gauss(0, sd)
    base = tuple(round(1e-3 * math.exp(chance.gauss(0, 0.01)), 9) for _ in range(k))
    return Blocks(
        epoch=epoch,
        case=name,
        steps=10,
        base_s=base,
        head_s=tuple(round(b * math.exp(shift), 9) for b in base),
        head_first=(True, False) * (k // 2),
        steal_frac=(0.0,) * (k - 1) + (0.2 if epoch == 3 else 0.0,),
        throttled_s=(0.0,) * k,
    )


def epoch_lines(epoch: int, stage: int, names: tuple[str, ...], chance: random.Random) -> list[Line]:
    plan = EpochPlan(epoch=epoch, stage=stage, seed=epoch, first="base", padding_bytes=(1, 2), order=names)
    lines: list[Line] = [Began(plan=plan)]
    for name in names:
        sd = 0.3 if name == NOISY else 0.01
        lines.append(blocks(chance, epoch, name, CHANGES.get(name, 0.0), sd))
    return [*lines, Ended(epoch=epoch, elapsed_s=10.0)]


def sample_lines() -> list[Line]:
    chance = random.Random(11)
    lines = counting_lines()
    for epoch in range(1, 9):
        lines += epoch_lines(epoch, 1, (*CHANGES, NOISY), chance)
        if epoch == 1:
            lines.insert(-1, Failed(epoch=1, case="steps.py:dies", side="head", message="it ended by SIGSEGV"))
    for epoch in range(9, 21):
        lines += epoch_lines(epoch, 2, ("steps.py:slower", "steps.py:faster", *CONTROLS), chance)
    return lines


def outputs(report: GateReport) -> dict[str, str]:
    return {
        "gate.json": json.dumps(document(report), indent=1) + "\n",
        "gate.md": markdown(report),
        "junit.xml": junit(report),
        "github.txt": "\n".join(workflow_commands(report)) + "\n",
    }


if __name__ == "__main__":
    GOLDEN.mkdir(parents=True, exist_ok=True)
    for file, text in outputs(conclude(sample_manifest(), sample_lines())).items():
        (GOLDEN / file).write_text(text)
