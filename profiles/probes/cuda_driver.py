"""What CUDA says of its devices, by the driver library alone: NVML knows neither the SM count nor the cache size.

cuInit forbids a later fork, so the parent asks in a process of its own: `python -m profiles.probes.cuda_driver`
prints one JSON list. Indices are CUDA's, so CUDA_VISIBLE_DEVICES and CUDA_DEVICE_ORDER are honoured.
"""

from __future__ import annotations

import ctypes
import subprocess
import sys
from typing import Any

import msgspec

_SM_COUNT, _L2_BYTES, _CC_MAJOR, _CC_MINOR = 16, 38, 75, 76


class CudaDevice(msgspec.Struct, frozen=True, kw_only=True):
    """One device as the CUDA driver shows it. `pci` is its bus id, lower case, such as '0000:3b:00.0'."""

    index: int
    name: str
    pci: str
    sm_count: int
    l2_bytes: int
    memory_bytes: int
    compute_capability: str


def list_devices(driver: Any) -> tuple[CudaDevice, ...]:
    """Ask a loaded libcuda (or a fake of it); empty where it finds no device."""
    count = ctypes.c_int()
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return ()
    return tuple(_device(driver, index) for index in range(count.value))


def _device(driver: Any, index: int) -> CudaDevice:
    handle, size = ctypes.c_int(), ctypes.c_size_t()
    name, pci = ctypes.create_string_buffer(128), ctypes.create_string_buffer(32)
    driver.cuDeviceGet(ctypes.byref(handle), index)
    driver.cuDeviceGetName(name, 128, handle)
    driver.cuDeviceGetPCIBusId(pci, 32, handle)
    driver.cuDeviceTotalMem_v2(ctypes.byref(size), handle)
    return CudaDevice(
        index=index,
        name=name.value.decode(),
        pci=pci.value.decode().lower(),
        sm_count=_attribute(driver, handle, _SM_COUNT),
        l2_bytes=_attribute(driver, handle, _L2_BYTES),
        memory_bytes=size.value,
        compute_capability=f"{_attribute(driver, handle, _CC_MAJOR)}.{_attribute(driver, handle, _CC_MINOR)}",
    )


def _attribute(driver: Any, handle: ctypes.c_int, attribute: int) -> int:
    value = ctypes.c_int()
    driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, handle)
    return value.value


def load_driver(name: str = "libcuda.so.1") -> Any | None:
    """The driver library, None where it is not installed."""
    try:
        return ctypes.CDLL(name)
    except OSError:
        return None


def ask_devices(timeout_s: float = 20.0) -> tuple[CudaDevice, ...]:
    """`list_devices` in a process of its own; empty where there is no driver, no device or no answer in time."""
    if load_driver() is None:
        return ()
    command = [sys.executable, "-m", "profiles.probes.cuda_driver"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=timeout_s, check=True)
        return msgspec.json.decode(done.stdout, type=tuple[CudaDevice, ...])
    except (subprocess.SubprocessError, OSError, msgspec.DecodeError):
        return ()


def main() -> None:
    """Print the devices as JSON."""
    driver = load_driver()
    sys.stdout.buffer.write(msgspec.json.encode(list_devices(driver) if driver else ()))


if __name__ == "__main__":
    main()
