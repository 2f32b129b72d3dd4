"""Components by hand-made traces with hand-computed answers, by kernels of other people's models, by real traces."""

from pathlib import Path

import numpy as np
import pytest

from profiles.trace.components import component_times, components, coverage_frac
from profiles.trace.errors import TraceError
from profiles.trace.gpu import gpu_work
from profiles.trace.reader import read_trace
from profiles.trace.rules import OTHER, Rules, load_rules, parse_rules
from profiles.trace.stacks import nearest
from tests.traces import call, event, mark, trace_of, work

TRACES = Path(__file__).parents[3] / "shared" / "traces" / "open"
NODE = "autograd::engine::evaluate_function: "


def node(name, start, dur, sequence=None, tid=2):
    return event(NODE + name, start, dur, tid=tid, sequence=sequence, forward_thread=1)


def found_in(events, rules=None):
    trace = trace_of(events)
    return components(gpu_work(trace), load_rules() if rules is None else rules)


def by_kernel(found):
    trace = found.work.trace
    return {
        trace.text(row): (found.names[code], bool(backward))
        for row, code, backward in zip(found.work.rows.tolist(), found.gpu.tolist(), found.gpu_backward, strict=True)
    }


STEP = [
    mark("ProfilerStep#3", 0, 1000),
    mark("## forward ##", 0, 300),
    mark("embedding", 0, 50),
    event("aten::embedding_bag", 2, 20, sequence=5, forward_thread=0),
    call(4, 2, 1),
    mark("inner", 30, 10),
    call(32, 2, 2),
    mark("top_mlp", 100, 50),
    event("aten::linear", 101, 20, sequence=6, forward_thread=0),
    event("aten::addmm", 103, 10, sequence=6, forward_thread=0),
    call(105, 2, 3),
    node("AddmmBackward0", 400, 50, sequence=6),
    event("AddmmBackward0", 405, 30, tid=2, sequence=6, forward_thread=1),
    event("aten::mm", 406, 20, tid=2),
    call(408, 2, 4, tid=2),
    node("torch::autograd::AccumulateGrad", 450, 10),
    call(452, 2, 5, tid=2),
    node("EmbeddingBagBackward0", 470, 50, sequence=5),
    call(480, 2, 6, tid=2),
    mark("Optimizer.step#SGD.step", 700, 100),
    event("aten::add_", 710, 10),
    call(712, 2, 7),
    work("gather", 10, 100),
    work("scale", 120, 10),
    work("sgemm", 140, 40),
    work("sgemm_bw", 500, 60),
    work("store", 560, 10),
    work("scatter", 570, 200),
    work("update", 800, 30),
]
for number, name in enumerate(["gather", "scale", "sgemm", "sgemm_bw", "store", "scatter", "update"], 1):
    next(e for e in STEP if e["name"] == name)["args"]["correlation"] = number


def test_an_update_of_tables_is_the_embeddings_backward_whatever_optimizer_makes_it():
    """The dense update beside it stays the optimizer's."""
    events = [
        mark("embedding_update", 0, 50),
        mark("Optimizer.step#SGD.step", 5, 40),
        event("aten::add_", 10, 20),
        call(12, 1, 1),
        work("scatter", 100, 10, correlation=1),
        mark("optimizer", 200, 50),
        mark("Optimizer.step#SGD.step", 205, 40),
        event("aten::add_", 210, 25),
        call(212, 1, 2),
        work("dense", 300, 10, correlation=2),
    ]
    found = found_in(events)
    assert by_kernel(found) == {"scatter": ("embedding", True), "dense": ("optimizer", False)}
    assert {(t.component, t.phase): t.cpu_ns for t in component_times(found)} == {
        ("embedding", "backward"): 20,
        ("optimizer", ""): 25,
    }


def test_annotations_backward_through_sequence_numbers_and_the_optimizer():
    """The innermost annotation a rule knows decides; backward work on another thread follows its forward op."""
    assert by_kernel(found_in(STEP)) == {
        "gather": ("embedding", False),
        "scale": ("embedding", False),
        "sgemm": ("top_mlp", False),
        "sgemm_bw": ("top_mlp", True),
        "store": ("top_mlp", True),
        "scatter": ("embedding", True),
        "update": ("optimizer", False),
    }


def test_times_are_sums_unions_and_own_time():
    times = {(t.component, t.phase): t for t in component_times(found_in(STEP))}
    assert set(times) == {
        ("embedding", "forward"),
        ("embedding", "backward"),
        ("top_mlp", "forward"),
        ("top_mlp", "backward"),
        ("optimizer", ""),
    }
    forward = times["embedding", "forward"]
    assert (forward.gpu_sum_ns, forward.gpu_wall_ns, forward.cpu_ns, forward.gpu_events) == (110, 110, 20, 2)
    backward = times["top_mlp", "backward"]
    assert (backward.gpu_sum_ns, backward.gpu_wall_ns, backward.cpu_ns) == (70, 70, 60)
    assert times["top_mlp", "forward"].cpu_ns == 20
    assert coverage_frac(times.values()) == 1.0


def test_a_union_counts_parallel_streams_once():
    events = [mark("embedding", 0, 50), call(1, 1, 1), call(3, 1, 2)]
    events += [work("a", 10, 100, correlation=1), work("b", 60, 100, correlation=2, stream=9)]
    (only,) = component_times(found_in(events))
    assert (only.gpu_sum_ns, only.gpu_wall_ns) == (200, 150)


def test_a_number_used_again_means_the_latest_earlier_op_and_annotations_of_another_thread_do_not_count():
    events = [
        mark("embedding", 0, 20),
        event("aten::embedding_bag", 1, 10, sequence=5, forward_thread=0),
        mark("bottom_mlp", 100, 20),
        event("aten::addmm", 101, 10, sequence=5, forward_thread=0),
        mark("top_mlp", 200, 200),
        node("XBackward0", 250, 10, sequence=5),
        call(252, 1, 1, tid=2),
        work("k", 300, 10, correlation=1),
    ]
    assert by_kernel(found_in(events)) == {"k": ("bottom_mlp", True)}


def test_an_annotation_inside_the_backward_node_is_closer_than_the_forward_op():
    events = [
        mark("embedding", 0, 20),
        event("aten::embedding_bag", 1, 10, sequence=5, forward_thread=0),
        node("XBackward0", 250, 50, sequence=5),
        mark("## alltoall_bwd_single ##", 255, 20, tid=2),
        call(260, 1, 1, tid=2),
        call(290, 1, 2, tid=2),
        work("copy", 300, 10, correlation=1),
        work("rest", 310, 10, correlation=2),
    ]
    assert by_kernel(found_in(events)) == {"copy": ("comms", True), "rest": ("embedding", True)}


def test_a_users_own_annotations_are_components_and_whole_steps_are_not():
    events = [
        mark("my training", 0, 900),
        mark("user tower", 10, 100),
        mark("expert 3", 20, 50),
        call(30, 1, 1),
        call(80, 1, 2),
        mark("embedding", 200, 100),
        call(250, 1, 3),
        call(400, 1, 4),
        *(work(name, 500 + 10 * n, 5, correlation=n) for n, name in enumerate("abcd", 1)),
    ]
    found = by_kernel(found_in(events))
    assert found == {
        "a": ("expert 3", False),
        "b": ("user tower", False),
        "c": ("embedding", False),
        "d": (OTHER, False),
    }


@pytest.mark.parametrize(
    ("name", "component"),
    [
        ("enumerate(DataLoader)#_MultiProcessingDataLoaderIter.__next__", "input"),
        ("## copy_batch_to_gpu ##", "input"),
        ("## load_batch ##", "input"),
        ("## start_sparse_data_dist ##", "input_dist"),
        ("## wait_sparse_data_dist ##", "input_dist"),
        ("## all2all_data:kjt splits ##", "input_dist"),
        ("## KJTListSplitsAwaitable wait() ##", "input_dist"),
    ],
)
def test_loading_a_batch_is_not_sending_its_ids_to_their_tables(name, component):
    events = [mark(name, 0, 50), event("aten::copy_", 5, 20), call(10, 5, 1), work("k", 100, 10, correlation=1)]
    assert by_kernel(found_in(events)) == {"k": (component, False)}
    (only,) = component_times(found_in(events))
    assert (only.component, only.phase) == (component, "")


SHAPES = "aten::embedding_bag"


def test_ops_decide_without_annotations():
    """With lookups about: products of pairs and what is concatenated are the interaction; an activation follows."""
    ops = [SHAPES, "aten::linear", "aten::relu", "aten::bmm", "aten::index", "aten::addmm", "aten::sigmoid"]
    ops += ["aten::binary_cross_entropy", "c10d::allreduce_", "fbgemm::permute_2D_sparse_data", "aten::erf"]
    events = [event(name, 10 * n, 8) for n, name in enumerate(ops)]
    events += [call(10 * n + 1, 1, n + 1) for n in range(len(ops))]
    events += [work(f"k{n:02}", 1000 + 10 * n, 5, correlation=n + 1) for n in range(len(ops))]
    found = by_kernel(found_in(events))
    assert [found[f"k{n:02}"][0] for n in range(len(ops))] == [
        "embedding",
        "mlp",
        "mlp",
        "interaction",
        "interaction",
        "mlp",
        "mlp",
        "loss",
        "comms",
        "input_dist",
        OTHER,
    ]


def test_products_of_a_model_without_lookups_are_no_interaction():
    events = [event("aten::bmm", 0, 8), call(1, 1, 1), work("sgemm", 10, 5, correlation=1)]
    assert by_kernel(found_in(events)) == {"sgemm": (OTHER, False)}


GRAPH_KERNELS = {
    "void split_embedding_codegen_forward_unweighted_kernel<float>": "embedding",
    "volta_sgemm_128x32_nt": "mlp",
    "void at::native::vectorized_elementwise_kernel<4, relu>": "mlp",
    "ncclKernel_AllReduce_RING_LL_Sum_float(ncclWorkElem)": "comms",
    "Memcpy HtoD (Pinned -> Device)": "input",
}


def test_kernel_names_decide_in_a_graph_of_500_kernels():
    """The op around the graph's launch says nothing; an elementwise kernel belongs to the one before it."""
    names = list(GRAPH_KERNELS) * 100
    events = [event("aten::embedding_bag", 0, 20), call(5, 5, 9, name="cudaGraphLaunch")]
    events += [work(name, 100 + 10 * n, 10, correlation=9) for n, name in enumerate(names)]
    found = found_in(events)
    assert len(found.work) == 500
    assert by_kernel(found) == {name: (component, False) for name, component in GRAPH_KERNELS.items()}


def test_a_graph_under_an_annotation_has_its_component():
    events = [mark("## forward:over_arch ##", 0, 50), call(5, 5, 9, name="hipGraphLaunch")]
    events += [work(f"k{n}", 100 + 10 * n, 10, correlation=9) for n in range(3)]
    assert {c for c, _ in by_kernel(found_in(events)).values()} == {"top_mlp"}


def test_work_without_a_launch_is_known_by_its_name():
    events = [
        work("ncclDevKernel_SendRecv", 0, 10),
        work("split_embedding_backward_codegen_x", 10, 10),
        work("?", 20, 10),
        work("void fbgemm_gpu::permute_2D_data_kernel<false, int, long>", 30, 10),
    ]
    found = by_kernel(found_in(events))
    assert [c for c, _ in found.values()] == ["comms", "embedding", OTHER, "input_dist"]


def test_cpu_only_traces_by_own_time():
    """Annotations of one's own captures: the backward pass runs on the same thread inside 'backward'."""
    events = [
        mark("step", 0, 100),
        mark("embedding", 0, 20),
        event("aten::embedding_bag", 1, 10, sequence=5, forward_thread=0),
        mark("top_mlp", 20, 10),
        event("aten::addmm", 21, 5, sequence=6, forward_thread=0),
        mark("backward", 30, 50),
        node("AddmmBackward0", 31, 10, sequence=6, tid=1),
        event("aten::mm", 33, 4),
        node("EmbeddingBagBackward0", 45, 30, sequence=5, tid=1),
        mark("optimizer", 80, 18),
        event("aten::add_", 81, 7),
    ]
    times = component_times(found_in(events))
    assert {(t.component, t.phase): t.cpu_ns for t in times} == {
        ("embedding", "forward"): 10,
        ("embedding", "backward"): 30,
        ("top_mlp", "forward"): 5,
        ("top_mlp", "backward"): 10,
        ("optimizer", ""): 7,
    }
    assert coverage_frac(times) == 1.0


STRANGERS = {
    "void cudnn::bn_bw_1C11_kernel_new<float, float, float2, 512, true, 1>": OTHER,
    "void implicit_convolve_sgemm<float, float, 1024, 6, 7, 3, 3, 5, 1, false, true, true>": OTHER,
    "volta_scudnn_128x128_stridedB_splitK_small_nn_v1": OTHER,
    "volta_sgemm_64x64_nt": OTHER,
    "void flash_fwd_kernel<Flash_fwd_kernel_traits<64, 128, 64, 4>>": OTHER,
    "void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add<float>>": OTHER,
    "void at::native::(anonymous namespace)::max_pool_backward_nchw<float, float>": OTHER,
    "triton_red_fused__to_copy_add_mean_mul_pow_rsqrt_1": OTHER,
    "Cijk_Ailk_Bljk_HHS_BH_MT128x128": OTHER,
    "void at::native::(anonymous namespace)::softmax_warp_forward<float>": OTHER,
    "my_company_special_kernel": OTHER,
    "ncclDevKernel_AllReduce_Sum_f32_RING_LL": "comms",
    "Memcpy HtoD (Pageable -> Device)": "input",
    "void multi_tensor_apply_kernel<TensorListMetadata<4>, AdamFunctor<float>>": "optimizer",
    "Memcpy DtoD (Device -> Device)": OTHER,
    "Memset (Device)": OTHER,
}


def test_no_rule_takes_the_kernels_of_other_models():
    events = [work(name, 10 * n, 5) for n, name in enumerate(STRANGERS)]
    assert {name: c for name, (c, _) in by_kernel(found_in(events)).items()} == STRANGERS


def test_no_order_of_events_changes_anything():
    rng = np.random.default_rng(3)
    shuffled = [STEP[at] for at in rng.permutation(len(STEP))]
    assert component_times(found_in(shuffled)) == component_times(found_in(STEP))


def test_nearest():
    parents = np.array([-1, 0, 1, 2, -1, 4])
    wanted = np.array([False, True, False, False, False, False])
    assert nearest(parents, wanted).tolist() == [-1, 1, 1, 1, -1, -1]


# A user's rules


def test_own_rules_go_first(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("[[rule]]\ncomponent = 'towers'\nannotation = '^top_mlp$'\n")
    found = by_kernel(found_in(STEP, load_rules(path)))
    assert (found["sgemm"], found["sgemm_bw"], found["gather"]) == (
        ("towers", False),
        ("towers", True),
        ("embedding", False),
    )
    path.write_text("shipped = false\n[[rule]]\ncomponent = 'all gather'\nkernel = 'gather'\n")
    assert load_rules(path) == Rules(rule=load_rules(path).rule, shipped=False)
    assert len(load_rules(path).rule) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[rule]\n", r"is no TOML: .*line 1"),
        (
            "transparent = []\n\n[[rule]]\ncomponent = 'a'\nop = 'x'\n[[rule]]\ncomponent = 'b'\nop = 3\n",
            "line 6: rule 2",
        ),
        ("[[rule]]\ncomponent = 'a'\nkernels = 'x'\n", "line 1: rule 1: .*unknown field `kernels`"),
        ("[[rule]]\ncomponent = 'a'\n", "line 1: .*take everything"),
        ("[[rule]]\ncomponent = 'a'\nop = '('\n", "line 1: .*no regular expression"),
        ("[[rule]]\ncomponent = 'a'\nop = 'x*'\n", "line 1: .*found in every name"),
        ("[[rule]]\ncomponent = '<a>'\nop = 'x'\n", "line 1: .*is no name"),
        ("[[rule]]\ncomponent = 'a'\nop = 'x'\nwhole = true\n", "line 1: .*and no annotation"),
        ("transparent = ['']\n", ".*found in every name"),
    ],
)
def test_faults_in_a_users_rules_name_the_line(text, message):
    with pytest.raises(TraceError, match=rf"mine\.toml: {message}"):
        parse_rules(text, "mine.toml")


def test_a_rules_file_that_is_absent(tmp_path):
    with pytest.raises(TraceError, match="cannot be read"):
        load_rules(tmp_path / "none.toml")


# Real traces

TOLD_APART = {"embedding", "comms", "optimizer", "input", "input_dist"}


@pytest.mark.parametrize(
    ("pattern", "least_frac", "told_apart"),
    [
        ("recsys_dlrm_torchrec_8xV100/*.json.gz", 0.97, {"mlp", "interaction", "loss"}),
        ("recsys_diff_control_A100/*.json.gz", 0.97, {"bottom_mlp", "interaction", "top_mlp"}),
        ("recsys_diff_test_V100/*.json.gz", 0.94, {"bottom_mlp", "interaction", "top_mlp"}),
    ],
)
def test_coverage_of_real_recommendation_models(pattern, least_frac, told_apart):
    paths = sorted(TRACES.glob(pattern))
    if not paths:
        pytest.skip(f"no real traces in {TRACES}")
    for path in paths:
        found = component_times(components(gpu_work(read_trace(path)), load_rules()))
        assert coverage_frac(found) >= least_frac
        assert {t.component for t in found} >= TOLD_APART | told_apart
        whole = sum(t.gpu_sum_ns for t in found)
        # Nothing but communication, which waits for other ranks, may take more than half.
        assert max(t.gpu_sum_ns for t in found if t.component != "comms") < whole / 2


@pytest.mark.parametrize("name", ["tb_resnet50_nw0_runA", "nccl_meta_A100", "resnet_ns_V100"])
def test_image_models_have_next_to_nothing_of_a_recommendation_model(name):
    paths = sorted(TRACES.glob(f"{name}/*.json.gz"))
    if not paths:
        pytest.skip(f"no real traces in {TRACES}")
    found = component_times(components(gpu_work(read_trace(paths[0])), load_rules()))
    whole = sum(t.gpu_sum_ns for t in found)
    recommending = {"embedding", "bottom_mlp", "top_mlp", "mlp", "interaction"}
    assert sum(t.gpu_sum_ns for t in found if t.component in recommending) < 0.02 * whole
