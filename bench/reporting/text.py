"""A Report as HTML and Markdown text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bench import selfcontained

if TYPE_CHECKING:
    from bench.reporting.pictures import Picture
    from bench.reporting.report import Report
    from bench.sections import Section


def render_html(report: Report, pictures: Sequence[Picture] = ()) -> str:
    """One self-contained page: nothing is fetched, and the page's own policy forbids it."""
    return selfcontained.render(
        "report.html.j2", css=["report.css"], js=["report.js"], report=report, pictures=pictures
    )


def render_markdown(report: Report) -> str:
    """The report's text as GitHub-flavoured Markdown, without pictures."""
    parts = [
        f"# {md(report.title)}",
        md(report.subtitle),
        "\n".join(f"- **{md(s.topic)}.** {md(s.text)}" for s in report.verdict),
    ]
    if report.facts:
        parts.append(_md_table(("", "", ""), [(f.label, f.value, f.note) for f in report.facts]))
    parts += [part for section in report.sections for part in _md_section(section)]
    if report.rows:
        columns = [f"{c.title} (modelled)" if c.basis == "modelled" else c.title for c in report.columns]
        rows = [(r.label, *(c.text for c in r.cells)) for r in report.rows]
        parts += ["## Cases", _md_table(columns, rows)]
    if report.ended:
        rows = [(e.label, e.status, f"{e.kind}: {e.reason}" if e.kind else e.reason) for e in report.ended]
        parts += ["## Not measured", _md_table(("Case", "Outcome", "Reason"), rows)]
    parts += ["## Machine", _md_table(("", ""), report.machine)]
    if report.ceilings:
        head = ("Ceiling", "Best", "Spread", "Kernel", "Source", "Details")
        parts.append(_md_table(head, report.ceilings))
    if report.trust:
        parts += ["What limits trust:", _md_list(report.trust)]
    parts += ["## How to read this", _md_list([f"{name}: {text}" for name, text in report.conventions])]
    parts += ["## Again", *(f"{md(what)}:\n\n{_md_code(command)}" for what, command in report.commands)]
    return "\n\n".join([*parts, md(report.provenance)]) + "\n"


def _md_section(section: Section) -> list[str]:
    parts = [f"## {md(section.title)}", *map(md, section.text)]
    for table in section.tables:
        rows = [[f"{c.text} ({c.note})" if c.note else c.text for c in row] for row in table.rows]
        parts += [f"### {md(table.title)}"] if table.title else []
        parts.append(_md_table([c.title for c in table.columns], rows))
    return [*parts, _md_list(section.notes)] if section.notes else parts


def md(text: str) -> str:
    """Text that Markdown and a table cell show as it is."""
    return re.sub(r"([\\`*_\[\]<>|#~])", r"\\\1", " ".join(text.split()))


def _md_list(items: Sequence[str]) -> str:
    return "\n".join(f"- {md(item)}" for item in items)


def _md_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *([md(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _md_code(text: str) -> str:
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
    return f"{fence}\n{text}\n{fence}"
