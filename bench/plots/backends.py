"""Embedding backends side by side: samples/s, and the ratio to a reference with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from bench import metrics, stats
from bench.plots import style
from bench.records import Record
from bench.reporting.format import count
from bench.reporting.labels import fit, label, slices, varying
from profiles.machine import Machine

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "Backends side by side"
CAPTION = (
    "Measured. Left: samples per second. Right: how many times as fast as the reference, with an interval that holds "
    "the ratio in at least 95 % of runs; one that crosses 1 says nothing. Compare train steps as wholes: fused "
    "backends update their rows within backward."
)
REFERENCES = ("bag",)
MAX_GROUPS = 12


class Rival(NamedTuple):
    """One backend of a group against the reference of that group."""

    record: Record
    ratio: stats.Ratio


class Group(NamedTuple):
    """Cases that differ in the backend alone."""

    reference: str
    rivals: list[Rival]


def groups(records: Sequence[Record]) -> list[Group]:
    """Groups in order of phase and batch size, those of the largest batches where there are many.

    The reference is `bag`, or the slowest where there is no bag.
    """
    every = sorted(slices(style.measured(records), ("backend",)), key=lambda g: g[0].case.batch_size)
    shown = sorted(every[-MAX_GROUPS:], key=lambda g: (g[0].case.phase, g[0].case.batch_size))
    return [_group(g) for g in shown]


def _group(members: Sequence[Record]) -> Group:
    slowest = max(members, key=lambda r: metrics.step_s(r) or 0.0)
    reference = next((r for r in members if r.case.backend in REFERENCES), slowest)
    return Group(
        reference.case.backend, [Rival(r, speedup(reference, r)) for r in sorted(members, key=lambda r: r.case.backend)]
    )


def speedup(reference: Record, rival: Record) -> stats.Ratio:
    """Step time of the reference over that of the rival: above 1 the rival is faster."""
    assert reference.measurement is not None
    assert rival.measurement is not None
    if reference is rival:
        return stats.Ratio(1.0, 1.0, 1.0)
    return stats.ratio_of_medians(reference.measurement.times_s, rival.measurement.times_s)


def alt(records: Sequence[Record]) -> str:
    """The picture in words."""
    parts = []
    for group in groups(records):
        best = max(group.rivals, key=lambda r: r.ratio.value)
        case = best.record.case
        parts.append(
            f"{case.phase} batch {case.batch_size}: {case.backend} {best.ratio.value:.2f} times {group.reference}"
        )
    return f"Samples per second of each backend and its ratio to a reference. {'; '.join(parts)}."


def draw(records: Sequence[Record], machine: Machine) -> Figure | None:
    """None where no two cases differ in the backend alone."""
    found = groups(records)
    if not found:
        return None
    narrow = style.look().narrow
    bars = sum(len(g.rivals) for g in found)
    height = 1.0 + 0.2 * bars + 0.3 * len(found)
    made, (left, right) = style.figure(
        height * (2 if narrow else 1), rows=2 if narrow else 1, cols=1 if narrow else 2, sharey=not narrow
    )
    names = sorted({r.record.case.backend for g in found for r in g.rivals})
    tones = {name: style.axis_color(records, "backend", name) for name in names}
    rows = _rows(found)
    for ax in (left, right):
        _frame(ax, found, rows, show=narrow or ax is left)
    _speeds(left, rows, tones)
    _ratios(right, rows, tones, found)
    handles, _ = left.get_legend_handles_labels()
    style.legend(made, handles)
    return made


Row = tuple[float, Rival]


def _rows(found: Sequence[Group]) -> list[Row]:
    """Where each rival stands: one unit per bar, a gap between groups."""
    placed, at = [], 0.0
    for group in found:
        for rival in group.rivals:
            placed.append((at, rival))
            at += 1
        at += 1.2
    return placed


def _frame(ax: Axes, found: Sequence[Group], rows: Sequence[Row], *, show: bool) -> None:
    cases = [g.rivals[0].record.case for g in found]
    axes = [n for n in varying(cases) if n not in ("backend", "optimizer")] or ["phase", "batch"]
    ends = [[at for at, rival in rows if rival in g.rivals] for g in found]
    middles = [(e[0] + e[-1]) / 2 for e in ends]
    ax.set_ylim(rows[-1][0] + 0.9, -0.9)
    ax.grid(visible=False, axis="y")
    ax.set_yticks(middles, labels=[_lines(label(c, axes)) for c in cases])
    ax.tick_params(axis="y", length=0, labelleft=show, labelcolor=style.look().palette.text)


def _lines(text: str) -> str:
    most = 13 if style.look().narrow else 24
    return "\n".join(fit(part, most) for part in text.split(" · "))


def _speeds(ax: Axes, rows: Sequence[Row], tones: dict[str, str]) -> None:
    for name, tone in tones.items():
        own = [(at, r.record) for at, r in rows if r.record.case.backend == name]
        speeds = [r.case.batch_size / (metrics.step_s(r) or 1.0) for _, r in own]
        ax.barh([at for at, _ in own], speeds, 0.8, color=tone, label=name)
        for (at, _), speed in zip(own, speeds, strict=True):
            ax.annotate(count(speed), (speed, at), xytext=(3, 0), textcoords="offset points", va="center", fontsize=7.6)
    ax.margins(x=0.14)
    ax.set(xlabel="samples/s")
    style.ticks(ax.xaxis, count)
    ax.locator_params(axis="x", nbins=3 if style.look().narrow else 5)


def _ratios(ax: Axes, rows: Sequence[Row], tones: dict[str, str], found: Sequence[Group]) -> None:
    ax.axvline(1, color=style.look().palette.muted, linewidth=1)
    for at, rival in rows:
        ratio, tone = rival.ratio, tones[rival.record.case.backend]
        ax.errorbar(
            ratio.value,
            at,
            xerr=[[ratio.value - ratio.low], [ratio.high - ratio.value]],
            fmt="o",
            color=tone,
            capsize=3,
        )
        ax.annotate(
            f"{ratio.value:.2f}×",
            (ratio.high, at),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=7.6,
        )
    ax.margins(x=0.14)
    references = "/".join(dict.fromkeys(g.reference for g in found))
    ax.set(xlabel=f"times as fast as {references}")
    ax.locator_params(axis="x", nbins=3 if style.look().narrow else 5)
