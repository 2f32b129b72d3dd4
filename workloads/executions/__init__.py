"""Executions: how a step is run; one file each, the file name is the id. Listing imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import msgspec

from workloads import catalogue

if TYPE_CHECKING:
    from workloads.steps import ModelBundle, Prepared, Step


class ExecutionError(Exception):
    """The step could not be compiled or captured: what was tried and what torch said."""


class Want(msgspec.Struct, frozen=True, kw_only=True):
    """What an execution is asked to run, as far as it decides whether it can."""

    device: str = "cpu"
    phase: str = "forward"
    backend: str = "bag"
    optimizer: str = "sgd"
    placement: str = "device"


class Graphs(msgspec.Struct, frozen=True, kw_only=True):
    """What the model became. `graphs`: compiled or captured ones; `breaks`: places where tracing stopped and Python
    ran on, with their distinct `reasons`; `recompiles`: versions beyond the first of any compiled function.

    `notes` state what the execution does differently, such as copies inside the step.
    """

    graphs: int
    breaks: int = 0
    recompiles: int = 0
    reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ready:
    """A step to be checked and timed.

    `annotated` is what layers.set_tracing acts on for a profiled pass; `stages` names annotations beside the model's
    own. `graphs()` says what has been made so far, None for eager. `lazy`: first calls compile, wrapping did not.
    `same_kernels`: it runs eager's own kernels and so rounds as eager does.
    """

    step: Step
    annotated: Any
    graphs: Callable[[], Graphs | None] = lambda: None
    stages: tuple[str, ...] = ()
    lazy: bool = False
    same_kernels: bool = True


class Execution(Protocol):
    """What a file in this folder offers."""

    def available(self, want: Want) -> str | None:
        """Why it cannot run that here, or None. Imports no torch."""

    def wrap(self, bundle: ModelBundle, inputs: Sequence[Prepared], scratch: Path) -> Ready:
        """The bundle's step. `inputs` are all that it will be called on; `scratch` is an empty folder of its own.

        Compiling may be left to the first calls. Raises SpecError for what it refuses, ExecutionError where it fails.
        """


def names() -> list[str]:
    """Ids of all executions."""
    return catalogue.names(Path(__file__).parent)


def load(name: str) -> Execution:
    """The execution called `name`. Raises SpecError for an unknown one."""
    module: Any = catalogue.load_module("execution", __name__, Path(__file__).parent, name)
    return cast(Execution, module)
