"""Verdicts from hand-made traces whose losses are counted by hand, through the whole analysis of one trace."""

import json

import pytest

from bench.inspection.model_tables import operator_names
from bench.inspection.modelling import Lens, analyse
from profiles.trace.errors import TraceError
from profiles.trace.roofs import Roofs, load_roofs
from profiles.trace.rules import load_rules
from tests.traces import call, event, mark, trace_of, work

F = "float"


def seen(events, roofs=None, policy="all"):
    return analyse(trace_of(events), policy, Lens(rules=load_rules(), roofs=roofs)).inspection


def verdict(events, roofs=None, policy="all"):
    return seen(events, roofs, policy).verdict


def launched(number, at, start, dur, name="k", **more):
    return [call(at, 2, number), work(name, start, dur, correlation=number, **more)]


def test_launches_that_come_late():
    found = verdict([*launched(1, 0, 10, 40), *launched(2, 80, 100, 100)])
    assert found.kind == "launch-bound"
    assert found.evidence["idle_host_late_frac"] == pytest.approx(50 / 190)
    assert found.evidence["syncs_count"] == 0
    assert "at most 26.3%" in found.advice
    assert "CUDA graph" in found.advice


MS = 1_000_000


def waiting(sync_tid=1):
    """.tolist() returns 10 us after the device is done with what it asked for; then 3 ms of dispatch."""
    sync = call(5_000, MS + 15_000, 99, name="cudaStreamSynchronize", tid=sync_tid)
    return [*launched(1, 0, 10_000, MS), sync, *launched(2, 4 * MS, 4 * MS + 10_000, 5 * MS)]


def test_launches_late_because_the_host_waited_for_the_device():
    """A graph cannot be captured around such a call, so it goes first."""
    found = verdict(waiting())
    assert found.kind == "launch-bound"
    assert found.evidence["syncs_count"] == 1
    assert found.evidence["idle_after_sync_frac"] == pytest.approx(3 / 9)
    assert ".item()" in found.advice
    assert "CUDA graph" not in found.advice


def test_a_call_that_waits_on_another_thread_delays_no_launch():
    found = verdict(waiting(sync_tid=9))
    assert found.evidence["idle_after_sync_frac"] == 0.0
    assert "Look at the 3.000 ms" in found.advice


def test_a_hole_after_work_that_was_launched_since_the_wait_is_not_its_doing():
    """The wait costs the 15 us before the second kernel; what comes late after that kernel has reasons of its own."""
    events = [
        *launched(1, 0, 10_000, 40_000),
        call(20_000, 32_000, 99, name="cudaStreamSynchronize"),
        *launched(2, 60_000, 65_000, 5_000),
        *launched(3, 2 * MS, 2 * MS + 10_000, 5 * MS),
    ]
    found = verdict(events)
    assert found.evidence["idle_after_sync_frac"] == pytest.approx(15_000 / 7_000_000)
    assert "Look at the 1.940 ms from 0.070 ms on" in found.advice


def test_a_wait_that_begins_on_an_idle_device_is_not_why_it_is_idle():
    events = [
        *launched(1, 0, 10_000, 40_000),
        call(2 * MS, 5_000, 99, name="cudaStreamSynchronize"),
        *launched(2, 3 * MS, 3 * MS + 10_000, 5 * MS),
    ]
    assert verdict(events).evidence["idle_after_sync_frac"] == 0.0


def test_a_device_that_waits_for_input():
    loading = mark("enumerate(DataLoader)#_Iter.__next__", 50, 45)
    found = verdict([*launched(1, 0, 10, 40), loading, *launched(2, 97, 100, 100)])
    assert found.kind == "input-bound"
    assert found.evidence["idle_input_frac"] == pytest.approx(45 / 190)
    assert "at most 23.7%" in found.advice


def test_a_loader_beside_the_thread_that_launches_delays_nothing():
    loading = mark("enumerate(DataLoader)#_Iter.__next__", 50, 45, tid=9)
    found = verdict([*launched(1, 0, 10, 40), loading, *launched(2, 97, 100, 100)])
    assert found.kind == "launch-bound"
    assert found.evidence["idle_input_frac"] == 0.0


def test_a_device_that_waits_for_ids_to_reach_their_tables():
    """The splits have arrived at 50; until 96 the host makes of them what it sends next."""
    events = [
        *launched(1, 0, 10, 40, "ncclDevKernel_SendRecv"),
        mark("## load_batch ##", 52, 3),
        mark("## wait_sparse_data_dist ##", 55, 41),
        event("aten::cumsum", 60, 30),
        *launched(2, 97, 100, 300),
    ]
    found = verdict(events)
    assert found.kind == "input-dist-bound"
    assert found.evidence["idle_input_dist_frac"] == pytest.approx(41 / 390)
    assert found.evidence["idle_input_frac"] == pytest.approx(3 / 390)
    assert "TrainPipelineSparseDist" in found.advice
    assert "DataLoader" not in found.advice
    assert "at most 10.5%" in found.advice


def test_one_hole_that_is_most_of_the_late_time_is_named():
    """Two late holes: 50 ns, and 9 ms in which the host read a file."""
    events = [*launched(1, 0, 10, 40), *launched(2, 80, 100, 100)]
    events += [event("aten::from_file", 300, 8_850_000), *launched(3, 9_000_180, 9_000_200, 100)]
    found = verdict(events)
    assert "Look at the 9.000 ms from 0.000 ms on" in found.advice
    assert "in aten::from_file" in found.advice
    assert found.evidence["host_meanwhile_frac"] == pytest.approx(9_000_000 / 9_000_050)


def test_the_hole_that_is_named_is_none_of_input_and_its_step_says_nothing():
    """The loader takes 10 ms of one hole; in the other the host builds a batch, inside a step and a forward pass."""
    events = [
        *launched(1, 0, 10_000, 40_000),
        mark("enumerate(DataLoader)#_Iter.__next__", 60_000, 10 * MS),
        *launched(2, 10 * MS + 65_000, 10 * MS + 70_000, 5 * MS),
        mark("ProfilerStep#12", 16 * MS, 30 * MS),
        mark("forward", 16 * MS, 30 * MS),
        mark("build", 16 * MS, 25 * MS),
        *launched(3, 42 * MS, 42 * MS + 10_000, 30 * MS),
    ]
    found = verdict(events)
    assert found.kind == "launch-bound"
    assert "Look at the 26.940 ms from 15.070 ms on" in found.advice
    assert "with the host in build:" in found.advice
    assert found.evidence["largest_late_gap_us"] == 26_940
    inside = [e for e in events if e["name"] != "build"]
    assert "with the host in no recorded operator" in verdict(inside).advice


def test_communication_that_nothing_hides():
    events = [*launched(1, 0, 10, 50), *launched(2, 1, 60, 50, "ncclDevKernel_AllReduce"), *launched(3, 2, 110, 100)]
    found = verdict(events)
    assert found.kind == "communication-bound"
    assert "at most 25.0%" in found.advice


def test_idle_time_whose_launches_were_lost_is_not_busy():
    """Ten kernels of 10 in 910, none with a launch."""
    found = verdict([work("k", 100 * n, 10) for n in range(10)])
    assert found.kind == "unknown"
    assert found.evidence["idle_unknown_frac"] == pytest.approx(810 / 910)
    assert "at most 89.0%" in found.advice
    assert "busy" not in found.advice


def test_five_causes_below_the_limit_are_no_busy_device():
    """Of 1,000: 90 queued, 90 communication, 90 copies, 95 before late launches, 85 of input; 550 of compute."""
    events = [
        *launched(1, 0, 10, 100),
        *launched(2, 5, 200, 100),
        *launched(3, 7, 300, 90, "ncclDevKernel_AllReduce"),
        *launched(4, 9, 390, 90, "Memcpy DtoH (Device -> Pinned)", cat="gpu_memcpy"),
        *launched(5, 11, 480, 120),
        *launched(6, 680, 690, 120),
        mark("enumerate(DataLoader)#_Iter.__next__", 800, 95),
        *launched(7, 897, 900, 110),
    ]
    found = verdict(events)
    assert found.kind == "mixed"
    assert "No cause takes 10% alone: late launches 9.5%, communication 9.0%" in found.advice
    assert "input 8.5%" in found.advice
    assert "at most 45.0%" in found.advice
    assert found.evidence["compute_frac"] == 0.55


def test_the_host_before_the_first_kernel_of_a_step_counts_where_the_window_is_of_steps():
    """A loader of 10 ms, then 2 ms of work; the last 70 us of the step's 12.1 ms come after it."""
    events = [
        mark("ProfilerStep#1", 0, 12 * MS + 100_000),
        mark("enumerate(DataLoader)#_Iter.__next__", 10_000, 10 * MS),
        *launched(1, 10 * MS + 20_000, 10 * MS + 30_000, 2 * MS),
    ]
    found = verdict(events, policy="steps")
    assert found.kind == "input-bound"
    assert found.evidence["window_us"] == 12_100
    assert found.evidence["idle_frac"] == pytest.approx(10.1 / 12.1)
    assert found.evidence["idle_host_late_frac"] == pytest.approx(10.1 / 12.1)
    assert "at most 82.6%" in found.advice
    assert verdict(events).evidence["idle_frac"] == 0.0  # of everything only the time between work is known


def test_a_device_that_lags_behind_the_host_is_not_idle_at_the_ends_of_a_step():
    """Each step of 1 ms launches a kernel of 1 ms that begins when the one before is done, half a step later."""
    steps = [(n, mark(f"ProfilerStep#{n}", n * MS, MS)) for n in range(3)]
    events = [e for n, step in steps for e in (step, *launched(n + 1, n * MS + 1_000, n * MS + MS // 2, MS))]
    found = verdict(events, policy="steps-without-first-and-last")
    assert found.kind == "idle-free"
    assert (found.evidence["window_us"], found.evidence["idle_frac"]) == (1_000, 0.0)


def test_queued_work_that_waits():
    found = verdict([*launched(1, 0, 10, 40), *launched(2, 3, 100, 100)])
    assert found.kind == "dependency-bound"
    assert "at most 26.3%" in found.advice


def copying(*copies):
    """Work of 50, copies one after the other from 60 on, work of 100 when they are done."""
    events, at = launched(1, 0, 10, 50), 60
    for number, (name, dur) in enumerate(copies, 2):
        cat = "gpu_memset" if name.startswith("Memset") else "gpu_memcpy"
        events += launched(number, 2 * number, at, dur, name, cat=cat)
        at += dur
    return [*events, *launched(9, 50, at, 100)]


def test_copies_that_nothing_hides():
    found = verdict(copying(("Memcpy", 50)))
    assert found.kind == "copy-bound"
    assert "at most 25.0%" in found.advice


@pytest.mark.parametrize(
    ("name", "advice", "pinned_memory"),
    [
        ("Memcpy HtoD (Pageable -> Device)", "Copy from pinned memory on a stream of its own", True),
        ("Memcpy HtoD (Pinned -> Device)", "pinned already", False),
        ("CopyHostToDevice", "Copy from pinned memory", True),
        ("Memcpy DtoH (Device -> Pageable)", "Copy to pinned memory", True),
        ("Memcpy DtoH (Device -> Pinned)", "Read results later", False),
        ("Memcpy DtoD (Device -> Device)", "Remove copies on the device", False),
        ("Memcpy PtoP (Device -> Device)", "Send between devices", False),
        ("Memset (Device)", "Clear less", False),
    ],
)
def test_what_to_do_about_a_copy_depends_on_its_kind(name, advice, pinned_memory):
    found = verdict(copying((name, 50)))
    assert found.kind == "copy-bound"
    assert advice in found.advice
    assert ("pinned memory" in found.advice) == pinned_memory
    assert f"most time is in {name}: without" in found.advice


def test_the_copy_that_is_named_is_the_one_hidden_least():
    """The longer one runs beside a kernel."""
    hidden = launched(20, 46, 160, 90, "Memcpy HtoD (Pageable -> Device)", cat="gpu_memcpy", stream=9)
    found = verdict([*copying(("Memcpy DtoD (Device -> Device)", 60), ("Memset (Device)", 40)), *hidden])
    assert found.kind == "copy-bound"
    assert "most time is in Memcpy DtoD" in found.advice


def linear(at, m, n, k):
    found = event("aten::linear", at, 10)
    found["args"] |= {"Input Dims": [[m, k], [n, k]], "Input type": [F, F]}
    return found


BUSY = [mark("top_mlp", 0, 50), linear(0, 100, 100, 100), *launched(1, 2, 100, 1000), *launched(2, 30, 1100, 100)]


def test_a_busy_device_without_ceilings_is_only_called_busy():
    found = verdict(BUSY)
    assert found.kind == "idle-free"
    assert found.evidence["largest_component_frac"] == 1.0
    assert "top MLP" in found.advice
    assert "--machine" in found.advice


@pytest.mark.parametrize(
    ("flops_per_s", "bytes_per_s", "kind", "roof_s"),
    [(4e12, 1e15, "compute-bound", 2e6 / 4e12), (1e15, 2.4e11, "bandwidth-bound", 120_000 / 2.4e11)],
)
def test_a_busy_device_against_its_roofs(flops_per_s, bytes_per_s, kind, roof_s):
    """100 x 100 x 100: 2e6 FLOPs and 120,000 bytes in 1 us; half a microsecond would do."""
    roofs = Roofs(name="it", bytes_per_s=bytes_per_s, flops_per_s={"float32": flops_per_s})
    found = seen(BUSY, roofs)
    assert found.verdict.kind == kind
    assert found.verdict.evidence["fraction_of_roof_frac"] == pytest.approx(roof_s / 1e-6)
    assert "at most 45.5%" in found.verdict.advice
    assert found.operators[0].fraction_of_roof == pytest.approx(roof_s / 1e-6)
    assert found.achieved[0].fraction_of_roof == pytest.approx(roof_s / 1e-6)
    assert found.machine.name == "it"


def test_the_rows_of_one_operator_in_two_types_are_told_apart():
    half = linear(60, 10, 10, 10)
    half["args"]["Input type"] = ["c10::Half", "c10::Half"]
    found = seen([mark("top_mlp", 0, 90), linear(0, 10, 10, 10), half, event("aten::relu", 80, 5)])
    assert sorted(operator_names(found.operators)) == ["aten::linear (float16)", "aten::linear (float32)", "aten::relu"]


def test_ceilings_without_known_work_say_nothing():
    found = verdict([*launched(1, 0, 10, 400)], Roofs(name="it", bytes_per_s=1.0, flops_per_s={}))
    assert found.kind == "idle-free"
    assert found.evidence["operators_known_frac"] == 0.0


def test_the_bound_is_of_one_device_and_of_its_wall_time():
    """Two devices run the layer; on the busier one two streams run it at once, in 1,000 of 1,040."""
    events = [
        mark("top_mlp", 0, 50),
        linear(0, 100, 100, 100),
        *launched(1, 2, 100, 1000),
        *launched(2, 5, 100, 900, stream=9),
        linear(20, 100, 100, 100),
        *launched(3, 22, 100, 990, pid=1),
        mark("embedding", 60, 20),
        *launched(4, 62, 1100, 40),
    ]
    found = verdict(events)
    assert found.kind == "idle-free"
    assert found.evidence["largest_component_frac"] == pytest.approx(1000 / 1040)
    assert "at most 96.2%" in found.advice
    roofs = Roofs(name="it", bytes_per_s=1e17, flops_per_s={"float32": 1e15})
    found = verdict(events, roofs)
    assert found.kind == "compute-bound"
    assert found.evidence["operators_known_frac"] == 1.0
    assert "at most 100.0%" in found.advice


def test_work_without_a_duration_has_no_verdict():
    roofs = Roofs(name="it", bytes_per_s=1.0, flops_per_s={})
    assert verdict(launched(1, 0, 10, 0), roofs) is None


# Without a GPU


def host(events):
    return verdict(events)


def test_a_host_that_dispatches_tiny_operators():
    found = host([event("aten::mul", 3000 * n, 2000) for n in range(50)])
    assert found.kind == "dispatch-bound"
    assert found.evidence["tiny_ops_count"] == 50
    assert found.evidence["gaps_frac"] == pytest.approx(49_000 / 149_000)


def test_a_host_that_waits_for_its_loader_or_for_other_ranks_has_nothing_to_fuse():
    """20 us of work, 160 us in which the thread waits inside an annotation without ops, 20 us of work."""

    def waiting(name):
        return [event("aten::mm", 0, 20_000), mark(name, 20_000, 160_000), event("aten::mm", 180_000, 20_000)]

    found = host(waiting("enumerate(DataLoader)#_MultiProcessingDataLoaderIter.__next__"))
    assert found.kind == "input-bound"
    assert "at most 80.0%" in found.advice
    assert (found.evidence["gaps_frac"], found.evidence["busiest_thread_input_frac"]) == (0.0, 0.8)
    found = host(waiting("gloo:all_reduce"))
    assert found.kind == "communication-bound"
    assert (found.evidence["gaps_frac"], found.evidence["busiest_thread_comms_frac"]) == (0.0, 0.8)
    assert host(waiting("my part")).kind == "dispatch-bound"


def test_waiting_before_the_first_op_is_no_part_of_the_span():
    events = [mark("enumerate(DataLoader)#_Iter.__next__", 0, 900_000), event("aten::mm", 900_000, 100_000)]
    found = host(events)
    assert found.evidence["busiest_thread_input_frac"] == 0.0
    assert found.kind == "mlp-bound"


def test_ops_inside_an_input_annotation_count_once():
    """100 us in the loader, 30 of them in an op; then 100 us of work. Threads beside it load meanwhile."""
    events = [
        event("aten::mm", 0, 20_000),
        mark("enumerate(DataLoader)#_Iter.__next__", 20_000, 100_000),
        event("aten::stack", 50_000, 30_000),
        event("aten::mm", 120_000, 80_000),
        mark("load_batch", 0, 110_000, tid=2),
        event("aten::stack", 0, 110_000, tid=2),
    ]
    found = host(events)
    assert (found.kind, found.evidence["busiest_thread_input_frac"]) == ("input-bound", 0.5)


def test_tiny_ops_of_other_threads_are_no_dispatch():
    """One thread is in its tables for 100 us, another runs 45 ops of 2 us meanwhile."""
    events = [mark("embedding", 0, 100_000), event("aten::embedding_bag", 0, 100_000)]
    events += [event("aten::mul", 2_200 * n, 2_000, tid=2) for n in range(45)]
    found = host(events)
    assert (found.kind, found.evidence["tiny_ops_count"]) == ("embedding-bound", 0)


def test_a_host_in_its_tables_or_its_layers_or_its_update():
    def one(name, other):
        return [
            mark(name, 0, 700_000),
            event("a", 0, 700_000),
            mark(other, 700_000, 300_000),
            event("b", 700_000, 300_000),
        ]

    assert host(one("embedding", "top_mlp")).kind == "embedding-bound"
    assert host(one("top_mlp", "embedding")).kind == "mlp-bound"
    assert host(one("optimizer", "embedding")).kind == "optimizer-bound"
    assert host(one("load_batch", "embedding")).kind == "input-bound"
    assert "at most 70.0%" in host(one("embedding", "top_mlp")).advice


def test_a_host_whose_large_temporaries_are_faulted_in_again():
    def relu(at, dur):
        found = event("aten::relu", at, dur)
        found["args"] |= {"Input Dims": [[1024, 64]], "Input type": [F]}
        return found

    durs = [100_000, 100_000, 500_000, 500_000]
    found = host([relu(600_000 * n, dur) for n, dur in enumerate(durs)])
    assert found.kind == "dispatch-bound"  # half of it are gaps
    packed = [relu(sum(durs[:n]), dur) for n, dur in enumerate(durs)]
    found = host(packed)
    assert found.kind == "uneven"
    assert found.evidence["uneven_large_ops_frac"] == pytest.approx(800 / 1200)
    assert "faulted in again" in found.advice
    assert "first calls" in found.advice
    for allocator in ("pinned", "jemalloc"):
        lens = Lens(rules=load_rules(), allocator=allocator)
        kept = analyse(trace_of(packed), "all", lens).inspection.verdict
        assert kept.kind == "uneven"
        assert "compare with the allocator pinned" not in kept.advice
        assert f"the allocator ({allocator}) keeps what is freed" in kept.advice


def test_an_empty_trace_has_no_verdict():
    assert verdict([]) is None


# Ceilings


def test_ceilings_by_hand_and_what_is_none(tmp_path):
    path = tmp_path / "m.json"
    path.write_text(json.dumps({"name": "A100", "bytes_per_s": 1.5e12, "flops_per_s": {"float32": 1.9e13}}))
    assert load_roofs(path).source == "datasheet"
    path.write_text(json.dumps({"name": "A100", "bytes_per_s": 0, "flops_per_s": {}}))
    with pytest.raises(TraceError, match="above 0"):
        load_roofs(path)
    path.write_text("[]")
    with pytest.raises(TraceError, match="holds no ceilings"):
        load_roofs(path)
    with pytest.raises(TraceError, match="cannot be read"):
        load_roofs(tmp_path / "none.json")
