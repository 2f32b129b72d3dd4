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


def seen(events, roofs=None):
    return analyse(trace_of(events), "all", Lens(rules=load_rules(), roofs=roofs)).inspection


def verdict(events, roofs=None):
    return seen(events, roofs).verdict


def launched(number, at, start, dur, name="k", **more):
    return [call(at, 2, number), work(name, start, dur, correlation=number, **more)]


def test_launches_that_come_late():
    found = verdict([*launched(1, 0, 10, 40), *launched(2, 80, 100, 100)])
    assert found.kind == "launch-bound"
    assert found.evidence["idle_host_late_frac"] == pytest.approx(50 / 190)
    assert found.evidence["syncs_count"] == 0
    assert "at most 26.3%" in found.advice
    assert "CUDA graph" in found.advice


def test_launches_late_because_the_host_waited_for_the_device():
    events = [*launched(1, 0, 10, 40), call(3, 70, 99, name="cudaStreamSynchronize"), *launched(2, 80, 100, 100)]
    found = verdict(events)
    assert found.kind == "launch-bound"
    assert found.evidence["syncs_count"] == 1
    assert found.evidence["idle_in_sync_frac"] == pytest.approx(23 / 190)
    late = [*launched(1, 0, 10, 40), call(3, 90, 99, name="cudaStreamSynchronize"), *launched(2, 95, 100, 100)]
    assert ".item()" in verdict(late).advice


def test_a_device_that_waits_for_input():
    loading = mark("enumerate(DataLoader)#_Iter.__next__", 50, 45)
    found = verdict([*launched(1, 0, 10, 40), loading, *launched(2, 97, 100, 100)])
    assert found.kind == "input-bound"
    assert found.evidence["idle_input_frac"] == pytest.approx(45 / 190)
    assert "at most 23.7%" in found.advice


def test_one_hole_that_is_most_of_the_late_time_is_named():
    """Two late holes: 50 ns, and 9 ms in which the host read a file."""
    events = [*launched(1, 0, 10, 40), *launched(2, 80, 100, 100)]
    events += [event("aten::from_file", 300, 8_850_000), *launched(3, 9_000_180, 9_000_200, 100)]
    found = verdict(events)
    assert "Look at the 9.000 ms from 0.000 ms on" in found.advice
    assert "in aten::from_file" in found.advice
    assert found.evidence["host_meanwhile_frac"] == pytest.approx(9_000_000 / 9_000_050)


def test_communication_that_nothing_hides():
    events = [*launched(1, 0, 10, 50), *launched(2, 1, 60, 50, "ncclDevKernel_AllReduce"), *launched(3, 2, 110, 100)]
    found = verdict(events)
    assert found.kind == "communication-bound"
    assert "at most 25.0%" in found.advice


def test_queued_work_that_waits():
    found = verdict([*launched(1, 0, 10, 40), *launched(2, 3, 100, 100)])
    assert found.kind == "dependency-bound"
    assert "at most 26.3%" in found.advice


def test_copies_that_nothing_hides():
    events = [*launched(1, 0, 10, 50), *launched(2, 1, 60, 50, "Memcpy", cat="gpu_memcpy"), *launched(3, 2, 110, 100)]
    assert verdict(events).kind == "copy-bound"
    between = [*launched(1, 0, 10, 50), *launched(2, 1, 60, 50, "Memcpy DtoD (Device -> Device)", cat="gpu_memcpy")]
    assert "Remove copies on the device" in verdict([*between, *launched(3, 2, 110, 100)]).advice


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
