"""inspect: traces to tables, one JSON document, CSV, or a page. No torch."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
from rich.progress import Progress

from bench.commands.inspect_lens import make_lens
from bench.commands.inspect_page import require_page_path, serve_trace, write_inspection
from bench.commands.output import print_json, print_table, stderr
from bench.errors import Exit, UsageError
from bench.inspection.against import compare
from bench.inspection.model_tables import comparison_line, comparison_tables, evidence_line, model_tables, rank_table
from bench.inspection.modelling import Analysis, Lens, analyse
from bench.inspection.ranking import ordered, rank_set
from bench.inspection.result import Inspection, InspectionSet
from bench.inspection.tables import Row, Table, flat, tables
from bench.terminal import printable
from profiles.trace.columns import Trace
from profiles.trace.errors import NoTraceError
from profiles.trace.reader import HINT, read_trace
from profiles.trace.windows import POLICIES, Policy

SHOW_PROGRESS_BYTES = 20_000_000
_ENDINGS = (".json", ".json.gz")


class InspectOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The flags of `inspect`."""

    traces: list[Path]
    window: str
    as_json: bool
    csv: Path | None
    against: list[Path]
    components: Path | None
    machine: str | None
    html: Path | None = None
    perfetto: bool = False


def run_inspect(options: InspectOptions) -> Exit:
    """Inspect the traces, print what was asked for, and answer with the exit code of the comparison."""
    if options.window not in POLICIES:
        raise UsageError(f"--window {options.window!r} is unknown; choose one of {', '.join(POLICIES)}")
    if options.perfetto:
        _require_alone(options)
        serve_trace(trace_files(options.traces))
        return Exit.OK
    if options.html is not None:
        require_page_path(options.html)
    policy: Policy = next(p for p in POLICIES if p == options.window)
    lens = make_lens(options.components, options.machine)
    kept: dict[str, Trace] | None = {} if options.html is not None else None
    analysed = _analyse_all(options.traces, policy, lens, kept)
    found = rank_set(analysed)
    if options.against:
        baseline = _analyse_all(options.against, policy, lens)
        comparison = compare([a.steps for a in baseline], [a.steps for a in analysed])
        found = msgspec.structs.replace(found, against=comparison)
    if options.csv is not None:
        _write_csv(options.csv, flat(found.traces))
    if options.html is not None and kept is not None:
        write_inspection(options.html, found, [kept[one.file] for one in found.traces], lens.rules)
    if options.as_json:
        print_json(found.traces[0] if len(found.traces) == 1 and found.against is None else found)
    elif options.csv is None and options.html is None:
        _print_set(found)
    return found.against.exit if found.against is not None else Exit.OK


def _require_alone(options: InspectOptions) -> None:
    """--perfetto hands the file over as it is: nothing is inspected."""
    if options.as_json or options.csv or options.html or options.against:
        raise UsageError("--perfetto only serves the trace; give it without --json, --csv, --html and --against")


def _print_set(found: InspectionSet) -> None:
    """A comparison alone, or the ranks side by side and then each trace."""
    if found.against is not None:
        print(comparison_line(found.against))
        _print_tables(comparison_tables(found.against))
        return
    if found.not_compared:
        print(f"ranks are not compared: {found.not_compared}")
    if found.comparison is not None:
        _print_tables([rank_table(found.comparison)])
    for one in found.traces:
        _print(one)


def _print_tables(shown: Sequence[Table]) -> None:
    for table in shown:
        print_table(table.title, table.columns, table.rows, right=range(1, len(table.columns)))


def trace_files(given: Sequence[Path]) -> list[Path]:
    """Files as they are; of a folder, all that could be traces, by name. UsageError where a folder holds none."""
    paths: list[Path] = []
    for path in given:
        paths += _in_folder(path) if path.is_dir() else [path]
    return list(dict.fromkeys(paths))


def _in_folder(folder: Path) -> list[Path]:
    """All endings together: ranks may be packed or not, beside each other."""
    found = sorted(p for p in folder.glob("*") if p.name.endswith(_ENDINGS) and p.is_file())
    if not found:
        raise UsageError(
            f"{folder} holds no trace (.json or .json.gz); name the files, or capture one with torch.profiler"
        )
    return found


def _analyse_all(
    given: Sequence[Path], policy: Policy, lens: Lens, kept: dict[str, Trace] | None = None
) -> list[Analysis]:
    """All traces in order of rank. What in a folder is a file of another kind is named and left out."""
    found: list[Analysis] = []
    others: list[NoTraceError] = []
    for path in trace_files(given):
        try:
            found.append(_analyse(path, policy, lens, kept, in_folder=path not in given))
        except NoTraceError as error:
            if path in given:
                raise
            others.append(error)
    if not found:
        raise others[0]
    for other in others:
        stderr().print(printable(f"left out: {other}"), markup=False, soft_wrap=True)
    return ordered(found)


def _analyse(path: Path, policy: Policy, lens: Lens, kept: dict[str, Trace] | None, *, in_folder: bool) -> Analysis:
    """One trace; it is put into `kept`, by its inspection's name, where that is given: a page needs its events."""
    trace = _read(path)
    if in_folder and trace.quality.kinds and all(kind.startswith("None/") for kind in trace.quality.kinds):
        raise NoTraceError(path, f"holds a list of objects that are no events{HINT}")
    if kept is not None:
        kept[str(trace.path)] = trace
    return analyse(trace, policy, lens)


def _read(path: Path) -> Trace:
    """Read with a progress bar where that takes a while."""
    if not path.is_file() or path.stat().st_size < SHOW_PROGRESS_BYTES:
        return read_trace(path)
    with Progress(console=stderr(), transient=True) as progress:
        task = progress.add_task(f"reading {path.name}", total=1.0)
        return read_trace(path, progress=lambda done: progress.update(task, completed=done))


def _print(found: Inspection) -> None:
    rank = "" if found.rank is None else f" (rank {found.rank})"
    print(f"{found.file}{rank}\ndata quality: {found.quality.line}\n{_window(found)}")
    if found.verdict is not None:
        print(f"verdict: {found.verdict.kind}. {found.verdict.advice}\nevidence: {evidence_line(found)}")
    _print_tables([*model_tables(found), *tables(found)])


def _window(found: Inspection) -> str:
    seen = found.window
    if seen.start_us is None or seen.end_us is None:
        return f"window: {seen.policy}, nothing dropped"
    length_ms = (seen.end_us - seen.start_us) / 1000
    counted = "1 step" if seen.steps == 1 else f"{seen.steps} steps"
    return f"window: {seen.policy}, {counted}, {length_ms:,.3f} ms from {seen.start_us / 1000:,.3f} ms on"


def _write_csv(target: Path, files: Mapping[str, Sequence[Row]]) -> None:
    """All tables into a folder, or the kernels (host ops where there are none) into one file."""
    try:
        if target.suffix == ".csv":
            _write(target, files.get("kernels") or files.get("ops") or [])
            return
        target.mkdir(parents=True, exist_ok=True)
        for name, rows in files.items():
            _write(target / f"{name}.csv", rows)
    except OSError as error:
        raise UsageError(
            f"--csv {target}: cannot be written ({error.strerror}); name another file or folder"
        ) from error
    stderr().print(f"written: {target}", markup=False, soft_wrap=True)


def _write(path: Path, rows: Sequence[Row]) -> None:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
