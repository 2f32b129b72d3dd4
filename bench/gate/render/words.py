"""Cells that every format shares."""

from __future__ import annotations

from collections.abc import Sequence

from bench.gate.verdict import STATUSES, CaseVerdict, GateReport

COLUMNS = ("case", "base", "head", "change", "epochs", "verdict", "why")


def time_cell(seconds: float | None) -> str:
    """A step's time: 1.23 ms."""
    if seconds is None:
        return "-"
    for scale, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def percent(fraction: float | None) -> str:
    """+5.1 %, or a question mark where nothing bounds it."""
    return "?" if fraction is None else f"{100 * fraction:+.1f} %"


def change_cell(case: CaseVerdict) -> str:
    """The change and what holds it: +5.1 % [+3.9 %, +6.3 %]."""
    found = case.estimate
    if found is None:
        return "-"
    return f"{percent(found.change_frac)} [{percent(found.low_frac)}, {percent(found.high_frac)}]"


def epochs_cell(case: CaseVerdict) -> str:
    """Epochs of both stages: 8 + 12."""
    stages = [s.epochs for s in (case.stage1, case.stage2) if s is not None]
    return " + ".join(str(n) for n in stages) or "-"


def row(case: CaseVerdict) -> list[str]:
    """The cells of COLUMNS."""
    return [
        case.case,
        time_cell(case.base_step_s),
        time_cell(case.head_step_s),
        change_cell(case),
        epochs_cell(case),
        case.status,
        case.reason.message,
    ]


def worst_first(report: GateReport) -> list[CaseVerdict]:
    """Cases in the order in which they matter."""
    return sorted(report.cases, key=lambda c: STATUSES.index(c.status))


def short_names(names: Sequence[str]) -> list[str]:
    """Names without the settings that every case of the same preset has; still unlike each other."""
    split = [name.split() for name in names]
    by_preset: dict[str, list[set[str]]] = {}
    for words in split:
        by_preset.setdefault(words[0], []).append(set(words[1:]))
    common = {
        preset: set.intersection(*settings) if len(settings) > 1 else set() for preset, settings in by_preset.items()
    }
    return [" ".join(w for i, w in enumerate(words) if i == 0 or w not in common[words[0]]) for words in split]


def detectable(report: GateReport) -> str | None:
    """What this run could have found."""
    sizes = [c.detectable_frac for c in report.cases if c.detectable_frac is not None]
    if not sizes:
        return None
    least, most = min(sizes), max(sizes)
    size = f"{100 * least:.1f} %" if most - least < 5e-4 else f"{100 * least:.1f} to {100 * most:.1f} %, by case"
    return f"This run could have found a slow-down of {size}."


def circumstances(report: GateReport) -> list[str]:
    """Sentences on how the verdict came about."""
    told = [f"{report.base} against {report.head}, on {report.machine}."]
    if report.epochs:
        told.append(
            f"Preset {report.preset.name}, seed {report.seed}, {report.epochs} epochs in {report.elapsed_s:.0f} s, "
            f"{100 * report.excluded_frac:.1f} % of block pairs excluded."
        )
    told += [f"{c.case}: {c.reason.message}." for c in report.controls]
    told += [f"{note[0].upper()}{note[1:]}." for note in report.notes]
    return told
