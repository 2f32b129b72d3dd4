"""What more threads gain: speed-up over one thread, and per thread."""

from __future__ import annotations

from typing import NamedTuple

from bench import metrics, stats
from bench.records import Record
from bench.reporting.cases import Cell, Column
from bench.reporting.format import percent, seconds, times
from bench.reporting.labels import label, slices, telling
from bench.run import Run
from bench.sections import Section, Table


class Line(NamedTuple):
    """Cases that differ in threads alone, by the threads they really had."""

    name: str
    records: dict[int, Record]


def lines(run: Run) -> list[Line]:
    """Groups with at least two numbers of threads, one of them 1."""
    groups = slices(run.measured, ("threads",))
    shared = telling([g[0].case for g in groups], ("model", "backend", "phase"))
    found = []
    for group in groups:
        by_threads = {threads_of(r): r for r in group}
        if 1 in by_threads and len(by_threads) > 1:
            found.append(Line(label(group[0].case, shared), dict(sorted(by_threads.items()))))
    return found


def threads_of(record: Record) -> int:
    """Threads in force while the case ran, as read back; as asked where that is not known."""
    return record.settings.num_threads if record.settings else record.case.num_threads


def speedup(one: Record, more: Record) -> stats.Ratio:
    """How many times as fast."""
    assert one.measurement is not None
    assert more.measurement is not None
    if one is more:
        return stats.Ratio(1.0, 1.0, 1.0)
    return stats.ratio_of_medians(one.measurement.times_s, more.measurement.times_s)


def section(run: Run) -> Section | None:
    """None where threads do not vary alone."""
    found = lines(run)
    if not found:
        return None
    columns = (
        Column("Case", kind="text"),
        *(Column(t) for t in ("Threads", "Step", "× one thread", "Of ideal")),
    )
    rows = [_row(line, threads, record) for line in found for threads, record in line.records.items()]
    cpus = run.machine.cpu
    return Section(
        "threads",
        "Threads",
        tables=(Table("", columns, tuple(rows)),),
        plots=("speedup",),
        notes=(
            f"This machine has {cpus.logical_cpus} logical CPUs on {cpus.physical_cores} cores. Ideal is as many times "
            "as fast as there are threads; past the CPUs there are, threads wait for each other. What memory bounds "
            "stops at the bandwidth that one or a few threads reach.",
        ),
    )


def _row(line: Line, threads: int, record: Record) -> tuple[Cell, ...]:
    ratio = speedup(line.records[1], record)
    return (
        Cell(line.name),
        Cell(str(threads)),
        Cell(seconds(metrics.step_s(record) or 0.0)),
        Cell(times(*ratio) if threads != 1 else "1"),
        Cell(percent(ratio.value / threads)),
    )
