"""The baseline verbs: record a run, accept recorded runs with a reason, list, prune. A failing run moves nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from bench import store
from bench.baselines import files
from bench.baselines.judge import judge, summaries
from bench.baselines.kept import LEAST_RUNS, SCHEMA_VERSION, Baseline, KeptRun, Recorded, kept_run, machine_name
from bench.commands.output import print_json, print_table, stderr
from bench.errors import Exit, UsageError
from bench.gate.presets import load
from bench.gate.render.terminal import print_report
from bench.gate.render.words import time_cell
from bench.gate.verdict import exit_code
from bench.sweep import now
from profiles.machine import Machine

ON_PURPOSE = (
    "nothing was recorded: a failing run never moves a baseline. Where the change is meant, record at least "
    f"{LEAST_RUNS} runs of it with --anew and accept them with a --reason"
)


def read_run(run_dir: Path) -> tuple[KeptRun, Machine]:
    """A sweep run as a baseline keeps it, and its machine. Raises UsageError."""
    manifest = store.read_manifest(run_dir)
    if not manifest.cases:
        raise UsageError(f"{run_dir}: this run has no cases to keep times of")
    return kept_run(run_dir.resolve().name, manifest, store.read_records(run_dir)), manifest.machine


def record(name: str, run_dirs: Sequence[Path], home: Path, *, anew: bool) -> int:
    """Add runs to what is recorded; 1 where one fails against the baseline in force, 3 where a case failed."""
    files.check_name(name)
    for run_dir in run_dirs:
        code = _record_one(name, run_dir, home, anew=anew)
        if code:
            return code
    return Exit.OK


def _record_one(name: str, run_dir: Path, home: Path, *, anew: bool) -> int:
    run, machine = read_run(run_dir)
    bad = [f"{case}: {why}" for case, why in run.failed.items()]
    bad += [f"{case}: its time is not a positive number" for case, s in run.step_s.items() if s is None]
    if bad or not run.step_s:
        told = "\n".join(bad) or "no case of it could run"
        stderr().print(f"{run_dir}: {told}\nnothing was recorded", markup=False, soft_wrap=True)
        return Exit.CASE_FAILED
    accepted = files.read_accepted(home, machine.fingerprint.hash, name)
    recorded = files.read_recorded(home, machine.fingerprint.hash, name) or _nothing(name, machine, anew)
    if anew and not recorded.anew:
        recorded = _nothing(name, machine, True)
    if accepted is not None and not recorded.anew:
        report = judge(accepted, [run], load("default"))
        if exit_code(report):
            print_report(report)
            stderr().print(f"{run_dir}: {ON_PURPOSE}", markup=False, soft_wrap=True)
            return exit_code(report)
    _check_belongs(run, recorded, None if recorded.anew else accepted, run_dir)
    path = files.write_recorded(home, msgspec.structs.replace(recorded, runs=(*recorded.runs, run)))
    number = len(recorded.runs) + 1
    print(f"{path}: {number} recorded; {_told_next(name, number, accepted, recorded.anew)}")
    return Exit.OK


def _nothing(name: str, machine: Machine, anew: bool) -> Recorded:
    return Recorded(
        schema_version=SCHEMA_VERSION,
        name=name,
        machine=machine_name(machine),
        machine_hash=machine.fingerprint.hash,
        hard=machine.fingerprint.hard,
        anew=anew,
    )


def _check_belongs(run: KeptRun, recorded: Recorded, accepted: Baseline | None, run_dir: Path) -> None:
    """Raises UsageError for a run that is there already, or that holds other cases."""
    others = [*recorded.runs, *(accepted.runs if accepted else ())]
    if any((o.run, o.created_at) == (run.run, run.created_at) for o in others):
        raise UsageError(f"{run_dir}: this run is recorded already; separate runs are needed")
    if others and others[0].step_s.keys() != run.step_s.keys():
        differing = sorted(others[0].step_s.keys() ^ run.step_s.keys())
        raise UsageError(f"{run_dir}: its cases differ from the baseline's ({', '.join(differing[:3])}); use --anew")


def _told_next(name: str, number: int, accepted: Baseline | None, anew: bool) -> str:
    have = number + (len(accepted.runs) if accepted and not anew else 0)
    if have < LEAST_RUNS:
        return f"{LEAST_RUNS - have} more separate runs are needed before it can judge"
    return f"baseline accept {name} --reason TEXT puts {have} runs in force"


def accept(name: str, reason: str, home: Path, machine_hash: str) -> int:
    """Put the recorded runs in force, with those in force already unless they were recorded anew."""
    recorded = files.read_recorded(home, machine_hash, name)
    if recorded is None or not recorded.runs:
        raise UsageError(f"baseline {name}: nothing is recorded on this machine; baseline record {name} RUN...")
    if not reason.strip():
        raise UsageError("--reason is empty: say why these times are right, for whoever reads the file")
    before = files.read_accepted(home, machine_hash, name)
    runs = (*(before.runs if before and not recorded.anew else ()), *recorded.runs)
    if len(runs) < LEAST_RUNS:
        raise UsageError(
            f"baseline {name}: {len(runs)} runs, at least {LEAST_RUNS} separate ones are needed to know their scatter"
        )
    made = Baseline(
        schema_version=SCHEMA_VERSION,
        name=name,
        machine=recorded.machine,
        machine_hash=machine_hash,
        hard=recorded.hard,
        accepted_at=now(),
        reason=reason.strip(),
        cases=summaries(runs),
        runs=runs,
    )
    path = files.write_accepted(home, made)
    files.remove_recorded(home, machine_hash, name)
    _print_accepted(made, before)
    print(f"{path}: {len(runs)} runs in force; review and commit the file")
    return Exit.OK


def _print_accepted(made: Baseline, before: Baseline | None) -> None:
    rows = []
    for case, found in made.cases.items():
        old = before.cases.get(case) if before else None
        change = f"{100 * (found.step_s / old.step_s - 1):+.1f} %" if old else "-"
        sizes = [f"{100 * f:.1f} %" for f in (found.sd_frac, found.enforceable_frac)]
        rows.append([case, time_cell(found.step_s), *sizes, change])
    columns = ["case", "step", "scatter of runs", "smallest change it can enforce", "against the one before"]
    print_table(f"baseline {made.name}", columns, rows, right=[1, 2, 3, 4])


def prune(name: str, home: Path, machine_hash: str, *, keep: int | None, everything: bool) -> int:
    """Drop recorded runs; of those in force keep the newest `keep`; or drop it all."""
    recorded = files.read_recorded(home, machine_hash, name)
    accepted = files.read_accepted(home, machine_hash, name)
    if recorded is None and accepted is None:
        raise UsageError(f"baseline {name}: there is none of this machine; see baseline list")
    if keep is not None and keep < LEAST_RUNS:
        raise UsageError(f"--keep {keep}: at least {LEAST_RUNS} runs are needed; --all drops the baseline")
    files.remove_recorded(home, machine_hash, name)
    told = [f"{len(recorded.runs)} recorded runs dropped"] if recorded else []
    if everything:
        (home / machine_hash / f"{name}.json").unlink(missing_ok=True)
        told.append("the baseline in force dropped")
    elif accepted is not None and keep is not None and keep < len(accepted.runs):
        runs = tuple(sorted(accepted.runs, key=lambda r: r.created_at)[-keep:])
        files.write_accepted(home, msgspec.structs.replace(accepted, runs=runs, cases=summaries(runs)))
        told.append(f"{len(accepted.runs) - keep} oldest runs in force dropped")
    print(f"baseline {name}: {'; '.join(told) or 'nothing to drop'}")
    return Exit.OK


def show(home: Path, *, as_json: bool) -> int:
    """All baselines of all machines."""
    accepted, recorded = files.all_accepted(home), files.all_recorded(home)
    if as_json:
        print_json({"accepted": accepted, "recorded": recorded})
        return Exit.OK
    rows = [
        [b.machine_hash, b.name, f"{len(b.runs)} in force", _enforces(b), f"{b.accepted_at}: {b.reason}"]
        for b in accepted
    ]
    rows += [[r.machine_hash, r.name, f"{len(r.runs)} recorded", "-", "anew" if r.anew else ""] for r in recorded]
    print_table(f"baselines in {home}", ["machine", "name", "runs", "can enforce", "accepted"], rows)
    return Exit.OK


def _enforces(baseline: Baseline) -> str:
    sizes = [c.enforceable_frac for c in baseline.cases.values()]
    return f"{100 * min(sizes):.1f} to {100 * max(sizes):.1f} %, by case"
