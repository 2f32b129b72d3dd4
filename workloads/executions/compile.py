"""torch.compile of the model's forward (and, in a train step, of its backward), with a cold cache of its own.

Loss and optimizer stay eager. Shapes are static but for the number of lookups where it differs between inputs: that
one dimension is marked dynamic, since a version per shape would reach torch's limit of versions, after which torch
would go on in eager, and padding would look up rows that nobody asked for. Both limits and errors are made to raise.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workloads.executions import ExecutionError, Graphs, Ready, Want

if TYPE_CHECKING:
    from workloads.steps import ModelBundle, Prepared, Step

STAGE = "compiled"
"""Annotation of the compiled model in a trace: its stages are fused and cannot be told apart."""
_SEARCHED = ("g++", "clang++")
_TRITON_SEARCHED = ("gcc", "clang")
_REASON_CHARS = 240


def available(want: Want) -> str | None:
    """Needs a C++ compiler on the CPU, Triton and a C compiler on CUDA."""
    if want.backend == "tbe_int":
        return "FBGEMM's int-n-bit module keeps a script object that torch.compile cannot trace (fbgemm-gpu 1.8)"
    if want.device == "cpu":
        return _missing_compiler("CXX", _SEARCHED, "inductor compiles its CPU kernels with it")
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed; inductor writes its CUDA kernels with it"
    return _missing_compiler("CC", _TRITON_SEARCHED, "Triton compiles its launchers with it")


def _missing_compiler(variable: str, searched: tuple[str, ...], use: str) -> str | None:
    named = os.environ.get(variable)
    wanted = (named,) if named else searched
    if any(shutil.which(name) for name in wanted):
        return None
    where = f"{variable}={named}" if named else " or ".join(searched)
    return f"no compiler ({where}) on the PATH: {use}; install g++ (gcc) or set {variable}"


class Outside:
    """A model called as one and annotated as one: inside a compiled graph an annotation would be a graph break."""

    def __init__(self, call: Callable[..., Any], stage: str) -> None:
        from workloads.layers import silent

        self.annotate: Any = silent
        self._call, self._stage = call, stage

    def __call__(self, dense: Any, lookups: Any) -> Any:
        """Output of the model."""
        with self.annotate(self._stage):
            return self._call(dense, lookups)


def wrap(bundle: ModelBundle, inputs: Sequence[Prepared], scratch: Path) -> Ready:
    """The step around the compiled model. Compiling happens in the first calls, which raise ExecutionError."""
    import torch

    from workloads.steps import make_step

    _configure(scratch)
    dynamic = mark_dynamic(inputs)
    model = Outside(torch.compile(bundle.model, dynamic=False), STAGE)
    notes = (f"the number of lookups is a dynamic dimension in {dynamic} of the inputs' tensors",) if dynamic else ()
    return Ready(
        step=_named_errors(make_step(bundle, model=model)),
        annotated=model,
        graphs=lambda: counted(notes),
        stages=(STAGE,),
        lazy=True,
        same_kernels=False,
    )


def _configure(scratch: Path) -> None:
    """Caches in `scratch`, everything compiled in this process, no silent way back to eager, counters at zero."""
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(scratch / "inductor")
    os.environ["TRITON_CACHE_DIR"] = str(scratch / "triton")
    import torch._dynamo.config as dynamo_config
    import torch._dynamo.utils as dynamo_utils
    import torch._inductor.config as inductor_config
    from torch import _dynamo

    # A pool of compiling processes would be started by a forked worker that the parent may kill at any moment.
    inductor_config.compile_threads = 1
    dynamo_config.suppress_errors = False
    dynamo_config.fail_on_recompile_limit_hit = True
    _dynamo.reset()
    dynamo_utils.counters.clear()
    dynamo_utils.clear_compilation_metrics()


def mark_dynamic(inputs: Sequence[Prepared]) -> int:
    """Mark the lookups of every group whose number differs between inputs; returns how many tensors that were."""
    from torch._dynamo import mark_dynamic as mark

    marked = 0
    for group in zip(*(item.lookups for item in inputs), strict=True):
        if len({bags.indices.shape for bags in group}) > 1:
            tensors = [t for bags in group for t in (bags.indices, bags.weights) if t is not None]
            for tensor in tensors:
                mark(tensor, 0)
            marked += len(tensors)
    return marked


def _named_errors(step: Step) -> Step:
    """The same step; what torch's compiler raises comes as ExecutionError with its first line."""
    from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException
    from torch._inductor.exc import CppCompileError

    def named(item: Any) -> Any:
        try:
            return step(item)
        except (TorchDynamoException, FailOnRecompileLimitHit, CppCompileError) as error:
            raise ExecutionError(f"torch.compile: {type(error).__name__}: {_first_line(str(error))}") from error

    return named


def counted(notes: tuple[str, ...]) -> Graphs:
    """What dynamo counted in this process since `wrap`. ExecutionError where nothing at all was compiled."""
    import torch._dynamo.utils as dynamo_utils

    breaks: dict[str, int] = dict(dynamo_utils.counters["graph_break"])
    graphs = int(dynamo_utils.counters["stats"]["unique_graphs"])
    if not graphs:
        raise ExecutionError("torch.compile made no graph: the step would run in eager")
    metrics = dynamo_utils.get_compilation_metrics()
    again = [m for m in metrics if m.is_forward and m.co_name and version_of(str(m.compile_id)) > 0]
    reasons = [*map(_break_reason, breaks), *(f"recompiled: {_first_line(m.recompile_reason or '?')}" for m in again)]
    return Graphs(
        graphs=graphs,
        breaks=sum(breaks.values()),
        recompiles=len(again),
        reasons=tuple(dict.fromkeys(reasons)),
        notes=notes,
    )


def version_of(compile_id: str) -> int:
    """0 for the first version of a function, 1 for its first recompile: dynamo writes '3/1' (frame 3, version 1).

    Tries of one version are numbered behind it ('3/1_2'), graphs of compiled autograd before it ('!0/3/1').
    """
    found = re.search(r"/(\d+)(?:_\d+)?$", compile_id)
    return int(found[1]) if found else 0


def _break_reason(text: str) -> str:
    """First line, and what dynamo says of the place."""
    context = re.search(r"Developer debug context: *(.+)", text)
    return f"{_first_line(text)} ({context[1].strip()})" if context else _first_line(text)


def _first_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0][:_REASON_CHARS] if lines else "no reason given"
