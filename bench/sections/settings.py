"""What settings of the process are worth: step time at each value over that at the default, process by process."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from bench import metrics
from bench.records import Record
from bench.reporting.advice import faults_per_step, kernel_frac
from bench.reporting.cases import Cell, Column
from bench.reporting.format import percent, seconds, short, words
from bench.reporting.labels import USUAL, Value, axes_of, label, slices
from bench.run import Run
from bench.sections import Section, Table

WORTH_FRAC = 0.03


class Worth(NamedTuple):
    """One value of a setting against its default: step times of both, by process, and ratios of pairs of processes.

    A ratio above 1: this value is faster. Pairs are of cases that differ in this setting alone.
    """

    setting: str
    value: Value
    where: str
    records: tuple[Record, ...]
    defaults: tuple[Record, ...]
    ratios: tuple[float, ...]

    @property
    def told_apart(self) -> bool:
        """Whether every pair says the same, the middle one by at least 3 %, beyond the default's own spread."""
        sides = {r > 1 for r in self.ratios}
        beyond = abs(median(self.ratios) - 1)
        return len(sides) == 1 and beyond >= WORTH_FRAC and beyond > spread(self.defaults)


def worths(run: Run) -> list[Worth]:
    """Every value of every setting that varies alone, beside the default."""
    return [w for setting in USUAL for w in _of_setting(run.measured, setting)]


def _of_setting(records: Sequence[Record], setting: str) -> list[Worth]:
    found: dict[tuple[Value, str], list[tuple[Record, Record]]] = {}
    for group in slices(records, (setting,)):
        by_value = {axes_of(r.case)[setting]: r for r in group}
        base = by_value.pop(USUAL[setting], None)
        if base is None:
            continue
        for value, record in by_value.items():
            found.setdefault((value, _where(record)), []).append((record, base))
    return [_worth(setting, value, where, pairs) for (value, where), pairs in found.items()]


def _where(record: Record) -> str:
    threads = ("threads",) if record.case.num_threads else ()
    return label(record.case, ("model", "backend", "phase", *threads))


def _worth(setting: str, value: Value, where: str, pairs: Sequence[tuple[Record, Record]]) -> Worth:
    ratios = tuple((metrics.step_s(base) or 0.0) / (metrics.step_s(record) or 1.0) for record, base in pairs)
    ours, theirs = zip(*pairs, strict=True)
    return Worth(setting, value, where, ours, theirs, ratios)


def spread(records: Sequence[Record]) -> float:
    """How far the processes of one setting lie apart: slowest over fastest, less one."""
    found = [s for r in records if (s := metrics.step_s(r))]
    return max(found) / min(found) - 1 if found else 0.0


def section(run: Run) -> Section | None:
    """None where no setting varies alone."""
    found = worths(run)
    if not found:
        return None
    titles = ("Step", "× default", "Least", "Most", "Faults a step", "Kernel time", "Between processes")
    columns = (Column("Setting", kind="text"), Column("Case", kind="text"), *(Column(t) for t in titles))
    return Section(
        "settings",
        "What each setting is worth here",
        text=tuple(_sentences(found)),
        tables=(Table("", columns, tuple(_rows(found))),),
        plots=("settings_worth",),
        notes=(
            "Measured: step times, page faults, CPU time. × default is the default's step time over this setting's, "
            "process by process (one pair per seed; median, least and most): above 1 this setting is faster. Between "
            "processes: slowest over fastest of equal processes, less one. A difference counts where all pairs agree "
            "and it is larger than 3 % and than that spread of the default.",
            "Every setting is read back from the process it was asked of; a case in which it was not in force fails.",
        ),
    )


def _sentences(found: Sequence[Worth]) -> list[str]:
    told = [w for w in found if w.told_apart]
    silent = [w for w in found if not w.told_apart]
    texts = [_sentence(w) for w in sorted(told, key=lambda w: abs(median(w.ratios) - 1), reverse=True)]
    if silent:
        names = words(list(dict.fromkeys(f"{w.setting} {w.value}" for w in silent)))
        texts.append(f"Not told apart from the default beyond the spread between processes: {names}.")
    return texts


def _sentence(worth: Worth) -> str:
    middle = median(worth.ratios)
    how = f"{middle:.2f}× as fast as {USUAL[worth.setting]}"
    pairs = f"in {len(worth.ratios)} of {len(worth.ratios)} pairs of processes"
    faults = median(faults_per_step(r) for r in worth.records)
    why = f", with {short(faults)} page faults a step" if faults > 1 else ""
    return f"{worth.setting} {worth.value} is {how} ({worth.where}), {pairs}{why}."


def _rows(found: Sequence[Worth]) -> list[tuple[Cell, ...]]:
    rows = []
    for setting, where in dict.fromkeys((w.setting, w.where) for w in found):
        own = [w for w in found if (w.setting, w.where) == (setting, where)]
        rows.append(_row(setting, USUAL[setting], where, own[0].defaults, (1.0,)))
        rows += [_row(setting, w.value, where, w.records, w.ratios) for w in own]
    return rows


def _row(
    setting: str, value: Value, where: str, records: Sequence[Record], ratios: Sequence[float]
) -> tuple[Cell, ...]:
    is_default = value == USUAL[setting]
    ends = (median(ratios), min(ratios), max(ratios))
    return (
        Cell(f"{setting}: {value}", "default" if is_default else ""),
        Cell(where),
        Cell(seconds(median(metrics.step_s(r) or 0.0 for r in records))),
        *(Cell("1" if is_default else f"{v:.2f}×", "", v) for v in ends),
        Cell(short(median(faults_per_step(r) for r in records))),
        Cell(percent(median(kernel_frac(r) for r in records))),
        Cell(percent(spread(records)) if len(records) > 1 else "one process"),
    )
