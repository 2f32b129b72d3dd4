"""The loop of a sweep: run each case in its own process, save its record, go on. Resume continues where it stopped."""

from __future__ import annotations

import datetime
import hashlib
import subprocess
import tempfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

import msgspec

from bench import store
from bench.errors import UsageError
from bench.interrupts import stop_if_asked
from bench.invariants import violations
from bench.plan import Planned
from bench.records import SCHEMA_VERSION, Case, Channel, Limits, Manifest, Measurement, Outcome, QualityTrial, Record
from bench.running.environment import environment_of
from bench.running.pool import Ending, Pool
from bench.running.request import Request
from bench.running.scratch import remove_leftovers, scratch
from bench.running.watching import Watch, other_load_cpus
from bench.study.spec import Quality
from profiles.boundary import cache_boundary_bytes
from profiles.machine import Machine

ROOT = Path(__file__).parent.parent
OTHER_LOAD_CPUS = 0.2
NO_ROOM = ("No space left on device", "Read-only file system", "Disk quota exceeded")
NO_MEMORY = ("MemoryError", "not enough memory", "can't allocate memory", "Cannot allocate memory")
CODE_PACKAGES = ("bench", "workloads", "profiles")


class Job(Protocol):
    """What an observer reads of a planned case or trial."""

    @property
    def key(self) -> str:
        """Its identity."""
        ...

    @property
    def estimate_s(self) -> float:
        """How long it is expected to take."""
        ...


class Observer(Protocol):
    """Told how the sweep goes, as it goes."""

    def started(self, number: int, total: int, planned: Job) -> None:
        """A case or trial begins."""
        ...

    def phase(self, name: str) -> None:
        """The current one enters a phase."""
        ...

    def ended(self, record: Record | QualityTrial) -> None:
        """Its record has been saved."""
        ...


def code_digest() -> str:
    """Digest of the program's own source: records of one run must come from one program."""
    digest = hashlib.sha256()
    for package in CODE_PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def commit() -> str | None:
    """The commit of the program's checkout, or None where it is not one."""
    if not (ROOT / ".git").exists():
        return None
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def new_manifest(
    name: str,
    cases: Sequence[Case],
    limits: Limits,
    machine: Machine,
    argv: Sequence[str],
    quality: Quality | None = None,
) -> Manifest:
    """The manifest of a run that starts now."""
    return Manifest(
        schema_version=SCHEMA_VERSION,
        name=name,
        created_at=now(),
        argv=tuple(argv),
        cases=tuple(cases),
        limits=limits,
        machine=machine,
        commit=commit(),
        code_digest=code_digest(),
        version=own_version(),
        quality=quality,
    )


def own_version() -> str:
    """The installed version; 'not installed' where the program runs from its source folder alone."""
    try:
        return metadata.version("dlrm-bench")
    except metadata.PackageNotFoundError:
        return "not installed"


def now() -> str:
    """UTC time, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def check_resumable(run_dir: Path, manifest: Manifest, machine: Machine) -> list[str]:
    """What else changed about the machine since the run began, in words.

    Raises UsageError with every difference that makes this run's records not comparable with new ones.
    """
    from profiles.fingerprint import fingerprint_diff

    found = [
        (field, f"machine {field}: the run has {old!r}, this machine {new!r}")
        for field, old, new in fingerprint_diff(manifest.machine.fingerprint, machine.fingerprint)
    ]
    differences = [told for field, told in found if field.startswith("hard.")]
    if manifest.code_digest != code_digest():
        differences.append(f"code: the run was made by {manifest.commit or manifest.code_digest}, this is {commit()}")
    if differences:
        listed = "\n  ".join(differences)
        raise UsageError(
            f"{run_dir}: cannot be resumed here, its records would not be comparable:\n  {listed}\n"
            "Start a new run instead, or resume with the program and on the machine that began it."
        )
    return [told for _, told in found]


class Runner:
    """Runs planned cases of one run folder and appends their records."""

    def __init__(self, run_dir: Path, manifest: Manifest, pool: Pool, observer: Observer) -> None:
        self._dir, self._manifest, self._pool, self._observer = run_dir, manifest, pool, observer

    def run(self, planned: Sequence[Planned]) -> None:
        """Run what has no record yet. Records are on disk when it returns, and none of them in memory."""
        remove_leftovers()
        keys = store.recorded_keys(self._dir)
        with store.Appender(self._dir) as out:
            for number, case in enumerate(planned, 1):
                stop_if_asked()
                if case.key in keys:
                    continue
                self._observer.started(number, len(planned), case)
                record = self._skipped(case) if case.skip_reason else self._measured(case, self._manifest.limits)
                out.add(record)
                self._observer.ended(record)

    def remeasure(self, planned: Sequence[Planned], first: int) -> None:
        """Measure once more those of these that ended well, each in another process, untraced.

        `first` is how many jobs came before.
        """
        if not planned:
            return
        done, measured = store.remeasured_keys(self._dir), store.measured_keys(self._dir)
        with store.Appender(self._dir, store.REMEASURED) as out:
            for number, case in enumerate(planned, first + 1):
                stop_if_asked()
                if case.key in done or case.key not in measured:
                    continue
                self._observer.started(number, first + len(planned), case)
                record = self._measured(case, msgspec.structs.replace(self._manifest.limits, trace=False))
                out.add(record)
                self._observer.ended(record)

    def _skipped(self, planned: Planned) -> Record:
        return self._record(planned.case, Outcome(status="skipped", reason=planned.skip_reason), now())

    def _measured(self, planned: Planned, limits: Limits) -> Record:
        case, started_at = planned.case, now()
        server = self._pool.server(environment_of(case))
        with (
            scratch() as folder,
            Watch(case.device, self._observer.phase, self._manifest.machine.pci(case.device)) as watch,
        ):
            request = self._request(planned, folder, limits)
            ending = server.run("bench.running.harness:run_case", request, watch, limits.timeout_s)
        require_room(ending, self._dir)
        if watch.result is None or ending.kind != "ok":
            return self._record(case, failure(ending, watch.phase), started_at)
        result = watch.result
        channels = watch.channels(result.measurement.origin_s)
        record = self._record(
            case,
            Outcome(status="ok"),
            started_at,
            measurement=_with_load(result.measurement, channels, self._manifest.machine.cpu.logical_cpus),
            work=result.work,
            inputs=result.inputs,
            settings=result.settings,
            check=result.check,
            graphs=result.graphs,
            trace=result.trace,
            costs=msgspec.structs.replace(result.costs, total_s=watch.elapsed_s),
            telemetry=channels,
            parameters=result.parameters,
            rounding_error=result.rounding_error,
        )
        return self._invariants(record)

    def _request(self, planned: Planned, scratch: str, limits: Limits) -> Request:
        case = planned.case
        trace = self._dir.resolve() / store.TRACES / f"{case.key()}.pt.trace.json.gz"
        # Tables in host memory are looked up by the CPU, through its caches.
        llc_bytes = self._manifest.machine.llc_bytes("cpu" if case.placement == "host" else case.device)
        return Request(
            case=case,
            limits=limits,
            llc_bytes=llc_bytes,
            measured_llc_bytes=_measured_llc_bytes(self._manifest.machine, case),
            trace_path=str(trace),
            scratch=scratch,
        )

    def _invariants(self, record: Record) -> Record:
        broken = violations(record, self._manifest.machine)
        if not broken:
            return record
        outcome = Outcome(status="failed", kind="invariant", reason="; ".join(broken))
        return msgspec.structs.replace(record, outcome=outcome)

    def _record(self, case: Case, outcome: Outcome, started_at: str, **parts: Any) -> Record:
        return Record(
            schema_version=SCHEMA_VERSION,
            key=case.key(),
            case=case,
            outcome=outcome,
            machine=self._manifest.machine.fingerprint.hash,
            started_at=started_at,
            commit=self._manifest.commit,
            **parts,
        )


def _measured_llc_bytes(machine: Machine, case: Case) -> int:
    """Where reads of the memory that holds the tables slow down; 0 where no curve was measured or it has no edge."""
    where = "cpu" if case.placement == "host" else case.device
    ceilings = machine.ceilings.get(where) or machine.ceilings.get(f"{where}:0")
    return (cache_boundary_bytes(ceilings.stream_read_curve) or 0) if ceilings else 0


def _with_load(measurement: Measurement, channels: tuple[Channel, ...], cpus: int) -> Measurement:
    """Flag what ran beside something else that used the CPUs."""
    if other_load_cpus(channels, cpus) <= OTHER_LOAD_CPUS:
        return measurement
    return msgspec.structs.replace(measurement, flags=(*measurement.flags, "other_load"))


def require_room(ending: Ending, run_dir: Path) -> None:
    """Raise UsageError where a worker found the disk full: that is no result of its case, which can be run later."""
    found = next((words for words in NO_ROOM if words in (ending.reason or "")), None)
    if ending.kind == "error" and found:
        raise UsageError(
            f"{run_dir}: a worker could not write ({ending.reason}); what was recorded is kept: make room here and in "
            f"{tempfile.gettempdir()}, then go on with: dlrm-bench sweep --resume {run_dir}"
        )


def failure(ending: Ending, phase: str) -> Outcome:
    """The outcome of a worker that ended in `phase` without a result."""
    kind = ending.kind
    reason = ending.reason or "the worker ended without a result"
    refused = reason.partition("SpecError: ")[2]
    if kind == "error" and phase in ("build", "prepare") and refused:
        # A combination that the backend or the execution refuses has not failed: it was never there.
        return Outcome(status="skipped", reason=refused)
    if kind in ("ok", "error"):
        kind = _kind_of(reason)
    return Outcome(
        status="failed", kind=kind, reason=f"while in phase {phase}: {reason}", signal=ending.signal, detail=ending.log
    )


def _kind_of(reason: str) -> str:
    if "WrongResultError" in reason:
        return "wrong_result"
    if "InvariantError" in reason:
        return "invariant"
    if "DivergedError" in reason:
        return "diverged"
    # A capture reports whatever ended it; one that ran out of memory could be captured with more of it.
    no_memory = "out of memory" in reason.lower()
    if "ExecutionError" in reason and not no_memory:
        return "not_compiled"
    return "out_of_memory" if no_memory or any(words in reason for words in NO_MEMORY) else "error"
