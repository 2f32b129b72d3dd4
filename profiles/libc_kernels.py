"""glibc's memmove and memset, one share per thread: large moves use stores past the cache, which torch does not.

A store that bypasses the cache needs no read for ownership, so a copy by memmove reaches nearly twice torch's.
memset has no such stores before glibc 2.41: the write ceiling of an older one is below what hand-written code gets.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from profiles.timing import Kernel

if TYPE_CHECKING:
    import torch

_ALIGN_BYTES = 4096


class LibcKernels:
    """CPU copies and fills over `threads` Python threads; ctypes releases the interpreter lock meanwhile."""

    def __init__(self, threads: int) -> None:
        """Threads start with the first call."""
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="libc")

    def copy(self, data: torch.Tensor) -> Kernel:
        """First half of `data` onto its second; counted read + written."""
        share = self._share(data.numel() * 4 // 2)
        source, target = data.data_ptr(), data.data_ptr() + share * self._threads
        call = self._each(lambda at: ctypes.memmove(target + at * share, source + at * share, share))
        return Kernel("libc_memmove", 2 * share * self._threads, lambda: call)

    def fill(self, data: torch.Tensor) -> Kernel:
        """Every byte of `data` set to 63, which makes each float 0.7."""
        share = self._share(data.numel() * 4)
        start = data.data_ptr()
        call = self._each(lambda at: ctypes.memset(start + at * share, 63, share))
        return Kernel("libc_memset", share * self._threads, lambda: call)

    def _share(self, size_bytes: int) -> int:
        """Whole pages per thread."""
        return size_bytes // self._threads // _ALIGN_BYTES * _ALIGN_BYTES

    def _each(self, part: Callable[[int], object]) -> Callable[[], object]:
        return lambda: list(self._pool.map(part, range(self._threads)))
