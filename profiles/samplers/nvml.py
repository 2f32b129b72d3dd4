"""One NVIDIA GPU through NVML. What a GPU does not support drops out as a channel, with its reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from profiles.probes.gpu import load_nvml

Read = Callable[[Any, Any], float]

_READS: dict[str, Read] = {
    "gpu_utilisation_frac": lambda n, h: n.nvmlDeviceGetUtilizationRates(h).gpu / 100,
    "gpu_memory_controller_frac": lambda n, h: n.nvmlDeviceGetUtilizationRates(h).memory / 100,
    "gpu_sm_clock_hz": lambda n, h: n.nvmlDeviceGetClockInfo(h, n.NVML_CLOCK_SM) * 1e6,
    "gpu_memory_clock_hz": lambda n, h: n.nvmlDeviceGetClockInfo(h, n.NVML_CLOCK_MEM) * 1e6,
    "gpu_power_w": lambda n, h: n.nvmlDeviceGetPowerUsage(h) / 1e3,
    "gpu_energy_j": lambda n, h: n.nvmlDeviceGetTotalEnergyConsumption(h) / 1e3,
    "gpu_temperature_c": lambda n, h: float(n.nvmlDeviceGetTemperature(h, n.NVML_TEMPERATURE_GPU)),
    "gpu_throttle_reasons": lambda n, h: float(n.nvmlDeviceGetCurrentClocksThrottleReasons(h)),
    "gpu_memory_used_bytes": lambda n, h: float(n.nvmlDeviceGetMemoryInfo(h).used),
    "gpu_processes": lambda n, h: float(len(n.nvmlDeviceGetComputeRunningProcesses(h))),
}

SLOWDOWNS = {"heat": 0x20 | 0x40, "its power brake": 0x80, "heat or power (hardware slowdown)": 0x08}
"""Bits of gpu_throttle_reasons that slow a GPU down against its will, by NVML's nvmlClocksThrottleReason constants.

Not among them: idle, clocks that someone set, and the power cap, under which a busy GPU works as a rule; what the cap
does shows in gpu_sm_clock_hz.
"""


class NvmlSampler:
    """Readings of one GPU. `dropped` maps each channel this GPU cannot give to its reason.

    gpu_utilisation_frac is the share of time in which any kernel ran, not occupancy. gpu_throttle_reasons is NVML's
    bit mask. gpu_energy_j counts since the driver was loaded. gpu_processes have a CUDA context there, the watched one
    included; within a container the driver may show fewer.
    """

    def __init__(self, index: int = 0, nvml: Any | None = None, pci: str | None = None) -> None:
        """Watch the GPU at NVML's `index`, or at `pci`, its bus id, which CUDA's renumbering cannot confuse.

        `nvml` stands in for the pynvml module in tests and must be initialised.
        """
        self.dropped: dict[str, str] = {}
        self._reason: str | None = None
        self._nvml = nvml
        self._handle: Any = None
        if nvml is None:
            self._nvml, self._reason = load_nvml()
        if self._nvml is not None:
            self._open(self._nvml, index, pci)

    def _open(self, nvml: Any, index: int, pci: str | None) -> None:
        try:
            if pci is not None:
                self._handle = nvml.nvmlDeviceGetHandleByPciBusId(pci.encode())
            else:
                self._handle = nvml.nvmlDeviceGetHandleByIndex(index)
        except nvml.NVMLError as error:
            self._reason = f"NVML has no GPU {pci or index}: {error}"
            return
        self.read()

    def available(self) -> str | None:
        """None, or why NVML cannot be used."""
        return self._reason

    def channels(self) -> tuple[str, ...]:
        """The channels that this GPU has answered so far."""
        return tuple(name for name in _READS if name not in self.dropped)

    def read(self) -> dict[str, float]:
        """Readings now. A channel that fails once is dropped for good: NVML's refusals do not pass."""
        values = {}
        nvml: Any = self._nvml
        for name in self.channels():
            try:
                values[name] = float(_READS[name](nvml, self._handle))
            except _refusals(nvml) as error:
                self.dropped[name] = f"not supported by this GPU or driver: {error}"
        return values


def _refusals(nvml: Any) -> tuple[type[Exception], ...]:
    """What pynvml raises; functions that the driver's library lacks have an error outside its own family."""
    mismatch = getattr(nvml, "NVMLLibraryMismatchError", nvml.NVMLError)
    return (nvml.NVMLError, mismatch, AttributeError)
