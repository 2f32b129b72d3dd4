"""Work against torch's own count and by hand; interaction; steps; tracing; the check that must catch wrong results."""

import msgspec
import numpy as np
import pytest
import torch
from scipy import stats
from torch.utils.flop_counter import FlopCounterMode

from tests.model_specs import all_specs, hashed_poly2, label, specs_of
from workloads import backends, factorization, layers, models, pairs, placements, presets, reference
from workloads.batch import expected_touch, make_batch, touch
from workloads.reference import check, forward_reference
from workloads.spec import ModelSpec, SpecError, TableSpec, with_axis
from workloads.steps import build_model, make_step
from workloads.work import STATE, TableTouch

TINY = presets.load_preset("tiny").spec


def available(name, device="cpu", phase="forward"):
    reason = backends.load(name).available(device, phase)
    if reason:
        pytest.skip(reason)


def uncounted_by_torch(spec):
    """Whether the interaction has no matrix product, so that torch's counter sees none of its FLOPs."""
    return spec.variant == "mf" or spec.form == "hashed" or (spec.variant in ("fm", "deepfm") and not spec.form)


@pytest.mark.parametrize("spec", all_specs(), ids=label)
@pytest.mark.parametrize("phase", ["forward", "train_step"])
def test_flops_equal_what_torch_counts(spec, phase):
    bundle = build_model(spec, phase=phase)
    step, inputs = make_step(bundle), bundle.prepare(make_batch(spec, 32, 0))
    with FlopCounterMode(display=False) as counter:
        step(inputs)
    work = models.count_work(spec, 32, phase, expected_touch(spec, 32))
    stages = ["bottom_mlp", "top_mlp"] + ([] if uncounted_by_torch(spec) else ["interaction"])
    ours = sum(work.stages[s].flops for s in stages if s in work.stages)
    assert ours == counter.get_total_flops()


@pytest.mark.parametrize("spec", all_specs(), ids=label)
def test_parameters_equal_the_built_module(spec):
    bundle = build_model(spec)
    assert models.count_parameters(spec) == sum(p.numel() for p in bundle.model.parameters())


def test_embedding_bytes_by_hand():
    # 2 samples, 3 lookups each, 4 distinct rows of 5 floats (20 bytes: one line), 10 distinct over the rotation.
    table = TableSpec(name="t", num_rows=100, dim=5, pooling_factor=3)
    spec = ModelSpec(name="m", variant="embedding", tables=(table,))
    touched = (TableTouch(lookups=6, unique_rows=4, rotation_unique_rows=10),)
    stage = models.count_work(spec, 2, "forward", touched).stages["embedding"]
    assert stage.flops == 6 * 5
    assert stage.bytes_logical == 6 * 20
    assert stage.bytes_algorithmic == 6 * 20 + 2 * 20 + 6 * 8 + 3 * 8
    assert stage.bytes_compulsory == 4 * 64 + 2 * 20 + 6 * 8 + 3 * 8
    assert stage.working_set_bytes == 10 * 64
    train = models.count_work(spec, 2, "train_step", touched).stages["embedding"]
    assert train.bytes_algorithmic - stage.bytes_algorithmic == 2 * 20 + 4 * 2 * 20
    assert train.bytes_compulsory - stage.bytes_compulsory == 2 * 20 + 4 * 2 * 64
    assert train.flops - stage.flops == 6 * 5 + 2 * 4 * 5
    # What a cache through the step need not move: rows read again, pooled rows out and their gradient in.
    assert (stage.bytes_kept, train.bytes_kept) == (0, 4 * 64 + 2 * 2 * 20)


def test_optimizer_state_by_hand():
    """The same 4 rows of 20 bytes, 10 over the rotation: Adam reads and writes two more, Adagrad one number each."""
    table = TableSpec(name="t", num_rows=100, dim=5, pooling_factor=3)
    spec = ModelSpec(name="m", variant="embedding", tables=(table,))
    touched = (TableTouch(lookups=6, unique_rows=4, rotation_unique_rows=10),)

    def beside_sgd(optimizer, phase="train_step"):
        plain = models.count_work(spec, 2, phase, touched).stages["embedding"]
        stage = models.count_work(spec, 2, phase, touched, optimizer=optimizer).stages["embedding"]
        return {f: getattr(stage, f) - getattr(plain, f) for f in stage.__struct_fields__ if f != "flops_useful"}

    nothing = dict.fromkeys(beside_sgd("sgd"), 0)
    assert beside_sgd("adam") == nothing | {
        "bytes_logical": 4 * 4 * 20,
        "bytes_algorithmic": 4 * 4 * 20,
        "bytes_compulsory": 4 * 4 * 64,
        "working_set_bytes": 2 * 10 * 64,
    }
    assert beside_sgd("rowwise_adagrad") == nothing | {
        "bytes_logical": 8 * 4,
        "bytes_algorithmic": 8 * 4,
        "bytes_compulsory": 8 * 4,
        "working_set_bytes": 10 * 4,
    }
    assert beside_sgd("sgd") == beside_sgd("adam", "forward") == nothing
    with pytest.raises(SpecError, match="did you mean 'adam'"):
        beside_sgd("adamm")


@pytest.mark.parametrize("spec", all_specs(), ids=label)
def test_every_variant_counts_the_state_of_its_tables_optimizer(spec):
    touched = expected_touch(spec, 8)
    adam, sgd = (models.count_work(spec, 8, "train_step", touched, optimizer=name) for name in ("adam", "sgd"))
    rows = 4 * sum(t.unique_rows * s.row_bytes for s, t in zip(spec.tables, touched, strict=True))
    assert adam.total("bytes_logical") - sgd.total("bytes_logical") == pytest.approx(rows, abs=len(spec.tables))
    assert adam.stages.get("optimizer") == sgd.stages.get("optimizer")


def test_every_optimizer_of_the_tables_has_its_state_counted():
    assert tuple(STATE) == backends.OPTIMIZERS


def test_narrow_rows_share_lines_so_the_table_bounds_compulsory_bytes():
    """Rows of one float, 16 to a line: 90 distinct ones of 100 fill at most the 7 lines of the table."""
    table = TableSpec(name="t", num_rows=100, dim=1, pooling_factor=1)
    spec = ModelSpec(name="m", variant="embedding", tables=(table,))
    touched = (TableTouch(lookups=200, unique_rows=90, rotation_unique_rows=100),)
    stage = models.count_work(spec, 200, "forward", touched).stages["embedding"]
    assert stage.bytes_compulsory == 7 * 64 + 200 * 4 + 200 * 8 + 201 * 8
    assert stage.working_set_bytes == 7 * 64


def test_dot_work_by_hand():
    # tiny: 4 tables and the bottom output, so F = 5 vectors of 8; 10 pairs.
    stage = models.count_work(TINY, 1, "forward", expected_touch(TINY, 1)).stages["interaction"]
    assert (stage.flops, stage.flops_useful) == (2 * 25 * 8, 2 * 10 * 8)
    assert stage.bytes_compulsory == (5 * 8 + 8 + 10) * 4


@pytest.mark.parametrize("phase", ["forward", "train_step"])
@pytest.mark.parametrize("spec", all_specs(), ids=label)
def test_every_variant_counts_bytes_in_order(spec, phase):
    work = models.count_work(spec, 8, phase, expected_touch(spec, 8))
    assert work.samples == 8
    assert work.lookups == 8 * spec.lookups_per_sample
    assert work.row_bytes == spec.tables[0].row_bytes
    assert models.load(spec.variant).activations_per_sample(spec) > 0
    for stage in work.stages.values():
        assert 0 <= stage.flops_useful <= stage.flops
        assert stage.bytes_compulsory > 0
        assert stage.working_set_bytes > 0


def test_touches_must_be_one_per_table():
    with pytest.raises(SpecError, match="touches = 0"):
        models.count_work(TINY, 8, "forward", ())


def test_an_unknown_phase_is_refused():
    with pytest.raises(SpecError, match="phase = 'train'"):
        models.count_work(TINY, 8, "train", expected_touch(TINY, 8))


@pytest.mark.parametrize("with_self", [False, True])
def test_the_dot_interaction_is_all_pairs_once(with_self):
    bottom, pooled = torch.randn(3, 4), torch.randn(3, 8)
    output = layers.DotInteraction(3, 4, with_self)(bottom, pooled)
    vectors = [bottom, pooled[:, :4], pooled[:, 4:]]
    pairs = [(vectors[i] * vectors[j]).sum(1) for i in range(3) for j in range(i + with_self)]
    torch.testing.assert_close(output, torch.cat([bottom, torch.stack(pairs, 1)], dim=1))


def test_the_reference_logits_are_a_hand_written_dlrm():
    bundle, batch = build_model(TINY), make_batch(TINY, 8, 0)
    parameters = {n: p.detach().double().numpy() for n, p in bundle.model.named_parameters()}
    tables = [w.double().numpy() for w in bundle.model.embedding.table_weights()]
    h = batch.dense.astype(np.float64)
    for i in (0, 2):
        h = np.maximum(h @ parameters[f"bottom.{i}.weight"].T + parameters[f"bottom.{i}.bias"], 0)
    vectors = [h]
    for t, table in enumerate(tables):
        part = batch.table(t)
        vectors.append(
            np.stack([table[part.indices[a:b]].sum(0) for a, b in zip(part.offsets, part.offsets[1:], strict=False)])
        )
    pairs = [(vectors[i] * vectors[j]).sum(1) for i in range(5) for j in range(i)]
    z = np.concatenate([h, np.stack(pairs, 1)], axis=1)
    z = np.maximum(z @ parameters["top.0.weight"].T + parameters["top.0.bias"], 0)
    z = z @ parameters["top.2.weight"].T + parameters["top.2.bias"]
    np.testing.assert_allclose(forward_reference(bundle, batch).numpy(), z[:, 0], rtol=1e-9)


@pytest.mark.parametrize("backend", backends.names())
def test_every_backend_holds_the_same_model(backend):
    available(backend)
    batch = make_batch(TINY, 8, 0)
    outputs = []
    for name in ("bag", backend):
        bundle = build_model(TINY, name, seed=3)
        outputs.append(make_step(bundle)(bundle.prepare(batch)))
    torch.testing.assert_close(outputs[0], outputs[1])


@pytest.mark.parametrize("backend", backends.names())
def test_training_lowers_the_loss_and_the_check_leaves_no_trace(backend):
    available(backend, phase="train_step")
    bundle = build_model(TINY, backend, phase="train_step", learning_rate=1.0)
    batch = make_batch(TINY, 32, 0)
    before = [p.detach().clone() for p in bundle.model.parameters()]
    assert check(bundle, batch).ok
    for old, new in zip(before, bundle.model.parameters(), strict=True):
        assert torch.equal(old, new)
    step, inputs = make_step(bundle), bundle.prepare(batch)
    losses = [float(step(inputs)) for _ in range(20)]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_lower_precision_stays_within_its_tolerance(dtype):
    bundle = build_model(TINY, dtype=dtype)
    found = check(bundle, make_batch(TINY, 32, 0))
    assert found.ok
    assert found.max_error > 1e-5


def corrupt_lookup(inputs):
    bags = inputs.lookups[0]
    wrong = bags.indices.clone()
    wrong[0] = (wrong[0] + 1) % 1000
    return inputs._replace(lookups=(bags._replace(indices=wrong), *inputs.lookups[1:]))


@pytest.mark.parametrize("phase", ["forward", "train_step"])
def test_one_wrong_lookup_is_caught(phase):
    bundle = build_model(TINY, phase=phase)
    step = make_step(bundle)
    found = check(bundle, make_batch(TINY, 32, 0), lambda inputs: step(corrupt_lookup(inputs)))
    assert not found.ok
    assert "logits" in found.what or "rows" in found.what


def test_a_step_that_does_not_train_or_gives_nan_is_caught():
    bundle = build_model(TINY, phase="train_step")
    forward = make_step(bundle, "forward")
    assert not check(bundle, make_batch(TINY, 32, 0), forward).ok
    bundle = build_model(TINY)
    found = check(bundle, make_batch(TINY, 32, 0), lambda inputs: torch.full((32,), float("nan")))
    assert not found.ok
    assert found.ratio == float("inf")


def test_tracing_names_the_stages_and_is_off_by_default():
    bundle = build_model(TINY, phase="train_step")
    step, inputs = make_step(bundle), bundle.prepare(make_batch(TINY, 8, 0))
    assert bundle.model.annotate is layers.silent
    layers.set_tracing(bundle.model, True)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        step(inputs)
    seen = {event.name for event in profile.events()}
    assert {"embedding", "bottom_mlp", "interaction", "top_mlp", "loss", "backward", "optimizer"} <= seen
    layers.set_tracing(bundle.model, False)
    assert bundle.model.annotate is layers.silent


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"backend": "bagg"}, "did you mean 'bag'"),
        ({"dtype": "float8"}, "dtype = 'float8'"),
        ({"dtype": "float16", "phase": "train_step"}, "loss scaling"),
        ({"phase": "test"}, "phase = 'test'"),
        ({"device": "tpu"}, "device 'tpu' is not known"),
        ({"phase": "train_step", "optimizer": "rowwise_adagrad"}, "by sgd alone"),
    ],
)
def test_what_cannot_be_built_says_why(fields, message):
    with pytest.raises(SpecError, match=message):
        build_model(TINY, **fields)


def test_models_that_make_no_sense_say_why():
    with pytest.raises(SpecError, match="top_mlp"):
        build_model(msgspec.structs.replace(TINY, top_mlp=()))
    with pytest.raises(SpecError, match="a pair to interact"):
        build_model(msgspec.structs.replace(TINY, tables=TINY.tables[:1], num_dense=0, bottom_mlp=()))
    weighted_mean = msgspec.structs.replace(TINY.tables[0], weighted=True, pooling="mean")
    with pytest.raises(SpecError, match="only pooling = 'sum' takes weights"):
        build_model(msgspec.structs.replace(TINY, tables=(weighted_mean,)))
    with pytest.raises(SpecError, match="build the model with phase"):
        make_step(build_model(TINY), "train_step")


@pytest.mark.fbgemm
def test_row_wise_adagrad_is_fused_and_right():
    available("tbe")
    bundle = build_model(TINY, "tbe", phase="train_step", optimizer="rowwise_adagrad")
    assert bundle.model.embedding.fused_optimizer
    assert check(bundle, make_batch(TINY, 32, 0)).ok
    with pytest.raises(SpecError, match="did you mean 'rowwise_adagrad'"):
        build_model(TINY, "tbe", phase="train_step", optimizer="rowwise_adagra")


@pytest.mark.fbgemm
def test_fbgemm_refuses_a_dim_it_has_no_kernel_for():
    available("tbe")
    with pytest.raises(SpecError, match="multiple of 4"):
        build_model(hashed_poly2(), "tbe")


def test_counted_touches_fit_the_work():
    batches = [make_batch(TINY, 8, 0, i) for i in range(2)]
    work = models.count_work(TINY, 8, "forward", touch(TINY, batches))
    assert work.total("bytes_compulsory") == sum(s.bytes_compulsory for s in work.stages.values())


@pytest.mark.parametrize("backend", backends.names())
def test_availability_is_a_reason_or_none_and_starts_no_cuda(backend):
    for device in ("cpu", "cuda", "tpu"):
        reason = backends.load(backend).available(device, "forward")
        assert reason is None or len(reason) > 10
    assert backends.load(backend).available("tpu", "forward")
    assert not torch.cuda.is_initialized()


def interaction_flops(spec):
    return models.count_work(spec, 1, "forward", expected_touch(spec, 1)).stages["interaction"].flops


def test_interaction_flops_by_hand():
    # tiny: F = 5 vectors of 8 with the bottom output, so d = 7 factors and 10 pairs; n = 40 (36 with raw dense).
    by_hand = {
        "dcn": [2 * 40 * 3, 2 * 36 * 3, 2 * 40 * 3],
        "dcnv2": [2 * 40 * 40 * 3, 2 * 36 * 36 * 3, 2 * 2 * 40 * 3 * 3],
        "fm": [3 * 5 * 7 + 3 * 7, 2 * 5 * 5 * 7],
        "fm_mlp": [2 * 4 * 4 * 8],
        "mf": [2 * 7],
        "poly2": [2 * 10 * 7 * 7, 4],
    }
    for variant, flops in by_hand.items():
        assert [interaction_flops(s) for s in specs_of(variant)] == flops, variant


@pytest.mark.parametrize(
    ("variant", "form", "forward", "backward"),
    [
        # d = 7 factors of F = 5 vectors (mf: 2); docs/method/work.md says which operations these are.
        ("mf", 0, 2 * 7, 2 * 7),
        ("fm", 0, 3 * 5 * 7 + 3 * 7, 3 * 5 * 7 + 3 * 7),
        ("deepfm", 0, 3 * 5 * 7 + 3 * 7, 3 * 5 * 7 + 3 * 7),
        # Two more products: each operand of the pairs', or vectors and weights of the blocks'.
        ("fm", 1, 2 * 5 * 5 * 7, 2 * 2 * 5 * 5 * 7),
        ("poly2", 0, 2 * 10 * 7 * 7, 2 * 2 * 10 * 7 * 7),
        ("poly2", 1, 4, 0),
    ],
)
def test_only_terms_with_weights_have_a_weight_gradient(variant, form, forward, backward):
    spec = specs_of(variant)[form]
    stages = [
        models.count_work(spec, 3, phase, expected_touch(spec, 3)).stages["interaction"]
        for phase in ("forward", "train_step")
    ]
    assert [s.flops for s in stages] == [3 * forward, 3 * (forward + backward)]


def test_bytes_of_a_term_without_weights_by_hand():
    """Hashed pairs of 3 samples: 4 pooled weights read, a logit written, beside w_0; the same again backward."""
    spec = hashed_poly2()
    stage = models.count_work(spec, 3, "train_step", expected_touch(spec, 3)).stages["interaction"]
    assert stage.bytes_algorithmic == stage.bytes_compulsory == 2 * (1 + 3 * 5) * 4


def logits_and_rows(spec, batch):
    """What the step gives, and pooled rows (B, F, D) in float64, without a bottom MLP."""
    bundle = build_model(spec)
    inputs = bundle.prepare(batch)
    logits = make_step(bundle)(inputs).double().numpy()
    pooled = bundle.model.embedding(inputs.lookups).detach().double().numpy()
    return bundle, logits, pooled.reshape(pooled.shape[0], len(spec.tables), -1)


def without_dense(variant, **changes):
    return msgspec.structs.replace(TINY, variant=variant, num_dense=0, bottom_mlp=(), **changes)


@pytest.mark.parametrize("form", ["pairwise", "square_of_sum"])
def test_a_factorization_machine_is_its_definition(form):
    spec = without_dense("fm", top_mlp=(), form=form)
    _, logits, rows = logits_and_rows(spec, make_batch(spec, 8, 0))
    v = rows[:, :, 1:]
    pairs_sum = sum((v[:, i] * v[:, j]).sum(1) for i in range(4) for j in range(i))
    np.testing.assert_allclose(logits, rows[:, :, 0].sum(1) + pairs_sum, rtol=1e-5, atol=1e-6)


WRONG_SUMS = {
    "SquareOfSum": lambda self, v: (v.sum(1).square() - v.square().sum(1)).sum(1),
    "PairwiseProducts": lambda self, v: self.dots(None, v.flatten(1))[:, 1:].sum(1),
    "InnerProduct": lambda self, v: 2 * (v[:, 0] * v[:, 1]).sum(1),
}


@pytest.mark.parametrize(
    ("spec", "module"),
    [
        (without_dense("fm", top_mlp=()), "SquareOfSum"),
        (without_dense("fm", top_mlp=(), form="pairwise"), "PairwiseProducts"),
        (without_dense("deepfm"), "SquareOfSum"),
        (without_dense("mf", top_mlp=(), tables=TINY.tables[:2]), "InnerProduct"),
    ],
    ids=["square of sum", "pairwise", "deepfm", "mf"],
)
def test_a_sum_over_pairs_that_is_not_its_definition_is_caught(spec, module, monkeypatch):
    """Wrong in the module itself, so that its float64 copy is wrong in the same way."""
    batch = make_batch(spec, 32, 0)
    assert check(build_model(spec), batch).ok
    monkeypatch.setattr(getattr(factorization, module), "second_order", WRONG_SUMS[module])
    found = check(build_model(spec), batch)
    assert not found.ok
    assert found.what == "logits"


def test_a_batch_too_large_for_the_definition_is_compared_in_its_first_samples(monkeypatch):
    monkeypatch.setattr(reference, "PAIR_PRODUCTS", 1)
    spec = without_dense("fm", top_mlp=())
    assert check(build_model(spec), make_batch(spec, 32, 0)).ok
    monkeypatch.setattr(factorization.SquareOfSum, "second_order", WRONG_SUMS["SquareOfSum"])
    assert not check(build_model(spec), make_batch(spec, 32, 0)).ok


def test_poly2_blocks_are_their_definition():
    spec = without_dense("poly2", top_mlp=())
    bundle, logits, rows = logits_and_rows(spec, make_batch(spec, 8, 0))
    weight, v = bundle.model.interaction.weight.detach().double().numpy(), rows[:, :, 1:]
    every = [(i, j) for i in range(4) for j in range(i + 1, 4)]
    second = sum(np.einsum("bk,kl,bl->b", v[:, i], weight[p], v[:, j]) for p, (i, j) in enumerate(every))
    np.testing.assert_allclose(logits, rows[:, :, 0].sum(1) + second, rtol=1e-5, atol=1e-6)


def test_cross_layers_are_their_definitions():
    for spec in (*specs_of("dcn")[1:2], *specs_of("dcnv2")[1:]):
        bundle, x0 = build_model(spec), torch.randn(3, 36 if not spec.bottom_mlp else 40)
        x = x0
        for layer in bundle.model.interaction.layers:
            if spec.variant == "dcn":
                x = x0 * (x @ layer.weight.weight[0])[:, None] + layer.bias + x
            elif spec.cross_rank:
                low, high = layer.product
                x = x0 * (x @ low.weight.T @ high.weight.T + high.bias) + x
            else:
                x = x0 * (x @ layer.product.weight.T + layer.product.bias) + x
        found = bundle.model.interaction(None, x0)
        torch.testing.assert_close(found[:, -x0.shape[1] :], x)


def test_hashed_pairs_are_looked_up_for_the_values_of_the_batch():
    spec = hashed_poly2()
    batch = make_batch(spec, 16, 0)
    values = np.stack([batch.table(t).indices for t in range(3)], axis=1)
    np.testing.assert_array_equal(batch.table(3).indices.reshape(16, 3), pairs.hashed_pairs(values, 97))
    same = pairs.hashed_pairs(np.array([[4, 9, 4], [4, 9, 5]]), 2**40)
    assert same[0, 0] == same[1, 0]
    assert np.unique(same).size == 5


def test_hashed_pairs_spread_evenly():
    values = np.random.default_rng(0).integers(0, 10**6, (20_000, 5))
    counts = np.bincount(pairs.hashed_pairs(values, 1000).reshape(-1), minlength=1000)
    assert stats.chisquare(counts).pvalue > 0.001


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (without_dense("mf", top_mlp=()), "exactly 2"),
        (without_dense("fm"), r"top_mlp = \[16, 1\].*none: variant 'fm'"),
        (without_dense("fm", top_mlp=(), form="block"), "form = 'block'.*square_of_sum"),
        (msgspec.structs.replace(TINY, variant="fm", top_mlp=(), bottom_mlp=()), "embedding space"),
        (msgspec.structs.replace(TINY, variant="fm_mlp"), "takes dense features as they are"),
        (msgspec.structs.replace(TINY, variant="dcn", cross_rank=2), "see 'dcnv2'"),
        (msgspec.structs.replace(TINY, variant="dcnv2", top_mlp=()), "top_mlp"),
        (msgspec.structs.replace(hashed_poly2(), tables=hashed_poly2(4).tables[1:]), "3 for the table of pairs"),
        (without_dense("deepfm", tables=TINY.tables[:1]), "a pair to interact"),
    ],
)
def test_variants_say_what_does_not_fit(spec, message):
    with pytest.raises(SpecError, match=message):
        models.count_work(spec, 4, "forward", expected_touch(spec, 4))


def test_parameters_grow_with_the_square_of_features_for_poly2_and_linearly_for_fm():
    def dense_and_rows(variant, n):
        table = TableSpec(name="t", num_rows=100, dim=9)
        spec = ModelSpec(name="m", variant=variant, tables=(table,) * n)
        return models.load(variant).dense_parameters(spec), models.count_parameters(spec)

    assert dense_and_rows("fm", 64) == (1, 64 * 900 + 1)
    assert dense_and_rows("poly2", 64)[0] == 64 * 63 // 2 * 64 + 1


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("spec", all_specs(), ids=label)
def test_every_variant_in_lower_precision(spec, dtype):
    found = check(build_model(spec, dtype=dtype), make_batch(spec, 32, 0))
    assert found.ok, found


def with_rows(row_type, **fields):
    tables = tuple(msgspec.structs.replace(t, row_type=row_type, dim=16, **fields) for t in TINY.tables)
    return ModelSpec(name="m", variant="embedding", tables=tables)


@pytest.mark.fbgemm
@pytest.mark.parametrize("fields", [{}, {"pooling": "mean"}, {"weighted": True}], ids=str)
@pytest.mark.parametrize("row_type", ["float32", "float16", "int8", "int4"])
def test_quantised_rows_are_right_and_within_a_step_of_the_float_tables(row_type, fields):
    available("tbe_int")
    spec = with_rows(row_type, **fields)
    bundle, exact = build_model(spec, "tbe_int"), build_model(with_rows("float32", **fields))
    found = check(bundle, make_batch(spec, 32, 0))
    assert found.ok, found
    # Values are in (-1/16, 1/16); scale and bias are rounded to float16, which adds to half a step of rounding.
    step = {"float32": 0.0, "float16": 2**-15, "int8": 0.125 / 255, "int4": 0.125 / 15}[row_type]
    for t, table in enumerate(spec.tables):
        rows = np.arange(table.num_rows)
        error = np.abs(bundle.model.embedding.take_rows(t, rows) - exact.model.embedding.take_rows(t, rows)).max()
        assert error <= step
        assert error > step / 4 or row_type == "float32"


@pytest.mark.fbgemm
def test_a_wrong_stored_row_is_caught():
    available("tbe_int")
    spec = with_rows("int8")
    bundle, batch = build_model(spec, "tbe_int"), make_batch(spec, 32, 0)
    step = make_step(bundle)
    assert not check(bundle, batch, lambda inputs: step(corrupt_lookup(inputs))).ok


def test_stored_bytes_follow_the_row_type():
    by_hand = {"float32": 64, "float16": 32, "int8": 20, "int4": 12}
    for row_type, row_bytes in by_hand.items():
        spec = with_rows(row_type)
        assert (spec.tables[0].row_bytes, spec.table_bytes) == (row_bytes, 2510 * row_bytes)
        stage = models.count_work(spec, 8, "forward", expected_touch(spec, 8)).stages["embedding"]
        outputs, offsets = 4 * 8 * 64, 4 * 9 * 8
        assert stage.bytes_algorithmic == 8 * 11 * (row_bytes + 8) + outputs + offsets


def test_rows_on_a_gpu_are_counted_with_their_padding():
    by_hand = {("int4", 64): 48, ("int4", 128): 80, ("int8", 64): 80, ("float16", 4): 16, ("float32", 4): 16}
    for (row_type, dim), row_bytes in by_hand.items():
        spec = with_axis(with_rows(row_type), "dim", dim)
        stored = placements.as_stored(spec, "tbe_int", "cuda:0")
        assert (stored.tables[0].row_bytes, stored.table_bytes) == (row_bytes, 2510 * row_bytes)
        work = models.count_work(stored, 8, "forward", expected_touch(stored, 8))
        assert work.row_bytes == row_bytes
        assert work.stages["embedding"].bytes_logical == 8 * 11 * row_bytes


def test_rows_elsewhere_have_no_padding():
    spec = with_rows("int4")
    for backend, device, placement in (
        ("tbe_int", "cpu", "device"),
        ("tbe_int", "cuda", "host"),
        ("tbe", "cuda", "device"),
    ):
        assert placements.as_stored(spec, backend, device, placement) is spec


@pytest.mark.fbgemm
def test_padding_is_fbgemms_own():
    available("tbe_int")
    from fbgemm_gpu.split_table_batched_embeddings_ops_inference import rounded_row_size_in_bytes

    from workloads.tbe_int_module import TYPES

    for row_type in ("float32", "float16", "int8", "int4"):
        for dim in (4, 8, 12, 64, 100, 128):
            spec = with_axis(with_rows(row_type), "dim", dim)
            for device, alignment in (("cpu", 1), ("cuda", 16)):
                found = placements.as_stored(spec, "tbe_int", device).tables[0].row_bytes
                assert found == rounded_row_size_in_bytes(dim, TYPES[row_type], alignment)


@pytest.mark.parametrize("backend", [name for name in backends.names() if name != "tbe_int"])
def test_only_the_int_backend_stores_other_rows(backend):
    available(backend)
    with pytest.raises(SpecError, match=r"row_type = 'int8'.*try 'tbe_int'"):
        build_model(with_rows("int8"), backend)


@pytest.mark.fbgemm
def test_what_fbgemm_does_not_have_on_the_cpu_is_a_reason():
    assert "Adam" in backends.load("tbe").available("cpu", "train_step", "adam")
    assert "Adam" not in (backends.load("tbe").available("cpu", "forward", "adam") or "")
    assert "no backward" in backends.load("tbe_int").available("cpu", "train_step")
    with pytest.raises(SpecError, match="no fused Adam on the CPU"):
        build_model(TINY, "tbe", phase="train_step", optimizer="adam")


@pytest.mark.gpu
@pytest.mark.fbgemm
@pytest.mark.parametrize("optimizer", ["sgd", "rowwise_adagrad", "adam"])
def test_fused_optimizers_on_cuda(optimizer):
    available("tbe", "cuda", "train_step")
    bundle = build_model(TINY, "tbe", device="cuda", phase="train_step", optimizer=optimizer)
    for _ in range(2):
        found = check(bundle, make_batch(TINY, 32, 0))
        assert found.ok, found


@pytest.mark.gpu
@pytest.mark.fbgemm
@pytest.mark.parametrize("row_type", ["float32", "float16", "int8", "int4"])
def test_quantised_rows_on_cuda(row_type):
    available("tbe_int", "cuda")
    spec = with_rows(row_type)
    found = check(build_model(spec, "tbe_int", device="cuda"), make_batch(spec, 32, 0))
    assert found.ok, found


@pytest.mark.gpu
@pytest.mark.parametrize("spec", all_specs(), ids=label)
def test_every_variant_on_cuda(spec):
    available("bag", "cuda", "train_step")
    found = check(build_model(spec, device="cuda", phase="train_step"), make_batch(spec, 32, 0))
    assert found.ok, found


@pytest.mark.parametrize("backend", ["bag", "fused_bag", "tbe"])
def test_a_row_looked_up_very_often_is_checked_for_what_rounding_can_be(backend):
    """Ten thousand equal gradients on three rows: float32 rounds their sum one way, which is not a wrong result."""
    available(backend, phase="train_step")
    table = TableSpec(name="t", num_rows=3, dim=4, pooling_factor=20)
    spec = ModelSpec(name="hot", variant="embedding", tables=(table,))
    bundle = build_model(spec, backend, phase="train_step")
    assert check(bundle, make_batch(spec, 1536, 0)).ok
