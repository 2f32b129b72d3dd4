"""The step captured once as a CUDA graph and replayed: one launch a step instead of one per kernel.

A graph reads and writes fixed addresses, so every step copies its inputs into the captured ones first. That copy is
part of the timed step, as it is of real use; `notes` give its size. Scalars such as learning rates are constants of
the capture: `refresh` captures again after they have changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workloads.executions import ExecutionError, Graphs, Ready, Want
from workloads.spec import SpecError

if TYPE_CHECKING:
    from torch import Tensor

    from workloads.steps import ModelBundle, Prepared, Step

STAGE = "graph"
"""Annotation of the replay in a trace: kernels of a graph carry the graph's launch, not their stage's."""
COPY = "input_copy"
WARMUP_STEPS = 3
"""Steps on a side stream before capture, so that libraries and allocator have made what they make once."""
FUSED = ("tbe",)
"""Backends whose backward updates the tables in kernels alone; a sparse gradient is coalesced through the host."""
READS_OFFSETS = ("torchrec",)
"""Backends that split the indices by table with a list of lengths, read from the device in every step."""


def available(want: Want) -> str | None:
    """Only on CUDA, and where no step needs the host."""
    if not want.device.startswith("cuda"):
        return "a CUDA graph needs a CUDA device"
    if want.placement in ("managed_caching", "host"):
        return f"placement {want.placement} runs part of each step on the host, which a CUDA graph cannot hold"
    if want.backend in READS_OFFSETS:
        return "torchrec reads its jagged tensor's offsets on the host in every step, which a CUDA graph cannot hold"
    if want.phase == "train_step" and want.backend not in FUSED:
        return "sparse gradients are coalesced with a look at the host, which a CUDA graph cannot hold; try 'tbe'"
    if want.phase == "train_step" and want.optimizer == "adam":
        return "FBGEMM's Adam counts its steps on the host, where a CUDA graph would freeze the count"
    return None


def wrap(bundle: ModelBundle, inputs: Sequence[Prepared], scratch: Path) -> Ready:
    """Warm up on a side stream and capture. SpecError where inputs differ in shape; ExecutionError where it fails."""
    require_one_shape(inputs)
    captured = Captured(bundle, inputs[0])
    moved = sum(t.numel() * t.element_size() for t in tensors_of(inputs[0]))
    notes = (f"each step copies its inputs ({moved} B) into the captured buffers",)
    return Ready(
        step=captured,
        annotated=captured,
        graphs=lambda: Graphs(graphs=1, notes=notes),
        stages=(STAGE, COPY),
    )


def tensors_of(inputs: Prepared) -> list[Tensor]:
    """Every tensor of a prepared batch, in one order."""
    parts = [inputs.dense, inputs.labels, *(tensor for bags in inputs.lookups for tensor in bags)]
    return [tensor for tensor in parts if tensor is not None]


def require_one_shape(inputs: Sequence[Prepared]) -> None:
    """Raise SpecError unless all inputs have the same shapes: padding would time lookups that nobody asked for."""
    shapes = {tuple(tuple(t.shape) for t in tensors_of(item)) for item in inputs}
    if len(shapes) > 1:
        raise SpecError(
            "execution", "cuda_graph", f"inputs of {len(shapes)} shapes; one is needed: set lengths = 'fixed'"
        )


class Captured:
    """The step of a bundle as a CUDA graph; called on a prepared batch it copies, replays and gives the output.

    The output is the captured one: the next call overwrites it.
    """

    def __init__(self, bundle: ModelBundle, sample: Prepared) -> None:
        from workloads.layers import silent
        from workloads.steps import make_step

        self.annotate: Any = silent
        self._device = bundle.device
        self._step: Step = make_step(bundle)
        self._static = clone(sample)
        self._targets = tensors_of(self._static)
        self._graph: Any = None
        self._output: Any = None
        self._warm_up()
        self.refresh()
        # Warm-up steps have trained: the check starts from a state of zero.
        bundle.model.embedding.reset_optimizer_state()

    def _warm_up(self) -> None:
        import torch

        with torch.cuda.device(self._device):
            side, here = torch.cuda.Stream(), torch.cuda.current_stream()  # type: ignore[no-untyped-call]
            side.wait_stream(here)
            with torch.cuda.stream(side):
                for _ in range(WARMUP_STEPS):
                    self._step(self._static)
            here.wait_stream(side)

    def refresh(self) -> None:
        """Capture with the scalars as they are now; nothing of the step runs."""
        import torch

        self._graph = self._output = None
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.device(self._device), torch.cuda.graph(graph):
                self._output = self._step(self._static)
        except RuntimeError as error:
            # Leaving a broken capture raises again and says less than what broke it.
            first = str(error.__context__ or error).strip().partition("\n")[0]
            raise ExecutionError(f"the step could not be captured: {first}") from error
        self._graph = graph

    def __call__(self, inputs: Prepared) -> Any:
        """Copy the inputs in, replay, give the output."""
        with self.annotate(COPY):
            for target, source in zip(self._targets, tensors_of(inputs), strict=True):
                target.copy_(source, non_blocking=True)
        with self.annotate(STAGE):
            self._graph.replay()
        return self._output


def clone(inputs: Prepared) -> Prepared:
    """A copy of the tensors in memory of its own."""
    lookups = tuple(
        bags._replace(
            indices=bags.indices.clone(),
            offsets=bags.offsets.clone(),
            weights=None if bags.weights is None else bags.weights.clone(),
        )
        for bags in inputs.lookups
    )
    return inputs._replace(dense=inputs.dense.clone(), labels=inputs.labels.clone(), lookups=lookups)
