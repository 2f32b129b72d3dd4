"""Every real trace beside the project against plain arithmetic on its JSON; every damaged one against what it holds.

The traces are other people's and stay outside the repository: where they are absent these tests are skipped.
"""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bench.inspection.inspecting import inspect_trace
from bench.inspection.result import Device, Inspection
from profiles.trace.errors import TraceError
from profiles.trace.reader import read_trace

TRACES = Path(__file__).parent.parent.parent.parent / "shared" / "traces"
ORACLES = TRACES / "oracles"
MANIFEST = ORACLES / "derived_manifest.json"
ABSENT = f"no real traces in {TRACES.parent.name}/{TRACES.name} beside the repository"
TOLERANCE_US = 0.01
# The oracles print means and rates with three decimals.
ROUNDED = 0.0006

pytestmark = pytest.mark.skipif(not MANIFEST.exists(), reason=ABSENT)


def references() -> list[Any]:
    """(file, its reference) of every oracle."""
    found = []
    for path in sorted(ORACLES.glob("*.json")):
        oracle = json.loads(path.read_text())
        if not isinstance(oracle, dict) or "reference" not in oracle:
            continue
        for reference in oracle["reference"]["per_file"]:
            (name,) = [f for f in oracle["files"] if f.endswith("/" + reference["file"])]
            found.append(pytest.param(TRACES / name, reference, id=f"{path.stem}/{reference['file'][:10]}"))
    return found


def derived() -> list[Any]:
    """(file, its entry in the manifest)."""
    entries = json.loads(MANIFEST.read_text()) if MANIFEST.exists() else []
    return [pytest.param(TRACES / e["file"], e, id=Path(e["file"]).name) for e in entries]


def near(value: float, tolerance: float = TOLERANCE_US) -> Any:
    return pytest.approx(value, abs=tolerance, rel=0)


PARTS = {
    "span_us": "span_us",
    "busy_us": "busy_union_us",
    "idle_us": "idle_us",
    "sum_us": "sum_durations_us",
    "compute_us": "compute_union_us",
    "comm_us": "comm_union_us",
    "mem_us": "mem_union_us",
    "comm_overlap_us": "comm_overlapped_by_compute_us",
    "exposed_comm_us": "exposed_comm_us",
    "exposed_mem_us": "exposed_mem_us",
}


def check_device(found: Device, expected: dict[str, Any]) -> None:
    for field, name in PARTS.items():
        assert getattr(found, field) == near(expected[name]), field
    assert found.compute_us + found.exposed_comm_us + found.exposed_mem_us == near(found.busy_us)
    assert found.counts == expected["counts"]
    gaps = expected["device_idle_gaps"]
    for cause in ("host_late", "queued", "unknown"):
        assert getattr(found.idle_causes_us, cause) == near(gaps[f"{cause}_us"]), cause
        assert getattr(found.idle_causes_n, cause) == gaps[f"{cause}_n"], cause
    assert {number: s.events for number, s in found.streams.items()} == expected["streams"]
    for number, stream in found.streams.items():
        queue = expected["queue_length"].get(number)
        assert (stream.queue_max is None) == (queue is None)
        if queue is not None:
            assert stream.queue_max == queue["max"]
            assert stream.queue_mean == near(queue["time_weighted_mean"], ROUNDED)


def check_single_device(found: Inspection, expected: dict[str, Any]) -> None:
    """What the document has once for all devices, on traces with one."""
    launches = expected["launch"]
    assert found.launches is not None
    assert found.launches.pairs == launches["pairs"]
    if launches["pairs"]:
        assert found.launches.delay_negative == launches["delay_raw_negative"]
        assert found.launches.shorter_than_call == launches["gpu_shorter_than_cpu_call"]
    for spread, name in (
        (found.launches.delay_clipped_us, "delay_clipped_us"),
        (found.launches.call_us, "cpu_call_us"),
    ):
        for quantity in ("sum", "mean", "p50", "p90", "min", "max") if launches["pairs"] else ():
            assert getattr(spread, quantity) == near(launches[name][quantity]), (name, quantity)
    assert set(found.copies) == set(expected["memory_ops"])
    for name, copy in found.copies.items():
        said = expected["memory_ops"][name]
        assert (copy.n, copy.sum_us, copy.bytes or 0) == (said["count"], near(said["us"]), said["bytes"])
        assert (copy.bytes_per_s or 0) / 1e9 == near(said["gbps_bytes_over_time"], ROUNDED)
    check_kernels(found, expected)


def check_kernels(found: Inspection, expected: dict[str, Any]) -> None:
    assert len(found.kernels) == expected["distinct_kernel_names"]
    assert [k.sum_us for k in found.kernels] == sorted((k.sum_us for k in found.kernels), reverse=True)
    # Several names are equal in the oracle's first 160 characters.
    got = {(k.name[:160], k.n, round(k.sum_us, 2)) for k in found.kernels}
    for kernel in expected["top_kernels"][:-1]:
        assert (kernel["name"][:160], kernel["count"], round(kernel["sum_us"], 2)) in got


@pytest.mark.parametrize(("path", "expected"), references() if MANIFEST.exists() else [])
def test_numbers_equal_plain_arithmetic(path: Path, expected: dict[str, Any]) -> None:
    trace = read_trace(path)
    found = inspect_trace(trace)
    quality = found.quality
    assert (quality.events, trace.quality.kinds) == (expected["events"], expected["by_ph_cat"])
    assert (quality.gpu_events, trace.quality.bytes_read) == (expected["gpu_events"], expected["json_bytes"])
    assert (quality.truncated, quality.events_lost, quality.events_repaired) == (None, 0, 0)
    assert quality.kernels_without_launch == expected["correlation"]["gpu_without_launch"]
    assert sorted(quality.steps) == sorted(s["step"] for s in expected["profiler_steps"])
    devices = expected.get("per_device", {})
    assert set(found.devices) == set(devices)
    for pid, device in devices.items():
        check_device(found.devices[pid], device)
    if found.launches is not None:
        correlation = expected["correlation"]
        assert found.launches.calls == correlation["runtime_events"]
        assert found.launches.pairs == correlation["gpu_with_launch"]
        assert found.launches.shared == correlation["gpu_correlation_shared_by_many_gpu_events"]
        assert found.launches.most_per_launch == correlation["max_gpu_events_per_correlation"]
        assert found.launches.by_call == correlation["launch_api_calls"]
    if len(devices) == 1:
        check_single_device(found, next(iter(devices.values())))


@pytest.mark.parametrize(("path", "entry"), derived())
def test_damaged_traces_give_what_they_hold(path: Path, entry: dict[str, Any]) -> None:
    expect, found = entry["expect"], inspect_trace(read_trace(path))
    quality = found.quality
    if "recoverable_complete_events" in expect:
        assert quality.events == expect["recoverable_complete_events"]
        assert "TRUNCATED" in quality.line
    if "events" in expect:
        assert quality.events == expect["events"]
        assert quality.truncated is None
        assert quality.events_lost == 0
    if "damaged_gpu_events" in expect:
        assert quality.times_missing + quality.times_negative + quality.times_absurd == 5
        assert sum(k.n for k in found.kernels if not k.name.startswith("Memcpy")) == expect["usable_kernels"]
    if "removed_launches" in expect:
        assert quality.kernels_without_launch == expect["removed_launches"]
        (device,) = found.devices.values()
        assert (device.idle_us, device.busy_us) == (expect["device_idle_us"], expect["busy_us"])
    if "gpu_events" in expect:
        assert quality.gpu_events == expect["gpu_events"]
        assert "nothing with a duration" in quality.line
    check_reference(found, entry.get("reference") or {})


def check_reference(found: Inspection, reference: dict[str, Any]) -> None:
    if not reference:
        return
    (device,) = found.devices.values()
    for field, name in PARTS.items():
        if name in reference:
            assert getattr(device, field) == near(reference[name]), field
    assert found.quality.gpu_events == reference["gpu_events"]
    assert found.launches is not None
    assert found.launches.pairs == reference["gpu_with_launch"]


def test_every_damaged_file_is_in_the_manifest() -> None:
    names = {Path(e["file"]).name for e in json.loads(MANIFEST.read_text())}
    assert {p.name for p in (TRACES / "open/derived").iterdir()} == names


def same(one: Inspection, other: Inspection) -> bool:
    return msgspec.structs.replace(one, file="") == msgspec.structs.replace(other, file="")


@pytest.mark.parametrize("folder", ["amd_mi250_minitoy", "tb_gpu_metrics_V100", "recsys_dlrm_torchrec_8xV100"])
def test_order_packing_and_place_of_metadata_change_nothing(folder: str, tmp_path: Path) -> None:
    source = min((TRACES / "open" / folder).iterdir())
    whole = inspect_trace(read_trace(source))
    # Numbers stay text: a float of json would lose digits of the times.
    content = json.loads(gzip.decompress(source.read_bytes()), parse_float=str)
    events = content.pop("traceEvents")
    for seed in range(3):
        random.Random(seed).shuffle(events)
        text = json.dumps({"traceEvents": events} | content).encode()
        path = tmp_path / "t.json.gz"
        path.write_bytes(gzip.compress(text[: len(text) // 3]) + gzip.compress(text[len(text) // 3 :]))
        assert same(inspect_trace(read_trace(path)), whole)


def test_windows_take_what_was_launched_in_the_steps() -> None:
    trace = read_trace(TRACES / "open/recsys_diff_control_A100/control.json.gz")
    whole, steps, inner = (inspect_trace(trace, policy) for policy in ("all", "steps", "steps-without-first-and-last"))
    assert (whole.window.steps, steps.window.steps, inner.window.steps) == (6, 6, 4)
    events = [sum(k.n for k in found.kernels) for found in (whole, steps, inner)]
    assert events[0] >= events[1] > events[2] > 0
    assert whole.quality == steps.quality == inner.quality
    with pytest.raises(TraceError, match="2 annotated steps"):
        inspect_trace(
            read_trace(TRACES / "open/recsys_sampled_128rank/sampled_rank-0.json.gz"), "steps-without-first-and-last"
        )
