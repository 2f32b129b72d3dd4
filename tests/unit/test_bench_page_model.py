"""From traces to the plain model of a page, by hand-made traces."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from bench.inspection import profiling
from bench.inspection.lanes import NO_DELAY, Lane, Timeline
from bench.inspection.modelling import Lens, analyse
from bench.inspection.page import PageModel, render_page
from bench.inspection.page_lanes import make_timeline
from bench.inspection.page_model import Inspected, page_model
from bench.inspection.page_words import UNITS
from bench.inspection.ranking import ordered, rank_set
from profiles.trace.columns import Trace
from profiles.trace.components import components
from profiles.trace.gpu import gpu_work
from profiles.trace.roofs import Roofs
from profiles.trace.rules import load_rules
from profiles.trace.stepparts import StepParts
from tests import sample_records
from tests.traces import call, event, mark, trace_of, work

ROOFS = Roofs(name="made up", bytes_per_s=1e12, flops_per_s={"float32": 1e13})


def parts_of(trace: Trace) -> Any:
    return components(gpu_work(trace), load_rules())


def page_of(*traces: Trace, roofs: Roofs | None = None) -> PageModel:
    lens = Lens(rules=load_rules(), roofs=roofs)
    analysed = ordered([analyse(trace, "all", lens) for trace in traces])
    by_rank = sorted(traces, key=lambda t: t.metadata.rank or 0)
    found = [Inspected(a.inspection, parts_of(t)) for a, t in zip(analysed, by_rank, strict=True)]
    return page_model(found, rank_set(analysed).comparison)


def gpu_trace(rank: int | None = None, shift_ns: int = 0, comm_ns: int = 3_000) -> Trace:
    """A step of 50 us: a kernel of the top MLP launched in time, a gap, one launched late, a collective."""
    s = shift_ns
    events = [
        mark("ProfilerStep#4", s, 50_000),
        mark("top_mlp", s + 1_000, 12_000),
        event("aten::addmm", s + 1_500, 9_000, dims=[[8], [4, 16], [16, 8]], **{"Input type": ["float"] * 3}),
        call(s + 2_000, 1_000, 1),
        call(s + 20_000, 1_000, 2, tid=2),
        call(s + 22_000, 1_000, 3),
        work("sgemm", s + 4_000, 6_000, correlation=1),
        work("void elementwise<x>", s + 24_000, 2_000, correlation=2),
        work("ncclDevKernel_AllReduce", s + 30_000, comm_ns, correlation=3, stream=20),
        work("lost", s + 40_000, 1_000, correlation=99),
    ]
    head = {} if rank is None else {"distributedInfo": {"rank": rank, "world_size": 2}}
    return trace_of(events, **head)


def timeline(page: PageModel) -> Timeline:
    assert page.timeline is not None
    return page.timeline


def lane(found: Timeline, title: str, group: str = "") -> Lane:
    (one,) = [x for x in found.lanes if x.title == title and x.group.startswith(group)]
    return one


def named(found: Timeline, one: Lane) -> list[str]:
    return [found.names[n] for n in one.name.tolist()]


def test_streams_threads_and_gaps_become_lanes() -> None:
    found = timeline(page_of(gpu_trace()))
    assert [(x.group, x.title, x.kind) for x in found.lanes] == [
        ("GPU 0", "idle", "idle"),
        ("GPU 0", "stream 7", "gpu"),
        ("GPU 0", "stream 20", "gpu"),
        ("process 1", "thread 1", "cpu"),
        ("process 1", "thread 2", "cpu"),
    ]
    assert named(found, lane(found, "stream 7")) == ["sgemm", "void elementwise<x>", "lost"]
    assert lane(found, "stream 7").start_ns.tolist() == [4_000, 24_000, 40_000]
    assert [(m.name, m.start_ns, m.dur_ns) for m in found.steps] == [("step 4", 0, 50_000)]
    assert found.span_ns == 50_000
    assert found.left_out == ""


def test_ops_are_nested_by_depth_and_coloured_by_component() -> None:
    found = timeline(page_of(gpu_trace()))
    thread = lane(found, "thread 1")
    assert named(found, thread)[:4] == ["ProfilerStep#4", "top_mlp", "aten::addmm", "cudaLaunchKernel"]
    assert thread.row.tolist()[:4] == [0, 1, 2, 3]
    parts = [found.parts[p] for p in thread.part.tolist()]
    assert [(p.component, p.phase) for p in parts[1:4]] == [("top_mlp", "forward")] * 3
    kernel = found.parts[int(lane(found, "stream 7").part[0])]
    assert (kernel.component, kernel.phase) == ("top_mlp", "forward")


def test_launches_point_to_their_threads_with_their_delays() -> None:
    found = timeline(page_of(gpu_trace()))
    stream = lane(found, "stream 7")
    assert stream.delay_ns is not None
    assert stream.launcher is not None
    assert stream.delay_ns.tolist() == [1_000, 3_000, NO_DELAY]
    titles = [found.lanes[at].title if at >= 0 else "" for at in stream.launcher.tolist()]
    assert titles == ["thread 1", "thread 2", ""]


def test_gaps_carry_their_causes() -> None:
    """10-24 us: launched at 20, late. 26-30 us: launched at 22, queued. 33-40 us: no launch."""
    found = timeline(page_of(gpu_trace()))
    idle = lane(found, "idle")
    assert idle.start_ns.tolist() == [10_000, 26_000, 33_000]
    assert idle.dur_ns.tolist() == [14_000, 4_000, 7_000]
    assert [found.parts[p].component for p in idle.part.tolist()] == ["idle_host_late", "idle_queued", "idle_unknown"]


def test_figures_of_the_page_are_those_of_the_inspection() -> None:
    page = page_of(gpu_trace(), roofs=ROOFS)
    (device,) = page.devices
    assert (device.span_us, device.busy_us, device.idle_us) == (37.0, 12.0, 25.0)
    assert dict(device.idle_causes_us) == {"host_late": 14.0, "queued": 4.0, "unknown": 7.0}
    assert sum(c.gpu_us_sum for c in page.components) == pytest.approx(12.0)
    assert {k.name: k.component for k in page.kernels}["sgemm"] == "top_mlp"
    assert page.roofline is not None
    (point,) = page.roofline.points
    assert point.flops_per_s == pytest.approx((2 * 4 * 16 * 8) / 6e-6, rel=0.05)
    assert page.roofline.bytes_per_s == {"memory": 1e12}
    assert page.defects == ("1 GPU event without a launch",)
    assert [(q.stream, q.n) for q in page.queues] == [("stream 7", 2), ("stream 20", 1)]
    assert page.queues[0].delay_median_us == 2.0


def test_evidence_ends_in_known_units() -> None:
    for page in (page_of(gpu_trace()), page_of(trace_of([event("aten::mm", 0, 5_000), event("aten::mm", 6_000, 10)]))):
        assert page.verdict.evidence
        numbers = [key for key, value in page.verdict.evidence.items() if not isinstance(value, str)]
        assert numbers
        assert all(key.endswith(tuple(suffix for suffix, _ in UNITS)) for key in numbers)


def test_a_trace_without_a_gpu_says_why_sections_are_absent() -> None:
    page = page_of(trace_of([mark("ProfilerStep#1", 0, 9_000), event("aten::mm", 0, 5_000), event("mine", 1, 10)]))
    assert page.devices == page.queues == page.copies == page.ranks == ()
    assert "no GPU event" in page.reasons["devices"]
    assert "roofline" not in page.reasons
    assert {k.name for k in page.kernels} == {"aten::mm", "mine"}
    text = render_page(page)
    assert "figures are of the host" in text
    assert "record_shapes=True" in text


def test_shapes_that_tell_nothing_are_not_called_missing() -> None:
    page = page_of(trace_of([event("mine::op", 0, 5_000, dims=[[3]], **{"Input type": ["float"]})]))
    assert page.roofline is None
    assert "shapes are recorded" in page.reasons["roofline"]


def test_an_empty_trace_has_a_page() -> None:
    page = page_of(trace_of([]))
    assert page.timeline is None
    assert page.verdict.kind == ""
    assert "Nothing with a duration" in render_page(page)


def test_ranks_share_an_axis_and_the_first_shows_its_threads() -> None:
    page = page_of(gpu_trace(1, shift_ns=7_000, comm_ns=2_000), gpu_trace(0))
    found = timeline(page)
    assert [(x.group, x.title) for x in found.lanes if x.kind == "cpu"] == [
        ("rank 0 · process 1", "thread 1"),
        ("rank 0 · process 1", "thread 2"),
    ]
    assert lane(found, "stream 7", "rank 1").start_ns.tolist() == [11_000, 31_000, 47_000]
    assert lane(found, "stream 7", "rank 0").start_ns.tolist() == [4_000, 24_000, 40_000]
    assert found.left_out == "Threads are shown of rank 0 only"
    assert [d.name for d in page.devices] == ["rank 0 · GPU 0", "rank 1 · GPU 0"]
    assert [(r.rank, r.comm_us) for r in page.ranks] == [("0", 3.0), ("1", 2.0)]
    assert (page.ranks[0].waiting_us, page.ranks[1].waiting_us) == (1.0, 0.0)
    assert "of rank 0" in page.reasons["ranks"]
    assert set(page.defects) == {"rank 0: 1 GPU event without a launch", "rank 1: 1 GPU event without a launch"}
    render_page(page)


def test_clocks_that_do_not_meet_are_said() -> None:
    found = timeline(page_of(gpu_trace(0), gpu_trace(1, shift_ns=10**12)))
    assert found.left_out.startswith("Ranks share no moment by their clocks")
    assert lane(found, "stream 7", "rank 1").start_ns[0] == 4_000


def test_very_large_traces_are_thinned_and_say_so() -> None:
    many = [event("aten::mm", 1_000 * n, 100 + n % 7) for n in range(200)]
    found = make_timeline([("", parts_of(trace_of(many)))], most=50)
    assert found is not None
    assert found.num_events <= 50
    assert "calls on threads shorter than" in found.left_out


def test_the_page_of_a_case_names_the_device_it_ran_on() -> None:
    trace, record = gpu_trace(), sample_records.records()[0]
    inspection = analyse(trace, "all", Lens(rules=load_rules())).inspection
    steps = StepParts(steps=1, step_ns=50_000, parts=())
    looked = profiling.Looked(inspection=inspection, parts=parts_of(trace), steps=steps)
    machine = sample_records.machine(gpus=(sample_records.gpu(0, "H100"), sample_records.gpu(1, "A100")))
    for device, name in {"cuda": "H100", "cuda:1": "A100", "cpu": "AMD EPYC 7B13"}.items():
        ran = msgspec.structs.replace(record, case=msgspec.structs.replace(record.case, device=device))
        assert profiling.page_of(looked, ran, machine, "here").subtitle.startswith(f"{name} · ")
