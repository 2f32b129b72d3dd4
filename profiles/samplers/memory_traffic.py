"""Bytes that the memory controllers really moved, by Linux perf's uncore counters, where a machine shows them."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from pathlib import Path
from typing import Any

from profiles.probes.uncore import DEVICES, MemoryEvent, memory_events

SYSCALLS = {"x86_64": 298, "aarch64": 241}
ATTR_SIZE = 112
"""sizeof(struct perf_event_attr) of version 5: kernels take any size that they know."""


def attribute(pmu_type: int, config: int) -> bytes:
    """A struct perf_event_attr that counts one event of one PMU, everything else zero."""
    head = struct.pack("=IIQ", pmu_type, ATTR_SIZE, config)
    return head.ljust(ATTR_SIZE, b"\0")


class MemoryTrafficSampler:
    """Bytes read and written by all memory controllers since it was made; of the whole machine, not one process."""

    def __init__(self, devices: Path = DEVICES) -> None:
        """Open a counter for each event; those that cannot be opened make the source unavailable."""
        self._counters: list[tuple[MemoryEvent, int]] = []
        self._reason: str | None = None
        events = memory_events(devices)
        if not events:
            self._reason = "the kernel shows no memory-controller counters (usual in VMs): traffic is modelled"
            return
        try:
            self._counters = [(event, _open(event, cpu)) for event in events for cpu in event.cpus]
        except OSError as error:
            self._reason = _refused(error)

    def available(self) -> str | None:
        """None, or why traffic cannot be counted."""
        return self._reason

    def channels(self) -> tuple[str, ...]:
        """memory_read_bytes and memory_write_bytes, as far as there are events for them."""
        return tuple(dict.fromkeys(event.kind for event, _ in self._counters))

    def read(self) -> dict[str, float]:
        """Bytes since the counters were opened."""
        values = dict.fromkeys(self.channels(), 0.0)
        for event, fd in self._counters:
            (count,) = struct.unpack("=Q", os.read(fd, 8))
            values[event.kind] += count * event.bytes_per_count
        return values

    def __del__(self) -> None:
        """Give the counters back."""
        for _, fd in self._counters:
            os.close(fd)


def _refused(error: OSError) -> str:
    if error.errno in (errno.EACCES, errno.EPERM):
        return "machine-wide counters may not be read: `sudo sysctl kernel.perf_event_paranoid=0`, or run as root"
    return f"perf_event_open: {error.strerror}"


def _open(event: MemoryEvent, cpu: int) -> int:
    """A counter of one event on one CPU's socket. Raises OSError."""
    number = SYSCALLS.get(platform.machine())
    if number is None:
        raise OSError(errno.ENOSYS, f"perf counters are not known on {platform.machine()}")
    libc: Any = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(attribute(event.pmu_type, event.config), ATTR_SIZE)
    fd: int = libc.syscall(number, buffer, -1, cpu, -1, 8)
    if fd < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return fd
