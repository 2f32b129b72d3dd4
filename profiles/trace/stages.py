"""How long each stage of a step took, forward and backward, from record_function annotations.

A stage's forward time is the own time of its annotations. Backward time is found by autograd's sequence numbers: a
backward node carries the number of the forward op it differentiates, and that op's innermost annotation is the stage.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from profiles.trace.columns import GPU_CATEGORIES, NONE, Category, Int64, Trace
from profiles.trace.links import NODE, forward_rows, launch_rows, leading_nodes
from profiles.trace.nesting import Nesting
from profiles.trace.spans import union

STEP = "step"
BACKWARD = "backward"


class StageTimes(msgspec.Struct, frozen=True, kw_only=True):
    """Means per step. `stages` maps a stage to (forward_s, backward_s); (0, 0) where it was not seen.

    'backward' holds what of the backward pass belongs to no stage: the engine's own time and nodes without a
    forward op. On a CUDA trace times are those of GPU kernels and `coverage_frac` is the share of all GPU time that
    has a stage; on a CPU trace it is the share of the steps' wall time. `step_s` is wall time always; `on_device` says
    which of the two it was. `busy_s` is how long the GPU worked, streams at the same time once; None on a CPU trace.
    """

    stages: dict[str, tuple[float, float]]
    step_s: float
    coverage_frac: float
    steps: int
    on_device: bool = False
    busy_s: float | None = None


class _Homes:
    """Which stage owns each annotation and backward node, and each moment of a thread.

    A home is 2 x the stage's number, plus 1 in its backward; NONE is no home.
    """

    def __init__(self, trace: Trace, stages: Sequence[str]) -> None:
        self._trace = trace
        self.names = list(dict.fromkeys([*stages, BACKWARD]))
        self._backward = 2 * self.names.index(BACKWARD) + 1
        self._of_row = np.full(len(trace), NONE, np.int64)
        self._name_marks()
        self._nestings: dict[int, tuple[Int64, Nesting]] = {}
        nodes = self._nodes()
        self._name_nodes(nodes, self._forward_homes(nodes))
        self._nestings = {}

    def _name_marks(self) -> None:
        trace = self._trace
        number = np.array([self.names.index(n) if n in self.names else NONE for n in trace.names], np.int64)
        marks = trace.rows(Category.ANNOTATION)
        found = number[trace.name[marks]]
        self._of_row[marks] = np.where(found == NONE, NONE, 2 * found)
        self._of_row[self._of_row == self._backward - 1] = self._backward

    def _nodes(self) -> Int64:
        """Backward nodes, thread by thread, by start."""
        is_node = np.array([n.startswith(NODE) for n in self._trace.names], bool)
        rows = self._trace.rows(Category.CPU_OP)
        rows = rows[is_node[self._trace.name[rows]]]
        nodes: Int64 = rows[np.argsort(self._trace.lane[rows], kind="stable")]
        return nodes

    def _forward_homes(self, nodes: Int64) -> Int64:
        """The home of each node by the annotation around its forward op; NONE where the node has no number."""
        trace = self._trace
        ops = forward_rows(trace, nodes)
        known = ops != NONE
        homes = np.full(len(nodes), self._backward, np.int64)
        at = self.at(trace.lane[ops[known]], trace.ts_ns[ops[known]])
        homes[known] = np.where(at == NONE, self._backward, at | 1)
        homes[trace.sequence[nodes] == NONE] = NONE
        return homes

    def _name_nodes(self, nodes: Int64, homes: Int64) -> None:
        """Nodes and what follows them; a node without a number that follows none belongs to no stage."""
        leading = leading_nodes(self._trace, nodes)
        known = (leading != NONE) & (homes[leading] != NONE)
        self._of_row[nodes] = np.where(known, homes[leading], self._backward)

    def lane(self, lane: int) -> tuple[Int64, Nesting]:
        """(rows with a home, how they nest) of one thread."""
        if lane not in self._nestings:
            trace = self._trace
            rows = np.flatnonzero((trace.lane == lane) & (self._of_row != NONE))
            self._nestings[lane] = rows, Nesting(trace.ts_ns[rows], trace.end_ns[rows])
        return self._nestings[lane]

    def of(self, rows: Int64) -> Int64:
        """The homes of rows."""
        return self._of_row[rows]

    def at(self, lanes: NDArray[np.signedinteger], at_ns: Int64) -> Int64:
        """The home of moments of threads."""
        homes = np.full(len(lanes), NONE, np.int64)
        for lane in np.unique(lanes).tolist():
            rows, nesting = self.lane(lane)
            asked = np.flatnonzero(lanes == lane)
            found = nesting.innermost(at_ns[asked])
            inside = found != NONE
            homes[asked[inside]] = self._of_row[rows[found[inside]]]
        return homes


def stage_times(trace: Trace, stages: Sequence[str], steps: int | None = None) -> StageTimes:
    """Mean times per stage over the last `steps` steps (None: all). ValueError where no 'step' is annotated."""
    marks = trace.rows(Category.ANNOTATION)
    marks = marks[np.isin(trace.name[marks], trace.codes(STEP))]
    taken = marks[-steps if steps else 0 :]
    if not len(taken):
        raise ValueError(f"the trace holds no annotation named {STEP!r}: capture it with profiles.capture")
    homes = _Homes(trace, stages)
    step_ns = int(trace.dur_ns[taken].sum())
    gpu = trace.rows(*GPU_CATEGORIES)
    spent = _gpu_times(trace, gpu, homes, taken) if len(gpu) else _Spent(_cpu_times(trace, homes, taken), step_ns)
    means = spent.stages_ns / len(taken) * 1e-9
    return StageTimes(
        stages={name: (float(f), float(b)) for name, (f, b) in zip(homes.names, means, strict=True)},
        step_s=step_ns * 1e-9 / len(taken),
        coverage_frac=float(spent.stages_ns.sum()) / spent.whole_ns if spent.whole_ns else 0.0,
        steps=len(taken),
        on_device=len(gpu) > 0,
        busy_s=None if spent.busy_ns is None else spent.busy_ns * 1e-9 / len(taken),
    )


class _Spent(NamedTuple):
    """Over all steps: time by stage and direction (stages, 2), what that is part of, and the union of GPU work."""

    stages_ns: NDArray[np.float64]
    whole_ns: int
    busy_ns: int | None = None


def _inside(trace: Trace, steps: Int64, at_ns: Int64) -> NDArray[np.bool_]:
    """Whether moments lie in one of the steps."""
    found: NDArray[np.bool_] = Nesting(trace.ts_ns[steps], trace.end_ns[steps]).innermost(at_ns) != NONE
    return found


def _sums(homes: Int64, spent_ns: Int64, names: Sequence[str]) -> NDArray[np.float64]:
    """Time by stage and direction: (stages, 2)."""
    known = homes != NONE
    sums = np.bincount(homes[known], spent_ns[known], minlength=2 * len(names))
    return sums.astype(np.float64).reshape(-1, 2)


def _cpu_times(trace: Trace, homes: _Homes, steps: Int64) -> NDArray[np.float64]:
    """Own time on the threads that carry the steps: other threads run at the same time and would count twice."""
    total = np.zeros((len(homes.names), 2))
    for lane in np.unique(trace.lane[steps]).tolist():
        rows, nesting = homes.lane(lane)
        inside = _inside(trace, steps, trace.ts_ns[rows])
        total += _sums(homes.of(rows[inside]), nesting.own_ns()[inside], homes.names)
    return total


def _gpu_times(trace: Trace, gpu: Int64, homes: _Homes, steps: Int64) -> _Spent:
    """GPU work launched inside the steps, by the stage that launched it."""
    launches = launch_rows(trace, gpu)
    launched = launches != NONE
    inside = _inside(trace, steps, trace.ts_ns[np.where(launched, launches, gpu)])
    gpu, launches = gpu[inside], launches[inside]
    found = np.full(len(gpu), NONE, np.int64)
    launched = launches != NONE
    found[launched] = homes.at(trace.lane[launches[launched]], trace.ts_ns[launches[launched]])
    busy_ns = union(trace.ts_ns[gpu], trace.end_ns[gpu]).length
    return _Spent(_sums(found, trace.dur_ns[gpu], homes.names), int(trace.dur_ns[gpu].sum()), busy_ns)
