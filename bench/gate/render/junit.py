"""The report as JUnit XML: one testcase per case; a regression is a failure of that type, an error an error."""

from __future__ import annotations

import re
from xml.sax.saxutils import escape, quoteattr

from bench.errors import Exit
from bench.gate.render.words import change_cell
from bench.gate.verdict import CaseVerdict, GateReport, exit_code, headline

FAILURES = {"REGRESSED": "regression", "MISSING": "missing"}
SKIPS = ("INCONCLUSIVE", "NOT_COMPARABLE", "SKIPPED")
NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(report: GateReport, *, strict: bool = False) -> str:
    """One testsuite, red wherever the exit code is: what fails the run as a whole is a testcase of its own."""
    cases = [_case(c) for c in report.cases]
    whole = _whole_run(report, strict=strict)
    cases += [
        f'<testcase classname="gate" name={quoteattr(name)}>'
        f"<error type={quoteattr(kind)} message={quoteattr(_clean(told))}/></testcase>"
        for name, kind, told in whole
    ]
    failures = sum(c.status in FAILURES for c in report.cases)
    errors = sum(c.status == "ERROR" for c in report.cases) + len(whole)
    skipped = sum(c.status in SKIPS for c in report.cases)
    suite = quoteattr(_clean(" ".join(report.suite)))
    counts = f'tests="{len(cases)}" failures="{failures}" errors="{errors}" skipped="{skipped}"'
    body = "\n  ".join([*cases, f"<system-out>{escape(_clean(headline(report)))}</system-out>"])
    start = f'<testsuite name={suite} {counts} time="{report.elapsed_s:.3f}">'
    return f'<?xml version="1.0" encoding="utf-8"?>\n{start}\n  {body}\n</testsuite>\n'


def _whole_run(report: GateReport, *, strict: bool) -> list[tuple[str, str, str]]:
    """(name, type, message) of what fails the run and no case of it."""
    if report.invalid:
        return [("run is valid", "invalid", report.invalid[0].message)]
    code = exit_code(report, strict=strict)
    if code == Exit.NOT_COMPARABLE:
        return [("something was compared", "not_comparable", headline(report))]
    if code == Exit.INVALID:
        unsure = [c.case for c in report.cases if c.status == "INCONCLUSIVE"]
        return [("every case is decided", "inconclusive", f"inconclusive, with --strict: {', '.join(unsure)}")]
    return []


def _case(case: CaseVerdict) -> str:
    return f'<testcase classname="gate" name={quoteattr(_clean(case.case))}>{_inside(case)}</testcase>'


def _inside(case: CaseVerdict) -> str:
    message, detail = quoteattr(_clean(case.reason.message)), escape(_clean(case.detail))
    found = _properties(case)
    if case.status in FAILURES:
        return f"{found}<failure type={quoteattr(FAILURES[case.status])} message={message}>{detail}</failure>"
    if case.status == "ERROR":
        return f"{found}<error type={quoteattr(case.reason.code)} message={message}>{detail}</error>"
    if case.status in SKIPS:
        return f"{found}<skipped message={message}/>"
    return found


def _properties(case: CaseVerdict) -> str:
    values = {"verdict": case.status, "reason": case.reason.code}
    if case.estimate is not None:
        values |= {"change": change_cell(case), "epochs": str(case.estimate.epochs)}
    inside = "".join(f"<property name={quoteattr(n)} value={quoteattr(_clean(v))}/>" for n, v in values.items())
    return f"<properties>{inside}</properties>"


def _clean(text: str) -> str:
    """Without characters that XML cannot hold; a traceback may carry terminal colours."""
    return NOT_XML.sub("", text)
