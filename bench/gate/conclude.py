"""A log -> the report: every case of the suite gets exactly one verdict. Pure, so a recorded run can be replayed."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from bench.gate import counters
from bench.gate.decide import CaseData, decide, invalidity, judge_control, void, with_counters
from bench.gate.ledger import CONTROLS, Ledger
from bench.gate.log import Counted, GateManifest, Line
from bench.gate.sample_size import confirm_level
from bench.gate.schedule import preset_of, timed_cases
from bench.gate.suite import SuiteCase
from bench.gate.verdict import SCHEMA_VERSION, CaseVerdict, GateReport, Reason, Status


def conclude(manifest: GateManifest, lines: Sequence[Line]) -> GateReport:
    """What the log says, as it stands."""
    ledger = Ledger(lines)
    timed = timed_cases(manifest, ledger)
    verdicts = [_case(manifest, ledger, case, timed) for case in manifest.cases]
    controls = [] if manifest.counters_only else [_control(manifest, ledger, name) for name in CONTROLS]
    excluded = ledger.excluded_frac()
    invalid = invalidity(controls, excluded, manifest.preset) if timed and not manifest.counters_only else ()
    return GateReport(
        schema_version=SCHEMA_VERSION,
        suite=manifest.suite,
        base=manifest.against or manifest.base.label,
        head=manifest.head.label,
        machine=manifest.machine,
        preset=manifest.preset,
        seed=manifest.seed,
        cases=tuple(void(v) if invalid else v for v in verdicts),
        controls=tuple(controls if timed else ()),
        invalid=invalid,
        notes=(*manifest.notes, *_notes(manifest, ledger, timed)),
        epochs=ledger.epochs,
        excluded_frac=excluded,
        elapsed_s=ledger.elapsed_s,
        rerun=shlex.join(("dlrm-bench", *manifest.argv)),
    )


def _notes(manifest: GateManifest, ledger: Ledger, timed: Sequence[str]) -> tuple[str, ...]:
    found = []
    unstable = sorted({name for line in ledger.counted.values() for name in line.unstable})
    if unstable:
        found.append(f"not gated, since they differ between two steps of one side: {', '.join(unstable)}")
    if ledger.stopped:
        found.append("the time ended before every epoch that was wanted")
    if timed and not manifest.counters_only:
        level = confirm_level(manifest.preset, len(timed))
        found.append(f"{len(timed)} cases timed; stage 2 fails a case at p <= {level:.2g}")
    return tuple(found)


def _control(manifest: GateManifest, ledger: Ledger, name: str) -> CaseVerdict:
    return judge_control(_data(ledger, name), manifest.preset)


def _data(ledger: Ledger, name: str) -> CaseData:
    return CaseData(
        case=name,
        stage1=ledger.epochs_of(name, 1).differences,
        stage2=ledger.epochs_of(name, 2).differences,
        base_step_s=ledger.base_step_s(name),
        excluded_frac=ledger.excluded_frac(name),
        stopped=ledger.stopped,
    )


def _case(manifest: GateManifest, ledger: Ledger, case: SuiteCase, timed: Sequence[str]) -> CaseVerdict:
    base, head = ledger.counted.get((case.name, "base")), ledger.counted.get((case.name, "head"))
    one_sided = _one_sided(case, base, head)
    if one_sided is not None:
        return one_sided
    if base is None or head is None:
        return _verdict(case, "ERROR", "empty", "the run ended before this case was reached")
    if manifest.against and base.torch != head.torch:
        told = f"counted with torch {base.torch}, now {head.torch}: counts depend on it"
        return _verdict(case, "NOT_COMPARABLE", "torch", told + "; save the counters anew")
    return with_counters(_timing(manifest, ledger, case, timed), counters.compare(base, head))


def _one_sided(case: SuiteCase, base: Counted | None, head: Counted | None) -> CaseVerdict | None:
    """The verdict where a side could not run the case, or does not have it."""
    for line in (base, head):
        if line is not None and line.outcome == "skipped":
            return _verdict(case, "SKIPPED", "unavailable", line.message)
    for line in (base, head):
        if line is not None and line.outcome == "error":
            return _verdict(case, "ERROR", f"{line.side}_failed", f"{line.side}: {line.message}", line.detail)
    no_base = case.base is None or (base is not None and base.outcome == "absent")
    no_head = case.head is None or (head is not None and head.outcome == "absent")
    if no_base and no_head:
        told = head.message if head is not None else "neither side has this case"
        return _verdict(case, "ERROR", "absent", f"neither side has it: {told}")
    if no_head:
        return _verdict(case, "MISSING", "missing", f"base has it, head does not{_told(head)}")
    if no_base:
        return _verdict(case, "NEW", "new", f"head has it, base does not{_told(base)}")
    return None


def _told(line: Counted | None) -> str:
    return f": {line.message}" if line is not None and line.message else ""


def _timing(manifest: GateManifest, ledger: Ledger, case: SuiteCase, timed: Sequence[str]) -> CaseVerdict:
    if not case.same and not manifest.against:
        told = "base and head mean different work by this name (its preset or settings changed)"
        return _verdict(case, "NOT_COMPARABLE", "case_changed", told)
    if manifest.counters_only:
        return _verdict(case, "PASS", "counters", "every gated counter is at most the base's")
    failure = ledger.failed.get(case.name)
    if failure is not None:
        code, told = f"{failure.side}_failed", f"{failure.side}, in epoch {failure.epoch}: {failure.message}"
        return _verdict(case, "ERROR", code, told, failure.detail)
    data = _data(ledger, case.name)
    if not data.stage1 and ledger.epochs_of(case.name, 1).tried:
        return _verdict(case, "INCONCLUSIVE", "disturbed", "every epoch had over half of its block pairs disturbed")
    if not data.stage1 and ledger.stopped:
        return _verdict(case, "INCONCLUSIVE", "budget", "the time ended before an epoch was done")
    return decide(data, preset_of(manifest, case.name), len(timed))


def _verdict(case: SuiteCase, status: Status, code: str, message: str, detail: str = "") -> CaseVerdict:
    return CaseVerdict(case=case.name, status=status, reason=Reason(code, message), detail=detail)
