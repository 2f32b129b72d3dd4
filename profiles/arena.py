"""One big buffer of random floats that every kernel works in.

First touch of memory a VM has never used is slow (0.6 GB/s seen), so there is one buffer, faulted in once by the
threads that will read it, and filled with random numbers: `empty` maps the zero page, and constants compress.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_BLOCK_FLOATS = 1 << 18
_FLOAT_BYTES = 4


def make_arena(size_bytes: int, device: str, threads: int) -> torch.Tensor:
    """A flat float32 tensor of about `size_bytes`, uniform in [-0.5, 0.5), every page written."""
    import torch

    arena = torch.empty(size_bytes // _FLOAT_BYTES, device=device)
    if device == "cpu":
        arena.zero_()
        fill_random(arena.numpy(), threads)
        return arena
    return arena.uniform_(-0.5, 0.5)


def fill_random(data: Any, threads: int, seed: int = 0) -> None:
    """Fill a flat float32 numpy array with uniform numbers in [-0.5, 0.5), one generator per thread."""
    share = -(-len(data) // max(1, threads))
    parts = [data[i : i + share] for i in range(0, len(data), share)]
    with ThreadPoolExecutor(len(parts) or 1) as pool:
        list(pool.map(_fill_part, parts, range(seed, seed + len(parts))))


def _fill_part(part: Any, seed: int) -> None:
    """Blockwise, so that the second pass finds its block in the cache."""
    import numpy as np

    generator = np.random.Generator(np.random.SFC64(seed))
    for start in range(0, len(part), _BLOCK_FLOATS):
        block = part[start : start + _BLOCK_FLOATS]
        generator.random(out=block, dtype=np.float32)
        block -= 0.5
