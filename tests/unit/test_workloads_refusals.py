"""What a plan foresees is what a build refuses: one place per rule, for every backend."""

import subprocess
import sys

import msgspec
import pytest

from tests.model_specs import all_specs, label
from workloads import backends, presets
from workloads.describe import memory_needed
from workloads.spec import SpecError
from workloads.steps import build_model

TINY = presets.load_preset("tiny").spec
TABLES = {
    "plain": {},
    "dim 6": {"dim": 6},
    "dim 3": {"dim": 3},
    "float16 rows": {"row_type": "float16"},
    "int8 rows": {"row_type": "int8"},
    "int4 rows": {"row_type": "int4"},
    "weighted": {"weighted": True},
    "weighted mean": {"weighted": True, "pooling": "mean"},
}


def spec_with(fields):
    tables = tuple(msgspec.structs.replace(t, **fields) for t in TINY.tables)
    return msgspec.structs.replace(TINY, variant="dlrm_cat", tables=tables)


@pytest.mark.parametrize("tables", TABLES)
@pytest.mark.parametrize("optimizer", backends.OPTIMIZERS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("phase", ["forward", "train_step"])
@pytest.mark.parametrize("backend", backends.names())
def test_a_build_fails_where_and_only_where_it_was_foreseen(backend, phase, dtype, optimizer, tables):
    spec = spec_with(TABLES[tables])
    how = {"device": "cpu", "dtype": dtype, "phase": phase, "optimizer": optimizer}
    foreseen = backends.refusal(backend, spec.tables, **how)
    memory_needed(spec, 4, phase, backend, dtype, optimizer=optimizer)
    if foreseen is None:
        build_model(spec, backend, num_threads=1, **how)
        return
    with pytest.raises(SpecError) as caught:
        build_model(spec, backend, **how)
    assert str(caught.value) == str(foreseen)


@pytest.mark.parametrize(
    ("backend", "tables", "how", "words"),
    [
        ("bag", {}, {"dtype": "float16", "phase": "train_step"}, "loss scaling"),
        ("fused_bag", {"row_type": "int4"}, {}, "try 'tbe_int'"),
        ("bag", {"weighted": True, "pooling": "mean"}, {}, "only pooling = 'sum'"),
        ("bag", {}, {"phase": "train_step", "optimizer": "adam"}, "sgd alone"),
        ("tbe", {"dim": 6}, {}, "multiple of 4"),
        ("tbe_int", {"dim": 6}, {}, "multiple of 4"),
        ("tbe", {}, {"phase": "train_step", "optimizer": "adam"}, "no fused Adam on the CPU"),
        ("tbe_int", {}, {"phase": "train_step"}, "no backward"),
        ("bag", {}, {"device": "cuda:0"}, "built without CUDA"),
    ],
)
def test_every_rule_is_foreseen_with_its_reason(backend, tables, how, words):
    usual = {"device": "cpu", "dtype": "float32", "phase": "forward", "optimizer": "sgd"}
    if backend.startswith("tbe") and "fbgemm" in (backends.load(backend).available("cpu", "forward") or ""):
        pytest.skip("fbgemm-gpu is not installed")
    if "CUDA" in words and not backends.torch_release().endswith("+cpu"):
        pytest.skip("this torch is built with CUDA")
    foreseen = backends.refusal(backend, spec_with(tables).tables, **(usual | how))
    assert words in str(foreseen)


@pytest.mark.parametrize("spec", all_specs(), ids=label)
def test_what_a_variant_can_build_is_not_refused_by_the_estimate(spec):
    assert memory_needed(spec, 4, "train_step", "bag", "float32")["tables"] == spec.table_bytes


def test_a_variant_that_cannot_be_built_is_refused_by_the_estimate():
    with pytest.raises(SpecError, match="top_mlp"):
        memory_needed(msgspec.structs.replace(TINY, variant="fm"), 4, "forward", "bag", "float32")


def test_foreseeing_imports_no_torch():
    code = (
        "import sys; from workloads import backends, presets; t = presets.load_preset('tiny').spec.tables;"
        "[backends.refusal(n, t, device='cpu', dtype='float32', phase='forward', optimizer='sgd')"
        " for n in backends.names()]; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
