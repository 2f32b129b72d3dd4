"""How long each stage of a step took, forward and backward, from record_function annotations.

A stage's forward time is the own time of its annotations. Backward time is found by autograd's sequence numbers: a
backward node carries the number of the forward op it differentiates, and that op's innermost annotation is the stage.
"""

from __future__ import annotations

import bisect
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

import msgspec

from profiles.trace.reader import Event

STEP = "step"
BACKWARD = "backward"
_NODE = "autograd::engine::evaluate_function: "
_GPU_CATEGORIES = {"kernel", "gpu_memcpy", "gpu_memset"}
_LAUNCH_CATEGORIES = {"cuda_runtime", "cuda_driver"}
Home = tuple[str, bool]
"""(stage, whether in its backward)."""


class StageTimes(msgspec.Struct, frozen=True, kw_only=True):
    """Means per step. `stages` maps a stage to (forward_s, backward_s); (0, 0) where it was not seen.

    'backward' holds what of the backward pass belongs to no stage: the engine's own time and nodes without a
    forward op. On a CUDA trace times are those of GPU kernels and `coverage_frac` is the share of all GPU time that
    has a stage; on a CPU trace it is the share of the steps' wall time. `step_s` is wall time always; `on_device` says
    which of the two it was.
    """

    stages: dict[str, tuple[float, float]]
    step_s: float
    coverage_frac: float
    steps: int
    on_device: bool = False


class Nesting:
    """Intervals of one thread that nest properly, with the parent of each."""

    def __init__(self, events: Iterable[Event]) -> None:
        """Sort and link the events."""
        self.events = sorted(events, key=lambda e: (e.ts_ns, -e.dur_ns))
        self._starts = [e.ts_ns for e in self.events]
        self.parents: list[int] = []
        open_: list[int] = []
        for at, event in enumerate(self.events):
            while open_ and self.events[open_[-1]].end_ns <= event.ts_ns:
                open_.pop()
            self.parents.append(open_[-1] if open_ else -1)
            open_.append(at)

    def innermost(self, at_ns: int) -> Event | None:
        """The shortest interval around this moment."""
        at = bisect.bisect_right(self._starts, at_ns) - 1
        while at >= 0 and self.events[at].end_ns <= at_ns:
            at = self.parents[at]
        return self.events[at] if at >= 0 else None

    def own_ns(self) -> list[int]:
        """Per event, its duration without its children's."""
        own = [e.dur_ns for e in self.events]
        for event, parent in zip(self.events, self.parents, strict=True):
            if parent >= 0:
                own[parent] -= event.dur_ns
        return own


Lane = tuple[int | str, int | str]


class _Owners:
    """Which stage owns a moment of a thread."""

    def __init__(self, events: Sequence[Event], stages: Sequence[str]) -> None:
        names = {*stages, BACKWARD}
        marks, nodes, self._forward = _split(events, names)
        self._annotations = {lane: Nesting(found) for lane, found in marks.items()}
        self._stage_of_node: dict[tuple[Lane, int], str] = {}
        for lane, found in nodes.items():
            self._name_nodes(lane, found)
        lanes = {*marks, *nodes}
        self.lanes = {lane: Nesting([*marks.get(lane, ()), *nodes.get(lane, ())]) for lane in lanes}

    def _name_nodes(self, lane: Lane, nodes: Sequence[Event]) -> None:
        """A node without a number (AccumulateGrad) belongs to the one before it, whose gradient it stores."""
        stage = BACKWARD
        for node in sorted(nodes, key=lambda e: e.ts_ns):
            if node.sequence is not None:
                stage = self._forward_stage(node)
            self._stage_of_node[lane, node.ts_ns] = stage

    def _forward_stage(self, node: Event) -> str:
        """Stage of the latest forward op of the node's number that began before it."""
        ops = self._forward.get(node.sequence or 0, [])
        earlier = [op for op in ops if op.ts_ns < node.ts_ns]
        if not earlier:
            return BACKWARD
        op = max(earlier, key=lambda e: e.ts_ns)
        nesting = self._annotations.get((op.pid, op.tid))
        mark = nesting.innermost(op.ts_ns) if nesting else None
        return mark.name if mark else BACKWARD

    def home(self, event: Event) -> Home:
        """Stage and direction of one annotation or node."""
        if event.name.startswith(_NODE):
            return self._stage_of_node[(event.pid, event.tid), event.ts_ns], True
        return event.name, event.name == BACKWARD

    def home_at(self, lane: Lane, at_ns: int) -> Home | None:
        """Stage and direction of a moment, None outside all stages."""
        nesting = self.lanes.get(lane)
        event = nesting.innermost(at_ns) if nesting else None
        return self.home(event) if event else None


def _split(
    events: Sequence[Event], names: set[str]
) -> tuple[dict[Lane, list[Event]], dict[Lane, list[Event]], dict[int, list[Event]]]:
    """(stage annotations by thread, backward nodes by thread, forward ops by sequence number)."""
    marks: dict[Lane, list[Event]] = defaultdict(list)
    nodes: dict[Lane, list[Event]] = defaultdict(list)
    forward: dict[int, list[Event]] = defaultdict(list)
    for event in events:
        if event.ph != "X":
            continue
        if event.cat == "user_annotation" and event.name in names:
            marks[event.pid, event.tid].append(event)
        elif event.cat == "cpu_op" and event.name.startswith(_NODE):
            nodes[event.pid, event.tid].append(event)
        elif event.cat == "cpu_op" and event.sequence is not None and not event.forward_thread:
            forward[event.sequence].append(event)
    return marks, nodes, forward


def stage_times(events: Sequence[Event], stages: Sequence[str], steps: int | None = None) -> StageTimes:
    """Mean times per stage over the last `steps` steps (None: all). ValueError where no 'step' is annotated."""
    marks = [e for e in events if e.ph == "X" and e.cat == "user_annotation" and e.name == STEP]
    taken = sorted(marks, key=lambda e: e.ts_ns)[-steps if steps else 0 :]
    if not taken:
        raise ValueError(f"the trace holds no annotation named {STEP!r}: capture it with profiles.capture")
    owners = _Owners(events, stages)
    gpu = [e for e in events if e.ph == "X" and e.cat in _GPU_CATEGORIES]
    step_ns = sum(e.dur_ns for e in taken)
    spent, whole_ns = _gpu_times(events, gpu, owners, taken) if gpu else (_cpu_times(owners, taken), step_ns)
    found = {name: (_mean_s(spent, (name, False), taken), _mean_s(spent, (name, True), taken)) for name in stages}
    if BACKWARD not in found:
        found[BACKWARD] = (0.0, _mean_s(spent, (BACKWARD, True), taken))
    return StageTimes(
        stages=found,
        step_s=step_ns * 1e-9 / len(taken),
        coverage_frac=sum(spent.values()) / whole_ns if whole_ns else 0.0,
        steps=len(taken),
        on_device=bool(gpu),
    )


def _mean_s(spent: dict[Home, int], home: Home, steps: Sequence[Event]) -> float:
    return spent.get(home, 0) * 1e-9 / len(steps)


def _inside(steps: Sequence[Event]) -> Callable[[int], bool]:
    """Whether a moment lies in one of the steps."""
    nesting = Nesting(steps)
    return lambda at_ns: nesting.innermost(at_ns) is not None


def _cpu_times(owners: _Owners, steps: Sequence[Event]) -> dict[Home, int]:
    """Own time on the threads that carry the steps: other threads run at the same time and would count twice."""
    inside, spent = _inside(steps), defaultdict[Home, int](int)
    for lane in {(e.pid, e.tid) for e in steps}:
        nesting = owners.lanes.get(lane) or Nesting([])
        for event, own_ns in zip(nesting.events, nesting.own_ns(), strict=True):
            if inside(event.ts_ns):
                spent[owners.home(event)] += own_ns
    return spent


def _gpu_times(
    events: Sequence[Event], gpu: Sequence[Event], owners: _Owners, steps: Sequence[Event]
) -> tuple[dict[Home, int], int]:
    """(time of GPU work by the stage that launched it, all GPU time launched inside the steps), in ns."""
    inside, spent = _inside(steps), defaultdict[Home, int](int)
    launches = {e.correlation: e for e in events if e.cat in _LAUNCH_CATEGORIES and e.correlation is not None}
    whole_ns = 0
    for event in gpu:
        launch = launches.get(event.correlation) if event.correlation is not None else None
        if not inside(launch.ts_ns if launch else event.ts_ns):
            continue
        whole_ns += event.dur_ns
        home = owners.home_at((launch.pid, launch.tid), launch.ts_ns) if launch else None
        if home is not None:
            spent[home] += event.dur_ns
    return spent, whole_ns
