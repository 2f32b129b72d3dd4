"""GitHub's annotations (workflow commands), and where its step summary is wanted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bench.gate.render.markdown import markdown
from bench.gate.render.words import worst_first
from bench.gate.verdict import CaseVerdict, GateReport, Status

LEVELS: dict[Status, str] = {
    "REGRESSED": "error",
    "MISSING": "error",
    "ERROR": "error",
    "INCONCLUSIVE": "warning",
    "NOT_COMPARABLE": "warning",
}
MAX_PER_LEVEL = 10
"""GitHub shows ten annotations of a level per step."""
SUMMARY_BYTES = 1 << 20


def workflow_commands(report: GateReport) -> list[str]:
    """One command per case that needs eyes, worst first; a count where there are more than GitHub shows."""
    found = [_command("error", "gate", "the run is invalid: " + r.message) for r in report.invalid]
    for level in ("error", "warning"):
        cases = [c for c in worst_first(report) if LEVELS.get(c.status) == level]
        shown = cases if len(cases) <= MAX_PER_LEVEL else cases[: MAX_PER_LEVEL - 1]
        found += [_annotation(level, c) for c in shown]
        if len(shown) < len(cases):
            found.append(_command(level, "gate", f"{len(cases) - len(shown)} more cases; see the step summary"))
    return found


def _annotation(level: str, case: CaseVerdict) -> str:
    path = case.case.rpartition(":")[0]
    file = f"file={_property(path)}," if path.endswith(".py") else ""
    return _command(level, f"{case.case}: {case.status}", case.reason.message, file)


def _command(level: str, title: str, message: str, file: str = "") -> str:
    return f"::{level} {file}title={_property(title)}::{_data(message)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def summary_path(environ: Mapping[str, str]) -> Path | None:
    """Where GitHub wants the step summary; None elsewhere."""
    return Path(environ["GITHUB_STEP_SUMMARY"]) if environ.get("GITHUB_STEP_SUMMARY") else None


def summary(report: GateReport) -> str:
    """The Markdown, cut to what GitHub takes."""
    text = markdown(report).encode()
    return text.decode() if len(text) < SUMMARY_BYTES else text[: SUMMARY_BYTES - 100].decode(errors="ignore") + "\n..."
