"""What tools/gpu_check.sh leaves behind: `python -m tools.gpu_summary WORK OUT`.

WORK holds parts.tsv (name, how it ended, seconds) and runs/; OUT gets summary.md, runs.tar.gz (without traces),
report.html of the longest run and the smallest trace.
"""

from __future__ import annotations

import re
import shutil
import sys
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from statistics import median

from bench import store
from bench.records import Record
from bench.reporting.labels import labels

MAX_REASONS = 30


def parts(text: str) -> Iterator[str]:
    """Rows of the table of parts."""
    for line in text.splitlines():
        name, ended, seconds = line.split("\t")
        yield f"| {name} | {ended} | {seconds} |"


def tests(text: str) -> list[str]:
    """What pytest said at its end: skip reasons, failures, the last line."""
    kept = [line for line in text.splitlines() if re.match(r"(SKIPPED|FAILED|ERROR) ", line)]
    last = [line for line in text.splitlines() if re.search(r"\d+ (passed|failed|skipped|error)", line)][-1:]
    return [*last, *kept[:MAX_REASONS]]


def reasons(records: Iterable[Record], status: str) -> list[str]:
    """Reasons of cases that ended so, each with how many there were."""
    found = Counter(f"{r.outcome.kind or status}: {r.outcome.reason}" for r in records if r.outcome.status == status)
    return [f"- {count} x {reason}" for reason, count in found.most_common(MAX_REASONS)]


def measured(records: Sequence[Record]) -> Iterator[str]:
    """One row per measured case: step, device time, graphs, flags."""
    named = labels(records)
    for record in records:
        found = record.measurement
        if record.outcome.status != "ok" or found is None:
            continue
        event_s = f"{median(found.event_times_s) * 1e6:.1f}" if found.event_times_s else ""
        compiled = f"{found.compile_s:.1f}" if found.compile_s is not None else ""
        breaks = str(record.graphs.breaks) if record.graphs else ""
        step = f"{median(found.times_s) * 1e6:.1f}"
        flags = ", ".join(found.flags)
        yield f"| {named[record.key]} | {step} | {event_s} | {compiled} | {breaks} | {flags} |"


def run_lines(run: Path, records: Sequence[Record]) -> Iterator[str]:
    """A section of the summary."""
    counts = Counter(r.outcome.status for r in records)
    yield f"\n## {run.name}\n"
    yield ", ".join(f"{counts[s]} {s}" for s in ("ok", "skipped", "failed"))
    for status in ("skipped", "failed"):
        if found := reasons(records, status):
            yield f"\n{status}:\n"
            yield from found
    yield "\n| case | step us | events us | compile s | breaks | flags |\n| --- | ---: | ---: | ---: | ---: | --- |"
    yield from measured(records)


def summary(work: Path, out: Path, runs: Sequence[tuple[Path, Sequence[Record]]]) -> str:
    """The text of summary.md."""
    lines = ["# GPU check\n", "| part | ended | s |", "| --- | --- | ---: |"]
    lines += parts((work / "parts.tsv").read_text())
    if (out / "tests.txt").is_file():
        lines += ["\n## tests/hardware\n", *(f"    {line}" for line in tests((out / "tests.txt").read_text()))]
    for run, records in runs:
        lines += run_lines(run, records)
    return "\n".join(lines) + "\n"


def keep(out: Path, runs: Sequence[tuple[Path, Sequence[Record]]]) -> None:
    """Records of every run in one archive, one report, the smallest trace."""
    from bench.reporting.report import write_report

    traces = [trace for run, _ in runs for trace in (run / store.TRACES).glob("*.json.gz")]
    if traces:
        shutil.copy(min(traces, key=lambda path: path.stat().st_size), out / "trace.pt.trace.json.gz")
    with tarfile.open(out / "runs.tar.gz", "w:gz") as archive:
        for run, _ in runs:
            for path in sorted(run.glob("*.json*")):
                archive.add(path, f"{run.name}/{path.name}")
    if runs:
        run, records = max(runs, key=lambda pair: len(pair[1]))
        # Written anew: a run that was out of time has records and no report.
        write_report(out / "report.html", store.read_manifest(run), records)
        (out / "report.md").unlink(missing_ok=True)


def main() -> int:
    """Write what is left of WORK to OUT."""
    work, out = (Path(argument) for argument in sys.argv[1:3])
    folders = sorted(path.parent for path in (work / "runs").glob("*/run.json"))
    runs = [(run, store.read_records(run)) for run in folders]
    (out / "summary.md").write_text(summary(work, out, runs), encoding="utf-8")
    keep(out, runs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
