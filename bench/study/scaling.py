"""Power laws y = a N^b against the number of features N: fitted by least squares on logarithms. Pure.

Exponents are fitted over N >= 32 where at least three such sizes were measured: below, N(N-1)/2 is not yet N^2/2 (its
local exponent at N = 4 is 2.4) and fixed costs per operator hide the arithmetic. Every fit says its range of N.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from bench import metrics
from bench.records import Case, Record
from bench.reporting.labels import label, telling
from workloads.spec import ModelSpec, num_features

FIT_FROM = 32
MIN_POINTS = 3
CONFIDENCE = 0.95


class PowerLaw(NamedTuple):
    """y = scale * N^exponent over N from `least` to `most`, with the t-interval of the exponent."""

    exponent: float
    low: float
    high: float
    scale: float
    points: int
    least: float
    most: float

    def at(self, size: float) -> float:
        """The fitted y."""
        return float(self.scale * size**self.exponent)


def fit(sizes: Sequence[float], values: Sequence[float], confidence: float = CONFIDENCE) -> PowerLaw | None:
    """Least squares of ln y on ln N; None for fewer than three sizes or where a value is not positive.

    The interval assumes independent, equally scattered errors of ln y; it says how straight the line is, not how far
    another machine's exponent would lie from it.
    """
    if len(set(sizes)) < MIN_POINTS or min(values, default=0) <= 0:
        return None
    x, y = [math.log(s) for s in sizes], [math.log(v) for v in values]
    mean_x, mean_y = math.fsum(x) / len(x), math.fsum(y) / len(y)
    spread = math.fsum((a - mean_x) ** 2 for a in x)
    slope = math.fsum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / spread
    start = mean_y - slope * mean_x
    left = math.fsum((b - start - slope * a) ** 2 for a, b in zip(x, y, strict=True))
    freedom = len(x) - 2
    reach = t_quantile(confidence, freedom) * math.sqrt(left / freedom / spread)
    return PowerLaw(slope, slope - reach, slope + reach, math.exp(start), len(x), min(sizes), max(sizes))


def t_quantile(confidence: float, freedom: int) -> float:
    """Half the width of the central `confidence` of Student's t with `freedom` degrees of freedom."""
    from scipy import stats

    return float(stats.t.ppf((1 + confidence) / 2, freedom))


class Quantity(NamedTuple):
    """Something that grows with N: id, words, unit as in bench/metrics.py, and its value for one record."""

    name: str
    title: str
    unit: str
    of: Callable[[Record], float | None]


def _parameters(*parts: str) -> Callable[[Record], float | None]:
    def count(record: Record) -> float | None:
        return float(sum(record.parameters.get(p, 0) for p in parts)) if record.parameters else None

    return count


def _work(field: str, *stages: str) -> Callable[[Record], float | None]:
    """Per sample; all stages where none is named."""

    def amount(record: Record) -> float | None:
        if record.work is None:
            return None
        chosen = [s for name, s in record.work.stages.items() if not stages or name in stages]
        return float(sum(getattr(stage, field) for stage in chosen) / record.work.samples)

    return amount


def _interaction_s(record: Record) -> float | None:
    """Its share of the profiled pass times the timed step."""
    return metrics.stage_step_s(record, "interaction")


def _each(record: Record, step: float | None) -> float | None:
    return step / record.case.batch_size if step else None


def _memory(record: Record) -> float | None:
    return (record.measurement.peak_rss_bytes or None) if record.measurement else None


QUANTITIES = (
    Quantity("interaction_params", "interaction parameters", "", _parameters("interaction")),
    Quantity("second_order_params", "tables and interaction parameters", "", _parameters("tables", "interaction")),
    Quantity("params", "all parameters", "", _parameters("tables", "bottom_mlp", "interaction", "top_mlp", "bias")),
    Quantity("interaction_flops", "interaction FLOPs per sample", "FLOP", _work("flops", "interaction")),
    Quantity("flops", "FLOPs per sample", "FLOP", _work("flops")),
    Quantity("bytes", "algorithmic bytes per sample", "B", _work("bytes_algorithmic")),
    Quantity("interaction_s", "interaction time per sample", "s", lambda r: _each(r, _interaction_s(r))),
    Quantity("step_s", "step time per sample", "s", lambda r: _each(r, metrics.step_s(r))),
    Quantity("memory", "peak memory of the process", "B", _memory),
)
BY_NAME = {quantity.name: quantity for quantity in QUANTITIES}


def variant_name(model: ModelSpec) -> str:
    """The variant with what tells it from others of its kind: 'fm, pairwise', 'dcnv2, rank 16'."""
    parts = [model.variant]
    if model.form:
        parts.append(model.form.replace("_", " "))
    elif model.variant in DEFAULT_FORMS:
        parts.append(DEFAULT_FORMS[model.variant])
    if model.variant == "dcnv2":
        parts.append(f"rank {model.cross_rank}" if model.cross_rank else "full rank")
    return ", ".join(parts)


FORMS = ("fm, pairwise", "fm, square of sum")
"""Both forms of fm, as variant_name writes them."""
DEFAULT_FORMS = {"fm": "square of sum", "poly2": "block"}
"""What an empty `form` means; deepfm, whose form is that of its fm part, goes without."""


class Series(NamedTuple):
    """Cases that differ in the number of features alone, by N.

    apart: what tells the series from others of its variant and phase in the same run; empty where it is alone.
    """

    variant: str
    phase: str
    records: tuple[Record, ...]
    apart: str = ""

    @property
    def name(self) -> str:
        """fm, pairwise (train); what else tells it from others of that name: fm, pairwise · B 512."""
        name = self.variant if self.phase == "forward" else f"{self.variant} (train)"
        return f"{name} · {self.apart}" if self.apart else name

    @property
    def sizes(self) -> list[int]:
        """N of each record."""
        return [size(r) for r in self.records]

    def points(self, quantity: str) -> list[tuple[int, float]]:
        """(N, value) where the value is known."""
        found = ((size(r), BY_NAME[quantity].of(r)) for r in self.records)
        return [(n, v) for n, v in found if v is not None]

    def law(self, quantity: str) -> PowerLaw | None:
        """The power law of a quantity over the range that the module's docstring names."""
        points = self.points(quantity)
        large = [p for p in points if p[0] >= FIT_FROM]
        chosen = large if len(large) >= MIN_POINTS else points
        return fit([n for n, _ in chosen], [v for _, v in chosen])


def size(record: Record) -> int:
    """N: sparse features of the record's model; 0 without one."""
    return num_features(record.case.model) if record.case.model else 0


def series(records: Sequence[Record]) -> list[Series]:
    """Every group of measured cases in which only the number of features varies, with at least three sizes."""
    groups: dict[tuple[object, ...], dict[int, Record]] = {}
    for record in records:
        if record.case.model is not None and metrics.step_s(record) and record.outcome.status == "ok":
            groups.setdefault(_identity(record.case, record.case.model), {})[size(record)] = record
    found = [list(dict(sorted(group.items())).values()) for group in groups.values() if len(group) >= MIN_POINTS]
    made = [Series(variant_name(r[0].case.model), r[0].case.phase, tuple(r)) for r in found if r[0].case.model]
    return [one._replace(apart=_apart(one, [other for other in made if other.name == one.name])) for one in made]


def _apart(one: Series, alike: Sequence[Series]) -> str:
    """The axes that tell `one` from the series of its name, by cases of one size where they have one in common."""
    if len(alike) == 1:
        return ""
    common = set.intersection(*(set(s.sizes) for s in alike))

    def first(of: Series) -> Case:
        return next(r.case for r in of.records if not common or size(r) == min(common))

    names = telling([first(s) for s in alike], ())
    return label(first(one), names) if names else ""


def named(found: Sequence[Series], variant: str, phase: str = "forward") -> Series | None:
    """The series of a variant, as variant_name writes it: of several the first of the run."""
    return next((s for s in found if (s.variant, s.phase) == (variant, phase)), None)


def both_forms(found: Sequence[Series]) -> tuple[Series, Series] | None:
    """fm forward, pairwise and as a square of a sum: the first of the run that differ in the form alone, traced."""
    slow, fast = ([s for s in found if (s.variant, s.phase) == (form, "forward")] for form in FORMS)
    pairs = ((a, b) for a in slow for b in fast if _but_form(a) == _but_form(b))
    return next((pair for pair in pairs if all(s.points("interaction_s") for s in pair)), None)


def _but_form(one: Series) -> tuple[object, ...]:
    case = one.records[0].case
    assert case.model is not None
    return _identity(case, msgspec.structs.replace(case.model, form=""))


def _identity(case: Case, model: ModelSpec) -> tuple[object, ...]:
    """Everything that has to agree within a series; tables by the first one, which the others repeat."""
    # A replayed file counts by its content (`captured`), wherever it lies; names say nothing of what is computed.
    return (
        _fields(model, ("name", "tables", "replay")),
        _fields(model.tables[0], ("name",)),
        _fields(case, ("model", "code")),
    )


def _fields(struct: msgspec.Struct, left_out: Sequence[str]) -> tuple[object, ...]:
    return tuple(getattr(struct, field) for field in struct.__struct_fields__ if field not in left_out)
