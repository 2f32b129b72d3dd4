"""What holds for every set of intervals, and for every damaged file: an answer or a TraceError, nothing else."""

from __future__ import annotations

import gzip
import json
import os
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.inspection.inspecting import inspect_trace
from bench.inspection.tables import flat, tables
from profiles.trace.breakdown import device_times
from profiles.trace.errors import TraceError
from profiles.trace.gpu import gpu_work
from profiles.trace.launching import queue
from profiles.trace.nesting import Nesting
from profiles.trace.reader import read_trace
from profiles.trace.spans import Spans, both, overlap, union, without
from tests.traces import call, event, mark, trace_of, work
from tools.trace_damage import mutated, wrong

SHARED = Path(__file__).parent.parent.parent.parent / "shared" / "traces" / "open"
SMALL = ("amd_mi250_minitoy", "triton_single_kernel_A100", "tb_gpu_metrics_V100")
# Files made from each seed; DLRM_BENCH_EXAMPLES=5000 for a thorough run.
EXAMPLES = max(int(os.environ.get("DLRM_BENCH_EXAMPLES", "0")), 100)

interval = st.tuples(st.integers(0, 60), st.integers(0, 15)).map(lambda i: (i[0], i[0] + i[1]))
intervals = st.lists(interval, max_size=12)


def arrays(found: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    pairs = np.array(found, np.int64).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


def moments(found: list[tuple[int, int]]) -> set[int]:
    return {at for start, end in found for at in range(start, end)}


@given(intervals, intervals)
def test_unions_count_every_moment_once(one: list[tuple[int, int]], other: list[tuple[int, int]]) -> None:
    a, b = union(*arrays(one)), union(*arrays(other))
    assert a.length == len(moments(one))
    assert both(a, b).length == len(moments(one) | moments(other))
    assert overlap(a, b) == len(moments(one) & moments(other))
    assert np.all(a.starts[1:] > a.ends[:-1])
    assert np.all(a.ends > a.starts)


@given(intervals, intervals)
def test_what_is_left_of_a_set_is_in_it_and_not_in_the_other(
    one: list[tuple[int, int]], other: list[tuple[int, int]]
) -> None:
    """Touching intervals stay apart."""
    a, b = union(*arrays(one)), union(*arrays(other))
    left = without(a, b)
    pairs = list(zip(left.starts.tolist(), left.ends.tolist(), strict=True))
    assert moments(pairs) == moments(one) - moments(other)
    assert left.length == len(moments(pairs))
    assert all(start < end for start, end in pairs)
    seconds = Spans(np.arange(40), np.arange(1, 41))
    apart = without(seconds, b)
    assert apart.starts.tolist() == sorted(set(range(40)) - moments(other))
    assert (apart.ends - apart.starts == 1).all()


kinds = st.sampled_from(["gemm", "ncclKernel_AllReduce", "Memcpy HtoD"])


@given(st.lists(st.tuples(interval, kinds, st.integers(1, 2)), min_size=1, max_size=10))
def test_the_parts_of_a_device_are_the_moments_of_its_work(found: list[tuple[tuple[int, int], str, int]]) -> None:
    events = [
        work(name, start, end - start, cat="gpu_memcpy" if name[0] == "M" else "kernel", stream=stream)
        for (start, end), name, stream in found
    ]
    times = device_times(gpu_work(trace_of(events)))
    gemm, comm, copies = (moments([i for i, name, _ in found if name[0] == letter]) for letter in "gnM")
    busy = gemm | comm | copies
    begin, end = min(i[0] for i, _, _ in found), max(i[1] for i, _, _ in found)
    assert (times.span_ns, times.busy_ns, times.idle_ns) == (end - begin, len(busy), end - begin - len(busy))
    assert (times.compute_ns, times.comm_ns, times.mem_ns) == (len(gemm), len(comm), len(copies))
    assert times.comm_overlap_ns == len(gemm & comm)
    assert times.exposed_mem_ns == len(copies - gemm - comm)
    assert times.compute_ns + times.exposed_comm_ns + times.exposed_mem_ns == times.busy_ns
    gaps = times.gaps
    assert gaps.host_late_ns + gaps.queued_ns + gaps.unknown_ns == times.idle_ns
    for number, stream in times.streams.items():
        assert stream.busy_ns == len(moments([i for i, _, s in found if s == number]))


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=1, max_size=8))
def test_queues_count_work_launched_and_not_begun(pairs: list[tuple[int, int]]) -> None:
    events = [call(at, 1, n) for n, (at, _) in enumerate(pairs, 1)]
    events += [work("k", at + wait, 1, correlation=n) for n, (at, wait) in enumerate(pairs, 1)]
    found = queue(gpu_work(trace_of(events)))
    assert found is not None
    waiting = [sum(at <= t < at + wait for at, wait in pairs) for t in range(81)]
    first, last = min(at for at, _ in pairs), max(at + wait for at, wait in pairs)
    assert found.mean == pytest.approx(sum(waiting) / (last - first) if last > first else 0.0)
    assert found.most >= max(waiting)


@given(st.lists(interval, max_size=15))
def test_the_innermost_interval_is_the_last_begun_that_is_open(found: list[tuple[int, int]]) -> None:
    # Halved lengths inside doubled starts nest: [4k, 4k+4) holds [4k+1, 4k+3).
    outer = sorted({4 * (start // 4) for start, _ in found})
    nested = [(s, s + 4) for s in outer] + [(s + 1, s + 3) for s in outer[::2]]
    starts, ends = arrays(sorted(nested))
    at = np.arange(-1, 70)
    answers = Nesting(starts, ends).innermost(at)
    for moment, answer in zip(at.tolist(), answers.tolist(), strict=True):
        open_ = [(s, e) for s, e in nested if s <= moment < e]
        expected = max(open_) if open_ else None
        assert (None if answer == -1 else (starts[answer], ends[answer])) == expected


def hand_made() -> bytes:
    events = [mark("ProfilerStep#3", 0, 90_000)]
    for n in range(1, 30):
        op = event(f"aten::op{n % 5}", n * 1000, 900, sequence=n, forward_thread=n % 2, dims=[[n, 2]], external_id=n)
        events += [op, call(n * 1000 + 10, 50, n), work("gemm", n * 1000 + 100, 700, correlation=n, device=0)]
    events.append({"ph": "M", "name": "process_name", "pid": 1, "args": {"name": "python"}})
    return json.dumps({"schemaVersion": 1, "traceEvents": events, "deviceProperties": [{"id": 0}]}, indent=1).encode()


def seeds() -> list[bytes]:
    files = [hand_made(), gzip.compress(hand_made())]
    return files + [min((SHARED / name).iterdir()).read_bytes() for name in SMALL if (SHARED / name).is_dir()]


def answered(path: Path) -> bool:
    """True for an answer, False for a TraceError; anything else is raised."""
    try:
        found = inspect_trace(read_trace(path))
    except TraceError as error:
        if str(path) not in str(error) or len(str(error)) > 500:
            raise AssertionError(f"unclear: {error}") from error
        return False
    assert found.quality.line
    assert tables(found) is not None
    return bool(flat([found]))


@pytest.mark.parametrize("number", range(len(seeds())))
def test_every_damaged_file_gets_an_answer_or_a_clear_error(number: int, tmp_path: Path) -> None:
    content, path, answers = seeds()[number], tmp_path / "t.json", 0
    for seed in range(EXAMPLES):
        chance = random.Random(seed)
        damaged = mutated(content, chance)
        if chance.random() < 0.3 and content[:2] == b"\x1f\x8b":
            damaged = gzip.compress(mutated(gzip.decompress(content), chance), 1)
        path.write_bytes(damaged)
        answers += answered(path)
    # Most damage is read around: a reader that refused everything would not do.
    assert answers > EXAMPLES // 4


def test_the_command_line_answers_damaged_files_with_a_code_and_a_line(tmp_path: Path) -> None:
    path, told = tmp_path / "t.json", set()
    for seed in range(12):
        path.write_bytes(mutated(hand_made(), random.Random(seed)))
        answer, fault = wrong(path, page=seed < 2)
        assert fault is None
        told.add(answer)
    path.write_bytes(b"no trace")
    assert wrong(path, page=False) == ("refused", None)
    assert told == {"read"} or told == {"read", "refused"}
