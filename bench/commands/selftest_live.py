"""selftest aa, power, hostile: gate runs of the working tree against itself, plain, slowed exactly, or disturbed."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import msgspec

from bench import store
from bench.commands.gate_setup import make_manifest, make_places, side_checkout, skip_reasons
from bench.commands.output import print_json, print_table, stderr
from bench.commands.sweep import require_writable
from bench.errors import Exit, UsageError
from bench.gate import presets
from bench.gate.disturb import neighbour, quota
from bench.gate.log import MANIFEST, read_lines
from bench.gate.progress import Progress
from bench.gate.revisions import WORKING_TREE, checkouts, repository, resolve
from bench.gate.run import GateRun
from bench.gate.sample_size import require_resolution
from bench.gate.selftest_live import LiveReport, Run, live_report
from bench.gate.suite import suite_cases
from bench.machine_lock import machine_lock
from profiles.atomic_file import write_atomically
from workloads.spec import SpecError


class LiveOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The flags of the live self-tests."""

    kind: str
    suite: list[str]
    runs: int
    preset: str
    changes: dict[str, object]
    inject_frac: float
    seed: int
    out: Path
    as_json: bool


def run_live(options: LiveOptions) -> int:
    """Run the gates and tell; 0 where nothing failed that should not, or (power) everything that should."""
    if not options.suite:
        raise UsageError(f"selftest {options.kind} needs a SUITE: a sweep, or path.py:function")
    if options.runs < 1:
        raise SpecError("--runs", options.runs, "a whole number from 1")
    require_writable(options.out)
    home = store.new_run_dir(options.out, f"selftest-{options.kind}")
    write_atomically(home / ".gitignore", b"*\n")
    inject_frac = options.inject_frac if options.kind == "power" else 0.0
    with machine_lock(), contextlib.ExitStack() as stack:
        told = _disturb(stack) if options.kind == "hostile" else []
        runs = _runs(options, home, inject_frac)
    report = live_report(options.kind, runs, inject_frac, told)
    write_atomically(home / "selftest.json", msgspec.json.format(msgspec.json.encode(report), indent=1))
    _print(report, as_json=options.as_json)
    stderr().print(f"runs: {home}", markup=False, soft_wrap=True)
    good = report.failed == report.judged if options.kind == "power" else report.failed == 0
    return Exit.OK if good else Exit.INVALID


def _disturb(stack: contextlib.ExitStack) -> list[str]:
    told = [stack.enter_context(neighbour()), stack.enter_context(quota()) or "no quota: no control group can be made"]
    for what in told:
        stderr().print(f"disturbed by {what}", markup=False, soft_wrap=True)
    return told


def _runs(options: LiveOptions, home: Path, inject_frac: float) -> list[Run]:
    from profiles.identify import identify

    folder, machine = Path.cwd(), identify()
    root = repository(folder)
    preset = presets.changed(presets.load(options.preset), options.changes)
    revision = resolve(root, WORKING_TREE, sys.executable)
    found: list[Run] = []
    with checkouts(root, revision, revision) as (base, head):
        places = make_places(root, folder, base, head)
        cases = suite_cases(options.suite, places["base"], places["head"])
        require_resolution(preset, len(cases))
        skipped = skip_reasons(cases, machine)
        for number in range(options.runs):
            manifest = make_manifest(
                root,
                folder,
                (revision, revision),
                cases,
                preset,
                machine,
                suite=options.suite,
                seed=options.seed + number,
            )
            run_dir = home / f"run-{number + 1}"
            run_dir.mkdir()
            write_atomically(run_dir / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest), indent=1))
            stderr().print(f"gate {number + 1} of {options.runs}")
            sides = {name: side_checkout(name, place, manifest) for name, place in places.items()}
            with Progress(stderr(), manifest) as watching:
                GateRun(run_dir, manifest, sides, skipped, watching, inject_frac=inject_frac).run()
            found.append((manifest, read_lines(run_dir)))
    return found


def _print(report: LiveReport, *, as_json: bool) -> None:
    if as_json:
        print_json(report)
        return
    effects = list(report.cases[0].power_frac) if report.cases else []
    columns = ["case", "epochs", "spread", "difference [95 %]", *(f"fails at {100 * float(e):+g} %" for e in effects)]
    rows = [
        [
            c.case,
            str(c.epochs),
            f"{100 * c.spread_frac:.1f} %",
            f"{100 * c.bias_frac:+.2f} % [{_bound(c.low_frac)}, {_bound(c.high_frac)}]",
            *(f"{100 * c.power_frac[e]:.1f} %" for e in effects if e in c.power_frac),
        ]
        for c in report.cases
    ]
    print_table(f"selftest {report.kind}", columns, rows, right=list(range(1, len(columns))))
    told = ", ".join(f"{n} {s}" for s, n in report.verdicts.items())
    print(f"{report.runs} gates, {report.invalid_runs} of them invalid; verdicts: {told}.")
    injected = f"slowed by {100 * report.injected_frac:g} %" if report.injected_frac else "unchanged"
    print(
        f"{report.failed} of {report.judged} {injected} cases failed: at most "
        f"{100 * report.failed_at_most_frac:.2g} % (95 % bound)."
    )


def _bound(fraction: float | None) -> str:
    return "?" if fraction is None else f"{100 * fraction:+.2f} %"
