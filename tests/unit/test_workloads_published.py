"""Every number of the published models: copied out of their papers and scripts, worked out here by plain arithmetic."""

from itertools import pairwise
from typing import NamedTuple

import pytest

from workloads import presets
from workloads.describe import describe


class Published(NamedTuple):
    """One row of the table: widths from input to output, tables as rows, and what the interaction gives the top MLP."""

    rows: list[int]
    dim: int
    pooling: list[int]
    bottom: list[int]
    top: list[int]
    interaction: str
    batch: int


KAGGLE = [1460, 583, 10131227, 2202608, 305, 24, 12517, 633, 3, 93145, 5683, 8351593, 3194, 27, 14992, 5461306, 10,
          5652, 2173, 4, 7046547, 18, 15, 286181, 105, 142572]  # fmt: skip
TERABYTE = [9980333, 36084, 17217, 7378, 20134, 3, 7112, 1442, 61, 9758201, 1333352, 313829, 10, 2208, 11156, 122, 4,
            970, 14, 9994222, 7267859, 9946608, 415421, 12420, 101, 36]  # fmt: skip
MLPERF = [40000000, 39060, 17295, 7424, 20265, 3, 7122, 1543, 63, 40000000, 3067956, 405282, 10, 2209, 11938, 155, 4,
          976, 14, 40000000, 40000000, 40000000, 590152, 12973, 108, 36]  # fmt: skip
MULTI_HOT = [3, 2, 1, 2, 6, 1, 1, 1, 1, 7, 3, 8, 1, 6, 9, 5, 1, 1, 1, 12, 100, 27, 10, 3, 1, 1]

PUBLISHED = {
    "paper": Published([10**6] * 8, 64, [100] * 8, [512, 512, 64], [1024, 1024, 1024, 1], "dot", 2048),
    "kaggle": Published(KAGGLE, 16, [1] * 26, [13, 512, 256, 64, 16], [512, 256, 1], "dot", 128),
    "terabyte_10m": Published(TERABYTE, 64, [1] * 26, [13, 512, 256, 64], [512, 512, 256, 1], "dot", 2048),
    "mlperf_dlrm_v2": Published(MLPERF, 128, MULTI_HOT, [13, 512, 256, 128], [1024, 1024, 512, 256, 1], "cross", 65536),
    "rmc1_deeprecsys": Published([4 * 10**6] * 8, 32, [80] * 8, [128, 64, 32], [256, 64, 1], "cat", 256),
    "rmc2_deeprecsys": Published([500_000] * 32, 64, [120] * 32, [256, 128, 64], [128, 64, 1], "cat", 256),
    "rmc3_deeprecsys": Published([2 * 10**6] * 10, 32, [20] * 10, [2560, 1024, 256, 32], [512, 256, 1], "cat", 256),
    "tbe_default": Published([100_000] * 32, 128, [20] * 32, [], [], "none", 512),
    "param_dlrm": Published(
        [14_000] * 64, 128, [100] * 64, [2000, 1024, 1024, 128], [4096, 4096, 4096, 1], "dot", 2048
    ),
}


def described(name):
    preset = presets.load_preset(name)
    return describe(preset.spec, preset.batch_size)


def layers(widths):
    """Weights of all layers, and biases."""
    return sum(m * n for m, n in pairwise(widths)), sum(widths[1:])


def top_input(model):
    vectors, all_widths = len(model.rows) + 1, (len(model.rows) + 1) * model.dim
    return {"dot": model.dim + vectors * (vectors - 1) // 2, "cat": all_widths, "cross": all_widths}[model.interaction]


@pytest.mark.parametrize("name", PUBLISHED)
def test_tables_and_lookups(name):
    model, found = PUBLISHED[name], described(name)
    assert found["batch_size"] == model.batch
    assert found["table_rows"] == sum(model.rows)
    assert found["table_bytes"] == sum(model.rows) * model.dim * 4
    assert found["lookups_per_sample"] == sum(model.pooling)
    assert found["gather_bytes_per_sample"] == sum(model.pooling) * model.dim * 4
    assert found["stages"]["embedding"]["flops"] == model.batch * sum(model.pooling) * model.dim
    assert found["stages"]["embedding"]["bytes_logical"] == model.batch * sum(model.pooling) * model.dim * 4
    spec = presets.load_preset(name).spec
    assert [t.num_rows for t in spec.tables] == model.rows
    assert [t.pooling_factor for t in spec.tables] == model.pooling


@pytest.mark.parametrize("name", [n for n in PUBLISHED if PUBLISHED[n].bottom])
def test_networks_parameters_and_flops(name):
    model, found = PUBLISHED[name], described(name)
    spec = presets.load_preset(name).spec
    assert [spec.num_dense, *spec.bottom_mlp] == model.bottom
    assert list(spec.top_mlp) == model.top
    width = top_input(model)
    bottom, top = layers(model.bottom), layers([width, *model.top])
    cross_weights, cross_biases = (3 * 2 * 3456 * 512, 3 * 3456) if model.interaction == "cross" else (0, 0)
    tables = sum(model.rows) * model.dim
    assert found["params"] == tables + sum(bottom) + sum(top) + cross_weights + cross_biases
    assert found["stages"]["bottom_mlp"]["flops"] == model.batch * 2 * bottom[0]
    assert found["stages"]["top_mlp"]["flops"] == model.batch * 2 * top[0]
    vectors = len(model.rows) + 1
    interaction = {"dot": 2 * vectors**2 * model.dim, "cat": 0, "cross": 2 * cross_weights}[model.interaction]
    assert found["stages"]["interaction"]["flops"] == model.batch * interaction
    per_sample = 2 * (bottom[0] + top[0]) + interaction + sum(model.pooling) * model.dim
    assert found["flops_per_sample_forward"] == per_sample


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_key_is_there_and_memory_adds_up(name):
    found = described(name)
    stages = {"embedding", "bottom_mlp", "interaction", "top_mlp"} if PUBLISHED[name].bottom else {"embedding"}
    assert set(found["stages"]) == stages
    for stage in found["stages"].values():
        assert set(stage) == {"flops", "flops_useful", "bytes_logical", "bytes_algorithmic", "bytes_compulsory"}
        assert stage["bytes_compulsory"] > 0
    assert found["memory_needed_bytes"] == sum(found["memory_parts_bytes"].values()) > found["table_bytes"]
    dense = found["params"] - sum(PUBLISHED[name].rows) * PUBLISHED[name].dim
    assert found["memory_parts_bytes"]["dense_parameters"] == 4 * dense


def dense_flops(name):
    found = described(name)
    return found["flops_per_sample_forward"] - found["stages"]["embedding"]["flops"] / found["batch_size"]


def test_numbers_as_the_publications_round_them():
    """What is told in words beside the tables: GB are 1e9 bytes, GiB 2^30."""
    found = {name: described(name) for name in PUBLISHED}
    assert round(found["kaggle"]["table_rows"] / 1e6, 2) == 33.76
    assert round(found["kaggle"]["table_bytes"] / 1e9, 2) == 2.16
    assert round(found["terabyte_10m"]["table_rows"] / 1e6, 1) == 49.1
    assert round(found["terabyte_10m"]["table_bytes"] / 1e9, 1) == 12.6
    mlperf = found["mlperf_dlrm_v2"]
    assert mlperf["table_rows"] == 204_184_588
    assert (round(mlperf["table_bytes"] / 1e9, 2), round(mlperf["table_bytes"] / 2**30, 2)) == (104.54, 97.36)
    assert (mlperf["lookups_per_sample"], mlperf["gather_bytes_per_sample"]) == (214, 109_568)
    assert 27 * 128 == 3456
    assert round(mlperf["flops_per_sample_forward"] / 1e6, 1) == 32.1
    assert round(mlperf["stages"]["interaction"]["flops"] / mlperf["batch_size"] / 1e6, 1) == 21.2
    rmc = [found[f"rmc{n}_deeprecsys"] for n in (1, 2, 3)]
    assert [r["lookups_per_sample"] for r in rmc] == [640, 3840, 200]
    assert [r["gather_bytes_per_sample"] for r in rmc] == [81_920, 983_040, 25_600]
    assert dense_flops("rmc2_deeprecsys") / 983_040 == pytest.approx(0.65, abs=0.01)
    assert dense_flops("rmc3_deeprecsys") / 25_600 == pytest.approx(250, rel=0.01)
    tbe = found["tbe_default"]
    assert round(tbe["table_bytes"] / 1e9, 2) == 1.64
    assert round(tbe["gather_bytes_per_sample"] * tbe["batch_size"] / 1e6) == 168
