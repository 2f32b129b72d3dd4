"""What a run says, in sentences: the stage that counts, backends, scaling, training.

Only what the intervals support is said.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from bench import metrics, roofs, stats
from bench.between import Between, widened
from bench.records import Record
from bench.reporting.advice import advice, kernel_frac
from bench.reporting.format import percent, times, words
from bench.reporting.labels import PHASES, TITLES, Value, axes_of, labels, named, slices, value_text, values
from bench.reporting.threads_used import idle_threads
from bench.stage_doubts import unlike
from profiles.machine import Machine

LOW_FRACTION = 0.25
"""Below this fraction of every roof, neither memory nor arithmetic explains the time."""
HIGH_FRACTION = 0.6
DISTURBED = {"other_load", "not_steady"}
DISTURBED_FRAC = 0.2


class Sentence(NamedTuple):
    """One finding and what it is about."""

    topic: str
    text: str


class StageView(NamedTuple):
    """One stage of one case with a trace."""

    record: Record
    name: str
    share_frac: float
    fraction_of_roof: float | None
    bound: str | None


def verdict(records: Sequence[Record], machine: Machine, apart: Between | None = None) -> list[Sentence]:
    """Sentences, the most important first. `records` may hold skipped and failed ones; they are left out.

    `apart` is how far processes of one case differ, which comparisons of two cases allow for where it is known.
    """
    found = [r for r in records if r.outcome.status == "ok" and metrics.step_s(r)]
    if not found:
        return [Sentence("Nothing measured", "Every case was skipped or failed; the reasons are below.")]
    topics = (
        ("Trust", _trust(found)),
        ("Page faults", _page_faults(found)),
        ("Stages", _stages(found, machine)),
        ("Embedding", _embedding(found, machine)),
        ("Overhead", _overhead(found, machine)),
        ("Backends", _backends(found, apart)),
        ("Threads", idle_threads(found, machine)),
        ("Scaling", _scaling(found, apart)),
        ("Training", _training(found)),
        ("Caches", _residency(found)),
    )
    plain = f"{_number(len(found))} measured; nothing varies between them that could be compared."
    return [Sentence(topic, text) for topic, texts in topics for text in texts] or [Sentence("Measured", plain)]


def _trust(found: Sequence[Record]) -> list[str]:
    """Said first where a good part of the run was disturbed: nothing below it can be better than that."""
    disturbed = [r for r in found if r.measurement and DISTURBED & set(r.measurement.flags)]
    if len(disturbed) < DISTURBED_FRAC * len(found):
        return []
    loaded = sum("other_load" in r.measurement.flags for r in disturbed if r.measurement)
    cause = f"; something else used the CPUs in {loaded} of them" if loaded else ""
    return [
        f"{len(disturbed)} of {_number(len(found))} never became steady or ran beside other load{cause}. "
        "Repeat the run on a quiet machine before quoting it."
    ]


def _page_faults(found: Sequence[Record]) -> list[str]:
    """Of the case that loses most to them, and how many more there are."""
    told = [(r, texts) for r in found if (texts := advice(r, found))]
    if not told:
        return []
    record, texts = max(told, key=lambda pair: kernel_frac(pair[0]))
    names = labels(found)
    more = f" The same holds, less, for {_number(len(told) - 1)} more." if len(told) > 1 else ""
    return [f"{names[record.key]}: {'; '.join(texts)}.{more}"]


def largest_stage(record: Record, machine: Machine) -> StageView | None:
    """The stage with the largest share of the step; None without a trace."""
    views = [v for name, s in metrics.stages(record, machine).items() if (v := _view(record, name, s))]
    return max(views, key=lambda v: v.share_frac, default=None)


def _view(record: Record, name: str, stage: dict[str, Any]) -> StageView | None:
    share = None if unlike(record) else stage["share_frac"]
    return StageView(record, name, share, stage["fraction_of_roof"], stage["bound"]) if share else None


def _stages(found: Sequence[Record], machine: Machine) -> list[str]:
    """One sentence per phase, on its largest batch size."""
    sentences = []
    for phase in dict.fromkeys(r.case.phase for r in found):
        own = [r for r in found if r.case.phase == phase]
        batch = max(r.case.batch_size for r in own)
        views = [v for r in own if r.case.batch_size == batch and (v := largest_stage(r, machine))]
        if views:
            sentences.append(_stage_sentence(views, phase, batch))
    return sentences


def _embedding(found: Sequence[Record], machine: Machine) -> list[str]:
    """One sentence per phase on the largest batch, for tables beyond the cache, where it is not the largest stage."""
    sentences = []
    for phase in dict.fromkeys(r.case.phase for r in found):
        batch = max(r.case.batch_size for r in found if r.case.phase == phase)
        own = [r for r in found if (r.case.phase, r.case.batch_size) == (phase, batch)]
        beyond = [r for r in own if r.inputs and r.inputs.residency != "cache"]
        views = [
            view
            for r in beyond
            if (stage := metrics.stages(r, machine).get("embedding")) and (view := _view(r, "embedding", stage))
        ]
        largest = [largest_stage(r, machine) for r in beyond]
        if views and not any(v and v.name == "embedding" for v in largest):
            share = span([v.share_frac for v in views], percent)
            where = f"At batch {batch}, {PHASES.get(phase, phase)}, with tables beyond the last-level cache"
            sentences.append(f"{where}, the embedding takes {share} of the step{_at_roof(views)}.")
    return sentences


def _stage_sentence(views: Sequence[StageView], phase: str, batch: int) -> str:
    name, count = Counter(v.name for v in views).most_common(1)[0]
    own = [v for v in views if v.name == name]
    among = (
        "" if len(views) == 1 else f" in {f'all {count}' if count == len(views) else f'{count} of {len(views)}'} cases"
    )
    where = f"At batch {batch}, {PHASES.get(phase, phase)}, the {_stage(name)} is the largest stage{among}"
    share = f"it takes {span([v.share_frac for v in own], percent)} of the step"
    others = [v.record for v in views if v.name != name]
    tail = f" The exceptions: {_exceptions(views, name)}." if others else ""
    return f"{where}: {share}{_at_roof(own)}.{tail}"


def _stage(name: str) -> str:
    return name.replace("_mlp", " MLP").replace("_", " ")


def _at_roof(own: Sequence[StageView]) -> str:
    fractions = [v.fraction_of_roof for v in own if v.fraction_of_roof is not None]
    bounds = [v.bound for v in own if v.bound]
    if not fractions or not bounds:
        return ""
    bound = Counter(bounds).most_common(1)[0][0]
    text = f" at {span(fractions, percent)} of its {bound} roof"
    high = sum(f >= HIGH_FRACTION for f in fractions)
    if high == len(fractions):
        return f"{text}, so {_limit(bound)} bounds it"
    if high:
        return (
            f"{text} ({percent(HIGH_FRACTION)} or more in {high} of {len(fractions)}, where {_limit(bound)} bounds it)"
        )
    return f"{text}, far below what the hardware gives" if max(fractions) < LOW_FRACTION else text


def _limit(bound: str) -> str:
    return {"gather": "random access to memory", "stream": "memory bandwidth"}.get(bound, "arithmetic")


def _exceptions(views: Sequence[StageView], name: str) -> str:
    others = [v for v in views if v.name != name]
    axes = [n for n in ("dim", "rows", "backend") if len(values([v.record for v in views], n)) > 1]
    apart = [n for n in axes if not set(_of(others, n)) & set(_of([v for v in views if v.name == name], n))]
    label = (
        f"at {words([named(apart[0], x) for x in _of(others, apart[0])])} " if apart else f"in {_number(len(others))} "
    )
    stages = words([f"the {_stage(s)}" for s in dict.fromkeys(v.name for v in others)])
    return f"{label}it is {stages} ({span([v.share_frac for v in others], percent)})"


def _number(count: int) -> str:
    return "1 case" if count == 1 else f"{count} cases"


def _of(views: Sequence[StageView], axis: str) -> list[Value]:
    return values([v.record for v in views], axis)


def _overhead(found: Sequence[Record], machine: Machine) -> list[str]:
    """Cases in which every stage, and so the whole step, stays far below its roof."""
    fractions = [(r, f) for r in found if (f := metrics.value(r, machine, "fraction_of_roof")) is not None]
    low = [f for r, f in fractions if f < LOW_FRACTION and _all_low(r, machine)]
    if not low:
        return []
    which = "Every case stays" if len(low) == len(fractions) else f"{len(low)} of {len(fractions)} cases stay"
    reached = span(low, percent)
    return [
        f"{which} at {reached} of the roof with no stage above {percent(LOW_FRACTION)} of its own: neither memory nor "
        "arithmetic explains the time, which leaves the framework's fixed cost per operator, or idle threads."
    ]


def _all_low(record: Record, machine: Machine) -> bool:
    known = [s for s in metrics.stages(record, machine).values() if s["fraction_of_roof"] is not None]
    low = all(s["fraction_of_roof"] < LOW_FRACTION for s in known if (s["share_frac"] or 0) > 0.05)
    return low and not _reuse_explains(record, machine)


def _reuse_explains(record: Record, machine: Machine) -> bool:
    """Whether every lookup counted, repeated rows too, the embedding comes nearer to what a gather reaches."""
    logical = metrics.value(record, machine, "embedding_logical_bytes_per_s")
    roof = roofs.gather_roof_bytes_per_s(record, machine)
    return bool(logical and roof and logical / roof >= LOW_FRACTION)


def _backends(found: Sequence[Record], apart: Between | None) -> list[str]:
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
    wins = sum(_clear_winner(g, apart) == first.case.backend for g in own)
    if ahead and apart is None:
        text += " (one process each, whose own difference the intervals do not hold)"
    return f"{text}." if len(own) == 1 else f"{text}; it leads clearly in {wins} of {len(own)} such comparisons."


def _clear_winner(group: Sequence[Record], apart: Between | None) -> str | None:
    ranked = sorted(group, key=lambda r: metrics.step_s(r) or 0.0)
    return ranked[0].case.backend if ratio_of(ranked[1], ranked[0], apart).excludes_one else None


def ratio_of(over: Record, under: Record, apart: Between | None = None) -> stats.Ratio:
    """Ratio of the median step times of two measured records, with its interval, wide enough for `apart`."""
    assert over.measurement is not None
    assert under.measurement is not None
    return widened(stats.ratio_of_medians(over.measurement.times_s, under.measurement.times_s), apart)


def _scaling(found: Sequence[Record], apart: Between | None) -> list[str]:
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


def _training(found: Sequence[Record]) -> list[str]:
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


def _residency(found: Sequence[Record]) -> list[str]:
    """How many cases did not read their rows from memory."""
    known = [r.inputs.residency for r in found if r.inputs and r.inputs.residency != "unknown"]
    cached = sum(k == "cache" for k in known)
    if not cached:
        return []
    which = "the one case" if len(known) == 1 else f"{cached} of {len(known)} cases"
    return [
        f"In {which} the rows touched fit the last-level cache: those are cache numbers, not memory numbers, and their "
        "gather roof is the cache's."
    ]


def span(numbers: Sequence[float], text: Callable[[float], str]) -> str:
    """'33 to 71 %' or one value where both ends read alike."""
    low, high = text(min(numbers)), text(max(numbers))
    if low == high:
        return low
    unit = low.rpartition(" ")[2] if " " in low else ""
    return f"{low.removesuffix(unit).rstrip()} to {high}" if unit and high.endswith(unit) else f"{low} to {high}"
