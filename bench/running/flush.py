"""Emptying the caches before a step of a cold case: a buffer of two last-level caches is streamed through them."""

from __future__ import annotations

from bench.running.case_inputs import UNKNOWN_LLC_BYTES
from bench.running.request import Request


class Flush:
    """Streams a buffer, allocated once and held as long as this lives. On a GPU the call returns before it is done.

    `held_bytes` is what the buffer takes of the device's memory, as CUDA's allocator counts it; 0 on a CPU.
    """

    def __init__(self, llc_bytes: int, device: str) -> None:
        import torch

        on_cuda = device.startswith("cuda")
        before_bytes = torch.cuda.memory_allocated(device) if on_cuda else 0
        self._buffer = torch.ones(2 * (llc_bytes or UNKNOWN_LLC_BYTES) // 4, device=device)
        self.held_bytes = torch.cuda.memory_allocated(device) - before_bytes if on_cuda else 0

    def __call__(self) -> None:
        """Empty the caches."""
        self._buffer.add_(1.0)


def flush_of(request: Request) -> Flush | None:
    """What a cold case calls before each step; None for others."""
    return Flush(request.llc_bytes, request.case.device) if request.case.cache_mode == "cold" else None
