"""Embedding backends: one file each, the file name is the id. Listing imports no torch."""

from __future__ import annotations

import functools
import importlib.util
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from workloads import catalogue, placements
from workloads.spec import SpecError, TableSpec
from workloads.work import is_training

if TYPE_CHECKING:
    import torch

    from workloads.pooling import Embedding

OPTIMIZERS = ("sgd", "rowwise_adagrad", "adam")


class Backend(Protocol):
    """What a file in this folder offers."""

    def available(self, device: str, phase: str, optimizer: str = "sgd") -> str | None:
        """Why this backend cannot run there, or None where it can. Never initialises CUDA.

        `optimizer` counts only in a train step.
        """

    def refuses(self, tables: tuple[TableSpec, ...]) -> SpecError | None:
        """Why it has no storage or kernel for these tables, or None. Pure, no torch."""

    def build(
        self,
        tables: tuple[TableSpec, ...],
        *,
        device: str,
        dtype: torch.dtype,
        optimizer: str | None,
        learning_rate: float,
        **unified: Any,
    ) -> Embedding:
        """The module with unfilled fp32 tables and pooled output in `dtype`, of what `refusal` lets pass.

        `unified` is `placement` and `cache_load_factor`, given only to files whose PLACEMENTS offer unified memory,
        and `bounds_check`, given only to those that options.CHECKING_BACKENDS names.
        """


def names() -> list[str]:
    """Ids of all backends."""
    return catalogue.names(Path(__file__).parent)


def load(name: str) -> Backend:
    """The backend called `name`. Raises SpecError for an unknown one."""
    module: Any = catalogue.load_module("backend", __name__, Path(__file__).parent, name)
    return cast(Backend, module)


def refusal(
    name: str,
    tables: tuple[TableSpec, ...],
    *,
    device: str,
    dtype: str,
    phase: str,
    optimizer: str,
    placement: str = "device",
) -> SpecError | None:
    """Why the backend called `name` cannot serve such a case here, or None; what a plan foresees and a build raises.

    Imports no torch. Raises SpecError for an unknown backend or phase.
    """
    if is_training(phase) and dtype == "float16":
        return SpecError("dtype", dtype, "training in float16 needs loss scaling, which is not there; try 'bfloat16'")
    backend = load(name)
    reason = placements.refused(backend, name, device, placement)
    reason = reason or backend.available(placements.table_device(device, placement), phase, optimizer)
    if reason:
        return SpecError("backend", name, reason)
    return _weighted_mean(tables) or backend.refuses(tables)


def _weighted_mean(tables: tuple[TableSpec, ...]) -> SpecError | None:
    """torch's kernels do not have it, and what the others have could not be compared."""
    found = next((t for t in tables if t.weighted and t.pooling == "mean"), None)
    return SpecError("weighted", True, f"only pooling = 'sum' takes weights (table {found.name!r})") if found else None


def other_row_types(name: str, tables: tuple[TableSpec, ...]) -> SpecError | None:
    """The error for rows that are not float32, which only 'tbe_int' stores."""
    found = next((t.row_type for t in tables if t.row_type != "float32"), None)
    return SpecError("row_type", found, f"backend {name!r} stores float32 rows; try 'tbe_int'") if found else None


@functools.cache
def missing_torch() -> str | None:
    """The reason text where torch is not installed."""
    if importlib.util.find_spec("torch") is None:
        return "torch is not installed; install dlrm-bench[cpu] or dlrm-bench[cuda]"
    return None


def torch_release() -> str:
    """Version of the installed torch, such as 2.13.0+cpu."""
    return metadata.version("torch")


def missing_device(device: str) -> str | None:
    """The reason text where this torch cannot run on `device`. Whether a GPU is there is profiles' to say."""
    if device == "cpu":
        return None
    if device.partition(":")[0] != "cuda":
        return f"device {device!r} is not known; known: cpu, cuda"
    if torch_release().endswith("+cpu"):
        return "this torch is built without CUDA; install dlrm-bench[cuda]"
    return None


def only_sgd(phase: str, optimizer: str) -> str | None:
    """The reason text where torch's own sgd updates the tables: most of its optimizers cannot from sparse gradients."""
    if phase == "train_step" and optimizer != "sgd":
        return f"torch updates the tables of this backend by sgd alone; optimizer {optimizer} needs backend tbe"
    return None
