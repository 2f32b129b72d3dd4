"""The sweep verb: plan, run with live progress, save, report; resume."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from bench import store
from bench.between import chosen
from bench.commands.inspect_page import write_pages
from bench.commands.machine import with_ceilings
from bench.commands.output import print_json, print_table, stderr
from bench.errors import Exit, StoppedError, UsageError, machine_fault
from bench.machine_lock import machine_lock
from bench.plan import Planned, Surroundings, gib, plan, require_runnable
from bench.progress import observer, seconds
from bench.records import Case, Limits, Manifest, QualityTrial, Record
from bench.running.pool import Pool
from bench.study.running import PlannedTrial, TrialRunner, plan_trials
from bench.study.spec import Quality, trials
from bench.sweep import Runner, check_resumable, new_manifest
from bench.sweep_spec import cases, load_sweep, override, parse_flag
from bench.terminal import printable
from profiles.machine import Machine
from workloads.spec import SpecError

CEILINGS_S = 30.0
MIN_BUDGET_S = 0.2
ROUGH_FLOPS_PER_S, ROUGH_BYTES_PER_S = 50e9, 5e9


class SweepOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The flags of `sweep`."""

    name: str | None
    axes: list[str]
    settings: list[str]
    plan: bool
    out: Path
    resume: Path | None
    budget: str | None
    refresh: bool
    as_json: bool
    argv: tuple[str, ...]


def run_sweep(options: SweepOptions) -> int:
    """Run what the flags say; returns the exit code."""
    if options.resume is not None:
        return _resume(options, options.resume)
    if options.name is None:
        raise UsageError("sweep needs a name or a file (see `dlrm-bench list sweeps`), or --resume RUN")
    name, resolved, limits, quality = _resolve(options)
    from profiles.identify import identify

    machine = identify()
    planned, learning = plan(resolved, limits, surroundings(machine)), _plan_quality(quality)
    if options.budget:
        limits = _within(duration_s(options.budget), planned, learning, limits)
        planned = plan(resolved, limits, surroundings(machine))
    if options.plan:
        _print_plan(planned, learning, chosen(planned, limits), limits, options.as_json)
        return Exit.OK
    require_runnable(planned)
    require_writable(options.out)
    with machine_lock(), Pool() as pool:
        devices = sorted({device_of(c) for c in resolved})
        machine = with_ceilings(machine, devices, pool, refresh=options.refresh)
        run_dir = store.new_run_dir(options.out, name)
        manifest = new_manifest(name, resolved, limits, machine, options.argv, quality)
        store.write_manifest(run_dir, manifest)
        return _run(run_dir, manifest, planned, learning, pool, options.as_json)


def _resume(options: SweepOptions, run_dir: Path) -> int:
    if options.name or options.axes or options.settings or options.budget:
        raise UsageError("--resume completes a run as it was begun; it takes no name, --axis, --set or --budget")
    from profiles.identify import identify

    manifest = store.read_manifest(run_dir)
    machine = identify()
    for changed in check_resumable(run_dir, manifest, machine):
        stderr().print(printable(f"note: {changed}"), markup=False, soft_wrap=True)
    _require_same_files(run_dir, manifest)
    planned = plan(manifest.cases, manifest.limits, surroundings(machine))
    learning = _plan_quality(manifest.quality)
    if options.plan:
        done = store.recorded_keys(run_dir)
        left = [p for p in planned if p.key not in done], [p for p in learning if p.key not in done]
        twice = store.remeasured_keys(run_dir)
        again = [p for p in chosen(planned, manifest.limits) if p.key not in twice]
        _print_plan(*left, again, manifest.limits, options.as_json)
        return Exit.OK
    with machine_lock(), Pool() as pool:
        return _run(run_dir, manifest, planned, learning, pool, options.as_json)


def _require_same_files(run_dir: Path, manifest: Manifest) -> None:
    from workloads.inputs import changed

    reasons = {changed(c.model): None for c in manifest.cases if c.model}
    told = [reason for reason in reasons if reason]
    if told:
        raise UsageError(f"{run_dir}: cannot be resumed, the lookups to replay are not there: {'; '.join(told)}")


def _plan_quality(quality: Quality | None) -> list[PlannedTrial]:
    from profiles.probes.memory import available_bytes

    return plan_trials(trials(quality), available_bytes()) if quality else []


def _run(
    run_dir: Path,
    manifest: Manifest,
    planned: Sequence[Planned],
    learning: Sequence[PlannedTrial],
    pool: Pool,
    as_json: bool,
) -> int:
    again = chosen(planned, manifest.limits)
    going_on = _going_on(f"what was measured is kept. Go on with: dlrm-bench sweep --resume {run_dir}")
    with going_on, observer(stderr(), [*planned, *again, *learning]) as watching:
        runner = Runner(run_dir, manifest, pool, watching)
        runner.run(planned)
        runner.remeasure(again, len(planned))
        TrialRunner(run_dir, manifest, pool, watching, len(planned) + len(again)).run(learning)
    records, learned = store.read_records(run_dir), store.read_trials(run_dir)
    with _going_on(f"all is measured and kept. Write the report with: dlrm-bench report {run_dir}"):
        _tell(run_dir, manifest, records, learned, as_json)
    return Exit.CASE_FAILED if _counts(records)["failed"] + _counts(learned)["failed"] else Exit.OK


@contextlib.contextmanager
def _going_on(told: str) -> Iterator[None]:
    """Where the user, a closed terminal or the machine (a full disk) stops what is done inside, say how to go on."""
    try:
        yield
    except (KeyboardInterrupt, BrokenPipeError):
        raise StoppedError(f"\nstopped; {told}") from None
    except OSError as error:
        fault = machine_fault(error)
        if fault is None:
            raise
        raise UsageError(f"{fault}; {told}") from error


def _tell(
    run_dir: Path, manifest: Manifest, records: Sequence[Record], learned: Sequence[QualityTrial], as_json: bool
) -> None:
    from bench.reporting.report import write_report

    console = stderr()
    console.print("drawing the report ...")
    write_pages(run_dir, records, manifest.machine)
    again = store.read_remeasured(run_dir)
    path = write_report(run_dir / "report.html", manifest, records, trials=learned, again=again)
    counts, trial_counts = _counts(records), _counts(learned)
    ends = [(r.key, r.outcome) for r in records] + [(t.key, t.outcome) for t in learned]
    for key, outcome in ends:
        if outcome.status == "failed":
            console.print(printable(f"failed: {key}: {outcome.reason}"), markup=False, soft_wrap=True)
    console.print(", ".join(f"{n} {status}" for status, n in counts.items()))
    if learned:
        console.print("trials: " + ", ".join(f"{n} {status}" for status, n in trial_counts.items()))
    console.print(f"run: {run_dir}\nreport: {path}", markup=False, soft_wrap=True)
    if as_json:
        told = {"run": str(run_dir), "report": str(path), "cases": counts}
        print_json(told | {"trials": trial_counts} if learned else told)


def _counts(records: Sequence[Record] | Sequence[QualityTrial]) -> dict[str, int]:
    return {s: sum(r.outcome.status == s for r in records) for s in ("ok", "skipped", "failed")}


def _resolve(options: SweepOptions) -> tuple[str, tuple[Case, ...], Limits, Quality | None]:
    axes = dict(parse_flag(flag, "--axis") for flag in options.axes)
    settings = {}
    for flag in options.settings:
        key, values = parse_flag(flag, "--set")
        if len(values) != 1:
            raise SpecError("--set", flag, "one value is needed; --axis takes several")
        settings[key] = values[0]
    sweep = override(load_sweep(str(options.name)), axes, settings)
    return re.sub(r"[^\w.-]+", "-", sweep.name), cases(sweep), sweep.limits, sweep.quality


def surroundings(machine: Machine) -> Surroundings:
    """What can run on this machine now."""
    from profiles.probes.gpu import free_bytes
    from profiles.probes.memory import available_bytes
    from workloads.describe import device_memory, memory_needed
    from workloads.placements import as_stored

    def needed(case: Case) -> dict[str, int]:
        if case.model is None:
            return {}
        stored = as_stored(case.model, case.backend, case.device, case.placement)
        return memory_needed(stored, case.batch_size, case.phase, case.backend, case.dtype, optimizer=case.optimizer)

    def device_needed(case: Case) -> tuple[dict[str, int], int] | None:
        gpu = machine.gpu(case.device)
        if gpu is None or case.model is None:
            return None
        return device_memory(needed(case), case.placement, case.cache_load_factor), free_bytes(gpu)

    return Surroundings(
        memory_available_bytes=available_bytes(),
        unavailable=lambda case: unavailable(case, machine),
        memory_needed=needed,
        device_needed=device_needed,
        step_s=rough_step_s,
    )


def rough_step_s(case: Case) -> float:
    """Seconds of one step by counted work at rates that a core of a plain CPU reaches; 0 on other devices."""
    from workloads.batch import expected_touch
    from workloads.models import count_work

    if case.model is None or case.device != "cpu":
        return 0.0
    work = count_work(case.model, case.batch_size, case.phase, expected_touch(case.model, case.batch_size))
    return work.total("flops") / ROUGH_FLOPS_PER_S + work.total("bytes_algorithmic") / ROUGH_BYTES_PER_S


def unavailable(case: Case, machine: Machine) -> str | None:
    """Why the case cannot run on this machine: its device, its backend, its placement or its execution, or None."""
    from bench.running.environment import refused as refused_settings
    from workloads import backends, executions, options, placements

    if case.device.startswith("cuda") and machine.gpu(case.device) is None:
        return f"device {case.device}: no CUDA GPU on this machine" if not machine.gpus else _no_such_gpu(case, machine)
    if case.tf32 and case.device == "cpu":
        return "tf32 is a format of CUDA devices"
    setting = refused_settings(case)
    if setting is not None:
        return setting
    if case.model is None:
        return "a user's own step is run as it is: execution eager only" if case.execution != "eager" else None
    refused = backends.refusal(
        case.backend,
        case.model.tables,
        device=case.device,
        dtype=case.dtype,
        phase=case.phase,
        optimizer=case.optimizer,
        placement=case.placement,
    )
    refused = refused or options.refusal(
        case.backend,
        case.model.tables,
        device=placements.table_device(case.device, case.placement),
        phase=case.phase,
        index_dtype=case.index_dtype,
        bounds_check=case.bounds_check,
        inference_mode=case.inference_mode,
    )
    if refused is not None:
        return refused.allowed if refused.field == "backend" else str(refused)
    want = executions.Want(
        device=case.device,
        phase=case.phase,
        backend=case.backend,
        optimizer=case.optimizer,
        placement=case.placement,
    )
    return executions.load(case.execution).available(want)


def _no_such_gpu(case: Case, machine: Machine) -> str:
    known = ", ".join(f"cuda:{g.index}" for g in machine.gpus)
    return f"device {case.device}: not on this machine; known: {known}"


def device_of(case: Case) -> str:
    """The device by its full name."""
    return "cuda:0" if case.device == "cuda" else case.device


def require_writable(out: Path) -> None:
    """A folder that cannot be written is found before minutes of measuring, not after."""
    import os

    existing = next(p for p in (out, *out.absolute().parents) if p.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise UsageError(f"--out {out}: {existing} is not a folder that can be written; choose another with --out DIR")


def duration_s(text: str) -> float:
    """Seconds of a --budget. Raises SpecError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip())
    if not found or float(found[1]) <= 0:
        raise SpecError("--budget", text, "a time such as 90s, 10m or 2h is needed")
    return float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]]


def _within(total_s: float, planned: Sequence[Planned], learning: Sequence[PlannedTrial], limits: Limits) -> Limits:
    """Limits whose plan fits in `total_s`: less measuring time for each case, down to a floor; trials stay."""
    running = [*(p for p in planned if not p.skip_reason), *chosen(planned, limits)]
    measuring_s = 1.5 * limits.budget_s * len(running)
    other_s = sum(p.estimate_s for p in running) - measuring_s + sum(t.estimate_s for t in learning)
    share_s = (total_s - other_s) / max(1.5 * len(running), 1)
    if share_s < MIN_BUDGET_S:
        least = other_s + 1.5 * MIN_BUDGET_S * len(running)
        needed = f"at least {seconds(least)} is needed for {len(running)} cases"
        told = f" and {len(learning)} trials" if learning else ""
        raise SpecError("--budget", f"{total_s:g}s", needed + told)
    return msgspec.structs.replace(limits, budget_s=min(limits.budget_s, share_s))


def _print_plan(
    planned: Sequence[Planned],
    learning: Sequence[PlannedTrial],
    again: Sequence[Planned],
    limits: Limits,
    as_json: bool,
) -> None:
    jobs: list[Planned | PlannedTrial] = [*planned, *learning]
    total_s = sum(p.estimate_s for p in (*jobs, *again))
    if as_json:
        told = {"cases": list(planned), "remeasured": [p.key for p in again], "estimate_s": total_s, "limits": limits}
        print_json(told | {"trials": list(learning)} if learning else told)
        return
    rows = [
        [str(n), p.key, gib(p.memory_bytes), seconds(p.estimate_s) if not p.skip_reason else "", p.skip_reason or "run"]
        for n, p in enumerate(jobs, 1)
    ]
    print_table("plan", ["", "case", "memory", "time", "verdict"], rows, right=[0, 2, 3])
    skipped = sum(p.skip_reason is not None for p in jobs)
    trained = f"; of these {len(learning)} trials" if learning else ""
    twice = f"; {len(again)} measured twice, to learn how far processes differ" if again else ""
    print(
        f"{len(jobs) - skipped} cases to run, {skipped} skipped{trained}{twice}; about {seconds(total_s)}, "
        f"and {CEILINGS_S:.0f} s for the machine's ceilings where they are not known yet"
    )
