"""FBGEMM split table-batched embeddings: all tables in one kernel, the optimizer fused into the backward pass."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from workloads.backends import missing_device, missing_torch
from workloads.spec import SpecError, TableSpec

if TYPE_CHECKING:
    import torch

    from workloads.pooling import Embedding


def available(device: str, phase: str, optimizer: str = "sgd") -> str | None:
    """Why it cannot run, or None; imports fbgemm where it is installed, since a wrong build fails only then."""
    if phase == "train_step" and optimizer == "adam" and device == "cpu":
        return "FBGEMM has no fused Adam on the CPU (sgd and rowwise_adagrad only); needs a CUDA device"
    return missing_torch() or _missing_fbgemm() or missing_device(device) or _wrong_build(device)


def _missing_fbgemm() -> str | None:
    if importlib.util.find_spec("fbgemm_gpu") is None:
        return "fbgemm-gpu is not installed; install dlrm-bench[cpu] or dlrm-bench[cuda]"
    return None


def _wrong_build(device: str) -> str | None:
    import torch

    try:
        import fbgemm_gpu
    except (ImportError, OSError, RuntimeError) as error:
        return f"fbgemm-gpu does not load with torch {torch.__version__}: {error}"
    target = getattr(fbgemm_gpu, "__target__", "default")
    variant = getattr(fbgemm_gpu, "__variant__", None)
    if device != "cpu" and variant == "cpu":
        return f"this fbgemm-gpu is built for CPU only (target {target}); install dlrm-bench[cuda]"
    return None


def build(
    tables: tuple[TableSpec, ...], *, device: str, dtype: torch.dtype, optimizer: str | None, learning_rate: float
) -> Embedding:
    """Module over `tables`, `sgd`, `rowwise_adagrad` or (on CUDA) `adam` fused into backward. Raises SpecError."""
    from workloads import pooling, tbe_module

    pooling.refuse_row_types("tbe", tables)
    refuse_odd_dims(tables)
    return tbe_module.TableBatched(
        tables, device=device, dtype=dtype, optimizer=optimizer or "sgd", learning_rate=learning_rate
    )


def refuse_odd_dims(tables: tuple[TableSpec, ...]) -> None:
    """Raise SpecError for dims that FBGEMM's kernels, which load four elements at once, do not have."""
    for table in tables:
        if table.dim % 4:
            raise SpecError("dim", table.dim, f"a multiple of 4 for FBGEMM (table {table.name!r}); try 'fused_bag'")
