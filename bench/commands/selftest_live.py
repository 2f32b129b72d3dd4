"""selftest aa, power, hostile: gate runs of the working tree against itself, plain, slowed exactly, or disturbed."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from bench import store
from bench.commands.gate_setup import make_manifest, make_places, require_same, side_checkout, skip_reasons
from bench.commands.gate_tell import write_page
from bench.commands.output import stderr
from bench.commands.selftest_tell import print_live, so_far
from bench.commands.sweep import require_writable
from bench.errors import Exit, SchemaError, UsageError
from bench.gate import presets
from bench.gate.disturb import neighbour, quota
from bench.gate.epochs import injected
from bench.gate.ledger import Ledger
from bench.gate.log import LINES, MANIFEST, GateManifest, read_lines, read_manifest
from bench.gate.progress import Progress
from bench.gate.render.selftest_page import drawings, page
from bench.gate.revisions import WORKING_TREE, Revision, checkouts, repository, resolve
from bench.gate.run import GateRun
from bench.gate.sample_size import require_resolution
from bench.gate.selftest_live import LiveReport, Run, live_report
from bench.gate.suite import SuiteCase, suite_cases
from bench.machine_lock import machine_lock
from profiles.atomic_file import write_atomically
from profiles.machine import Machine
from workloads.spec import SpecError

PLAN, REPORT, PAGE = "selftest-run.json", "selftest.json", "selftest.html"


class LivePlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a live self-test does, kept beside its runs so that it can be resumed."""

    kind: str
    suite: tuple[str, ...]
    runs: int
    preset: presets.Preset
    inject_frac: float
    seed: int
    repository: str
    folder: str
    revision: Revision


class LiveOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The flags of the live self-tests. runs: None is 1, or with resume what was planned."""

    kind: str
    suite: list[str]
    runs: int | None
    preset: str
    changes: dict[str, object]
    inject_frac: float
    seed: int
    out: Path
    resume: Path | None
    as_json: bool


def run_live(options: LiveOptions) -> int:
    """Run the gates and tell; 0 where nothing failed that should not, or (power) everything that should."""
    if options.runs is not None and options.runs < 1:
        raise SpecError("--runs", options.runs, "a whole number from 1")
    from profiles.identify import identify

    home, plan = _resumed(options, options.resume) if options.resume else _begun(options)
    try:
        with machine_lock(), contextlib.ExitStack() as stack:
            machine = identify()  # before a quota makes another machine of it
            told = _disturb(stack) if plan.kind == "hostile" else []
            runs = _runs(home, plan, machine)
    except KeyboardInterrupt:
        again = f"stopped; whole epochs are kept. Go on with: dlrm-bench selftest {plan.kind} --resume {home}"
        stderr().print("\n" + again, markup=False, soft_wrap=True)
        return Exit.INTERRUPTED
    report = live_report(plan.kind, runs, plan.inject_frac, told)
    write_report(home, report)
    write_selftest_page(home / PAGE, report, runs)
    print_live(report, as_json=options.as_json)
    stderr().print(f"runs: {home}", markup=False, soft_wrap=True)
    return exit_of(report)


def write_report(home: Path, report: LiveReport) -> None:
    """selftest.json."""
    write_atomically(home / REPORT, msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")


def write_selftest_page(path: Path, report: LiveReport, runs: Sequence[Run]) -> None:
    """The page of these runs."""
    write_page(path, page(report), drawings(report, [Ledger(lines) for _, lines in runs]))


def exit_of(report: LiveReport) -> Exit:
    """0 where every case could be judged, and nothing failed that should not, or (power) everything that should."""
    good = report.failed == (report.judged if report.kind == "power" else 0)
    return Exit.OK if good and report.judged and not report.verdicts.get("ERROR") else Exit.INVALID


def _begun(options: LiveOptions) -> tuple[Path, LivePlan]:
    if not options.suite:
        raise UsageError(f"selftest {options.kind} needs a SUITE: a sweep (gate has 8 cases), or path.py:function")
    if options.kind == "power":
        _require_injectable(options.inject_frac)
    folder = Path.cwd()
    root = repository(folder)
    revision = resolve(root, WORKING_TREE, sys.executable)
    if revision.changes is None:
        # As a commit it can be resumed after the working tree has moved on.
        revision = resolve(root, "HEAD", sys.executable)
    plan = LivePlan(
        kind=options.kind,
        suite=tuple(options.suite),
        runs=options.runs or 1,
        preset=presets.changed(presets.load(options.preset), options.changes),
        inject_frac=options.inject_frac if options.kind == "power" else 0.0,
        seed=options.seed,
        repository=str(root),
        folder=str(folder),
        revision=revision,
    )
    require_writable(options.out)
    home = store.new_run_dir(options.out, f"selftest-{options.kind}")
    write_atomically(home / ".gitignore", b"*\n")
    _write_plan(home, plan)
    return home, plan


def _require_injectable(inject_frac: float) -> None:
    try:
        _, extra = injected(1, inject_frac)
    except ValueError as error:
        raise UsageError(f"--inject {error}") from None
    if not extra:
        raise UsageError("--inject 0 slows nothing down; selftest aa runs what is unchanged")


def _write_plan(home: Path, plan: LivePlan) -> None:
    write_atomically(home / PLAN, msgspec.json.format(msgspec.json.encode(plan), indent=1))


def _resumed(options: LiveOptions, home: Path) -> tuple[Path, LivePlan]:
    if options.suite or options.changes:
        raise UsageError("--resume goes on with a self-test as it was begun; it takes no SUITE and no --set")
    plan = read_plan(home)
    if plan.kind != options.kind:
        raise UsageError(f"{home}: this is a self-test {plan.kind}; resume it with: selftest {plan.kind}")
    if options.runs is not None and options.runs != plan.runs:
        plan = msgspec.structs.replace(plan, runs=options.runs)
        _write_plan(home, plan)
    return home, plan


def read_plan(home: Path) -> LivePlan:
    """The plan of a live self-test. Raises UsageError or SchemaError."""
    try:
        return msgspec.json.decode((home / PLAN).read_bytes(), type=LivePlan)
    except OSError as error:
        raise UsageError(f"{home / PLAN}: cannot be read ({error.strerror}); give a self-test's folder") from None
    except (msgspec.DecodeError, ValueError) as error:
        raise SchemaError(f"{home / PLAN}: not the plan of a self-test ({error})") from None


def _disturb(stack: contextlib.ExitStack) -> list[str]:
    told = [stack.enter_context(neighbour()), stack.enter_context(quota()) or "no quota: no control group can be made"]
    for what in told:
        stderr().print(f"disturbed by {what}", markup=False, soft_wrap=True)
    return told


def _runs(home: Path, plan: LivePlan, machine: Machine) -> list[Run]:
    root = Path(plan.repository)
    found: list[Run] = []
    with checkouts(root, plan.revision, plan.revision) as (base, head):
        places = make_places(root, Path(plan.folder), base, head)
        cases = suite_cases(plan.suite, places["base"], places["head"])
        require_resolution(plan.preset, len(cases))
        skipped = skip_reasons(cases, machine)
        for run_dir, manifest in _manifests(home, plan, cases, machine):
            stderr().print(f"gate {len(found) + 1} of {plan.runs}: {run_dir}", markup=False, soft_wrap=True)
            sides = {name: side_checkout(name, place, manifest) for name, place in places.items()}
            with Progress(stderr(), manifest) as watching:
                GateRun(run_dir, manifest, sides, skipped, watching, inject_frac=plan.inject_frac).run()
            found.append((manifest, read_lines(run_dir)))
            stderr().print(so_far(found, plan.inject_frac), markup=False, soft_wrap=True)
    return found


def _manifests(
    home: Path, plan: LivePlan, cases: tuple[SuiteCase, ...], machine: Machine
) -> Iterator[tuple[Path, GateManifest]]:
    """Each run's folder and manifest, made where it is not there yet."""
    for number in range(plan.runs):
        run_dir = home / f"run-{number + 1}"
        if (run_dir / LINES).exists():
            manifest = read_manifest(run_dir)
            require_same(run_dir, manifest, machine, Path(plan.repository))
        else:
            manifest = make_manifest(
                Path(plan.repository),
                Path(plan.folder),
                (plan.revision, plan.revision),
                cases,
                plan.preset,
                machine,
                suite=plan.suite,
                seed=plan.seed + number,
            )
            run_dir.mkdir(exist_ok=True)
            write_atomically(run_dir / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest), indent=1))
        yield run_dir, manifest
