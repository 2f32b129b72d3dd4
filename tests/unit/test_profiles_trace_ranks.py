"""Memory over time, collectives over ranks, and steps, by hand."""

import numpy as np
import pytest

from bench.inspection.model_tables import model_tables
from bench.inspection.modelling import Lens, analyse
from bench.inspection.ranking import ordered, rank_set
from bench.inspection.same_rank import same_rank
from profiles.trace.collectives import align, launch_order
from profiles.trace.components import components
from profiles.trace.gpu import gpu_work
from profiles.trace.memory import MOST_POINTS, memory_times
from profiles.trace.rules import load_rules
from profiles.trace.stepwise import step_profile
from profiles.trace.windows import find_steps
from tests.traces import call, event, mark, trace_of, work


def held(at_ns, count, total=None, kind=1, number=0):
    args = {"Bytes": count, "Device Type": kind, "Device Id": number}
    if total is not None:
        args |= {"Total Allocated": total, "Total Reserved": 1 << 20}
    return {"ph": "i", "name": "[memory]", "pid": 1, "tid": 1, "ts": at_ns / 1000, "s": "t", "args": args}


def test_memory_by_device_with_totals():
    events = [event("op", 0, 1), held(10, 100, 500), held(20, 50, 550), held(30, -150, 400), held(40, 8, 8, kind=0)]
    cpu, cuda = memory_times(trace_of(events).memory)
    assert (cpu.device, cpu.peak_bytes, cpu.from_zero) == ("cpu", 8, False)
    assert (cuda.device, cuda.peak_bytes, cuda.peak_at_ns, cuda.last_bytes) == ("cuda:0", 550, 20, 400)
    assert (cuda.allocations, cuda.allocated_bytes, cuda.peak_reserved_bytes) == (2, 150, 1 << 20)
    assert (cuda.time_ns, cuda.held_bytes) == ((10, 20, 30), (500, 550, 400))


def test_memory_without_totals_counts_from_zero():
    (found,) = memory_times(trace_of([event("op", 0, 1), held(10, 100), held(20, 50), held(30, -100)]).memory)
    assert (found.from_zero, found.held_bytes, found.peak_bytes) == (True, (100, 150, 50), 150)
    assert found.peak_reserved_bytes is None


def test_a_thinned_curve_keeps_its_peak():
    events = [event("op", 0, 1), *(held(10 * n, 1, 7 if n != 6543 else 99) for n in range(1, 10_000))]
    (found,) = memory_times(trace_of(events).memory)
    assert len(found.time_ns) <= MOST_POINTS
    assert max(found.held_bytes) == 99 == found.peak_bytes


def test_memory_is_of_the_whole_trace_whatever_the_window_and_says_so():
    step = [mark("ProfilerStep#1", 1_000, 1_000), event("aten::mm", 1_100, 100)]
    trace = trace_of([event("aten::empty", 0, 20), held(10, 900, 900), *step, held(1_150, 100, 1_000)])

    def seen(policy):
        found = analyse(trace, policy, Lens(rules=load_rules())).inspection
        return [t.title for t in model_tables(found) if "MiB" in t.title], found.memory[0].allocated_bytes

    assert seen("all") == (["memory, in MiB"], 1_000)
    assert seen("steps") == (["memory of the whole trace, in MiB"], 1_000)


def rank(durs, number, extra=0):
    events = [call(10 * n, 1, n + 1) for n in range(len(durs) + extra)]
    events += [work("k", 0, 1000)]
    at = 100
    for n, dur in enumerate(durs):
        events.append(work("ncclKernel_AllReduce(x)", at, dur, correlation=n + 1, stream=9))
        at += dur
    events += [work("ncclKernel_Old(x)", 0, 5, stream=9)]
    return trace_of(events, distributedInfo={"rank": number, "world_size": 3})


def test_transfer_is_the_shortest_and_the_rest_is_waiting():
    found = align([launch_order(gpu_work(rank(durs, n))) for n, durs in enumerate(([30, 50], [10, 40], [60, 20]))])
    assert found.collectives == 2
    assert found.left_out == {}
    assert [(r.comm_ns, r.transfer_ns, r.waiting_ns, r.last_count) for r in found.ranks] == [
        (80, 30, 50, 0),
        (50, 30, 20, 1),
        (80, 30, 50, 1),
    ]


def test_collectives_that_ranks_did_not_launch_equally_often_are_left_out_and_said():
    found = align([launch_order(gpu_work(rank([30, 50], 0))), launch_order(gpu_work(rank([10], 1)))])
    assert found.collectives == 0
    assert found.left_out == {"ncclKernel_AllReduce": (2, 1)}


def grouped(number, *collectives, unnamed=False):
    """A rank whose collectives are (group, kernel, duration); the n-th ends at n us on all ranks."""
    events = []
    for n, (group, kernel, dur) in enumerate(collectives, start=1):
        said = {"Collective name": "allreduce"} | ({} if unnamed else {"Process Group Name": group})
        name, at = f"ncclDevKernel_{kernel}(x)", 1_000 * n - dur
        events += [call(10 * n, 1, n), work(name, at, dur, correlation=n, stream=9, **said)]
    return trace_of(events, distributedInfo={"rank": number, "world_size": 4})


PAIRS = [
    [("0", "AllReduce", 400), ("1", "AllGather", 300)],
    [("0", "AllReduce", 300), ("1", "AllGather", 100)],
    [("0", "AllReduce", 500), ("2", "AllGather", 200)],
    [("0", "AllReduce", 400), ("2", "AllGather", 600)],
]
"""Four ranks: a group of all, and two groups of two, each rank in one of them."""


def test_collectives_of_a_group_are_aligned_over_the_ranks_that_have_it():
    found = align([launch_order(gpu_work(grouped(n, *held))) for n, held in enumerate(PAIRS)])
    assert (found.collectives, found.common, found.unnamed, found.left_out) == (3, 1, False, {})
    assert [(r.collectives, r.comm_ns, r.transfer_ns, r.waiting_ns) for r in found.ranks] == [
        (2, 700, 400, 300),
        (2, 400, 400, 0),
        (2, 700, 500, 200),
        (2, 1000, 500, 500),
    ]
    assert [(r.common_waiting_ns, r.last_count) for r in found.ranks] == [(100, 0), (0, 2), (200, 1), (100, 0)]


def test_a_group_of_one_rank_or_of_which_a_trace_lost_some_is_left_out():
    some = [[("5", "AllReduce", 10)], [("1", "AllReduce", 10)] * 2, [("1", "AllReduce", 10), ("1", "AllGather", 10)]]
    found = align([launch_order(gpu_work(grouped(n, *held))) for n, held in enumerate(some)])
    assert found.collectives == 0
    assert found.left_out == {
        "ncclDevKernel_AllGather of group 1": (0, 0, 1),
        "ncclDevKernel_AllReduce of group 1": (0, 2, 1),
        "ncclDevKernel_AllReduce of group 5": (1, 0, 0),
    }


def test_ranks_without_an_aligned_collective_are_no_stragglers():
    """They wait for nobody, and nobody for them."""
    lens = Lens(rules=load_rules())
    held = [[("1", "AllReduce", 300)], [("1", "AllReduce", 200)], [("7", "AllReduce", 5)], [("8", "AllReduce", 5)]]
    found = rank_set([analyse(grouped(n, *one), "all", lens) for n, one in enumerate(held)]).comparison
    assert [(r.waiting_us, r.last_count) for r in found.ranks] == [(0.1, 0), (0.0, 1), (None, None), (None, None)]
    assert (found.collectives, found.straggler) == (1, None)
    assert "1 collectives (1 of them of groups of some ranks)" in found.summary
    assert "none is of all ranks, so no rank is named" in found.summary


def test_collectives_of_all_ranks_name_the_straggler_beside_others():
    lens = Lens(rules=load_rules())
    found = rank_set([analyse(grouped(n, *held), "all", lens) for n, held in enumerate(PAIRS)]).comparison
    # Rank 1 lets all wait in group 0; rank 2 lets rank 3 wait in theirs, longer than anybody elsewhere.
    assert found.straggler == 1
    assert "rank 1 comes last in 2 of them: it waits 0.000 ms in those of all ranks" in found.summary
    assert "process groups" not in found.summary


def test_groups_without_names_are_said_to_be_indistinguishable():
    """Traces of an older torch: the two pairs are taken for one group of four, which nothing in them denies."""
    lens = Lens(rules=load_rules())
    traces = [grouped(n, *held, unnamed=True) for n, held in enumerate(PAIRS)]
    found = rank_set([analyse(trace, "all", lens) for trace in traces]).comparison
    assert found.collectives == 2
    assert found.summary.endswith("collectives of different groups may have been taken for one.")


def test_the_straggler_is_named():
    lens = Lens(rules=load_rules())
    ranks = [analyse(rank(durs, n), "all", lens) for n, durs in ((2, [300, 300]), (0, [310, 290]), (1, [10, 20]))]
    assert [a.inspection.rank for a in ordered(ranks)] == [0, 1, 2]
    found = rank_set(ranks).comparison
    assert found.straggler == 1
    assert [r.waiting_us for r in found.ranks] == [0.57, 0.0, 0.57]
    assert "rank 1 comes last in 2 of them" in found.summary
    even = [analyse(rank([300, 300], n), "all", lens) for n in range(2)]
    assert rank_set(even).comparison.straggler is None
    assert rank_set(even[:1]).comparison is None


def test_two_windows_of_one_rank_are_no_ranks():
    lens = Lens(rules=load_rules())
    found = rank_set([analyse(rank([300, 300], n), "all", lens) for n in (0, 1, 0)])
    assert (len(found.traces), found.comparison) == (3, None)
    assert found.not_compared.startswith("2 traces are of rank 0 (hand-made.json, hand-made.json)")
    assert rank_set([analyse(rank([300, 300], n), "all", lens) for n in (0, 1)]).not_compared == ""


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ([(0, "a.json"), (1, "a.json")], ""),
        ([(0, "a.json"), (1, "b.json"), (1, "c.json")], "2 traces are of rank 1 (b.json, c.json): name one"),
        (
            [(n, f"{n}.{cycle}.json") for n in (0, 1) for cycle in "ab"],
            "2 traces are of rank 0 (0.a.json, 0.b.json) and of 1 more",
        ),
        # Ranks that are not told: the profiler names the files of one process alike, but for the time.
        (
            [(None, "d/w0.1694128201545.pt.trace.json.gz"), (None, "d/w0.1694128301545.pt.trace.json")],
            "2 traces are of one process, by their names (",
        ),
        ([(None, "d/t.json"), (None, "d/t.json.gz")], "2 traces are of one process, by their names ("),
        ([(None, "d/w0.1694128201545.pt.trace.json"), (None, "d/w1.1694128201545.pt.trace.json")], ""),
        ([(None, "a/t.json"), (None, "b/t.json")], ""),
        ([(None, "t.1694128201.json"), (None, "t.1694128202.json")], ""),
    ],
)
def test_files_of_one_rank_are_known_by_rank_or_name(found, said):
    told = same_rank(found)
    assert told.startswith(said)
    assert bool(told) == bool(said)


STEPS = [
    mark("ProfilerStep#7", 0, 100),
    mark("ProfilerStep#8", 100, 100),
    mark("embedding", 10, 20),
    event("aten::embedding_bag", 10, 20),
    mark("embedding", 110, 20),
    event("aten::embedding_bag", 110, 20),
    event("aten::to", 150, 5),
    call(12, 1, 1),
    call(95, 1, 2, name="cudaMemcpyAsync"),
    call(112, 1, 3),
    call(160, 1, 9, name="cudaDeviceSynchronize"),
    work("gather", 50, 30, correlation=1),
    work("Memcpy HtoD", 130, 7, cat="gpu_memcpy", correlation=2, bytes=64),
    work("gather", 150, 40, correlation=3),
    work("outside", 300, 5),
]


def test_work_belongs_to_the_step_that_launched_it():
    trace = trace_of(STEPS)
    found = step_profile(components(gpu_work(trace), load_rules()), find_steps(trace))
    assert (found.numbers, found.step_ns.tolist(), found.annotated) == ((7, 8), [100, 100], True)
    assert found.parts["embedding", "forward"].tolist() == [30, 40]
    assert found.parts["input", ""].tolist() == [7, 0]
    assert found.waiting_frac["input", ""] == 1.0
    assert found.busy_ns.tolist() == [37, 40]
    assert {name: counts.tolist() for name, counts in found.counters.items()} == {
        "ops": [1, 2],
        "launches": [2, 1],
        "gpu_events": [2, 1],
        "copies": [1, 0],
        "syncs": [0, 1],
        "collectives": [0, 0],
        "copied_bytes": [64, 0],
    }


def test_without_steps_the_whole_trace_is_one():
    trace = trace_of([event("aten::linear", 0, 30), event("aten::erf", 40, 10)])
    found = step_profile(components(gpu_work(trace), load_rules()), find_steps(trace))
    assert (found.steps, found.annotated, found.busy_ns) == (1, False, None)
    assert {part: v.tolist() for part, v in found.parts.items()} == {("mlp", "forward"): [30], ("other", ""): [10]}


@pytest.mark.parametrize("count", [1, 5])
def test_sums_over_steps_are_those_of_the_components(count):
    rng = np.random.default_rng(count)
    events = []
    for n in range(count):
        events += [mark(f"ProfilerStep#{n}", 1000 * n, 1000), mark("top_mlp", 1000 * n + 1, 900)]
        events += [call(1000 * n + 5, 1, n + 1), work("k", 1000 * n + 10, int(rng.integers(1, 900)), correlation=n + 1)]
    trace = trace_of(events)
    found = components(gpu_work(trace), load_rules())
    profile = step_profile(found, find_steps(trace))
    assert profile.parts["top_mlp", "forward"].sum() == gpu_work(trace).durs_ns.sum()
