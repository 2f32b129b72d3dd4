"""An inspected trace made up by hand, for tests of its page: two GPU streams and a thread, two steps of 10 ms."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from bench.inspection.lanes import NO_DELAY, Lane, Mark, Part, Timeline, make_lane
from bench.inspection.page import (
    Component,
    Copy,
    Device,
    Kernel,
    MemoryCurve,
    PageModel,
    Queue,
    Rank,
    Roofline,
    RoofPoint,
    Verdict,
)

MS = 1_000_000
HOSTILE = '<img src=x onerror="document.title=\'owned\'"></script><script>document.title="owned"</script>&'
NAMES = ("embedding_bag_kernel", "sgemm_128x64", "ncclAllReduce", "step", "cudaLaunchKernel", HOSTILE, "host late")
PARTS = (
    Part("embedding", "forward"),
    Part("top_mlp", "forward"),
    Part("top_mlp", "backward"),
    Part("comms"),
    Part(""),
    Part("idle_host_late"),
)


def lanes() -> tuple[Lane, ...]:
    """Stream 7: 4 ms embedding, then 2 ms sgemm in both steps; each launched 1 ms before its start."""
    main = make_lane(
        "GPU 0",
        "stream 7",
        "gpu",
        start_ns=[1 * MS, 5 * MS, 11 * MS, 15 * MS],
        dur_ns=[4 * MS, 2 * MS, 4 * MS, 2 * MS],
        name=[0, 1, 0, 1],
        part=[0, 1, 0, 2],
        delay_ns=[400_000, 4_300_000, 400_000, NO_DELAY],
        launcher=[2, 2, 2, -1],
    )
    comm = make_lane("GPU 0", "stream 20", "gpu", start_ns=[18 * MS], dur_ns=[1], name=[2], part=[3])
    thread = make_lane(
        "process 1",
        "thread 1",
        "cpu",
        start_ns=[10 * MS, 500_000, 0, 600_000, 10_500_000, 12 * MS],
        dur_ns=[10 * MS, 100_000, 10 * MS, 100_000, 100_000, 3 * MS],
        name=[3, 4, 3, 4, 4, 5],
        part=[4, 0, 4, 1, 0, 4],
    )
    idle = make_lane("GPU 0", "idle", "idle", start_ns=[7 * MS], dur_ns=[4 * MS], name=[6], part=[5])
    return main, comm, thread, idle


def timeline(**changes: Any) -> Timeline:
    steps = (Mark("ProfilerStep#1", 0, 10 * MS), Mark("ProfilerStep#2", 10 * MS, 10 * MS))
    found = Timeline(span_ns=20 * MS, names=NAMES, parts=PARTS, lanes=lanes(), steps=steps)
    return msgspec.structs.replace(found, **changes)


def crowded(num_gpu: int = 60_000, num_cpu: int = 180_000) -> Timeline:
    """Many short events: two streams, and a thread of two levels with a call in each parent; then one event alone."""
    random = np.random.default_rng(3)
    streams = []
    for stream in range(2):
        n = num_gpu // 2
        gaps, lengths = random.integers(200, 9_000, n), random.integers(500, 20_000, n)
        starts = np.cumsum(gaps + lengths) - lengths
        name = random.integers(0, 3, n)
        streams.append(
            make_lane("GPU 0", f"stream {stream}", "gpu", start_ns=starts, dur_ns=lengths, name=name, part=name)
        )
    n = num_cpu // 2
    starts = np.arange(n) * 5_000
    both = np.concatenate([starts, starts + 1_000])
    lengths = np.repeat([4_000, 2_000], n)
    name = np.repeat([3, 4], n)
    thread = make_lane("process 1", "thread 1", "cpu", start_ns=both, dur_ns=lengths, name=name, part=name * 0 + 4)
    span = max(int((lane.start_ns + lane.dur_ns).max()) for lane in (*streams, thread))
    lonely = make_lane("GPU 0", "stream 99", "gpu", start_ns=[span // 3], dur_ns=[100], name=[2], part=[3])
    return timeline(span_ns=span, lanes=(*streams, lonely, thread), steps=())


def model(**changes: Any) -> PageModel:
    """A page with every section."""
    found = PageModel(
        title="dlrm on a made-up GPU",
        subtitle="trace.json.gz",
        window="all events",
        verdict=Verdict(
            kind="launch_bound",
            advice="Capture the step in a CUDA graph; at most 30 % of the step can be won.",
            evidence={"idle_frac": 0.3, "host_late_us": 5100.0, "copied_bytes": 2**30, "slowest_stream": "stream 7"},
        ),
        defects=("1 kernel without a launch",),
        devices=(device(),),
        components=(
            component("embedding", "forward", 8000),
            component("top_mlp", "forward", 2000),
            component("top_mlp", "backward", 2000),
            component("comms", "", 0.001),
        ),
        coverage_frac=0.98,
        kernels=(
            Kernel(name=NAMES[1], component="top_mlp", n=2, sum_us=4000, mean_us=2000, median_us=2000, sd_us=0),
            Kernel(name=NAMES[0], component="embedding", n=2, sum_us=8000, mean_us=4000, median_us=4000, sd_us=0),
            Kernel(name=HOSTILE, component="my own", n=9, sum_us=0.001, mean_us=0.001, median_us=0.001, sd_us=0),
        ),
        roofline=roofline(),
        memory=(MemoryCurve(device="GPU 0", time_us=(0.0, 5000.0, 20000.0), held_bytes=(0.0, 3 * 2.0**30, 2.0**30)),),
        copies=(
            Copy(direction="host to device", n=3, sum_us=1000, copied_bytes=10**7),
            Copy(direction="device to host", n=1, sum_us=5, copied_bytes=None),
        ),
        queues=(
            Queue(stream="stream 7", n=3, delay_median_us=400, delay_p90_us=4300, queue_mean=0.5, queue_max=2),
            Queue(stream="stream 20", n=1, delay_median_us=None, delay_p90_us=None, queue_mean=0, queue_max=0),
        ),
        ranks=(rank("0", 2000.0), rank("1", None)),
        timeline=timeline(),
        provenance="dlrm-bench test",
    )
    return msgspec.structs.replace(found, **changes)


def device(name: str = "GPU 0") -> Device:
    return Device(
        name=name,
        span_us=17000.001,
        busy_us=12000.001,
        compute_us=12000,
        comm_us=0.001,
        mem_us=0,
        exposed_comm_us=0.001,
        exposed_mem_us=0,
        idle_causes_us={"queued": 1000, "host_late": 4000},
    )


def component(name: str, phase: str, us: float) -> Component:
    return Component(component=name, phase=phase, gpu_us_sum=us, gpu_us_wall=us, cpu_us=100)


def roofline() -> Roofline:
    points = (
        RoofPoint(name="aten::addmm", component="top_mlp", intensity=64, flops_per_s=8e12, sum_us=4000),
        RoofPoint(name="embedding_bag", component="embedding", intensity=0.25, flops_per_s=1.5e11, sum_us=8000),
    )
    return Roofline(points=points, bytes_per_s={"HBM": 9e11}, flops_per_s={"FP32": 15e12}, source="data sheet")


def rank(name: str, waiting_us: float | None) -> Rank:
    return Rank(
        rank=name,
        span_us=17000,
        busy_us=12000,
        compute_us=8000,
        comm_us=4000,
        exposed_comm_us=3000,
        waiting_us=waiting_us,
    )
