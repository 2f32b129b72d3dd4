"""Cases of a run beside each other, in sentences: backends, scaling along an axis, training against inference.

A difference within what repeats scatter by, or processes of one case, is not called one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from bench import metrics, stats
from bench.between import Between, widened
from bench.records import Record
from bench.reporting.format import span, times, words
from bench.reporting.labels import PHASES, TITLES, Value, axes_of, slices, value_text, values


def backends(found: Sequence[Record], apart: Between | None) -> list[str]:
    """Per phase, the fastest backend against the next one, at the largest batch size compared."""
    sentences = []
    groups = slices(found, ("backend",))
    for phase in dict.fromkeys(g[0].case.phase for g in groups):
        own = [g for g in groups if g[0].case.phase == phase]
        largest = max(own, key=lambda g: g[0].case.batch_size)
        sentences.append(_backend_sentence(largest, own, phase, apart))
    return sentences


def _backend_sentence(
    group: Sequence[Record], own: Sequence[Sequence[Record]], phase: str, apart: Between | None
) -> str:
    ranked = sorted(group, key=lambda r: metrics.step_s(r) or 0.0)
    first, rest = ranked[0], ranked[1:]
    where = f"{PHASES.get(phase, phase).capitalize()}, batch {first.case.batch_size}"
    ahead = [(r, ratio) for r in rest if (ratio := ratio_of(r, first, apart)).excludes_one]
    level = [r for r in rest if not ratio_of(r, first, apart).excludes_one]
    parts = [f"{times(*ratio)} as fast as {r.case.backend}" for r, ratio in ahead]
    text = f"{where}: {first.case.backend} is " + (
        f"the fastest backend, {words(parts)}" if parts else "not told apart"
    )
    if level:
        names = words([r.case.backend for r in level])
        text += f"; {names} cannot be told apart from it" if parts else f" from {names}"
    leaders = [_clear_winner(g, apart) for g in own]
    wins = leaders.count(first.case.backend)
    if ahead and apart is None:
        text += " (one process each, whose own difference the intervals do not hold)"
    if len(own) == 1:
        return f"{text}."
    if not any(leaders):
        return f"{text}; none of {len(own)} such comparisons has a clear leader."
    return f"{text}; it leads clearly in {wins} of {len(own)} such comparisons."


def _clear_winner(group: Sequence[Record], apart: Between | None) -> str | None:
    ranked = sorted(group, key=lambda r: metrics.step_s(r) or 0.0)
    return ranked[0].case.backend if ratio_of(ranked[1], ranked[0], apart).excludes_one else None


def ratio_of(over: Record, under: Record, apart: Between | None = None) -> stats.Ratio:
    """Ratio of the median step times of two measured records, with its interval, wide enough for `apart`."""
    assert over.measurement is not None
    assert under.measurement is not None
    return widened(stats.ratio_of_medians(over.measurement.times_s, under.measurement.times_s), apart)


def scaling(found: Sequence[Record], apart: Between | None) -> list[str]:
    """Per axis, throughput at its largest value over that at its smallest."""
    return [text for axis in ("batch", "dim", "rows") if (text := _scaling_sentence(found, axis, apart))]


def _scaling_sentence(found: Sequence[Record], axis: str, apart: Between | None) -> str | None:
    """Throughput at the largest value of an axis over that at the smallest, over all pairs that differ in it alone."""
    groups = slices(found, (axis,))
    if not groups:
        return None
    least, most = _extremes(groups, axis)
    pairs = [(a, b) for g in groups if (a := _at(g, axis, least)) and (b := _at(g, axis, most))]
    ratios = [_throughput(a, b, apart) for a, b in pairs]
    clear = [r for r in ratios if r.excludes_one]
    grown = f"From {TITLES[axis]} {value_text(axis, least)} to {value_text(axis, most)}"
    return f"{grown}, samples/s {_change(ratios, clear)}."


def _extremes(groups: Sequence[Sequence[Record]], axis: str) -> tuple[Value, Value]:
    """The pair of values, as far apart as possible, that most groups have."""
    ends = Counter((v[0], v[-1]) for g in groups if (v := values(g, axis)))
    return max(ends, key=lambda e: (ends[e], float(e[1]) / max(float(e[0]), 1e-9)))


def _at(group: Sequence[Record], axis: str, value: Value) -> Record | None:
    return next((r for r in group if axes_of(r.case)[axis] == value), None)


def _throughput(before: Record, after: Record, apart: Between | None) -> stats.Ratio:
    """samples/s after over samples/s before."""
    ratio, grow = ratio_of(before, after, apart), after.case.batch_size / before.case.batch_size
    return stats.Ratio(ratio.value * grow, ratio.low * grow, ratio.high * grow)


def _change(ratios: Sequence[stats.Ratio], clear: Sequence[stats.Ratio]) -> str:
    if len(ratios) == 1:
        return (
            f"becomes {times(*ratios[0])} as high" if clear else f"does not change beyond noise ({times(*ratios[0])})"
        )
    if not clear:
        return f"does not change beyond noise in any of {len(ratios)} pairs of cases"
    text = f"becomes {span([r.value for r in ratios], lambda v: f'{v:.2f}×')} as high over {len(ratios)} pairs of cases"
    unclear = len(ratios) - len(clear)
    return f"{text}, {unclear} of them within noise" if unclear else text


def training(found: Sequence[Record]) -> list[str]:
    """What a train step costs against a forward pass of the same model and backend."""
    pairs = []
    for group in slices(found, ("phase",)):
        by_phase = {r.case.phase: r for r in group}
        if len(by_phase) == 2:
            pairs.append((by_phase["forward"].case.backend, ratio_of(by_phase["train_step"], by_phase["forward"])))
    if not pairs:
        return []
    by_backend = {name: [r.value for n, r in pairs if n == name] for name in dict.fromkeys(n for n, _ in pairs)}
    parts = [f"{span(v, lambda x: f'{x:.1f}×')} ({name})" for name, v in by_backend.items()]
    return [f"A train step takes {words(parts)} as long as the forward pass alone."]
