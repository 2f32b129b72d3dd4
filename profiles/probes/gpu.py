"""GPUs from the CUDA driver's list and, where NVML answers, its driver version, MIG mode and power limit."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

from profiles.machine import Gpu
from profiles.probes.cuda_driver import CudaDevice, ask_devices


def load_nvml() -> tuple[Any | None, str | None]:
    """(initialised pynvml, None), or (None, why NVML cannot be used)."""
    try:
        nvml = importlib.import_module("pynvml")
    except ImportError as error:
        return None, f"package nvidia-ml-py is not installed ({error})"
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return None, f"NVML does not start: {error}"
    return nvml, None


def ask(nvml: Any, call: Callable[..., Any], *args: object) -> Any | None:
    """The answer of one NVML call, None where this GPU or driver does not support it."""
    try:
        return call(*args)
    except (nvml.NVMLError, AttributeError):
        return None


def combine(devices: Sequence[CudaDevice], nvml: Any | None) -> tuple[Gpu, ...]:
    """One Gpu per CUDA device; what NVML alone knows stays at its default without it."""
    driver = ask(nvml, nvml.nvmlSystemGetDriverVersion) if nvml else None
    return tuple(_gpu(device, nvml, _text(driver)) for device in devices)


def _gpu(device: CudaDevice, nvml: Any | None, driver: str) -> Gpu:
    handle = ask(nvml, nvml.nvmlDeviceGetHandleByPciBusId, device.pci.encode()) if nvml else None
    mig = ask(nvml, nvml.nvmlDeviceGetMigMode, handle) if nvml and handle is not None else None
    limit = ask(nvml, nvml.nvmlDeviceGetEnforcedPowerLimit, handle) if nvml and handle is not None else None
    return Gpu(
        index=device.index,
        name=device.name,
        sm_count=device.sm_count,
        memory_bytes=device.memory_bytes,
        l2_bytes=device.l2_bytes,
        compute_capability=device.compute_capability,
        mig=bool(mig and mig[0]),
        driver=driver,
        power_limit_w=limit / 1000 if limit is not None else None,
        pci=device.pci,
    )


def _text(value: object) -> str:
    """NVML gives str or, in old versions, bytes."""
    return value.decode() if isinstance(value, bytes) else str(value or "unknown")


def free_bytes(gpu: Gpu, nvml: Any | None = None) -> int:
    """Bytes free on the GPU now, without a CUDA context; all of its memory where NVML does not say."""
    nvml = nvml or load_nvml()[0]
    if nvml is None or not gpu.pci:
        return gpu.memory_bytes
    handle = ask(nvml, nvml.nvmlDeviceGetHandleByPciBusId, gpu.pci.encode())
    found = ask(nvml, nvml.nvmlDeviceGetMemoryInfo, handle) if handle is not None else None
    return int(found.free) if found is not None else gpu.memory_bytes


def read_gpus() -> tuple[Gpu, ...]:
    """The CUDA devices of this process; empty without a driver. Starts no CUDA context here."""
    devices = ask_devices()
    if not devices:
        return ()
    nvml, _ = load_nvml()
    return combine(devices, nvml)
