"""Writing a gate's report everywhere it is wanted, before any exit code is returned."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from bench.commands.output import print_json, stderr
from bench.errors import UsageError
from bench.gate.render.document import document
from bench.gate.render.github import summary, summary_path, workflow_commands
from bench.gate.render.junit import junit
from bench.gate.render.markdown import markdown
from bench.gate.render.terminal import print_report
from bench.gate.verdict import GateReport, exit_code
from bench.reporting.page import Page, render_page
from bench.reporting.pictures import Drawing, drawn
from profiles.atomic_file import write_atomically


def tell(
    report: GateReport,
    run_dir: Path,
    *,
    strict: bool,
    as_json: bool,
    extra: Mapping[str, Path | None],
    environ: Mapping[str, str],
) -> int:
    """Write gate.json, gate.md and junit.xml into the run and where asked, print, and return the exit code."""
    plain = document(report, strict=strict)
    texts = {"json": _json(plain), "markdown": markdown(report), "junit": junit(report, strict=strict)}
    for name, file in (("json", "gate.json"), ("markdown", "gate.md"), ("junit", "junit.xml")):
        write_atomically(run_dir / file, texts[name].encode())
    for name, path in extra.items():
        if path is not None:
            _write(path, texts[name])
    _tell_github(report, environ)
    if as_json:
        print_json(plain)
    else:
        print_report(report)
    stderr().print(f"run: {run_dir}", markup=False, soft_wrap=True)
    return exit_code(report, strict=strict)


def write_page(path: Path, page: Page, drawings: Sequence[Drawing]) -> None:
    """Draw the pictures and write the page."""
    write_atomically(path, render_page(page, drawn(drawings)).encode())


def _json(plain: object) -> str:
    return msgspec.json.format(msgspec.json.encode(plain), indent=2).decode() + "\n"


def _write(path: Path, text: str) -> None:
    try:
        write_atomically(path, text.encode())
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror}); the run folder has a copy") from None
    say_written(path)


def say_written(path: Path) -> None:
    """Say on stderr which file was written."""
    stderr().print(f"written: {path}", markup=False, soft_wrap=True)


def _tell_github(report: GateReport, environ: Mapping[str, str]) -> None:
    """Annotations go to stderr, where GitHub reads them too: stdout may be one JSON document."""
    path = summary_path(environ)
    if path is not None:
        with path.open("a", encoding="utf-8") as file:
            file.write(summary(report))
    if environ.get("GITHUB_ACTIONS"):
        print("\n".join(workflow_commands(report)), file=sys.stderr)
