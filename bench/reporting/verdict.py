"""What a run says, in sentences: trust, the stage that counts, what bounds it; comparisons have a file of their own.

Only what the intervals support is said.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from bench import metrics, roofs
from bench.between import Between
from bench.records import Record
from bench.reporting.advice import advice, kernel_frac
from bench.reporting.comparisons import backends, scaling, training
from bench.reporting.format import percent, span, words
from bench.reporting.labels import PHASES, Value, labels, named, values
from bench.reporting.threads_used import idle_threads
from bench.stage_doubts import unlike
from profiles.machine import Machine

LOW_FRACTION = 0.25
"""Below this fraction of every roof, neither memory nor arithmetic explains the time."""
HIGH_FRACTION = 0.6
DISTURBED = {"other_load", "not_steady"}
DISTURBED_FRAC = 0.2
APART_FRAC = 0.1


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
        ("Trust", [*_trust(found), *_apart(apart)]),
        ("Page faults", _page_faults(found)),
        ("Stages", _stages(found, machine)),
        ("Embedding", _embedding(found, machine)),
        ("Overhead", _overhead(found, machine)),
        ("Backends", backends(found, apart)),
        ("Threads", idle_threads(found, machine)),
        ("Scaling", scaling(found, apart)),
        ("Training", training(found)),
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


def _apart(found: Between | None) -> list[str]:
    """Said where processes differ by more than what most comparisons are about."""
    if found is None or found.frac < APART_FRAC:
        return []
    return [
        f"Two processes of one case differ by up to {percent(found.frac)} on this machine ({found.pairs} cases were "
        "measured twice): nothing less is told apart below. The gate, which lets processes take turns, sees far less."
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
