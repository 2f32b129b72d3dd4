"""Hand-made traces: events as plain dicts with times in ns, read by the real reader's builder."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

from profiles.trace.builder import SKIPPED, Builder
from profiles.trace.columns import Category, Quality, Trace
from profiles.trace.decode import EVENTS

ARGUMENTS = {
    "sequence": "Sequence number",
    "forward_thread": "Fwd thread id",
    "external_id": "External id",
    "dims": "Input Dims",
}


def event(name: str, start_ns: int, dur_ns: int, cat: str = "cpu_op", pid: Any = 1, tid: Any = 1, **args: Any) -> dict:
    """One complete event as Kineto writes it: microseconds with three decimals."""
    said = {ARGUMENTS.get(key, key): value for key, value in args.items()}
    ts, dur = (str(Decimal(ns) / 1000) for ns in (start_ns, dur_ns))
    return {"ph": "X", "cat": cat, "name": name, "pid": pid, "tid": tid, "ts": ts, "dur": dur, "args": said}


def mark(name: str, start_ns: int, dur_ns: int, **more: Any) -> dict:
    """An annotation."""
    return event(name, start_ns, dur_ns, cat="user_annotation", **more)


def call(start_ns: int, dur_ns: int, correlation: int, name: str = "cudaLaunchKernel", **more: Any) -> dict:
    """A runtime call."""
    return event(name, start_ns, dur_ns, cat="cuda_runtime", correlation=correlation, **more)


def work(
    name: str, start_ns: int, dur_ns: int, cat: str = "kernel", stream: int = 7, pid: int = 0, **more: Any
) -> dict:
    """GPU work on a stream of device `pid`."""
    return event(name, start_ns, dur_ns, cat=cat, pid=pid, tid=stream, stream=stream, **more)


def trace_of(events: list[dict], skip: frozenset[Category] = SKIPPED, **head: Any) -> Trace:
    """The events as columns. Times count from the first event."""
    builder = Builder(skip)
    builder.add(EVENTS.decode(json.dumps(events)))
    return builder.finish(Path("hand-made.json"), head, Quality(events=0, kinds={}))
