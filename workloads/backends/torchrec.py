"""torchrec's EmbeddingBagCollection, unsharded: tables by name, inputs as a KeyedJaggedTensor, dense gradients."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from workloads.backends import missing_device, missing_torch, only_sgd, other_row_types, tbe
from workloads.spec import SpecError, TableSpec

if TYPE_CHECKING:
    import torch

    from workloads.pooling import Embedding

# torchrec declares the CUDA build of fbgemm-gpu, so beside the CPU build it is installed without dependencies.
NEEDS = ("torchrec", "tensordict", "torchmetrics", "tqdm", "pyre_extensions", "pyvers", "cloudpickle", "typing_inspect")


def available(device: str, phase: str, optimizer: str = "sgd") -> str | None:
    """Why it cannot run, or None; imports fbgemm, on which torchrec stands."""
    missing = [name for name in NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        packages = " ".join(["torchrec==1.8.0", *NEEDS[1:], "mypy-extensions"]).replace("_", "-")
        return f"{missing[0]} is not installed; pip install --no-deps {packages}"
    return missing_torch() or tbe.available(device, phase) or missing_device(device) or only_sgd(phase, optimizer)


def refuses(tables: tuple[TableSpec, ...]) -> SpecError | None:
    """Why it cannot hold these tables, or None."""
    return other_row_types("torchrec", tables)


def build(
    tables: tuple[TableSpec, ...], *, device: str, dtype: torch.dtype, optimizer: str | None, learning_rate: float
) -> Embedding:
    """Module over `tables`; unfilled fp32 weights on `device`. `optimizer` is torch's affair."""
    from workloads import torchrec_module

    return torchrec_module.Collections(tables, device=device, dtype=dtype)
