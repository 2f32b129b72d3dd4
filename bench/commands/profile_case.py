"""profile: one case measured and traced as in a sweep, then inspected."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import msgspec

from bench import store
from bench.commands.inspect_page import provenance, save_page
from bench.commands.machine import with_ceilings
from bench.commands.output import print_json, print_table, stderr
from bench.commands.sweep import device_of, require_writable, surroundings
from bench.errors import Exit, UsageError
from bench.inspection.profiling import Profile, lines, look, page_of, profile_of, profile_tables
from bench.machine_lock import machine_lock
from bench.plan import Planned, plan, require_runnable
from bench.progress import observer
from bench.records import Case, Limits, Manifest, Record
from bench.run_files import page_path
from bench.running.pool import Pool
from bench.sweep import Runner, new_manifest
from bench.sweep_spec import Grid, Scalar, Sweep, make_case, override, parse_flag
from profiles.machine import Machine
from workloads.spec import SpecError


class ProfileOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The flags of `profile`. `target` is a preset, or path.py:function."""

    target: str
    axes: list[str]
    settings: list[str]
    steps: int | None
    out: Path
    html: bool
    as_json: bool
    argv: tuple[str, ...]


def run_profile(options: ProfileOptions) -> int:
    """Measure, trace and inspect what the flags say; returns the exit code."""
    name, case, limits = _resolve(options)
    from profiles.identify import identify

    machine = identify()
    planned = plan([case], limits, surroundings(machine))
    require_runnable(planned)
    require_writable(options.out)
    with machine_lock(), Pool() as pool:
        machine = with_ceilings(machine, [device_of(case)], pool)
        run_dir = store.new_run_dir(options.out, name)
        manifest = new_manifest(name, [case], limits, machine, options.argv)
        store.write_manifest(run_dir, manifest)
        record = _measured(run_dir, manifest, planned, pool)
    if record is None:
        return Exit.INTERRUPTED
    if record.outcome.status != "ok" or record.trace is None:
        return _not_measured(run_dir, record, options.as_json)
    _tell(_inspected(run_dir, record, machine, options.html), options.as_json)
    return Exit.OK


def _measured(run_dir: Path, manifest: Manifest, planned: Sequence[Planned], pool: Pool) -> Record | None:
    """The record of the one case; None where the user stopped it."""
    console = stderr()
    try:
        with observer(console, planned) as watching:
            Runner(run_dir, manifest, pool, watching).run(planned)
    except KeyboardInterrupt:
        console.print("\nstopped; nothing was measured", markup=False)
        return None
    return store.read_records(run_dir)[0]


def _not_measured(run_dir: Path, record: Record, as_json: bool) -> int:
    outcome = record.outcome
    stderr().print(f"{outcome.status}: {outcome.reason}\nrun: {run_dir}", markup=False, soft_wrap=True)
    if as_json:
        print_json({"run": str(run_dir), "key": record.key, "outcome": outcome})
    return Exit.CASE_FAILED


def _inspected(run_dir: Path, record: Record, machine: Machine, html: bool) -> Profile:
    assert record.trace is not None
    trace = run_dir / record.trace.path
    page = run_dir / page_path(record.trace.path) if html else None
    looked = look(trace, record, machine)
    if page is not None:
        save_page(page, page_of(looked, record, machine, provenance()))
    return profile_of(looked, record, machine, run=run_dir, trace=trace, page=page)


def _tell(found: Profile, as_json: bool) -> None:
    console = stderr()
    if as_json:
        print_json(found)
    else:
        print("\n".join(lines(found)))
        for table in profile_tables(found):
            print_table(table.title, table.columns, table.rows, right=range(1, len(table.columns)))
    page = f"\npage: {found.page}" if found.page else ""
    console.print(f"run: {found.run}\ntrace: {found.trace}{page}", markup=False, soft_wrap=True)


def _resolve(options: ProfileOptions) -> tuple[str, Case, Limits]:
    """(name of the run, the case, its limits). UsageError for several cases, SpecError for bad values."""
    given = [("--axis", flag) for flag in options.axes] + [("--set", flag) for flag in options.settings]
    settings = dict(_single(flag, option, options.target) for option, flag in given)
    if settings.get("trace") is False:
        raise SpecError("trace", False, "profile needs the trace; sweep measures without one")
    if options.steps is not None:
        if options.steps < 1:
            raise SpecError("--steps", options.steps, "a whole number above 0")
        settings["trace_steps"] = options.steps
    is_code = ".py:" in options.target
    grid = Grid(code=options.target) if is_code else Grid(preset=options.target)
    word = options.target.rpartition(":")[2] if is_code else Path(options.target).stem
    name = "profile-" + re.sub(r"[^\w.-]+", "-", word)
    changed = override(Sweep(name=name, grid=(grid,)), {}, settings)
    case = make_case(grid.preset, grid.code, changed.grid[0].set)
    return name, case, msgspec.structs.replace(changed.limits, trace=True)


def _single(flag: str, option: str, target: str) -> tuple[str, Scalar]:
    name, values = parse_flag(flag, option)
    if len(values) != 1:
        _several(flag, option, len(values), target)
    return name, values[0]


def _several(flag: str, option: str, number: int, target: str) -> NoReturn:
    grid = f"code = '{target}'" if ".py:" in target else f"preset = '{target}'"
    raise UsageError(
        f"{option} {flag} names {number} values and profile runs one case; measure several with sweep: "
        f"a file with a [[grid]] that has {grid}, then dlrm-bench sweep FILE.toml --axis {flag}"
    )
