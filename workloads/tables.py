"""Filling tables with random weights, fast and the same everywhere. Imports torch."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BLOCK = 1 << 20
CHUNK = 1 << 17
_STREAM = 102
_SIGN_AND_FRACTION = np.uint64(0x807FFFFF_807FFFFF)
_EXPONENT = np.uint64(0x3D000000_3D000000)


def fill_table(weight: Tensor, seed: int, table_number: int, num_threads: int | None = None) -> None:
    """Fill an fp32 table (E, D) in place with random values, half of each sign, 1/32 <= |v| < 1/16.

    Never zero, never denormal: zeros cost less power and compress, denormals are slow. The content depends only on
    (seed, table_number, position): every backend and thread count holds the same table. On the CPU every page is
    first written here, by `num_threads` threads in blocks of 4 MiB (default: all CPUs of the process).
    """
    flat = weight.detach().view(-1)
    with ThreadPoolExecutor(num_threads or len(os.sched_getaffinity(0))) as pool:
        starts = range(0, flat.numel(), BLOCK)
        list(pool.map(lambda start: _fill_block(flat[start : start + BLOCK], (seed, table_number, start)), starts))


def _fill_block(part: Tensor, key: tuple[int, int, int]) -> None:
    seed, table_number, start = key
    generator = np.random.Generator(np.random.SFC64([seed, table_number, start // BLOCK, _STREAM]))
    target = part.numpy() if part.device.type == "cpu" else np.empty(part.numel(), dtype=np.float32)
    for first in range(0, target.size, CHUNK):
        # Chunks stay in the L2 cache between drawing, masking and storing.
        chunk = target[first : first + CHUNK]
        chunk[:] = _random_values(generator, chunk.size)
    if part.device.type != "cpu":
        part.copy_(torch.from_numpy(target))


def _random_values(generator: np.random.Generator, count: int) -> NDArray[np.float32]:
    """`count` floats with random sign and fraction and the exponent of 1/32."""
    bits = generator.integers(0, 2**64 - 1, (count + 1) // 2, dtype=np.uint64, endpoint=True)
    bits &= _SIGN_AND_FRACTION
    bits |= _EXPONENT
    return bits.view(np.float32)[:count]
