"""Presets: the published numbers, the file format and its errors; catalogues and what listing may import."""

import subprocess
import sys

import msgspec
import numpy as np
import pytest

from workloads import backends, models, presets
from workloads.batch import make_batch
from workloads.describe import describe, memory_needed
from workloads.spec import SpecError, with_axes

TABLE_NUMBERS = {
    # rows, bytes, lookups per sample, gathered bytes per sample, batch size
    "paper": (8_000_000, 2_048_000_000, 800, 204_800, 2048),
    "kaggle": (33_762_577, 2_160_804_928, 26, 1664, 128),
    "terabyte_10m": (49_126_297, 12_576_332_032, 26, 6656, 2048),
    "rmc1_deeprecsys": (32_000_000, 4_096_000_000, 640, 81_920, 256),
    "rmc2_deeprecsys": (16_000_000, 4_096_000_000, 3840, 983_040, 256),
    "rmc3_deeprecsys": (20_000_000, 2_560_000_000, 200, 25_600, 256),
    "tbe_default": (3_200_000, 1_638_400_000, 640, 327_680, 512),
    "param_dlrm": (896_000, 458_752_000, 6400, 3_276_800, 2048),
    "mlperf_dlrm_v2": (204_184_588, 104_542_509_056, 214, 109_568, 65_536),
    "production_2022": (191_723_552, 49_081_229_312, pytest.approx(10_716.8), pytest.approx(10_716.8 * 256), 131_072),
    "structure": (400, 25_600, 4, 256, 128),
    "structure_hashed": (6400, 25_600, 10, 40, 128),
    "tiny": (2510, 80_320, 11, 352, 32),
}


@pytest.mark.parametrize("name", presets.names())
def test_describe_reproduces_the_published_numbers(name):
    preset = presets.load_preset(name)
    found = describe(preset.spec, preset.batch_size)
    keys = ("table_rows", "table_bytes", "lookups_per_sample", "gather_bytes_per_sample")
    assert (*(found[k] for k in keys), preset.batch_size) == TABLE_NUMBERS[name]
    assert found["memory_parts_bytes"]["tables"] == found["table_bytes"]
    logical = found["gather_bytes_per_sample"] * preset.batch_size
    assert found["stages"]["embedding"]["bytes_logical"] == pytest.approx(logical, rel=1e-9)
    assert preset.source


@pytest.mark.parametrize(("name", "low", "high"), [("rmc2_deeprecsys", 0.6, 0.7), ("rmc3_deeprecsys", 245, 255)])
def test_dense_intensity_of_the_deeprecsys_models(name, low, high):
    preset = presets.load_preset(name)
    found = describe(preset.spec, 1)
    dense = found["flops_per_sample_forward"] - found["stages"]["embedding"]["flops"]
    assert low < dense / found["gather_bytes_per_sample"] < high


def test_production_reuse_has_the_published_shares():
    """One table at its own size: the same shares as over all 788, which are equal."""
    spec = presets.load_preset("production_2022").spec
    spec = msgspec.structs.replace(spec, tables=spec.tables[:1])
    counts = np.unique(make_batch(spec, 131_072, 0).indices, return_counts=True)[1]
    assert counts.sum() / counts.size == pytest.approx(12.7, rel=0.02)
    published_rows = {(1, 1): 0.34, (2, 2): 0.14, (3, 4): 0.15, (5, 8): 0.14, (9, 16): 0.11}
    for (low, high), share in published_rows.items():
        assert np.mean((low <= counts) & (counts <= high)) == pytest.approx(share, abs=0.01)
    published_lookups = {(1, 1): 0.027, (9, 32): 0.23, (513, 2**40): 0.34, (32_769, 2**40): 0.076}
    for (low, high), share in published_lookups.items():
        taken = counts[(low <= counts) & (counts <= high)].sum() / counts.sum()
        assert taken == pytest.approx(share, abs=0.01)


def test_mlperf_flops_are_the_published_ones():
    found = describe(presets.load_preset("mlperf_dlrm_v2").spec, 1)
    assert found["flops_per_sample_forward"] == pytest.approx(32.1e6, rel=0.01)
    assert found["stages"]["interaction"]["flops"] == 3 * 2 * 2 * 3456 * 512


def test_describe_says_where_less_reuse_is_delivered_than_asked():
    """20 lookups a sample and table: 10,240 in a batch of 512."""
    preset = presets.load_preset("tbe_default")
    asked = {"indices": "temporal", "reuse": 0.9, "working_set": 65_536}
    found = describe(with_axes(preset.spec, asked), 512)
    assert (found["reuse_asked"], found["reuse_delivered"]) == (pytest.approx(0.9), pytest.approx(0.0703, abs=1e-4))
    assert "larger batch" in found["reuse_note"]
    assert "reuse_note" not in describe(with_axes(preset.spec, asked | {"working_set": 64}), 512)
    assert "reuse_asked" not in describe(preset.spec, 512)


def test_paper_parameters_by_hand():
    dense = (512 * 512 + 512) + (512 * 64 + 64) + (100 * 1024 + 1024) + 2 * (1024 * 1024 + 1024) + 1024 + 1
    assert describe(presets.load_preset("paper").spec, 1)["params"] == 8 * 1_000_000 * 64 + dense


def test_memory_grows_with_training_and_the_kind_of_gradients():
    preset = presets.load_preset("paper")
    parts = {b: memory_needed(preset.spec, 2048, "train_step", b, "float32") for b in ("bag", "tbe", "torchrec")}
    assert parts["bag"]["table_gradients"] == 2048 * 800 * (256 + 8)
    assert parts["tbe"]["table_gradients"] == 0
    assert parts["torchrec"]["table_gradients"] == preset.spec.table_bytes == 8_000_000 * 256
    assert memory_needed(preset.spec, 2048, "forward", "torchrec", "float32")["table_gradients"] == 0
    adagrad = memory_needed(preset.spec, 2048, "train_step", "tbe", "float32", optimizer="rowwise_adagrad")
    assert adagrad["optimizer_state"] == 8_000_000 * 4
    assert memory_needed(preset.spec, 2048, "forward", "bag", "float32")["dense_gradients"] == 0


GOOD = """
batch_size = 4
variant = "embedding"
[[tables]]
num_rows = [10, 20]
dim = 4
pooling_factor = [1, 2]
"""


def write(tmp_path, text):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return str(path)


def test_a_file_of_the_users_own(tmp_path):
    preset = presets.load_preset(write(tmp_path, GOOD))
    assert preset.spec.name == "mine"
    assert [(t.name, t.num_rows, t.pooling_factor) for t in preset.spec.tables] == [("t0", 10, 1.0), ("t1", 20, 2.0)]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("dim = 4", "dim = = 4", r"mine.toml: line 6 = 'dim = = 4'.*TOML"),
        ("dim = 4", "dimm = 4", r"tables\[0\].key = 'dimm'.*did you mean 'dim'"),
        ("dim = 4", "dim = 0", r"tables\[0\].dim = 0 .*from 1 to 65536"),
        ("dim = 4", "dim = 'x'", r"tables\[0\].dim = 'x'.*Expected `int`"),
        ("dim = 4", "", r"tables\[0\].dim = None.*required"),
        ("dim = 4", "dim = 4\nindices = 'zpf'", r"tables\[0\].indices = 'zpf'.*did you mean 'zipf'"),
        ("dim = 4", "dim = 4\ncount = 3", r"tables\[0\].num_rows = \[10, 20\].*3 values.*found 2"),
        ("dim = 4", "dim = 4\ncount = 0", r"tables\[0\].count = 0"),
        ("batch_size = 4", "batchsize = 4", r"key = 'batchsize'.*did you mean 'batch_size'"),
        ("batch_size = 4", "batch_size = 0", r"batch_size = 0"),
        ("batch_size = 4", "batch_size = 'x'", r"batch_size = 'x'.*Expected `int`"),
        ('"embedding"', '"embeding"', r"variant = 'embeding'.*did you mean 'embedding'"),
        ("[[tables]]", "[tables]", r"tables = .*array of tables"),
    ],
)
def test_errors_name_file_field_value_and_what_is_allowed(tmp_path, old, new, message):
    with pytest.raises(SpecError, match=message) as caught:
        presets.load_preset(write(tmp_path, GOOD.replace(old, new)))
    assert "mine.toml: " in str(caught.value)


def test_a_missing_file_and_an_unknown_name():
    with pytest.raises(SpecError, match=r"nowhere.toml: .*No such file"):
        presets.load_preset("nowhere.toml")
    with pytest.raises(SpecError, match=r"did you mean 'kaggle'.*known: .*paper"):
        presets.load_preset("kagle")


def test_a_file_that_is_not_text(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(SpecError, match="UTF-8"):
        presets.load_preset(str(path))


@pytest.mark.parametrize("family", [models, backends])
def test_every_family_loads_its_names_and_refuses_others(family):
    assert family.names()
    for name in family.names():
        assert callable(family.load(name).build)
    with pytest.raises(SpecError, match="known: "):
        family.load("nothing")


def test_listing_and_describing_import_no_torch():
    code = (
        "import sys; from workloads import presets, models, backends, indices, lengths;"
        "from workloads.describe import describe; p = presets.load_preset('paper');"
        "[f.names() for f in (presets, models, backends, indices, lengths)]; describe(p.spec, p.batch_size);"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
