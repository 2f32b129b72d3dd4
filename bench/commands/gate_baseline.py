"""gate --baseline NAME RUN...: sweep runs judged against a stored baseline, told like any gate."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from bench.baselines import files
from bench.baselines.judge import judge, not_comparable
from bench.baselines.kept import Baseline
from bench.commands.baseline import read_run
from bench.commands.gate_tell import tell
from bench.errors import UsageError
from bench.gate.presets import Preset
from bench.gate.verdict import GateReport


def gate_baseline(
    name: str,
    run_dirs: Sequence[Path],
    home: Path,
    preset: Preset,
    *,
    strict: bool,
    as_json: bool,
    junit: Path | None,
    markdown: Path | None,
    argv: Sequence[str] = (),
) -> int:
    """Judge the runs and tell; gate.json, gate.md and junit.xml are written into the last run's folder."""
    if not run_dirs:
        raise UsageError("gate --baseline needs the folders of one or more sweep runs: dlrm-bench sweep NAME, then RUN")
    report = _report(name, run_dirs, home, preset, shlex.join(("dlrm-bench", *argv)))
    extra = {"junit": junit, "markdown": markdown}
    return tell(report, run_dirs[-1], strict=strict, as_json=as_json, extra=extra, environ=os.environ)


def _report(name: str, run_dirs: Sequence[Path], home: Path, preset: Preset, rerun: str) -> GateReport:
    read = [read_run(d) for d in run_dirs]
    runs, machines = [run for run, _ in read], {m.fingerprint.hash: m for _, m in read}
    if len(machines) > 1:
        raise UsageError(f"these runs are of different machines ({', '.join(sorted(machines))}); judge each alone")
    (found_hash,) = machines
    baseline = files.read_accepted(home, found_hash, name)
    if baseline is not None:
        return judge(baseline, runs, preset, rerun)
    foreign = [b for b in files.all_accepted(home) if b.name == name]
    if not foreign:
        raise UsageError(_unknown(name, home, found_hash))
    return not_comparable(foreign[0], runs, preset, _differs(foreign[0], machines[found_hash].fingerprint.hard), rerun)


def _unknown(name: str, home: Path, machine_hash: str) -> str:
    recorded = files.read_recorded(home, machine_hash, name)
    if recorded is not None:
        told = f"{len(recorded.runs)} runs are recorded, none accepted"
        return f"baseline {name}: {told}; baseline accept {name} --reason TEXT"
    known = sorted({b.name for b in files.all_accepted(home)})
    return f"{home}: no baseline {name!r}; there is {', '.join(known) or 'none yet (baseline record NAME RUN)'}"


def _differs(baseline: Baseline, hard: dict[str, object]) -> str:
    fields = [k for k in baseline.hard | hard if baseline.hard.get(k) != hard.get(k)]
    told = "; ".join(f"{k}: {baseline.hard.get(k)} there, {hard.get(k)} here" for k in fields) or "another machine"
    return f"recorded on another machine or with other software ({told}); record a baseline here"
