"""FBGEMM split table-batched embeddings: all tables in one kernel, the optimizer fused into the backward pass."""

from __future__ import annotations

import importlib.util
from importlib import metadata
from typing import TYPE_CHECKING

from workloads.backends import missing_device, missing_torch, other_row_types, torch_release
from workloads.spec import SpecError, TableSpec

if TYPE_CHECKING:
    import torch

    from workloads.pooling import Embedding


PLACEMENTS = ("managed", "managed_caching")
TORCH_OF = {"1.6": "2.11", "1.7": "2.12", "1.8": "2.13"}
"""fbgemm-gpu must match torch to the ABI; releases not listed here are given the benefit of the doubt."""


def available(device: str, phase: str, optimizer: str = "sgd") -> str | None:
    """Why it cannot run, or None; from package metadata alone, so that listing stays instant (doctor imports it)."""
    if phase == "train_step" and optimizer == "adam" and device == "cpu":
        return "FBGEMM has no fused Adam on the CPU (sgd and rowwise_adagrad only); needs a CUDA device"
    return missing_torch() or _missing_fbgemm() or _mismatch() or missing_device(device) or _wrong_build(device)


def _missing_fbgemm() -> str | None:
    if importlib.util.find_spec("fbgemm_gpu") is None:
        return "fbgemm-gpu is not installed; install dlrm-bench[cpu] or dlrm-bench[cuda]"
    return None


def _installed() -> tuple[str, str] | None:
    """(distribution, version) of fbgemm; None where it did not come as a package."""
    for name in ("fbgemm-gpu-cpu", "fbgemm-gpu"):
        try:
            return name, metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None


def _mismatch() -> str | None:
    found, torch_version = _installed(), torch_release()
    if found is None:
        return None
    needed = TORCH_OF.get(".".join(found[1].split(".")[:2]))
    if needed and not torch_version.startswith(f"{needed}."):
        return f"{found[0]} {found[1]} needs torch {needed}, but {torch_version} is installed; see dlrm-bench doctor"
    return None


def _wrong_build(device: str) -> str | None:
    found = _installed()
    if device != "cpu" and found is not None and found[0] == "fbgemm-gpu-cpu":
        return "this fbgemm-gpu is built for CPU only; install dlrm-bench[cuda]"
    return None


def refuses(tables: tuple[TableSpec, ...]) -> SpecError | None:
    """Why it cannot hold these tables, or None."""
    return other_row_types("tbe", tables) or odd_dims(tables)


def odd_dims(tables: tuple[TableSpec, ...]) -> SpecError | None:
    """The error for dims that FBGEMM's kernels, which load four elements at once, do not have."""
    found = next((t for t in tables if t.dim % 4), None)
    told = "a multiple of 4 for FBGEMM (table {!r}); try 'fused_bag'"
    return SpecError("dim", found.dim, told.format(found.name)) if found else None


def build(
    tables: tuple[TableSpec, ...],
    *,
    device: str,
    dtype: torch.dtype,
    optimizer: str | None,
    learning_rate: float,
    placement: str = "device",
    cache_load_factor: float = 0.2,
    bounds_check: str = "none",
) -> Embedding:
    """Module over `tables`, `sgd`, `rowwise_adagrad` or (on CUDA) `adam` fused into backward."""
    from workloads import tbe_module

    return tbe_module.TableBatched(
        tables,
        device=device,
        dtype=dtype,
        optimizer=optimizer or "sgd",
        learning_rate=learning_rate,
        storage=tbe_module.Storage(placement, cache_load_factor),
        bounds_check=bounds_check,
    )
