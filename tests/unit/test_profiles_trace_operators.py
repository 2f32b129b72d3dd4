"""FLOPs and bytes of recorded shapes by hand, what operators reached, and that the unknown stays unknown."""

import pytest

from profiles.trace.columns import Inputs
from profiles.trace.components import components
from profiles.trace.gpu import gpu_work
from profiles.trace.operators import operators, reached
from profiles.trace.opwork import op_work
from profiles.trace.roofs import Roofs
from profiles.trace.rules import load_rules
from profiles.trace.shapes import LOGICAL, MESSAGE
from tests.traces import call, event, mark, trace_of, work

F = "float"
TBE_DIMS = [[64000], [], [], [], [2], [2], [3], [], [], [3], [500], [21], [], []]
TBE_TYPES = [
    F,
    "",
    "",
    "",
    "int",
    "long int",
    "int",
    "Scalar",
    "Scalar",
    "long int",
    "long int",
    "long int",
    "Scalar",
    "",
]
TBE_VALUES = ["", "", "", "", "", "", "", "64", "32", "", "", "", "0", ""]
FORWARD = "fbgemm::split_embedding_codegen_forward_unweighted_pt2_wrapper"
BACKWARD = "fbgemm::split_embedding_backward_codegen_{}_unweighted_pt2_wrapper"


@pytest.mark.parametrize(
    ("name", "dims", "types", "flops", "moved"),
    [
        ("aten::mm", [[2, 3], [3, 5]], [F, F], 60, (6 + 15 + 10) * 4),
        ("aten::addmm", [[5], [2, 3], [3, 5], [], []], [F, F, F, "Scalar", "Scalar"], 60, (5 + 6 + 15 + 10) * 4),
        ("aten::addmm", [[5], [2, 3], [3, 5]], ["c10::Half"] * 3, 60, (5 + 6 + 15 + 10) * 2),
        ("aten::linear", [[7, 2, 3], [5, 3], [5]], [F, F, F], 420, (5 + 42 + 15 + 70) * 4),
        ("aten::bmm", [[4, 2, 3], [4, 3, 5]], [F, F], 240, 4 * (6 + 15 + 10) * 4),
        ("aten::relu", [[10, 3]], [F], 30, 240),
        ("aten::add_", [[10, 3], [10, 3], []], [F, F, "Scalar"], 30, 360),
        ("aten::mul", [[10, 3], [3]], [F, F], 30, (30 + 3 + 30) * 4),
        ("aten::copy_", [[10, 3], [10, 3], []], [F, F, "Scalar"], 0, 240),
        ("aten::copy_", [[10, 3], [3], []], ["c10::Half", F, "Scalar"], 0, 30 * 2 + 3 * 4),
        ("aten::addcdiv_", [[8], [8], [8], []], [F, F, F, "Scalar"], 24, 128),
    ],
)
def test_work_of_dense_operators(name, dims, types, flops, moved):
    found = op_work(name, Inputs(dims, types, None))
    assert (found.flops, found.bytes, found.convention) == (flops, moved, "algorithmic")


def test_work_of_lookups_is_logical():
    types = [F, "long int", "long int", "Scalar", "Scalar", "Scalar", "", "Scalar", "Scalar"]
    dims = [[1000, 16], [60], [11], [], [], [], [], [], []]
    values = ["", "", "", "False", "0", "False", "", "True", "-1"]
    found = op_work("aten::_embedding_bag", Inputs(dims, types, values))
    assert (found.flops, found.convention) == (60 * 16, LOGICAL)
    assert found.row_bytes == 64
    assert found.table_bytes == 64000


def test_a_last_offset_that_ends_the_last_bag_is_no_bag():
    dims = [[1000, 16], [60], [11], [], [], [], [], [], []]
    types = [F, "long int", "long int", "Scalar", "Scalar", "Scalar", "", "Scalar", "Scalar"]

    def moved(values):
        return op_work("aten::_embedding_bag", Inputs(dims, types, values)).bytes

    lookups = 60 * 64 + (60 + 11) * 8
    assert moved(["", "", "", "", "", "", "", "True", ""]) == lookups + 10 * 64
    assert moved(["", "", "", "", "", "", "", "False", ""]) == lookups + 11 * 64


def test_work_of_table_batched_lookups():
    found = op_work(FORWARD, Inputs(TBE_DIMS, TBE_TYPES, TBE_VALUES))
    assert (found.flops, found.row_bytes, found.table_bytes) == (500 * 32, 128, 256000)
    assert found.bytes == 500 * 128 + 20 * 128 + (500 + 21) * 8
    back = [[10, 64], *TBE_DIMS[:7], [], [], *TBE_DIMS[9:]]
    types = [F, *TBE_TYPES[:7], "Scalar", "Scalar", *TBE_TYPES[9:]]
    values = ["", *[""] * 7, "32", "False", *[""] * 5]
    grad = op_work(BACKWARD.format("sgd"), Inputs(back, types, values))
    assert (grad.bytes, grad.convention) == (10 * 64 * 4 + 500 * 256 + 500 * 8, LOGICAL)
    rowwise = op_work(BACKWARD.format("rowwise_adagrad"), Inputs(back, types, values))
    assert rowwise.bytes == grad.bytes + 500 * 8
    assert op_work(BACKWARD.format("lamb"), Inputs(back, types, values)) is None


def test_collectives_count_their_message():
    dims = [[6144], [6144], [], [], [], []]
    types = [F, F, "", "", "", "Scalar"]
    found = op_work("c10d::alltoall_base_", Inputs(dims, types, None))
    assert (found.bytes, found.convention) == (6144 * 4, MESSAGE)


def test_a_collective_that_wrote_its_message_size():
    said = {"Collective name": "allreduce", "dtype": "Float", "In msg nelems": 1000, "Out msg nelems": 1000}
    waits = {"Collective name": "wait", "dtype": "Byte", "In msg nelems": 0, "Out msg nelems": 0}
    events = [event("record_param_comms", 0, 50), call(5, 1, 1), work("ncclKernel", 100, 40, correlation=1)]
    events += [event("record_param_comms", 60, 10), call(65, 1, 2), work("ncclKernel", 140, 10, correlation=2)]
    events[0]["args"] |= said
    events[3]["args"] |= waits
    (found,) = operators_of(events)
    assert (found.n, found.n_known, found.bytes, found.bytes_convention) == (2, 1, 4000, MESSAGE)
    assert found.bytes_per_s == pytest.approx(4000 / 40e-9)
    assert reached([found])[0].bytes_per_s is None


@pytest.mark.parametrize(
    ("name", "dims", "types", "values"),
    [
        ("aten::mm", None, None, None),
        ("aten::mm", [[2, 3], [4, 5]], [F, F], None),
        ("aten::mm", [[2, 3]], [F], None),
        ("aten::mm", [[2, 3], [3, 5]], ["c10::complex<float>", ""], None),
        ("aten::cat", [[], []], ["TensorList", "Scalar"], None),
        ("aten::relu", [[]], [""], None),
        ("aten::my_op", [[2, 3]], [F], None),
        (FORWARD, TBE_DIMS, TBE_TYPES, None),
        (FORWARD, TBE_DIMS, TBE_TYPES, [*TBE_VALUES[:7], "96", "64", *TBE_VALUES[9:]]),
        (FORWARD, TBE_DIMS, ["unsigned char", *TBE_TYPES[1:]], TBE_VALUES),
    ],
    ids=[
        "no shapes",
        "misfit",
        "one operand",
        "complex",
        "list",
        "no type",
        "unknown op",
        "no values",
        "mixed",
        "int8",
    ],
)
def test_what_shapes_do_not_tell_is_unknown(name, dims, types, values):
    assert op_work(name, Inputs(dims, types, values)) is None


def shaped(name, start, dur, dims, **more):
    found = event(name, start, dur, **more)
    found["args"] |= {"Input Dims": dims, "Input type": [F] * len(dims)}
    return found


def operators_of(events):
    return operators(components(gpu_work(trace_of(events)), load_rules()))


def test_gpu_time_belongs_to_the_outer_operator_once():
    events = [
        mark("top_mlp", 0, 200),
        shaped("aten::linear", 0, 50, [[2, 3], [5, 3], [5]]),
        shaped("aten::addmm", 10, 20, [[5], [2, 3], [3, 5]]),
        call(12, 1, 1),
        event("aten::strange", 60, 10),
        call(61, 1, 2),
        work("sgemm", 100, 30, correlation=1),
        work("k", 200, 70, correlation=2),
    ]
    strange, linear = operators_of(events)
    assert (linear.name, linear.component, linear.n, linear.n_known, linear.sum_ns) == (
        "aten::linear",
        "top_mlp",
        1,
        1,
        30,
    )
    assert linear.flops_per_s == pytest.approx(60 / 30e-9)
    assert linear.bytes_per_s == pytest.approx((5 + 6 + 15 + 10) * 4 / 30e-9)
    assert (strange.n_known, strange.sum_ns, strange.flops_per_s, strange.bytes_per_s) == (0, 70, None, None)
    (part,) = reached([strange, linear])
    assert (part.known_frac, part.flops_per_s) == (pytest.approx(0.3), pytest.approx(60 / 30e-9))


def test_without_a_gpu_an_operator_has_its_time_on_the_host():
    events = [
        mark("embedding", 0, 100),
        shaped("aten::relu", 0, 40, [[10, 3]]),
        event("aten::clamp_min", 5, 30),
        event("aten::other", 50, 20),
        event("aten::inner", 55, 5),
    ]
    found = {o.name: o for o in operators_of(events)}
    assert {n: o.sum_ns for n, o in found.items()} == {"aten::relu": 40, "aten::other": 15, "aten::inner": 5}
    assert found["aten::relu"].flops_per_s == pytest.approx(30 / 40e-9)


def test_sparse_tensors_have_no_known_shape():
    events = [shaped("aten::add_", 0, 40, [[1000, 64], [1000, 64]]), event("aten::_indices", 5, 3)]
    found = {o.name: o for o in operators_of(events)}
    assert found["aten::add_"].n_known == 0


def test_products_of_two_types_are_two_rows_each_with_the_roof_of_its_type():
    """Autocast: 60 FLOPs in bfloat16 in 30 ns, 60 in float32 in 60 ns, and one call whose shapes were not recorded."""
    events = [mark("top_mlp", 0, 400)]
    for n, kind in enumerate(("c10::BFloat16", F)):
        product = shaped("aten::mm", 100 * n, 50, [[2, 3], [3, 5]])
        product["args"]["Input type"] = [kind] * 2
        events += [product, call(100 * n + 10, 1, n + 1), work("gemm", 500 + 100 * n, 30 * (n + 1), correlation=n + 1)]
    events += [event("aten::mm", 300, 50), call(310, 1, 3), work("gemm", 800, 10, correlation=3)]
    found = {o.dtype: o for o in operators_of(events)}
    assert {t: (o.n, o.n_known, o.sum_ns, o.flops) for t, o in found.items()} == {
        "bfloat16": (1, 1, 30, 60),
        "float32": (1, 1, 60, 60),
        "unknown": (1, 0, 10, 0),
    }
    roofs = Roofs(name="it", bytes_per_s=1e15, flops_per_s={"bfloat16": 4e9, "float32": 2e9})
    assert roofs.fraction(found["bfloat16"]) == pytest.approx(0.5)
    assert roofs.fraction(found["float32"]) == pytest.approx(0.5)
    assert roofs.fraction(found["unknown"]) is None


def test_calls_of_one_type_and_calls_without_shapes_are_one_row():
    events = [mark("top_mlp", 0, 400), shaped("aten::mm", 0, 50, [[2, 3], [3, 5]]), event("aten::mm", 100, 50)]
    (found,) = operators_of(events)
    assert (found.n, found.n_known, found.dtype) == (2, 1, "float32")
