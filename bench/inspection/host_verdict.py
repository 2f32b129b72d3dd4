"""What bounds a traced step that ran on the host alone. Decisions over plain numbers (docs/method/components.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from bench.inspection.result import Verdict
from bench.inspection.verdict import at_most, words
from bench.records import KEEPS_MEMORY
from profiles.trace.components import ComponentTimes
from profiles.trace.rules import OTHER

EMBEDDING_FRAC = DENSE_FRAC = 0.50
TINY_NS, TINY_FRAC = 10_000, 0.40
"""A host is bound by dispatch where ops of under 10 us, and the gaps between ops, make 40 % of the time."""
UNEVEN_BYTES, UNEVEN_FRAC = 128 * 1024, 0.25
"""From 128 KiB on glibc may return memory to the kernel after every use, which is paid when it is touched again."""
WAITING_FRAC = 0.30
"""A host is bound by input or communication where its busiest thread spends this share of the span on it."""
DENSE = ("bottom_mlp", "top_mlp", "mlp", "interaction")


class HostSeen(msgspec.Struct, frozen=True, kw_only=True):
    """A trace without a GPU: own time of ops, tiny ops and gaps on the busiest thread, uneven calls of large ops."""

    span_ns: int
    busiest_ns: int
    op_ns: int
    ops: int
    tiny_ns: int
    tiny_ops: int
    uneven_ns: int


class _Case(NamedTuple):
    """A verdict, whether it holds, what to try, and the share of the window that it could save."""

    kind: str
    holds: bool
    advice: str
    gain: float


def host_verdict(seen: HostSeen, components: Sequence[ComponentTimes], allocator: str = "") -> Verdict:
    """Of a trace without a GPU. `allocator` is that of the traced process, '' where it is not known."""
    span_ns, ops_ns = seen.span_ns or 1, sum(t.cpu_ns for t in components) or 1
    waiting_ns = sum(t.waiting_ns for t in components)
    whole_ns = ops_ns + waiting_ns
    shares: dict[str, float] = {}
    for t in components:
        shares[t.component] = shares.get(t.component, 0.0) + (t.cpu_ns + t.waiting_ns) / whole_ns
    # Where the thread waits for its input or for other ranks there is nothing to dispatch.
    gaps_ns = max(seen.span_ns - seen.busiest_ns - waiting_ns, 0)
    dispatch, uneven = (seen.tiny_ns + gaps_ns) / span_ns, seen.uneven_ns / ops_ns
    blocked = {
        name: sum(t.thread_ns + t.waiting_ns for t in components if t.component in parts) / span_ns
        # Sending ids to the ranks of their tables is communication: there is no GPU that could wait for it alone.
        for name, parts in (("input", ("input",)), ("comms", ("comms", "input_dist")))
    }
    evidence: dict[str, float | int] = {
        "span_us": seen.span_ns / 1000,
        "ops_count": seen.ops,
        "tiny_ops_count": seen.tiny_ops,
        "tiny_ops_frac": seen.tiny_ns / ops_ns,
        "gaps_frac": gaps_ns / span_ns,
        **{f"busiest_thread_{name}_frac": frac for name, frac in blocked.items()},
        "uneven_large_ops_frac": uneven,
        **{f"{name.replace(' ', '_')}_frac": share for name, share in sorted(shares.items(), key=lambda i: -i[1])[:6]},
    }
    # Shares are of all threads, gains of the span.
    found = _host_case(blocked, shares, dispatch, uneven, allocator, whole_ns / span_ns)
    return Verdict(kind=found.kind, evidence=evidence, advice=f"{found.advice} {at_most(min(found.gain, 1.0))}")


def _uneven_case(allocator: str) -> str:
    """Advice where calls of one operator take very different times; a known allocator rules a cause out."""
    told = "Calls of one operator with equal shapes take very different times"
    others = "other load, idle threads, first calls or inputs of unlike locality"
    if allocator in KEEPS_MEMORY:  # uneven calls have another cause there
        kept = f"and the allocator ({allocator}) keeps what is freed, so temporaries are not faulted in again"
        return f"{told}, {kept}: look for {others}; with each as fast as its fastest call"
    return (
        f"{told}: look for {others}, or temporaries that are faulted in again (count page faults, and compare with "
        "the allocator pinned: docs/method/measuring.md); with each as fast as its fastest call"
    )


def _blocked_cases(blocked: Mapping[str, float]) -> list[_Case]:
    """Waiting for input and for other ranks, the larger first."""
    loads = "Load and convert batches ahead of the step, on other threads or more loader workers: without it"
    sends = (
        "Overlap collectives with compute, send less, or balance the work over ranks, as waiting for others counts "
        "here: without it"
    )
    cases = [
        _Case("input-bound", blocked["input"] >= WAITING_FRAC, loads, blocked["input"]),
        _Case("communication-bound", blocked["comms"] >= WAITING_FRAC, sends, blocked["comms"]),
    ]
    return sorted(cases, key=lambda c: -c.gain)


def _host_case(
    blocked: Mapping[str, float],
    shares: Mapping[str, float],
    dispatch: float,
    uneven: float,
    allocator: str,
    of_span: float,
) -> _Case:
    """The first that holds. `of_span`: times of all threads that shares are of, over the span."""
    dense = sum(shares.get(name, 0.0) for name in DENSE)
    embedding, optimizer = shares.get("embedding", 0.0), shares.get("optimizer", 0.0)
    largest = max(shares, key=lambda n: shares[n]) if shares else OTHER
    cases = (
        *_blocked_cases(blocked),
        _Case(
            "dispatch-bound",
            dispatch >= TINY_FRAC,
            "Fuse small operators (torch.compile, a table-batched embedding) or raise the batch size: without tiny "
            "operators and the gaps between them",
            dispatch,
        ),
        _Case("uneven", uneven >= UNEVEN_FRAC, _uneven_case(allocator), uneven * of_span),
        _Case(
            "embedding-bound",
            embedding >= EMBEDDING_FRAC,
            "Try a table-batched backend, huge pages for the tables or a narrower row type: without the embedding",
            embedding * of_span,
        ),
        _Case(
            "mlp-bound",
            dense >= DENSE_FRAC,
            "Try more threads, bfloat16 or a narrower MLP: without the dense layers and the interaction",
            dense * of_span,
        ),
        _Case(
            "optimizer-bound",
            optimizer >= DENSE_FRAC,
            "Use a fused or sparse optimizer, which touches only the rows of the batch: without the update",
            optimizer * of_span,
        ),
    )
    mixed = f"No part dominates; the largest is {words(largest)}: without it"
    return next((c for c in cases if c.holds), _Case("mixed", True, mixed, shares.get(largest, 0.0) * of_span))
