"""Where tables lie when a model runs on a GPU. No torch.

device: in the GPU's memory. managed: in unified memory whose home is the host, read by the GPU through the bus.
managed_caching: the same with a cache of rows on the device (a share `cache_load_factor` of them). host: in host
memory, looked up by the CPU; pooled rows are copied to the GPU in every step.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from workloads.spec import SpecError

PLACEMENTS = ("device", "managed", "managed_caching", "host")
EVERYWHERE = ("device", "host")
"""What any backend can do: its own device, or its CPU side with a copy after it."""


def table_device(device: str, placement: str) -> str:
    """The device on which the backend is built."""
    return "cpu" if placement == "host" else device


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
