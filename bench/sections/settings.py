"""What settings of the process are worth: step time at each value over that at the default, process by process."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median
from typing import NamedTuple

import msgspec

from bench import metrics
from bench.records import Case, Record
from bench.reporting.advice import faults_per_step, kernel_frac
from bench.reporting.cases import Cell, Column
from bench.reporting.format import percent, seconds, short, span, words
from bench.reporting.labels import USUAL, Value, axes_of, label, slices, telling
from bench.run import Run
from bench.sections import Section, Table

WORTH_FRAC = 0.03
MIN_PAIRS = 2
"""One pair of processes says nothing of how far equal processes lie apart."""
MAX_SENTENCES = 6
NAMED = ("model", "backend", "phase")

Rest = frozenset[tuple[str, Value]]
"""Every axis of a case but the setting and the seed."""


class Worth(NamedTuple):
    """One value of a setting against its default: step times of both, by process, and ratios of pairs of processes.

    A ratio above 1: this value is faster. A pair is of cases that differ in this setting alone; pairs differ from each
    other in the seed alone.
    """

    setting: str
    value: Value
    where: str
    records: tuple[Record, ...]
    defaults: tuple[Record, ...]
    ratios: tuple[float, ...]

    @property
    def told_apart(self) -> bool:
        """Whether several pairs say the same, the middle one by at least 3 %, beyond the default's own spread."""
        sides = {r > 1 for r in self.ratios}
        beyond = abs(median(self.ratios) - 1)
        return (
            len(self.ratios) >= MIN_PAIRS
            and len(sides) == 1
            and beyond >= WORTH_FRAC
            and beyond > spread(self.defaults)
        )


def worths(run: Run) -> list[Worth]:
    """Every value of every setting that varies alone, beside the default."""
    return [w for setting in USUAL for w in _of_setting(run.measured, setting)]


def _of_setting(records: Sequence[Record], setting: str) -> list[Worth]:
    found: dict[tuple[Rest, Value], list[tuple[Record, Record]]] = {}
    for group in slices(records, (setting,)):
        by_value = {axes_of(r.case)[setting]: r for r in group}
        base = by_value.pop(USUAL[setting], None)
        if base is None:
            continue
        for value, record in by_value.items():
            found.setdefault((_rest(base, setting), value), []).append((record, base))
    cases = {rest: msgspec.structs.replace(pairs[0][1].case, seed=0) for (rest, _), pairs in found.items()}
    names = [*NAMED, *(n for n in telling(list(cases.values()), NAMED) if n not in NAMED)]
    return [_worth(setting, value, _where(cases[rest], names), pairs) for (rest, value), pairs in found.items()]


def _rest(record: Record, setting: str) -> Rest:
    return frozenset(item for item in axes_of(record.case).items() if item[0] not in (setting, "seed"))


def _where(case: Case, names: Sequence[str]) -> str:
    threads = ("threads",) if case.num_threads and "threads" not in names else ()
    return label(case, (*names, *threads))


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
            "processes: slowest over fastest of equal processes, less one. A difference counts where there are several "
            "pairs, all agree, and it is larger than 3 % and than that spread of the default.",
            "Every setting is read back from the process it was asked of; a case in which it was not in force fails.",
        ),
    )


def _sentences(found: Sequence[Worth]) -> list[str]:
    told = sorted((w for w in found if w.told_apart), key=lambda w: abs(median(w.ratios) - 1), reverse=True)
    texts = [_sentence(w) for w in told[:MAX_SENTENCES]]
    if len(told) > MAX_SENTENCES:
        texts.append(f"The table has {len(told) - MAX_SENTENCES} more that are told apart from the default.")
    alone = _by_value(w for w in found if len(w.ratios) < MIN_PAIRS)
    texts += [_alone(own) for own in alone.values()]
    silent = _by_value(w for w in found if len(w.ratios) >= MIN_PAIRS and not w.told_apart)
    if silent:
        names = words([_silent(own, found) for own in silent.values()])
        texts.append(f"Not told apart from the default beyond the spread between processes: {names}.")
    return texts


def _by_value(found: Iterable[Worth]) -> dict[tuple[str, Value], list[Worth]]:
    made: dict[tuple[str, Value], list[Worth]] = {}
    for worth in found:
        made.setdefault((worth.setting, worth.value), []).append(worth)
    return made


def _alone(own: Sequence[Worth]) -> str:
    """Of cases that one process measured at this value and one at the default."""
    speed = span([w.ratios[0] for w in own], lambda v: f"{v:.2f}×")
    cases = "one case" if len(own) == 1 else f"{len(own)} cases"
    return (
        f"{own[0].setting} {own[0].value} was {speed} as fast as {USUAL[own[0].setting]} in {cases}, one process at "
        "either value: how far equal processes differ is not known here, so nothing is told apart (--axis seed=0,1,2)."
    )


def _silent(own: Sequence[Worth], found: Sequence[Worth]) -> str:
    every = sum((w.setting, w.value) == (own[0].setting, own[0].value) for w in found)
    where = "" if len(own) == every else f" (in {len(own)} of {every} cases)"
    return f"{own[0].setting} {own[0].value}{where}"


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
