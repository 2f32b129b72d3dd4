"""Records of models over the number of features, without running any: counted work, and times by a law of N."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from bench.records import Case, Check, Record, StageTime, TraceSummary
from bench.sweep_spec import make_case
from tests import sample_records
from workloads import models
from workloads.batch import expected_touch
from workloads.models import _parts

SIZES = (4, 8, 16, 32, 64, 128, 256)
EXPONENT = {"poly2": 2.0, "fm pairwise": 1.95, "fm square_of_sum": 1.0, "dlrm": 1.9, "fm_mlp": 1.9, "mlp": 1.0}
PLAIN = {"num_dense": 0, "bottom_mlp": "", "top_mlp": "", "dim": 17}
SETTINGS: dict[str, dict[str, object]] = {
    "poly2": {"variant": "poly2", **PLAIN},
    "fm pairwise": {"variant": "fm", "form": "pairwise", **PLAIN},
    "fm square_of_sum": {"variant": "fm", "form": "square_of_sum", **PLAIN},
    "dlrm": {},
    "fm_mlp": {"variant": "fm_mlp", "bottom_mlp": ""},
    "mlp": {"variant": "mlp", "bottom_mlp": ""},
    "mf": {"variant": "mf", **PLAIN},
}


def case(name: str, size: int) -> Case:
    """One case of the structure sweep's kind."""
    settings = SETTINGS[name] | {"num_features": size}
    return make_case("structure", None, settings)  # type: ignore[arg-type]


def own_parameters(name: str, size: int) -> int:
    """What a built interaction module would count."""
    return size * (size - 1) // 2 * 16 * 16 if name == "poly2" else 0


def record(
    name: str, size: int, exponent: float | None = None, own: Callable[[str, int], int] = own_parameters
) -> Record:
    """An ok record whose interaction takes N^exponent microseconds, half of its step."""
    made = case(name, size)
    model = made.model
    assert model is not None
    bottom = _parts.mlp_parameters(_parts.bottom_widths(model))
    seconds = 1e-6 * size ** (EXPONENT[name] if exponent is None else exponent)
    base = sample_records.record(sample_records.scaling_cases()[0])
    assert base.measurement is not None
    shares = {"embedding": 0.2, "interaction": 0.5, "top_mlp": 0.3}
    return msgspec.structs.replace(
        base,
        key=made.key(),
        case=made,
        work=models.count_work(model, made.batch_size, made.phase, expected_touch(model, made.batch_size)),
        measurement=msgspec.structs.replace(base.measurement, times_s=(2 * seconds,) * 6),
        check=Check(max_error=2e-7, tolerance=1e-5, what="logits"),
        trace=TraceSummary(
            path="",
            steps=3,
            step_s=2 * seconds,
            overhead_ratio=1.0,
            coverage_frac=1.0,
            stages={n: StageTime(forward_s=s * seconds, backward_s=0.0, share_frac=s) for n, s in shares.items()},
        ),
        parameters={
            "tables": sum(t.num_rows * t.dim for t in model.tables),
            "bottom_mlp": bottom,
            "interaction": own(name, size),
            "top_mlp": models.load(model.variant).dense_parameters(model) - own_parameters(name, size) - bottom,
        },
    )


def records(**exponents: float) -> list[Record]:
    """Every variant but mf at every size; keywords (blanks as underscores) replace exponents of interaction times."""
    return [record(name, n, exponents.get(name.replace(" ", "_"))) for name in EXPONENT for n in SIZES]
