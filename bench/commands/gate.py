"""The gate verb: make the checkouts, run or resume, tell in every format that is wanted."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from bench import store
from bench.commands.gate_baseline import gate_baseline
from bench.commands.gate_options import GateOptions, budget_s, check_flags, preset_of_flags
from bench.commands.gate_plan import print_plan
from bench.commands.gate_setup import (
    make_places,
    require_same,
    side_checkout,
    skip_reasons,
)
from bench.commands.gate_suite import gate_manifest, read_suite
from bench.commands.gate_tell import say_written, tell, write_page
from bench.commands.output import stderr
from bench.commands.sweep import require_writable
from bench.errors import Exit, UsageError
from bench.gate import counters
from bench.gate.conclude import conclude
from bench.gate.ledger import Ledger
from bench.gate.log import MANIFEST, Counted, GateManifest, SideName, read_lines, read_manifest
from bench.gate.progress import Progress
from bench.gate.pytest_run import PytestRun
from bench.gate.render.page import drawings, page
from bench.gate.revisions import WORKING_TREE, Revision, checkouts, repository, resolve
from bench.gate.run import GateRun
from bench.gate.sample_size import require_resolution
from bench.gate.schedule import next_plan
from bench.gate.side import SideLostError
from bench.gate.suite import Place
from bench.machine_lock import machine_lock
from profiles.atomic_file import write_atomically

PAGE = "gate.html"
SAVES = "a run that saves counters compares nothing and cannot be resumed: give its command again, it takes seconds"


def run_gate(options: GateOptions) -> int:
    """Run what the flags say; returns the exit code."""
    if options.resume is not None:
        return _resume(options, options.resume)
    if options.baseline is not None:
        return _against_baseline(options, options.baseline)
    check_flags(options)
    folder = Path.cwd()
    root = repository(folder)
    base, head = _revisions(options, root)
    preset = preset_of_flags(options)
    with checkouts(root, base, head) as (base_root, head_root):
        places = make_places(root, folder, base_root, head_root)
        suite = read_suite(options, places, root, {"base": base or head, "head": head})
        cases = suite.cases
        if not options.counters_only:
            require_resolution(preset, max(sum(c.same for c in cases), 1))
        from profiles.identify import identify

        machine = identify()
        skipped = {} if options.runner == "pytest" else skip_reasons(cases, machine)
        if options.plan:
            print_plan(cases, skipped, preset, budget_s(options), as_json=options.as_json)
            return Exit.OK
        require_writable(options.out)
        manifest = gate_manifest(options, root, folder, (base or head, head), suite, preset, machine)
        with machine_lock():
            run_dir = store.new_run_dir(options.out, "gate")
            # Ignored by git: a run inside the repository must not count as a change of the working tree.
            write_atomically(run_dir / ".gitignore", b"*\n")
            write_atomically(run_dir / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest), indent=1))
            return _run(options, run_dir, manifest, places, skipped, suite.base_lines)


def _against_baseline(options: GateOptions, name: str) -> int:
    if options.base or options.counters_only or options.plan or options.budget:
        raise UsageError("--baseline judges finished sweep runs: give their folders, and no --base, --plan or --budget")
    return gate_baseline(
        name,
        [Path(s) for s in options.suite],
        options.baselines,
        preset_of_flags(options),
        strict=options.strict,
        as_json=options.as_json,
        junit=options.junit,
        markdown=options.markdown,
        argv=options.argv,
    )


def _revisions(options: GateOptions, root: Path) -> tuple[Revision | None, Revision]:
    head = resolve(root, options.head, options.head_python or sys.executable)
    if options.head != WORKING_TREE and resolve(root, WORKING_TREE, sys.executable).changes:
        told = f"the working tree has changes that are not in {head.label}: they are not judged; --head . judges them"
        stderr().print(told, markup=False, soft_wrap=True)
    if options.against is not None or options.save is not None:
        return None, head
    return resolve(root, options.base or WORKING_TREE, options.base_python or sys.executable), head


def _run(
    options: GateOptions,
    run_dir: Path,
    manifest: GateManifest,
    places: Mapping[SideName, Place],
    skipped: Mapping[str, str],
    base_lines: Sequence[Counted] = (),
) -> int:
    sides = {name: side_checkout(name, place, manifest) for name, place in places.items()}
    try:
        with Progress(stderr(), manifest) as watching:
            if manifest.runner == "pytest":
                gate_run: GateRun = PytestRun(run_dir, manifest, sides, watching, base_lines)
            else:
                gate_run = GateRun(run_dir, manifest, sides, skipped, watching, base_lines)
            lines = gate_run.run()
    except KeyboardInterrupt:
        kept = f"whole epochs are kept. Go on with: dlrm-bench gate --resume {run_dir}"
        told = f"\nstopped; {SAVES if manifest.save else kept}"
        stderr().print(told, markup=False, soft_wrap=True)
        return Exit.INTERRUPTED
    except SideLostError as lost:
        raise UsageError(f"{lost}\n{lost.log}") from None
    if options.save is not None:
        heads = [line for line in lines if isinstance(line, Counted) and line.side == "head"]
        counters.write(options.save, counters.as_file(heads, manifest.head.label))
        say_written(options.save)
        return Exit.OK
    return _tell(options, run_dir, manifest)


def _tell(options: GateOptions, run_dir: Path, manifest: GateManifest) -> int:
    lines = read_lines(run_dir)
    report = conclude(manifest, lines)
    code = tell(
        report,
        run_dir,
        strict=options.strict,
        as_json=options.as_json,
        extra={"junit": options.junit, "markdown": options.markdown},
        environ=os.environ,
    )
    write_page(run_dir / PAGE, page(report), drawings(report, Ledger(lines)))
    return code


def _resume(options: GateOptions, run_dir: Path) -> int:
    if options.suite or options.base or options.settings or options.budget or options.against or options.save:
        raise UsageError("--resume goes on with a run as it was begun; it takes no SUITE, --base, --set or --budget")
    manifest = read_manifest(run_dir)
    if manifest.save:
        raise UsageError(f"{run_dir}: {SAVES}")
    ledger = Ledger(read_lines(run_dir))
    complete = ledger.counting_done and (manifest.counters_only or next_plan(manifest, ledger) is None)
    if complete or ledger.stopped:
        return _tell(options, run_dir, manifest)
    from profiles.identify import identify

    machine, root = identify(), Path(manifest.repository)
    require_same(run_dir, manifest, machine, root)
    base = None if manifest.against else manifest.base
    with checkouts(root, base, manifest.head) as (base_root, head_root), machine_lock():
        places = make_places(root, Path(manifest.folder), base_root, head_root)
        stored = counters.as_base(counters.read(Path(manifest.against))) if manifest.against else ()
        skipped = {} if manifest.runner == "pytest" else skip_reasons(manifest.cases, machine)
        return _run(options, run_dir, manifest, places, skipped, stored)
