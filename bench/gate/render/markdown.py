"""The report as Markdown: the verdict in words first, only what changed, the rest folded."""

from __future__ import annotations

from collections.abc import Sequence

from bench.gate.render.words import COLUMNS, circumstances, detectable, row, worst_first
from bench.gate.verdict import CaseVerdict, GateReport, headline

QUIET = ("PASS", "NEW", "SKIPPED")
MAX_DETAIL_LINES = 30


def markdown(report: GateReport) -> str:
    """A comment or step summary; the hidden marker lets a bot find and replace its own."""
    cases = worst_first(report)
    loud = [c for c in cases if c.status not in QUIET]
    parts = [f"<!-- dlrm-bench gate: {' '.join(report.suite)} -->", f"**{headline(report)}**"]
    parts += [_table(loud)] if loud else []
    parts += [_detail(c) for c in loud if c.detail]
    parts += filter(None, [detectable(report)])
    quiet = [c for c in cases if c.status in QUIET]
    if quiet:
        parts.append(_folded(f"{len(quiet)} more", _table(quiet)))
    parts.append(_folded("How it was decided", "\n".join(f"- {s}" for s in circumstances(report))))
    parts.append(f"Run it again: `{report.rerun}`")
    return "\n\n".join(parts) + "\n"


def _table(cases: Sequence[CaseVerdict]) -> str:
    head = f"| {' | '.join(COLUMNS)} |\n| --- | ---: | ---: | ---: | ---: | --- | --- |\n"
    return head + "\n".join("| " + " | ".join(_cell(c) for c in row(case)) + " |" for case in cases)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


def _detail(case: CaseVerdict) -> str:
    lines = case.detail.splitlines()[-MAX_DETAIL_LINES:]
    return _folded(f"{case.case}: last lines", "```text\n" + "\n".join(lines).replace("```", "'''") + "\n```")


def _folded(title: str, body: str) -> str:
    return f"<details><summary>{title.replace('<', '&lt;')}</summary>\n\n{body}\n\n</details>"
