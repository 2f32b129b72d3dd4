"""One small model per variant, and more where a variant has forms: what the contract tests build."""

import msgspec

from workloads import models, presets
from workloads.spec import ModelSpec, TableSpec

TINY = presets.load_preset("tiny").spec
FORMS = {
    "dlrm": [{"interaction": i, "interaction_self": s} for i in ("dot", "cat") for s in (False, True)],
    "mlp": [{}, {"bottom_mlp": ()}],
    "dcn": [{}, {"bottom_mlp": ()}, {"top_mlp": (1,)}],
    "dcnv2": [{}, {"bottom_mlp": ()}, {"cross_rank": 3}],
    "fm_mlp": [{"bottom_mlp": ()}],
    "fm": [{"top_mlp": ()}, {"top_mlp": (), "form": "pairwise"}],
    "deepfm": [{}, {"form": "pairwise"}],
    "poly2": [{"top_mlp": ()}],
    "mf": [{"top_mlp": (), "bottom_mlp": (), "num_dense": 0, "tables": TINY.tables[:2]}],
}


def hashed_poly2(num_features=3, num_rows=50):
    """Poly2 in its hashed form: one-element rows, the last table holds the pairs."""
    feature = TableSpec(name="t", num_rows=num_rows, dim=1)
    pairs = TableSpec(name="pairs", num_rows=97, dim=1, pooling_factor=num_features * (num_features - 1) / 2)
    return ModelSpec(name="tiny", variant="poly2", form="hashed", tables=(feature,) * num_features + (pairs,))


def specs_of(variant):
    """Small models of `variant`; the first is its default form."""
    made = [msgspec.structs.replace(TINY, variant=variant, **changes) for changes in FORMS.get(variant, [{}])]
    return made + ([hashed_poly2()] if variant == "poly2" else [])


def all_specs():
    """Every variant in every form."""
    return [spec for variant in models.names() for spec in specs_of(variant)]


def label(spec):
    """A test id."""
    changed = [f"{f}={getattr(spec, f)}" for f in ("interaction", "interaction_self", "cross_rank", "form")]
    return "-".join([spec.variant, *changed, f"bottom={len(spec.bottom_mlp)}", f"top={len(spec.top_mlp)}"])
