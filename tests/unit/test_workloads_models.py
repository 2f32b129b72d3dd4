"""Work against torch's own count and by hand; interaction; steps; tracing; the check that must catch wrong results."""

import msgspec
import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from workloads import backends, layers, models, presets
from workloads.batch import expected_touch, make_batch, touch
from workloads.reference import check, forward_reference
from workloads.spec import ModelSpec, SpecError, TableSpec
from workloads.steps import build_model, make_step
from workloads.work import TableTouch

TINY = presets.load_preset("tiny").spec


def available(name, device="cpu", phase="forward"):
    reason = backends.load(name).available(device, phase)
    if reason:
        pytest.skip(reason)


def variants():
    for interaction in ("dot", "cat"):
        for with_self in (False, True):
            yield msgspec.structs.replace(TINY, interaction=interaction, interaction_self=with_self)


@pytest.mark.parametrize("spec", list(variants()), ids=lambda s: f"{s.interaction}-{s.interaction_self}")
@pytest.mark.parametrize("phase", ["forward", "train_step"])
def test_flops_equal_what_torch_counts(spec, phase):
    bundle = build_model(spec, phase=phase)
    step, inputs = make_step(bundle), bundle.prepare(make_batch(spec, 32, 0))
    with FlopCounterMode(display=False) as counter:
        step(inputs)
    work = models.count_work(spec, 32, phase, expected_touch(spec, 32))
    ours = sum(work.stages[s].flops for s in ("bottom_mlp", "interaction", "top_mlp"))
    assert ours == counter.get_total_flops()


@pytest.mark.parametrize("spec", list(variants()), ids=lambda s: f"{s.interaction}-{s.interaction_self}")
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


def test_dot_work_by_hand():
    # tiny: 4 tables and the bottom output, so F = 5 vectors of 8; 10 pairs.
    stage = models.count_work(TINY, 1, "forward", expected_touch(TINY, 1)).stages["interaction"]
    assert (stage.flops, stage.flops_useful) == (2 * 25 * 8, 2 * 10 * 8)
    assert stage.bytes_compulsory == (5 * 8 + 8 + 10) * 4


@pytest.mark.parametrize("phase", ["forward", "train_step"])
@pytest.mark.parametrize("variant", models.names())
def test_every_variant_counts_bytes_in_order(variant, phase):
    spec = msgspec.structs.replace(TINY, variant=variant)
    work = models.count_work(spec, 8, phase, expected_touch(spec, 8))
    assert work.samples == 8
    assert work.lookups == 8 * 11
    assert work.row_bytes == 32
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
    available(backend)
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
        ({"phase": "train_step", "optimizer": "rowwise_adagrad"}, "trains its tables with 'sgd' only"),
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


def test_counted_touches_fit_the_work():
    batches = [make_batch(TINY, 8, 0, i) for i in range(2)]
    work = models.count_work(TINY, 8, "forward", touch(TINY, batches))
    assert work.total("bytes_compulsory") == sum(s.bytes_compulsory for s in work.stages.values())


@pytest.mark.parametrize("backend", backends.names())
def test_availability_is_a_reason_or_none_and_starts_no_cuda(backend):
    for device in ("cpu", "cuda", "tpu"):
        reason = backends.load(backend).available(device, "forward")
        assert reason is None or len(reason) > 10
    assert "not known" in backends.load(backend).available("tpu", "forward") or backend == "tbe"
    assert not torch.cuda.is_initialized()
