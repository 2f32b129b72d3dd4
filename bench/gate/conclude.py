"""A log -> the report: every case of the suite gets exactly one verdict. Pure, so a recorded run can be replayed."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from bench.gate import counters
from bench.gate.decide import CaseData, decide, invalidity, judge_control, void, with_counters
from bench.gate.ledger import CONTROLS, Ledger
from bench.gate.log import Counted, GateManifest, Line
from bench.gate.sample_size import confirm_level
from bench.gate.schedule import lacks_epochs, preset_of, timed_cases
from bench.gate.suite import SuiteCase
from bench.gate.verdict import SCHEMA_VERSION, CaseVerdict, GateReport, Reason, Status


def conclude(manifest: GateManifest, lines: Sequence[Line]) -> GateReport:
    """What the log says, as it stands."""
    ledger = Ledger(lines)
    timed = timed_cases(manifest, ledger)
    verdicts = [_case(manifest, ledger, case, timed) for case in manifest.cases]
    controls = [] if manifest.counters_only else [_control(manifest, ledger, name) for name in CONTROLS]
    excluded = ledger.excluded_frac()
    # Before its first epoch a run has nothing that could be invalid.
    invalid = invalidity(controls, excluded, manifest.preset) if timed and controls and ledger.epochs else ()
    return GateReport(
        schema_version=SCHEMA_VERSION,
        suite=manifest.suite,
        base=manifest.against or manifest.base.label,
        head=manifest.head.label,
        machine=manifest.machine,
        preset=manifest.preset,
        seed=manifest.seed,
        cases=tuple(void(v) if invalid else v for v in verdicts),
        controls=tuple(controls if timed and ledger.epochs else ()),
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
    versions = _torch_versions(ledger)
    if versions and not manifest.counters_only:
        found.append(f"counters are not compared, since they depend on torch: {versions}")
    if ledger.stopped:
        found.append("the time ended before every epoch that was wanted")
    if timed and not manifest.counters_only:
        level = confirm_level(manifest.preset, len(timed))
        found.append(f"{len(timed)} cases timed; stage 2 fails a case at p <= {level:.2g}")
    return tuple(found)


def _torch_versions(ledger: Ledger) -> str | None:
    """Both sides' versions where they differ."""
    by_case = {case: line.torch for (case, side), line in ledger.counted.items() if side == "base"}
    for (case, side), line in ledger.counted.items():
        base = by_case.get(case)
        if side == "head" and base and line.torch and line.torch != base:
            return f"{base} on base, {line.torch} on head"
    return None


def _control(manifest: GateManifest, ledger: Ledger, name: str) -> CaseVerdict:
    return judge_control(_data(ledger, name), manifest.preset)


def _data(ledger: Ledger, name: str, *, cut_short: bool = False) -> CaseData:
    return CaseData(
        case=name,
        stage1=ledger.epochs_of(name, 1).differences,
        stage2=ledger.epochs_of(name, 2).differences,
        base_step_s=ledger.base_step_s(name),
        excluded_frac=ledger.excluded_frac(name),
        stopped=cut_short,
    )


def _case(manifest: GateManifest, ledger: Ledger, case: SuiteCase, timed: Sequence[str]) -> CaseVerdict:
    base, head = ledger.counted.get((case.name, "base")), ledger.counted.get((case.name, "head"))
    one_sided = _one_sided(case, base, head, of_machine=manifest.runner == "steps")
    if one_sided is not None:
        return one_sided
    if base is None or head is None:
        return _verdict(case, "ERROR", "empty", "the run ended before this case was reached")
    if base.torch != head.torch:
        if not manifest.counters_only:
            return _timing(manifest, ledger, case, timed)
        told = f"counted with torch {base.torch}, now {head.torch}: counts depend on it"
        return _verdict(
            case, "NOT_COMPARABLE", "torch", told + ("; save the counters anew" if manifest.against else "")
        )
    return with_counters(_timing(manifest, ledger, case, timed), counters.compare(base, head))


def _one_sided(case: SuiteCase, base: Counted | None, head: Counted | None, *, of_machine: bool) -> CaseVerdict | None:
    """The verdict where a side could not run the case, or does not have it.

    of_machine: a skip is this machine's, the same for both sides. A test decides for itself: one that head alone skips
    is gone, and what the other side did is told first.
    """
    for line in (base, head):
        if line is not None and line.outcome == "error":
            return _verdict(case, "ERROR", f"{line.side}_failed", f"{line.side}: {line.message}", line.detail)
    skipping = [line for line in (base, head) if line is not None and line.outcome == "skipped"]
    ran = any(line is not None and line.outcome == "ok" for line in (base, head))
    if skipping and (of_machine or not ran):
        return _verdict(case, "SKIPPED", "unavailable", skipping[0].message)
    no_base, no_head = _lacks(case.base is None, base), _lacks(case.head is None, head)
    if no_base and no_head:
        told = head.message if head is not None else "neither side has this case"
        return _verdict(case, "ERROR", "absent", f"neither side has it: {told}")
    if no_head:
        return _verdict(case, "MISSING", "missing", f"base has it, head does not{_told(head)}")
    if no_base:
        return _verdict(case, "NEW", "new", f"head has it, base does not{_told(base)}")
    return None


def _lacks(unknown: bool, line: Counted | None) -> bool:
    return unknown or (line is not None and line.outcome in ("absent", "skipped"))


def _told(line: Counted | None) -> str:
    how = "skipped: " if line is not None and line.outcome == "skipped" else ""
    return f": {how}{line.message}" if line is not None and line.message else ""


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
    cut_short = ledger.stopped and lacks_epochs(manifest, ledger, case.name, len(timed))
    data = _data(ledger, case.name, cut_short=cut_short)
    if not data.stage1 and ledger.epochs_of(case.name, 1).tried:
        return _verdict(case, "INCONCLUSIVE", "disturbed", "every epoch had over half of its block pairs disturbed")
    if not data.stage1 and ledger.stopped:
        return _verdict(case, "INCONCLUSIVE", "budget", "the time ended before an epoch was done")
    return decide(data, preset_of(manifest, case.name), len(timed))


def _verdict(case: SuiteCase, status: Status, code: str, message: str, detail: str = "") -> CaseVerdict:
    return CaseVerdict(case=case.name, status=status, reason=Reason(code, message), detail=detail)
