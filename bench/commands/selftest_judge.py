"""selftest judge, keep: what live self-tests recorded, judged again and kept for others. Nothing is measured."""

from __future__ import annotations

from pathlib import Path

import msgspec

from bench.commands.output import stderr
from bench.commands.selftest_live import PLAN, REPORT, LivePlan, exit_of, read_plan, write_report, write_selftest_page
from bench.commands.selftest_tell import print_live
from bench.errors import Exit, SchemaError, UsageError
from bench.gate import log
from bench.gate.ledger import Ledger
from bench.gate.schedule import next_plan
from bench.gate.selftest_live import LiveReport, Run, live_report
from profiles.atomic_file import write_atomically

REFERENCE = Path("results/reference")
FINGERPRINT_CHARS = 16


class _Noted(msgspec.Struct, frozen=True):
    """Of the self-test's own report, what no log of a gate knows."""

    disturbed_by: tuple[str, ...] = ()


def run_judge(homes: list[str], out: Path | None, *, as_json: bool) -> int:
    """Judge a live self-test's finished gates again, draw its page where asked; exits as the self-test did."""
    home = _only(homes, "judge")
    plan = read_plan(home)
    found = _finished(home, plan)
    report = _report(home, plan, found)
    if out is not None:
        write_selftest_page(out, report, [run for _, run in found])
        stderr().print(f"written: {out}", markup=False, soft_wrap=True)
    print_live(report, as_json=as_json)
    return exit_of(report)


def run_keep(homes: list[str], out: Path | None) -> int:
    """Keep a live self-test's finished gates packed, without this machine's paths; by default among the reference."""
    home = _only(homes, "keep")
    plan = read_plan(home)
    found = _finished(home, plan)
    to = out or REFERENCE / found[0][1][0].machine_hash[:FINGERPRINT_CHARS] / _name(plan)
    public = msgspec.structs.replace(
        plan,
        repository="",
        folder="",
        revision=msgspec.structs.replace(plan.revision, python=""),
        runs=len(found),
    )
    for run_dir, _ in found:
        log.keep(run_dir, to / run_dir.name)
    report = _report(home, plan, found)
    write_atomically(to / PLAN, msgspec.json.format(msgspec.json.encode(public), indent=1) + b"\n")
    write_report(to, report)
    stderr().print(f"kept: {to}", markup=False, soft_wrap=True)
    return Exit.OK


def _only(homes: list[str], what: str) -> Path:
    if len(homes) != 1:
        raise UsageError(f"selftest {what} needs one folder of a live self-test, not {len(homes)}")
    return Path(homes[0])


def _name(plan: LivePlan) -> str:
    slowed = f"-{100 * plan.inject_frac:g}-percent" if plan.inject_frac else ""
    return f"{plan.kind}{slowed}-{plan.preset.name}"


def _finished(home: Path, plan: LivePlan) -> list[tuple[Path, Run]]:
    """Every gate that took all epochs it needs; the others are told."""
    found: list[tuple[Path, Run]] = []
    for number in range(plan.runs):
        run_dir = home / f"run-{number + 1}"
        lines = log.read_lines(run_dir)
        if not lines:
            continue
        manifest, ledger = log.read_manifest(run_dir), Ledger(lines)
        if ledger.counting_done and next_plan(manifest, ledger) is None:
            found.append((run_dir, (manifest, lines)))
    if not found:
        raise UsageError(f"{home}: no gate of this self-test is finished; selftest {plan.kind} --resume {home}")
    if len(found) < plan.runs:
        told = f"{len(found)} of {plan.runs} gates are finished, the others are left out"
        stderr().print(told, markup=False, soft_wrap=True)
    return found


def _report(home: Path, plan: LivePlan, found: list[tuple[Path, Run]]) -> LiveReport:
    return live_report(plan.kind, [run for _, run in found], plan.inject_frac, _disturbed_by(home))


def _disturbed_by(home: Path) -> tuple[str, ...]:
    """What disturbed the gates, as the self-test itself noted it when it ended."""
    path = home / REPORT
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Noted).disturbed_by
    except FileNotFoundError:
        return ()
    except (msgspec.DecodeError, ValueError) as error:
        raise SchemaError(f"{path}: not the report of a self-test ({error})") from None
