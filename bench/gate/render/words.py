"""Cells that every format shares."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

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


USUAL = "usual"
"""Stands for a setting that a case leaves as it is, where most cases of its preset change it."""


def short_names(names: Sequence[str]) -> list[str]:
    """Names with only the settings in which a case is unlike most of its preset; still unlike each other."""
    split = [_settings(name) for name in names]
    by_preset: dict[str, list[dict[str, str]]] = {}
    for preset, settings in split:
        by_preset.setdefault(preset, []).append(settings)
    most = {preset: _most_common(found) for preset, found in by_preset.items()}
    return [" ".join([preset, *_unlike(settings, most[preset])]) for preset, settings in split]


def _settings(name: str) -> tuple[str, dict[str, str]]:
    """The preset or code, and its settings by name; what is no setting belongs to the former."""
    words = name.split()
    plain = [word for i, word in enumerate(words) if i == 0 or "=" not in word]
    pairs = [word.partition("=") for i, word in enumerate(words) if i and "=" in word]
    return " ".join(plain), {key: value for key, _, value in pairs}


def _most_common(found: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Each setting's most frequent value among several cases; of one case nothing is common."""
    if len(found) < 2:
        return {}
    keys = dict.fromkeys(key for settings in found for key in settings)
    return {key: Counter(s.get(key, USUAL) for s in found).most_common(1)[0][0] for key in keys}


def _unlike(settings: Mapping[str, str], most: Mapping[str, str]) -> list[str]:
    keys = dict.fromkeys((*settings, *most))
    values = {key: settings.get(key, USUAL) for key in keys}
    return [f"{key}={value}" for key, value in values.items() if most.get(key) != value]


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
