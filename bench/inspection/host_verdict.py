"""What bounds a traced step that ran on the host alone. Decisions over plain numbers (docs/method/components.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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
INPUT_FRAC = 0.30
DENSE = ("bottom_mlp", "top_mlp", "mlp", "interaction")


class HostSeen(msgspec.Struct, frozen=True, kw_only=True):
    """A trace without a GPU: own time of ops by size, gaps on the busiest thread, and uneven calls of large ops."""

    span_ns: int
    busiest_ns: int
    op_ns: int
    ops: int
    tiny_ns: int
    tiny_ops: int
    uneven_ns: int


def host_verdict(seen: HostSeen, components: Sequence[ComponentTimes], allocator: str = "") -> Verdict:
    """Of a trace without a GPU. `allocator` is that of the traced process, '' where it is not known."""
    whole = sum(t.cpu_ns for t in components) or 1
    shares: dict[str, float] = {}
    for t in components:
        shares[t.component] = shares.get(t.component, 0.0) + t.cpu_ns / whole
    gaps_ns = max(seen.span_ns - seen.busiest_ns, 0)
    dispatch = (seen.tiny_ns + gaps_ns) / (seen.span_ns or 1)
    uneven = seen.uneven_ns / whole
    evidence: dict[str, float | int] = {
        "span_us": seen.span_ns / 1000,
        "ops_count": seen.ops,
        "tiny_ops_count": seen.tiny_ops,
        "tiny_ops_frac": seen.tiny_ns / whole,
        "gaps_frac": gaps_ns / (seen.span_ns or 1),
        "uneven_large_ops_frac": uneven,
        **{f"{name.replace(' ', '_')}_frac": share for name, share in sorted(shares.items(), key=lambda i: -i[1])[:6]},
    }
    kind, advice, frac = _host_case(shares, dispatch, uneven, allocator)
    # Shares are of the ops of all threads; together they cannot shorten the window by more than this.
    gain = frac if kind == "dispatch-bound" else frac * whole / (seen.span_ns or 1)
    return Verdict(kind=kind, evidence=evidence, advice=f"{advice} {at_most(min(gain, 1.0))}")


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


def _host_case(shares: Mapping[str, float], dispatch: float, uneven: float, allocator: str) -> tuple[str, str, float]:
    """(kind, advice, its share), the first that holds."""
    dense = sum(shares.get(name, 0.0) for name in DENSE)
    embedding, from_input = shares.get("embedding", 0.0), shares.get("input", 0.0)
    largest = max(shares, key=lambda n: shares[n]) if shares else OTHER
    cases = (
        (
            dispatch >= TINY_FRAC,
            "dispatch-bound",
            "Fuse small operators (torch.compile, a table-batched embedding) or raise the batch size: without tiny "
            "operators and the gaps between them",
            dispatch,
        ),
        (
            uneven >= UNEVEN_FRAC,
            "uneven",
            _uneven_case(allocator),
            uneven,
        ),
        (
            from_input >= INPUT_FRAC,
            "input-bound",
            "Load and convert batches ahead of the step, on other threads: without it",
            from_input,
        ),
        (
            embedding >= EMBEDDING_FRAC,
            "embedding-bound",
            "Try a table-batched backend, huge pages for the tables or a narrower row type: without the embedding",
            embedding,
        ),
        (
            dense >= DENSE_FRAC,
            "mlp-bound",
            "Try more threads, bfloat16 or a narrower MLP: without the dense layers and the interaction",
            dense,
        ),
        (
            shares.get("optimizer", 0.0) >= DENSE_FRAC,
            "optimizer-bound",
            "Use a fused or sparse optimizer, which touches only the rows of the batch: without the update",
            shares.get("optimizer", 0.0),
        ),
    )
    for holds, kind, advice, frac in cases:
        if holds:
            return kind, advice, frac
    return "mixed", f"No part dominates; the largest is {words(largest)}: without it", shares.get(largest, 0.0)
