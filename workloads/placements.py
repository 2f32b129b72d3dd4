"""Where tables lie when a model runs on a GPU. No torch.

device: in the GPU's memory. managed: in unified memory whose home is the host, read by the GPU through the bus.
managed_caching: the same with a cache of rows on the device (a share `cache_load_factor` of them). host: in host
memory, looked up by the CPU; pooled rows are copied to the GPU in every step.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import msgspec

from workloads.spec import ModelSpec, PaddedTable, SpecError

PLACEMENTS = ("device", "managed", "managed_caching", "host")
EVERYWHERE = ("device", "host")
"""What any backend can do: its own device, or its CPU side with a copy after it."""

ALIGNED_ROWS = {"tbe_int": 16}
"""Backends that pad rows on a GPU to a multiple of so many bytes (FBGEMM's row_alignment, which is 1 on the CPU)."""


def table_device(device: str, placement: str) -> str:
    """The device on which the backend is built."""
    return "cpu" if placement == "host" else device


def as_stored(spec: ModelSpec, backend: str, device: str, placement: str = "device") -> ModelSpec:
    """`spec` with rows as wide as the backend keeps them where they lie; itself where none is padded.

    To count bytes by, not to build a model or to name a case: there rows are what was asked for.
    """
    alignment = 1 if table_device(device, placement) == "cpu" else ALIGNED_ROWS.get(backend, 1)
    if alignment == 1:
        return spec
    padded = (PaddedTable(**msgspec.structs.asdict(table), row_alignment=alignment) for table in spec.tables)
    return msgspec.structs.replace(spec, tables=tuple(padded))


def refused(backend: Any, name: str, device: str, placement: str) -> str | None:
    """Why tables of this backend cannot lie there, or None. Backends name their placements in `PLACEMENTS`."""
    if placement == "device":
        return None
    if not device.startswith("cuda"):
        return f"placement {placement} is of tables for a GPU; on the CPU there is only 'device'"
    offered = (*EVERYWHERE, *getattr(backend, "PLACEMENTS", ()))
    if placement not in offered:
        return f"backend {name} has no unified memory; its placements: {', '.join(dict.fromkeys(offered))}"
    return None


def extra(backend: ModuleType | Any, placement: str, cache_load_factor: float) -> dict[str, Any]:
    """Keywords for the backend's build where the tables lie in unified memory. Raises SpecError."""
    if placement in EVERYWHERE:
        return {}
    if not 0 < cache_load_factor <= 1:
        raise SpecError("cache_load_factor", cache_load_factor, "a number above 0, at most 1")
    return {"placement": placement, "cache_load_factor": cache_load_factor}
