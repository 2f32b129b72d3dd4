"""Claims about cost: decided by parameters counted from built modules, counted work and measured times."""

from __future__ import annotations

from itertools import pairwise

from bench.records import Record
from bench.reporting.format import count, percent, short, words
from bench.stage_doubts import unlike
from bench.study.claim import Claim, Data, Verdict, not_measured, verdict_of
from bench.study.scaling import PowerLaw, Series, both_forms, size

EXPONENT_TOLERANCE = 0.02
"""A fitted exponent of parameters this near to the claimed one agrees with it."""
LINEAR_BELOW = 1.3
QUADRATIC_ABOVE = 1.6
"""Time exponents: below the first is called linear, above the second quadratic, between them neither."""
EQUAL_TO = 1e-5
"""Two forms of one sum agree where both are this near to the float64 reference."""


def _law_text(law: PowerLaw | None) -> str:
    if law is None:
        return "no fit"
    return f"N^{law.exponent:.2f} [{law.low:.2f}, {law.high:.2f}] over N = {law.least:g} to {law.most:g}"


def _exponents(found: Series | None, *names: str) -> dict[str, PowerLaw]:
    return {name: law for name in names if (law := found.law(name))} if found else {}


def two_entities(data: Data) -> Claim:
    """mf: one inner product of two embeddings."""
    name, statement = "mf", "Matrix factorization predicts by the inner product of two embeddings, for two entities."
    rule = (
        "Supported where every mf case has two tables, as built no parameters of its own interaction, and logits "
        f"within {EQUAL_TO:g} of the inner product (with the biases) in float64."
    )
    found = [r for r in data.of("mf") if r.parameters and r.work and r.check]
    if not found:
        return not_measured(name, statement, rule, "no checked mf case")
    good, evidence = [], []
    for record in found:
        assert record.parameters is not None
        assert record.work is not None
        assert record.check is not None
        own, error = record.parameters["interaction"], record.check.max_error
        good.append(size(record) == 2 and own == 0 and error <= EQUAL_TO)
        evidence += [("interaction parameters", float(own)), ("error", error)]
        evidence += [("table parameters", float(record.parameters["tables"]))]
        evidence += [("interaction FLOPs per sample", record.work.stages["interaction"].flops / record.work.samples)]
    text = (
        f"{evidence[0][1]:g} parameters and by count {evidence[3][1]:g} FLOPs in the interaction at "
        f"N = {size(found[0])}; error {evidence[1][1]:.1e}."
    )
    return Claim(name, statement, verdict_of(good), text, rule, tuple(evidence))


def pair_parameters(data: Data) -> Claim:
    """poly2: an independent block per pair."""
    name, statement = "poly2", "With independent parameters per pair of features, parameters and compute grow as N²."
    rule = (
        f"Supported where the interaction's own parameters grow with an exponent within {EXPONENT_TOLERANCE} of 2 and "
        f"the interaction's time with one above {QUADRATIC_ABOVE}; depends where only one holds."
    )
    found = data.named("poly2, block")
    laws = (
        _exponents(found, "interaction_params", "second_order_params", "interaction_flops", "interaction_s")
        if found
        else {}
    )
    if found is None or "interaction_params" not in laws or "interaction_s" not in laws:
        return not_measured(name, statement, rule, "no series of poly2 in blocks with parameters and a trace")
    good = [_near(laws["interaction_params"], 2), laws["interaction_s"].exponent > QUADRATIC_ABOVE]
    most = found.points("interaction_params")[-1]
    text = (
        f"Own parameters {_law_text(laws['interaction_params'])}: {count(most[1])} at N = {most[0]}. Interaction time "
        f"{_law_text(laws['interaction_s'])}. With the tables, which grow as N, parameters "
        f"{_law_text(laws['second_order_params'])}."
    )
    return Claim(name, statement, verdict_of(good), text, rule, _numbers(laws))


def _near(law: PowerLaw, exponent: float) -> bool:
    return abs(law.exponent - exponent) <= EXPONENT_TOLERANCE


def _numbers(laws: dict[str, PowerLaw]) -> tuple[tuple[str, float], ...]:
    return tuple((f"{name} exponent", law.exponent) for name, law in laws.items())


def shared_parameters(data: Data) -> Claim:
    """fm: shared embeddings."""
    name, statement = "fm", "A factorization machine takes all pairs through shared embeddings with O(N d) parameters."
    rule = (
        f"Supported where parameters of tables and interaction together grow with an exponent within "
        f"{EXPONENT_TOLERANCE} of 1 and the interaction has none of its own."
    )
    found = data.named("fm, square of sum") or data.named("fm, pairwise")
    law = found.law("second_order_params") if found else None
    if found is None or law is None:
        return not_measured(name, statement, rule, "no series of fm with counted parameters")
    own = max(v for _, v in found.points("interaction_params"))
    most = found.points("second_order_params")[-1]
    text = (
        f"Tables and interaction {_law_text(law)}: {count(most[1])} at N = {most[0]}, of which the interaction {own:g}."
    )
    evidence = (("second_order_params exponent", law.exponent), ("interaction parameters", own))
    return Claim(name, statement, verdict_of([_near(law, 1), own == 0]), text, rule, evidence)


def two_forms(data: Data) -> Claim:
    """fm: pairwise against square of sum."""
    name = "fm_forms"
    statement = "The same sum over all pairs costs O(N² d) pair by pair and O(N d) as a square of a sum."
    rule = (
        f"Supported where both forms agree with the reference to {EQUAL_TO:g} and the interaction's time grows with an "
        f"exponent above {QUADRATIC_ABOVE} pair by pair and below {LINEAR_BELOW} as a square of a sum."
    )
    forms = both_forms(data.series)
    slow = forms[0].law("interaction_s") if forms else None
    fast = forms[1].law("interaction_s") if forms else None
    if forms is None or slow is None or fast is None:
        return not_measured(name, statement, rule, "not both forms of fm alike in all else, with a trace")
    errors = [r.check.max_error for s in forms for r in s.records if r.check]
    equal = bool(errors) and max(errors) <= EQUAL_TO
    good = [slow.exponent > QUADRATIC_ABOVE, fast.exponent < LINEAR_BELOW]
    ratio = _ratio_at_most(*forms)
    text = (
        f"Interaction time pair by pair {_law_text(slow)}, as a square of a sum {_law_text(fast)}"
        f"{f'; {short(ratio[1])} times as long at N = {ratio[0]}' if ratio else ''}. "
        + (f"Largest error of either {max(errors):.1e}." if errors else "Neither was checked.")
    )
    evidence: tuple[tuple[str, float], ...] = (
        ("pairwise exponent", slow.exponent),
        ("square of sum exponent", fast.exponent),
    )
    evidence += (("largest error", max(errors)),) if errors else ()
    return Claim(name, statement, verdict_of(good) if equal else "not supported", text, rule, evidence)


def _ratio_at_most(slow: Series, fast: Series) -> tuple[int, float] | None:
    """(N, time of the one over the other) at the largest N of both."""
    other = dict(fast.points("interaction_s"))
    return next(((n, v / other[n]) for n, v in reversed(slow.points("interaction_s")) if other.get(n)), None)


def free_interaction(data: Data) -> Claim:
    """Dot interactions have no parameters, and N(N-1)/2 products."""
    name = "free_interaction"
    statement = "The interaction of DLRM adds no parameters: N(N-1)/2 interactions, each one dot product."
    rule = (
        "Supported where every built dlrm, fm and fm_mlp counts no parameter in its interaction, and the top MLP of "
        "every built dlrm and fm_mlp reads F(F-1)/2 products of its F vectors: its input's width, from its parameters, "
        "less that of the dense features."
    )
    found = [r for r in data.of("dlrm", "fm", "fm_mlp") if r.parameters and not _is_cat(r)]
    if not found:
        return not_measured(name, statement, rule, "no dlrm, fm or fm_mlp case with counted parameters")
    own = [float(r.parameters["interaction"]) for r in found if r.parameters]
    dots = [r for r in found if r.case.model and r.case.model.variant != "fm" and r.case.model.top_mlp]
    good = [v == 0 for v in own] + [_pairs_built(r) == _pairs(r) for r in dots]
    most = max(dots, key=size, default=None)
    products = f", {_pairs_built(most):g} products at N = {size(most)}" if most else ""
    text = f"{max(own):g} parameters in the interaction of {len(found)} built models{products}{_widening(data)}."
    evidence: tuple[tuple[str, float], ...] = (
        ("largest interaction parameters", max(own)),
        ("models", float(len(found))),
    )
    if most:
        evidence += (("products as built", _pairs_built(most)),)
    verdict: Verdict = "supported" if all(good) else "not supported"
    return Claim(name, statement, verdict, text, rule, evidence)


def _is_cat(record: Record) -> bool:
    return record.case.model is not None and record.case.model.interaction == "cat"


def _pairs(record: Record) -> int:
    assert record.case.model is not None
    vectors = len(record.case.model.tables) + (
        record.case.model.variant == "dlrm" and bool(record.case.model.bottom_mlp)
    )
    with_self = vectors if record.case.model.interaction_self else 0
    return vectors * (vectors - 1) // 2 + with_self


def _pairs_built(record: Record) -> float:
    """Products that the built top MLP reads: the width of its input, from its parameters, without the dense part."""
    model = record.case.model
    assert model is not None
    assert record.parameters is not None
    first, dense = model.top_mlp[0], model.bottom_mlp[-1] if model.bottom_mlp else model.num_dense
    rest = sum(before * after + after for before, after in pairwise(model.top_mlp))
    return (record.parameters["top_mlp"] - rest - first) / first - dense


def _widening(data: Data) -> str:
    """What the claim leaves out: the products are the input of the top MLP, whose first layer they widen."""
    found = data.named("dlrm")
    points = [(size(r), r.parameters["top_mlp"]) for r in found.records if r.parameters] if found else []
    if len(points) < 2:
        return ""
    (least, few), (most, many) = points[0], points[-1]
    return (
        f"; but every product is an input of the top MLP, which grows with them from {count(few)} parameters at "
        f"N = {least} to {count(many)} at N = {most}"
    )


def three_stages(data: Data) -> Claim:
    """Embedding, explicit interaction, prediction network."""
    name = "three_stages"
    statement = "A model has three stages: embedding, explicit second-order interaction, prediction MLP."
    rule = "Supported where each traced fm_mlp case spends time in all three and they make up most of the step."
    found = [r for r in data.of("fm_mlp") if r.trace and not unlike(r)]
    if not found:
        return not_measured(name, statement, rule, "no traced fm_mlp case whose profiled step was like the timed one")
    stages = ("embedding", "interaction", "top_mlp")
    shares = [[r.trace.stages[s].share_frac if s in r.trace.stages else 0.0 for s in stages] for r in found if r.trace]
    good = [min(row) > 0 and sum(row) > 0.5 for row in shares]
    last = shares[-1]
    parts = words([f"{s.replace('_', ' ')} {percent(v)}" for s, v in zip(stages, last, strict=True)])
    text = f"Of the step at N = {size(found[-1])}: {parts}; all three in {sum(good)} of {len(good)} cases."
    return Claim(name, statement, verdict_of(good), text, rule, tuple(zip(stages, last, strict=True)))
