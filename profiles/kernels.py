"""The kernels whose best rate is a ceiling: streams, random gathers, matrix products. They run on any torch device.

Bytes are counted as read plus written by the program: a copy of n bytes counts 2n, a triad 3n. Reads that a store
causes before it (read for ownership) are not counted, as in STREAM.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from profiles.timing import Call, Kernel

if TYPE_CHECKING:
    import torch

_FLOAT_BYTES = 4
_ROW_FLOATS = 1024


def constant(name: str, work: float, call: Call) -> Kernel:
    """A kernel that does the same thing at every call."""
    return Kernel(name, work, lambda: call)


def read_kernels(data: torch.Tensor) -> list[Kernel]:
    """Reductions that read each of the n floats of `data` once."""
    import torch

    data = data[: data.numel() // (2 * _ROW_FLOATS) * 2 * _ROW_FLOATS]
    work = data.numel() * _FLOAT_BYTES
    rows, halves = data.view(-1, _ROW_FLOATS), data.view(2, -1)
    vector = data[:_ROW_FLOATS].clone()
    product = torch.empty(rows.shape[0], device=data.device)
    return [
        constant("sum", work, lambda: torch.sum(data)),
        constant("row_max", work, lambda: torch.amax(rows, 1)),
        # Two different halves: dot(x, x) would read every cache line once for two operands and count it twice.
        constant("dot", work, lambda: torch.dot(halves[0], halves[1])),
        constant("matrix_vector", work, lambda: torch.mv(rows, vector, out=product)),
    ]


def write_kernels(data: torch.Tensor) -> list[Kernel]:
    """Fills of the n floats of `data`; its content is lost (see `restore`)."""
    work = data.numel() * _FLOAT_BYTES
    return [constant("fill", work, lambda: data.fill_(0.5)), constant("zero", work, data.zero_)]


def restore(data: torch.Tensor) -> None:
    """Overwrite the last three quarters of `data` with copies of its first, so that nothing in it is constant."""
    quarter = data.numel() // 4
    for part in range(1, 4):
        data[part * quarter : (part + 1) * quarter].copy_(data[:quarter])


def copy_kernels(data: torch.Tensor) -> list[Kernel]:
    """Copies of the first half of `data` onto the second; counted read + written."""
    import torch

    half = data.numel() // 2
    source, target = data[:half], data[half : 2 * half]
    work = 2 * half * _FLOAT_BYTES
    return [
        constant("copy", work, lambda: target.copy_(source)),
        constant("negate", work, lambda: torch.neg(source, out=target)),
    ]


def triad_kernels(data: torch.Tensor) -> list[Kernel]:
    """c = b + 0.5 a on thirds of `data`; counted two reads + one write."""
    import torch

    third = data.numel() // 3
    a, b, c = (data[i * third : (i + 1) * third] for i in range(3))
    work = 3 * third * _FLOAT_BYTES
    return [constant("add_scaled", work, lambda: torch.add(b, a, alpha=0.5, out=c))]


class IndexSource:
    """Uniform random rows, other ones at every call: windows over one pool of random numbers, shifted each time."""

    def __init__(self, lookups: int, device: torch.device, seed: int = 0, windows: int = 8) -> None:
        """Draw a pool from which `windows` disjoint sets of up to `lookups` indices are cut."""
        import torch

        generator = torch.Generator(device=device).manual_seed(seed)
        size = (windows, lookups)
        self._pool = torch.randint(0, 1 << 40, size, device=device, generator=generator, dtype=torch.int64)
        self._drawn = 0

    def draw(self, lookups: int, rows: int, dtype: torch.dtype) -> torch.Tensor:
        """`lookups` indices in [0, rows) of this integer type."""
        window = self._pool[self._drawn % len(self._pool)][:lookups]
        self._drawn += 1
        # The odd factor makes the next pass over the pool another permutation of the rows.
        return ((window * (2 * self._drawn + 1)) % rows).to(dtype)


def gather_kernels(
    table: torch.Tensor, lookups: int, indices: IndexSource, scratch: torch.Tensor, burst: int = 1
) -> list[Kernel]:
    """Random reads of whole rows of `table` (rows, dim), counted logically: lookups x row bytes.

    Index and output traffic are not counted. Pooling 100 writes little output and so shows the reads best.
    embedding_bag runs fbgemm's row-sum kernel inside torch over all threads; fbgemm's own table-batched operator
    runs the same kernel on CPU with less parallelism (half the rate on 2 cores) and is left out there.
    """
    import torch

    bags = [(20, torch.int64), (20, torch.int32), (100, torch.int32)]
    found = [_bag_kernel(table, lookups, pooling, dtype, indices, burst) for pooling, dtype in bags]
    return [*found, _select_kernel(table, lookups, indices, scratch, burst)]


def _bag_kernel(
    table: torch.Tensor, lookups: int, pooling: int, dtype: torch.dtype, indices: IndexSource, burst: int
) -> Kernel:
    import torch

    lookups = lookups // pooling * pooling
    offsets = torch.arange(0, lookups, pooling, dtype=dtype, device=table.device)

    def prepare() -> Call:
        rows = indices.draw(lookups, table.shape[0], dtype)
        return lambda: torch.nn.functional.embedding_bag(rows, table, offsets, mode="sum")

    name = f"embedding_bag_pooling{pooling}_{str(dtype).removeprefix('torch.')}"
    return Kernel(name, lookups * row_bytes_of(table), prepare, fresh=True, burst=burst)


def _select_kernel(
    table: torch.Tensor, lookups: int, indices: IndexSource, scratch: torch.Tensor, burst: int
) -> Kernel:
    import torch

    out = scratch[: lookups * table.shape[1]].view(lookups, table.shape[1])

    def prepare() -> Call:
        rows = indices.draw(lookups, table.shape[0], torch.int32)
        return lambda: torch.index_select(table, 0, rows, out=out)

    return Kernel("index_select_int32", lookups * row_bytes_of(table), prepare, fresh=True, burst=burst)


def row_bytes_of(table: torch.Tensor) -> int:
    """Bytes of one row of a (rows, dim) table."""
    return table.shape[1] * table.element_size()


def gemm_kernels(data: torch.Tensor, dtype: torch.dtype, shapes: Sequence[tuple[int, int, int]]) -> list[Kernel]:
    """(m, k) x (k, n) products of random numbers taken from `data`, 2mkn FLOPs each, smallest first.

    Each with the right side as it is (mm) and transposed (mm_nt), which is how linear layers hold their weights:
    libraries pack the two differently, and either may be the faster.
    """
    ordered = sorted(shapes, key=lambda s: s[0] * s[1] * s[2])
    return [_gemm_kernel(data, dtype, shape, transposed) for shape in ordered for transposed in (False, True)]


def _gemm_kernel(data: torch.Tensor, dtype: torch.dtype, shape: tuple[int, int, int], transposed: bool) -> Kernel:
    import torch

    m, k, n = shape

    def prepare() -> Call:
        # Built when tried and freed after it: all shapes of all dtypes together would not fit everywhere.
        left = data[: m * k].view(m, k).to(dtype)
        right = data[-k * n :].view(n, k).to(dtype).t() if transposed else data[-k * n :].view(k, n).to(dtype)
        out = torch.empty(m, n, dtype=dtype, device=data.device)
        return lambda: torch.mm(left, right, out=out)

    # A dtype may be fast in one layout and take seconds in the other, so that each is judged by its own smaller shapes.
    family = "mm_nt" if transposed else "mm"
    return Kernel(f"{family}_{m}x{k}x{n}", 2.0 * m * k * n, prepare, family=family)


def spread_points(points: Sequence[int], limit: int, apart: float = 1.3) -> Iterator[int]:
    """`points` in order, without those above `limit` or less than `apart` times the one before."""
    last = 0
    for point in sorted(min(p, limit) for p in points):
        if point > last * apart:
            last = point
            yield point
