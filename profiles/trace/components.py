"""The component of every GPU event and host op, in the forward and the backward pass.

GPU work belongs to what launched it: the innermost annotation that a rule knows, else the ops around the launch, else
the kernel's name (profiles/trace/components.toml). Backward work belongs to the forward op it differentiates.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

import msgspec
import numpy as np

from profiles.trace.columns import NONE, Int64
from profiles.trace.gpu import GpuWork
from profiles.trace.homes import NOWHERE, PENDING, Bools, Homes, Places, fill
from profiles.trace.nesting import Nesting
from profiles.trace.rules import OTHER, Rules
from profiles.trace.spans import union
from profiles.trace.stacks import Frame, Stacks, stacks

FORWARD, BACKWARD, NEITHER = "forward", "backward", ""
INPUT, INPUT_DIST = "input", "input_dist"
"""Components of the shipped rules that verdicts know: batches to the device, ids to the ranks of their tables."""
_NO_PASS = frozenset({"optimizer", INPUT, INPUT_DIST, "comms", OTHER})
_GRAPH_LAUNCH = "GraphLaunch"
_WAITING = (INPUT, INPUT_DIST, "comms")
# Backends name their collectives so; the call itself may be no op, and the thread waits for another.
_COLLECTIVE = re.compile("^(nccl|rccl|gloo|hccl|xccl|ucc|mpi):")


class ComponentTimes(msgspec.Struct, frozen=True, kw_only=True):
    """One component in one pass: GPU time summed, as the union of its events, and own time of its host ops.

    Without GPU work, what the busiest thread spent: `thread_ns` is own time of its ops there, `waiting_ns` time of its
    annotations there outside what they enclose, for input and communication alone.
    """

    component: str
    phase: str
    gpu_sum_ns: int
    gpu_wall_ns: int
    cpu_ns: int
    gpu_events: int
    thread_ns: int = 0
    waiting_ns: int = 0


@dataclass(frozen=True, eq=False, slots=True)
class Components:
    """Codes into `names` and whether in the backward pass: per GPU event of `work`, and per host event of `stacks`.

    `around` is the innermost host event around each GPU event's launch, NONE where none is known. `only_when`: host
    events that are looked through, annotations that say when, not what.
    """

    work: GpuWork
    stacks: Stacks
    names: tuple[str, ...]
    around: Int64
    gpu: Int64
    gpu_backward: Bools
    host: Int64
    only_when: Bools
    own_ns: Int64


def only(found: Components, wanted: Bools) -> Components:
    """With some of the GPU events, as those of one device; the host's events stay."""
    return replace(
        found,
        work=found.work.only(wanted),
        around=found.around[wanted],
        gpu=found.gpu[wanted],
        gpu_backward=found.gpu_backward[wanted],
    )


def phase_of(component: str, backward: bool) -> str:
    """'forward' or 'backward', '' for what is in neither pass."""
    return BACKWARD if backward else NEITHER if component in _NO_PASS else FORWARD


def components(work: GpuWork, rules: Rules, found: Stacks | None = None) -> Components:
    """The component of each GPU event and host event of a trace."""
    held = found if found is not None else stacks(work.trace)
    homes = Homes(held, rules)
    held = replace(held, backward=homes.backward)
    around = np.full(len(work), NONE, np.int64)
    known = np.flatnonzero(work.launch != NONE)
    around[known] = held.around(work.launch[known])
    gpu = _gpu_components(work, homes, held, around)
    host = np.where(homes.component == PENDING, 0, homes.component)
    if not len(work):
        _name_collectives(held, homes, host)
    return Components(
        work=work,
        stacks=held,
        names=tuple(homes.names),
        around=around,
        gpu=gpu,
        gpu_backward=_of(held.backward, around),
        host=host,
        only_when=homes.only_when(),
        own_ns=held.own_op_ns(),
    )


def _name_collectives(held: Stacks, homes: Homes, host: Int64) -> None:
    """Annotations of collectives are communication: rules look through them, and no kernel says so on a CPU."""
    named = np.array([_COLLECTIVE.search(name) is not None for name in held.trace.names], bool)
    marks = np.flatnonzero((held.frame == Frame.ANNOTATION) & named[held.trace.name[held.rows]])
    if len(marks):
        host[marks] = homes.code("comms")


def _of(flags: Bools, at: Int64) -> Bools:
    """The flags of some events, False for none."""
    found = np.zeros(len(at), bool)
    known = np.flatnonzero(at != NONE)
    found[known] = flags[at[known]]
    return found


def _gpu_components(work: GpuWork, homes: Homes, held: Stacks, around: Int64) -> Int64:
    """Kernel rules where they come before what the host says; inside graphs there are no ops, so they decide."""
    if not len(work):
        return np.zeros(0, np.int64)
    unique, inverse = _distinct(_keys(work, held, around))
    found = np.array([_said(homes, *key) for key in unique], np.int64)[inverse]
    by_host = found == NONE
    found[by_host] = homes.component[around[by_host]]
    asking = found == PENDING
    # A kernel of a graph may follow the kernel before it in the same launch.
    group = np.where(work.launch == NONE, -2 - np.arange(len(work)), work.launch)
    return fill(found, asking, ~asking, group)


def _keys(work: GpuWork, held: Stacks, around: Int64) -> Int64:
    """Per event: the chain around its launch, that of the forward op, the kernel's name, whether it is of a graph."""
    trace, inside = work.trace, np.flatnonzero(around != NONE)
    chain, forward = np.full((2, len(work)), NONE, np.int64)
    chain[inside] = held.chain[around[inside]]
    inside = inside[held.forward[around[inside]] != NONE]
    forward[inside] = held.chain[held.forward[around[inside]]]
    is_graph = np.array([_GRAPH_LAUNCH in name for name in trace.names], bool)
    graph = np.zeros(len(work), np.int64)
    known = np.flatnonzero(work.launch != NONE)
    graph[known] = is_graph[trace.name[work.launch[known]]]
    return np.stack([chain, forward, trace.name[work.rows].astype(np.int64), graph])


def _said(homes: Homes, chain: int, forward: int, kernel: int, graph: int) -> int:
    """The component of such GPU work, NONE where the host's decides."""
    places = [homes.places[at] for at in (chain, forward) if at != NONE] or [NOWHERE]
    if graph:
        places = [Places(p.known, p.unknown, frozenset()) for p in places]
    rule, place = min(((homes.book.first(p, kernel), p) for p in places), key=lambda found: found[0])
    decides = graph or chain == NONE or (rule < homes.none and homes.book.rules[rule].kernel is not None)
    return homes.code(homes.book.component(rule, place)) if decides else NONE


def _distinct(keys: Int64) -> tuple[list[list[int]], Int64]:
    """(distinct columns, number of each column's among them)."""
    order = np.lexsort(keys)
    ordered = keys[:, order]
    new = np.append(True, np.any(np.diff(ordered, axis=1) != 0, axis=0))
    inverse = np.empty(keys.shape[1], np.int64)
    inverse[order] = np.cumsum(new) - 1
    return ordered[:, new].T.tolist(), inverse


def component_times(found: Components, host: Bools | None = None) -> tuple[ComponentTimes, ...]:
    """Times by component and pass, the most GPU time first, then the most CPU time. `host`: which host events count."""
    counts = np.ones(len(found.host), bool) if host is None else host
    own_ns = np.where(counts, found.own_ns, 0)
    cpu_ns = np.bincount(2 * found.host + found.stacks.backward, own_ns, minlength=2 * len(found.names))
    thread_ns, waiting_ns = _on_busiest(found, counts)
    key = 2 * found.gpu + found.gpu_backward
    events = np.bincount(key, minlength=2 * len(found.names))
    times = [
        msgspec.structs.replace(
            _times_of(found, at, key == at, int(cpu_ns[at])),
            thread_ns=int(thread_ns[at]),
            waiting_ns=int(waiting_ns[at]),
        )
        for at in np.flatnonzero((events > 0) | (cpu_ns > 0) | (waiting_ns > 0)).tolist()
    ]
    return tuple(sorted(times, key=lambda t: (-t.gpu_sum_ns, -t.cpu_ns, t.component, t.phase)))


def busiest_lane(found: Components, host: Bools) -> int:
    """The thread whose ops take the most time, as a number of the trace's lanes; NONE where no op takes any."""
    held = found.stacks
    spent = np.bincount(held.trace.lane[held.rows], np.where(host, found.own_ns, 0))
    return int(np.argmax(spent)) if spent.any() else NONE


def _on_busiest(found: Components, host: Bools) -> tuple[Int64, Int64]:
    """(own time of ops, time waited) of the busiest thread by component and pass; zeros where there is GPU work."""
    thread_ns, waiting_ns = np.zeros((2, 2 * len(found.names)), np.int64)
    held, lane = found.stacks, busiest_lane(found, host)
    if len(found.work) or lane == NONE:
        return thread_ns, waiting_ns
    trace, is_op = held.trace, held.frame != Frame.ANNOTATION
    mine = np.flatnonzero(host & (trace.lane[held.rows] == lane))
    key = 2 * found.host[mine] + held.backward[mine]
    np.add.at(thread_ns, key, found.own_ns[mine])
    # From the first op to the last, which is the span that times are held against.
    ops = held.rows[host & is_op]
    first_ns, last_ns = trace.ts_ns[ops].min(), trace.end_ns[ops].max()
    starts = np.clip(trace.ts_ns[held.rows[mine]], first_ns, last_ns)
    ends = np.clip(trace.end_ns[held.rows[mine]], first_ns, last_ns)
    waits = np.array([name in _WAITING for name in found.names], bool)[found.host[mine]] & ~is_op[mine]
    np.add.at(waiting_ns, key[waits], Nesting(starts, ends).own_ns()[waits])
    return thread_ns, waiting_ns


def _times_of(found: Components, key: int, on_gpu: Bools, cpu_ns: int) -> ComponentTimes:
    work = found.work.only(on_gpu)
    name = found.names[key // 2]
    return ComponentTimes(
        component=name,
        phase=phase_of(name, bool(key % 2)),
        gpu_sum_ns=int(work.durs_ns.sum()),
        gpu_wall_ns=union(work.starts_ns, work.ends_ns).length,
        cpu_ns=cpu_ns,
        gpu_events=len(work),
    )


def coverage_frac(times: Iterable[ComponentTimes]) -> float | None:
    """The share of GPU time that has a home; of the host ops' own time where there is no GPU; None without either."""
    listed = list(times)
    for spent in ([t.gpu_sum_ns for t in listed], [t.cpu_ns for t in listed]):
        if sum(spent):
            homeless = sum(ns for ns, t in zip(spent, listed, strict=True) if t.component == OTHER)
            return 1 - homeless / sum(spent)
    return None
