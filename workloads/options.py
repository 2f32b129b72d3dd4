"""Options of a step that change its time and not its result: index dtype, bounds check, inference mode. No torch.

index_dtype: int64 as torch makes indices, or int32, half the bytes. bounds_check: FBGEMM's pass over all indices before
the lookup (none, or what it does with one out of range). inference_mode: the forward step under torch.inference_mode
instead of no_grad, which also spares version counters.
"""

from __future__ import annotations

from workloads.spec import SpecError, TableSpec, unknown
from workloads.work import is_training

INDEX_DTYPES = {"int64": 8, "int32": 4}
"""Bytes of an index."""
BOUNDS_CHECKS = ("none", "ignore", "warning", "fatal")
CHECKING_BACKENDS = ("tbe", "tbe_int")
MOST_INT32 = 2**31 - 1


def refusal(
    backend: str,
    tables: tuple[TableSpec, ...],
    *,
    device: str,
    phase: str,
    index_dtype: str = "int64",
    bounds_check: str = "none",
    inference_mode: bool = False,
) -> SpecError | None:
    """Why the backend cannot have these options, or None; what a plan foresees and a build raises."""
    if index_dtype not in INDEX_DTYPES:
        return unknown("index_dtype", index_dtype, list(INDEX_DTYPES))
    if bounds_check not in BOUNDS_CHECKS:
        return unknown("bounds_check", bounds_check, list(BOUNDS_CHECKS))
    rows = sum(t.num_rows for t in tables)
    if index_dtype == "int32" and rows > MOST_INT32:
        return SpecError("index_dtype", index_dtype, f"{rows} rows in all need int64 indices")
    if bounds_check != "none" and backend not in CHECKING_BACKENDS:
        known = ", ".join(CHECKING_BACKENDS)
        return SpecError("bounds_check", bounds_check, f"only {known} have FBGEMM's check; {backend} takes 'none'")
    return _inference_refusal(backend, device, phase) if inference_mode else None


def _inference_refusal(backend: str, device: str, phase: str) -> SpecError | None:
    if is_training(phase):
        return SpecError("inference_mode", True, "a train step needs gradients; use phase = 'forward'")
    if backend == "tbe" and device == "cpu":
        told = "FBGEMM's CPU training operators refuse it; try 'tbe_int' or 'fused_bag'"
        return SpecError("inference_mode", True, told)
    return None
