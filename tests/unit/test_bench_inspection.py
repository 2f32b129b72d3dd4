"""An inspection of hand-made traces, number by number."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from bench.errors import UsageError
from bench.inspection.inspecting import inspect_set, inspect_trace
from bench.inspection.tables import flat, share, tables
from profiles.trace.columns import NONE
from profiles.trace.errors import TraceError
from profiles.trace.gpu import Kind, gpu_work, kind_of
from profiles.trace.links import forward_rows, launch_rows
from profiles.trace.windows import find_steps, missing_steps, window
from tests.traces import call, event, mark, trace_of, work

# A step of 10 us on the host; times below in ns.
EVENTS = [
    mark("ProfilerStep#4", 0, 10_000),
    event("aten::mm", 100, 900, sequence=7, forward_thread=0),
    call(200, 100, 1),
    call(1_500, 100, 2),
    call(1_700, 200, 3, name="cudaMemcpyAsync"),
    call(5_000, 100, 4),
    call(9_000, 100, 99),
    work("gemm", 1_000, 1_000, correlation=1),
    work("ncclDevKernel_AllReduce", 1_500, 2_000, correlation=2, stream=9),
    work("Memcpy HtoD (Pinned -> Device)", 4_000, 500, cat="gpu_memcpy", correlation=3, bytes=1_000),
    work("gemm", 6_000, 2_000, correlation=4),
    work("gemm", 7_000, 500),
    work("lonely", 8_600, 400),
    event("cudaStreamSync", 0, 20_000, cat="cuda_sync", pid=0, tid=7),
]


@pytest.fixture
def found():
    return inspect_trace(
        trace_of(EVENTS, deviceProperties=[{"id": 0, "name": "Hand-made"}], distributedInfo={"rank": 2})
    )


def test_where_the_time_of_a_device_went(found):
    (device,) = found.devices.values()
    assert (device.name, found.rank) == ("Hand-made", 2)
    assert (device.span_us, device.busy_us, device.idle_us) == (8.0, 5.4, 2.6)
    assert (device.compute_us, device.comm_us, device.mem_us) == (3.4, 2.0, 0.5)
    assert (device.comm_overlap_us, device.exposed_comm_us, device.exposed_mem_us) == (0.5, 1.5, 0.5)
    # 3.5-4.0: the copy was launched at 1.7; 4.5-6.0: launched at 5.0; 8.0-8.6: nobody knows.
    causes, counts = device.idle_causes_us, device.idle_causes_n
    assert (causes.queued, causes.host_late, causes.unknown) == (0.5, 1.5, 0.6)
    assert (counts.queued, counts.host_late, counts.unknown) == (1, 1, 1)
    assert device.counts == {"compute": 4, "comm": 1, "memcpy": 1}


def test_streams_and_their_queues(found):
    streams = found.devices["0"].streams
    assert {number: s.events for number, s in streams.items()} == {"7": 5, "9": 1}
    assert (streams["7"].busy_us, streams["7"].sum_us, streams["7"].overlapping) == (3.9, 4.4, 1)
    # Waiting on stream 7: 0.2-1.0, 1.7-4.0 and 5.0-6.0, of 0.2-6.0.
    assert (streams["7"].queue_max, streams["7"].queue_mean) == (1, pytest.approx(4.1 / 5.8))
    assert (streams["9"].queue_max, streams["9"].queue_mean) == (1, 0.0)


def test_launches_copies_and_kernels(found):
    launches = found.launches
    assert (launches.calls, launches.pairs, launches.delay_negative) == (5, 4, 1)
    assert (launches.delay_us.min, launches.delay_us.max, launches.delay_clipped_us.min) == (-0.1, 2.1, 0.0)
    assert (launches.call_us.sum, launches.by_call) == (0.5, {"cudaLaunchKernel": 3, "cudaMemcpyAsync": 1})
    (copy,) = found.copies.values()
    assert (copy.n, copy.sum_us, copy.bytes, copy.bytes_per_s) == (1, 0.5, 1000, pytest.approx(2e9))
    gemm = found.kernels[0]
    assert (gemm.name, gemm.n, gemm.sum_us, gemm.median_us) == ("gemm", 3, 3.5, 1.0)
    assert (gemm.mean_us, gemm.sd_us) == (1.167, 0.764)
    assert [k.name for k in found.kernels][1:] == [
        "ncclDevKernel_AllReduce",
        "Memcpy HtoD (Pinned -> Device)",
        "lonely",
    ]


def test_the_quality_line_names_every_fault(found):
    quality = found.quality
    assert (quality.kernels_without_launch, quality.launches_without_kernel, quality.stream_overlaps) == (2, 1, 1)
    assert (quality.steps, quality.copies_bytes_unknown) == ((4,), 0)
    said = (
        "14 events, 6 of them GPU work, 1 step; ",
        "2 GPU events without a launch",
        "1 launch call without GPU work",
    )
    assert all(words in quality.line for words in said)
    assert inspect_trace(trace_of([event("a", 0, 1)])).quality.line.endswith(
        "no GPU work, no annotated steps; no faults found"
    )


def test_the_host_and_its_ops(found):
    host = found.host
    (thread,) = host.threads
    assert (host.span_us, host.busy_us, thread.gaps, thread.largest_gap_us) == (9.0, 1.4, 4, 3.9)
    assert host.parallel_efficiency_frac == pytest.approx(1.4 / 9.0)
    assert {o.name: o.sum_us for o in found.ops} == {"aten::mm": 0.8, "cudaLaunchKernel": 0.4, "cudaMemcpyAsync": 0.2}


def test_two_threads_that_work_half_the_time():
    found = inspect_trace(trace_of([event("a", 0, 50), event("b", 50, 50, tid=2), event("c", 60, 10, tid=2)]))
    assert found.devices == {}
    assert (found.launches, found.kernels, found.copies) == (None, (), {})
    assert (found.host.busy_us, found.host.parallel_efficiency_frac) == (0.1, 0.5)
    assert {o.name: (o.n, o.sum_us) for o in found.ops} == {"a": (1, 0.05), "b": (1, 0.04), "c": (1, 0.01)}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("ncclKernel_AllReduce_RING", Kind.COMM),
        ("void rcclKernel", Kind.COMPUTE),
        ("rccl_main", Kind.COMM),
        ("void ncclDevKernel_Broadcast(x)", Kind.COMM),
        ("hcclAllReduce", Kind.COMM),
        ("__amd_rocclr_copyBuffer", Kind.MEMCPY),
        ("__amd_rocclr_copyBufferAligned", Kind.MEMCPY),
        ("__amd_rocclr_copyBufferRectAligned", Kind.MEMCPY),
        ("__amd_rocclr_fillBufferAligned", Kind.MEMSET),
        ("volta_sgemm", Kind.COMPUTE),
    ],
)
def test_kinds_of_kernels(name, kind):
    assert kind_of(name) is kind


def test_a_blocking_copy_of_rocm_without_its_gpu_event_is_missed() -> None:
    """Of two calls one has its copy: the copy waits on the host until it has ended."""
    events = [
        call(0, 5_000, 1, name="hipMemcpyWithStream"),
        call(6_000, 5_000, 2, name="hipMemcpyWithStream"),
        work("CopyHostToDevice", 1_000, 3_000, cat="gpu_memcpy", correlation=1),
    ]
    found = inspect_trace(trace_of(events))
    assert (found.launches.pairs, found.quality.launches_without_kernel) == (1, 1)


def test_one_launch_of_many_kernels_and_a_driver_call_inside_a_runtime_call():
    events = [
        call(0, 50, 5, name="cudaGraphLaunch"),
        event("cuGraphLaunch", 10, 20, cat="cuda_driver", correlation=5),
        *(work(f"k{n}", 100 + 10 * n, 5, correlation=5) for n in range(4)),
    ]
    trace = trace_of(events)
    rows = launch_rows(trace, gpu_work(trace).rows)
    assert {trace.text(row) for row in rows} == {"cudaGraphLaunch"}
    found = inspect_trace(trace)
    assert (found.launches.pairs, found.launches.shared, found.launches.most_per_launch) == (4, 1, 4)
    assert (found.launches.by_call, found.quality.launches_without_kernel) == ({"cudaGraphLaunch": 1}, 0)


def test_launches_of_ranks_merged_into_one_file_are_unknown_where_they_share_a_number():
    """Both ranks count correlations from 1; rank 1 begins later and launches once, rank 0 twice."""
    events = [
        call(1_000, 500, 1, pid="[TP00] 1"),
        call(4_000, 500, 2, pid="[TP00] 1"),
        call(3_000, 500, 1, pid="[TP01] 1"),
        work("gemm", 2_000, 1_000, correlation=1),
        work("gemm", 5_000, 1_000, correlation=2),
        work("gemm", 4_000, 1_000, correlation=1, pid=1),
    ]
    trace = trace_of(events)
    assert sorted(launch_rows(trace, gpu_work(trace).rows).tolist())[:2] == [NONE, NONE]
    found = inspect_trace(trace)
    assert (found.launches.pairs, found.launches.delay_us.max) == (1, 0.5)
    quality = found.quality
    assert (quality.mixed_correlations, quality.kernels_without_launch, quality.launches_without_kernel) == (1, 2, 0)
    assert "several processes in one file, with 1 correlation in common" in quality.line
    alone = inspect_trace(trace_of([e for e in events if e["pid"] in ("[TP00] 1", 0)])).quality
    assert (alone.mixed_correlations, alone.kernels_without_launch) == (0, 0)


def test_steps_of_ranks_merged_into_one_file_hold_all_of_them():
    events = [
        mark("ProfilerStep#4", 0, 1000),
        mark("ProfilerStep#4", 400, 100, tid=2),
        mark("ProfilerStep#4", 300, 1000, pid=2),
        mark("ProfilerStep#5", 1000, 900),
    ]
    assert [(s.number, s.start_ns, s.end_ns) for s in find_steps(trace_of(events))] == [(4, 0, 1300), (5, 1000, 1900)]
    own = [mark("step", 0, 50), mark("step", 60, 50), mark("step", 10, 50, pid=2)]
    assert [(s.number, s.start_ns, s.end_ns) for s in find_steps(trace_of(own))] == [(0, 0, 60), (1, 60, 110)]


def test_backward_ops_find_the_latest_forward_op_of_their_number():
    events = [event(f"fwd{n}", 100 * n, 10, sequence=3, forward_thread=0) for n in range(3)]
    events += [event("bwd", at, 5, sequence=3, forward_thread=1, tid=2) for at in (100, 150, 900)]
    events.append(event("bwd", 950, 5, sequence=4, forward_thread=1, tid=2))
    trace = trace_of(events)
    backward = [row for row in range(len(trace)) if trace.text(row) == "bwd"]
    found = forward_rows(trace, trace.rows(1)[[int(r) for r in backward]])
    assert [NONE if row == NONE else trace.text(row) for row in found] == ["fwd0", "fwd1", "fwd2", NONE]


NODE = "autograd::engine::evaluate_function: "


def forwards_of(events):
    """(thread, name) of the forward op of each backward node by the node's (forward thread, name)."""
    trace = trace_of(events)
    rows = np.flatnonzero(trace.forward_thread > 0)
    found = {}
    for row, at in zip(rows.tolist(), forward_rows(trace, rows).tolist(), strict=True):
        asked = (int(trace.forward_thread[row]), trace.text(row).removeprefix(NODE))
        found[asked] = None if at == NONE else (trace.lanes[int(trace.lane[at])][1], trace.text(at))
    return found


def test_a_number_that_two_threads_count_is_sought_on_the_one_that_ran_the_forward_op():
    """Both threads count from 5; thread 3 runs the backward pass of both, of the profiler's threads 1 and 2."""
    events = [
        event("aten::addmm", 0, 40, sequence=5, forward_thread=0),
        event("aten::relu", 50, 40, sequence=6, forward_thread=0),
        event("aten::mul", 20, 40, sequence=5, forward_thread=0, tid=2),
        event("aten::relu", 70, 40, sequence=6, forward_thread=0, tid=2),
        event(f"{NODE}ReluBackward0", 200, 10, sequence=6, forward_thread=1, tid=3),
        event(f"{NODE}AddmmBackward0", 210, 10, sequence=5, forward_thread=1, tid=3),
        event(f"{NODE}ReluBackward0", 220, 10, sequence=6, forward_thread=2, tid=3),
        event(f"{NODE}MulBackward0", 230, 10, sequence=5, forward_thread=2, tid=3),
    ]
    assert forwards_of(events) == {
        (1, "ReluBackward0"): (1, "aten::relu"),
        (1, "AddmmBackward0"): (1, "aten::addmm"),
        (2, "ReluBackward0"): (2, "aten::relu"),
        (2, "MulBackward0"): (2, "aten::mul"),
    }


def test_a_number_of_two_threads_that_nothing_tells_apart_has_no_forward_op():
    """A number of one thread alone keeps its op."""
    events = [
        event("aten::relu", 0, 40, sequence=6, forward_thread=0),
        event("aten::relu", 20, 40, sequence=6, forward_thread=0, tid=2),
        event("my::op", 70, 40, sequence=7, forward_thread=0, tid=2),
        event(f"{NODE}ReluBackward0", 200, 10, sequence=6, forward_thread=1, tid=3),
        event(f"{NODE}OtherBackward0", 210, 10, sequence=7, forward_thread=1, tid=3),
    ]
    assert forwards_of(events) == {(1, "ReluBackward0"): None, (1, "OtherBackward0"): (2, "my::op")}


def test_a_number_of_another_process_is_another_number():
    events = [
        event("aten::relu", 0, 40, sequence=6, forward_thread=0),
        event("aten::mul", 50, 40, sequence=6, forward_thread=0, pid=2, tid=9),
        event(f"{NODE}ReluBackward0", 200, 10, sequence=6, forward_thread=1, tid=3),
    ]
    assert forwards_of(events) == {(1, "ReluBackward0"): (1, "aten::relu")}


def steps(count):
    found = []
    for n in range(count):
        at = 1000 * n
        found += [
            mark(f"ProfilerStep#{n + 5}", at, 1000),
            call(at + 10, 5, n + 1),
            work("k", at + 900, 200, correlation=n + 1),
        ]
    return found


def test_windows_follow_the_launch():
    trace = trace_of([*steps(4), work("stray", 50, 10), work("after", 4_500, 10)])
    events = {
        policy: inspect_trace(trace, policy).devices["0"] for policy in ("all", "steps", "steps-without-first-and-last")
    }
    assert [sum(d.counts.values()) for d in events.values()] == [6, 5, 2]
    inner = inspect_trace(trace, "steps-without-first-and-last")
    assert (inner.window.start_us, inner.window.end_us, inner.window.steps) == (1.0, 3.0, 2)
    assert inner.launches.calls == 2
    assert inner.quality == inspect_trace(trace).quality
    with pytest.raises(TraceError, match="has 2 annotated steps"):
        window(trace_of(steps(2)), "steps-without-first-and-last")


def test_steps_of_every_kind():
    old = [event(f"ProfilerStep#{n}", 100 * n, 50, cat="Operator", tid="12") for n in (2, 3, 6)]
    found = find_steps(trace_of(old))
    assert ([s.number for s in found], missing_steps(found)) == ([2, 3, 6], (4, 5))
    assert inspect_trace(trace_of(old)).ops == ()
    assert [s.number for s in find_steps(trace_of([mark("step", 5, 5), mark("step", 0, 5)]))] == [0, 1]
    assert missing_steps(()) == ()
    far = trace_of(
        [mark("ProfilerStep#1", 0, 10), mark(f"ProfilerStep#{10**17}", 20, 10), mark("ProfilerStep#" + "9" * 30, 40, 5)]
    )
    assert [s.number for s in find_steps(far)] == [1, 10**17]
    assert missing_steps(find_steps(far))[-1] == 1001


def test_a_window_without_work_is_empty_not_an_error():
    found = inspect_trace(trace_of([mark("ProfilerStep#1", 0, 10), work("k", 500, 5)]), "steps")
    assert (found.devices, found.kernels, found.launches) == ({}, (), None)
    assert tables(found) == []


def test_ranks_in_order():
    found = [
        msgspec.structs.replace(inspect_trace(trace_of([event("a", 0, 1)])), rank=rank, file=str(rank))
        for rank in (3, None, 0)
    ]
    assert [i.file for i in inspect_set(found).traces] == ["0", "3", "None"]


def test_tables_say_what_they_show(found):
    titles = [t.title for t in tables(found)]
    assert titles[0] == "where the time went, in ms"
    assert any("4 pairs" in title for title in titles)
    for table in tables(found):
        assert all(len(row) == len(table.columns) for row in table.rows)
    (devices, *_) = tables(found)
    assert ["  launch not in the trace", "0.001    7.5%"] in devices.rows
    assert share(1, 0) == ""


def test_rows_for_csv(found):
    files = flat([found, found])
    assert set(files) == {"quality", "devices", "streams", "launches", "copies", "kernels", "threads", "ops"}
    assert len(files["kernels"]) == 2 * len(found.kernels)
    assert files["devices"][0]["idle_causes_us.queued"] == 0.5
    assert files["streams"][0]["rank"] == 2


def test_the_document_survives_json(found):
    text = msgspec.json.encode(found)
    assert msgspec.json.decode(text, type=type(found)) == found


def test_files_of_a_folder(tmp_path: Path):
    from bench.commands.inspect_traces import trace_files

    for name in ("b.pt.trace.json.gz", "a.pt.trace.json", "notes.json"):
        (tmp_path / name).touch()
    names = [p.name for p in trace_files([tmp_path, tmp_path / "notes.json", tmp_path])]
    assert names == ["a.pt.trace.json", "b.pt.trace.json.gz", "notes.json"]
    # One pattern hides no file of another.
    assert [p.name for p in trace_files([tmp_path])] == names
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="holds no trace"):
        trace_files([tmp_path / "empty"])
