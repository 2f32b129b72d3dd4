"""What only a CUDA device has: event timing, copies to and from the host, launch latency, fbgemm's fused gather."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from profiles.kernels import IndexSource, row_bytes_of
from profiles.machine import Ceiling
from profiles.timing import Call, Cell, Kernel, Pace, Timer, run_cell

if TYPE_CHECKING:
    import torch

_TRANSFER_BYTES = 256 << 20
_LAUNCHES = 1000
_FEATURES = 8
_CYCLES_PER_S = 2e9
"""Of the spin below, about the highest clock of today's GPUs: a slower one only spins longer."""
_SHORTEST_SPIN_S, _LONGEST_SPIN_S = 250e-6, 0.1
_QUEUEING_S = 15e-6
"""What the host needs to queue a plain operator, with room to spare; fbgemm's takes ten times as long."""
_SPINS = 3
"""How often a longer spin is tried: a call that waits for the device can be held by none."""


def memory_sizes(device: str) -> tuple[int, int]:
    """(L2 bytes, free bytes) of a CUDA device. ValueError where it is no device of this process."""
    import torch

    if not device.startswith("cuda") or not torch.cuda.is_available():
        raise ValueError(f"no device {device!r} here; devices: {', '.join(_devices())}")
    index = torch.device(device).index or 0
    if index >= torch.cuda.device_count():
        raise ValueError(f"no device {device!r} here; devices: {', '.join(_devices())}")
    free, _ = torch.cuda.mem_get_info(index)
    return int(torch.cuda.get_device_properties(index).L2_cache_size), int(free)


def _devices() -> list[str]:
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return ["cpu", *(f"cuda:{i}" for i in range(count))]


def event_timer(device: str) -> Timer:
    """A timer that puts the calls between two events of the device's current stream.

    The device spins before the first event until the host has queued all calls, so that the events enclose device time
    alone. Where it was through with spinning too early, the host may have set the pace: the same calls are timed again
    behind a spin that outlasts their queueing.
    """

    def timer(calls: Sequence[Call]) -> float:
        spin_s = max(_SHORTEST_SPIN_S, len(calls) * _QUEUEING_S)
        for _ in range(_SPINS):
            found = _spun(device, calls, spin_s)
            if found.held:
                break
            spin_s = min(_LONGEST_SPIN_S, max(2 * spin_s, 1.5 * found.queueing_s))
        return found.seconds

    return timer


class _Spun(NamedTuple):
    """Seconds between the events, seconds the host took to queue what lies between, whether the spin outlasted that."""

    seconds: float
    queueing_s: float
    held: bool


def _spun(device: str, calls: Sequence[Call], spin_s: float) -> _Spun:
    import torch

    with torch.cuda.device(device):
        events: list[Any] = [torch.cuda.Event(enable_timing=True) for _ in range(2)]  # type: ignore[no-untyped-call]
        start, end = events
        torch.cuda._sleep(round(spin_s * _CYCLES_PER_S))  # type: ignore[no-untyped-call]
        start.record()
        began = time.perf_counter()
        for call in calls:
            call()
        end.record()
        queueing_s = time.perf_counter() - began
        held = not start.query()
        end.synchronize()
    return _Spun(float(start.elapsed_time(end)) * 1e-3, queueing_s, held)


@contextmanager
def tf32() -> Iterator[None]:
    """float32 products on tensor cores with 10 mantissa bits, inside this context only."""
    import torch

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def transfers(device: str) -> dict[str, Ceiling]:
    """Copies of 256 MiB each way from pinned and pageable memory, and the launch latency, as fields of Ceilings."""
    timer = wall_timer(device)
    cells = {name: _transfer_cell(device, name) for name in _TRANSFERS}
    for _ in range(3):
        for cell in cells.values():
            run_cell(cell, timer, Pace())
    found = {name: cell.ceiling() for name, cell in cells.items()}
    return {**found, "launch_latency": launch_latency(device, timer)}


_TRANSFERS = (
    "copy_host_to_device_pinned",
    "copy_host_to_device_pageable",
    "copy_device_to_host_pinned",
    "copy_device_to_host_pageable",
)


def _transfer_cell(device: str, name: str) -> Cell:
    import torch

    pinned = name.endswith("pinned")
    host = torch.rand(_TRANSFER_BYTES // 4, pin_memory=pinned)
    there = torch.rand(_TRANSFER_BYTES // 4, device=device)
    source, target = (host, there) if "host_to_device" in name else (there, host)
    call: Call = lambda: target.copy_(source, non_blocking=pinned)  # noqa: E731
    return Cell(name, [Kernel("copy", _TRANSFER_BYTES, lambda: call)], _TRANSFER_BYTES)


def wall_timer(device: str) -> Timer:
    """Host clock with one synchronisation after the calls: a pageable copy also works on the host."""
    import torch

    def timer(calls: Sequence[Call]) -> float:
        torch.cuda.synchronize(device)
        start = time.perf_counter()
        for call in calls:
            call()
        torch.cuda.synchronize(device)
        return time.perf_counter() - start

    return timer


def launch_latency(device: str, timer: Timer) -> Ceiling:
    """Seconds per launch of a one-element kernel, launched back to back."""
    import torch

    one = torch.zeros(1, device=device)
    tries = sorted(timer([one.zero_] * _LAUNCHES) / _LAUNCHES for _ in range(5))
    spread = (tries[2] - tries[0]) / tries[0]
    return Ceiling(kernel="zero_one_element", source="measured", spread_frac=spread, seconds=tries[0])


def fused_gather(
    table: torch.Tensor, lookups: int, indices: IndexSource, burst: int
) -> tuple[list[Kernel], tuple[str, ...]]:
    """fbgemm's table-batched forward over `table` seen by eight features; ([], why) where fbgemm cannot do it."""
    try:
        operator = _table_batched(table)
        _try_once(operator, table)
    except (ImportError, OSError) as error:
        return [], (f"fbgemm's table-batched gather was not tried: {error}",)
    except (TypeError, AttributeError, RuntimeError) as error:
        return [], (f"fbgemm's table-batched gather does not run here: {error}",)
    return [_fused_kernel(operator, table, lookups, indices, burst, pooling) for pooling in (20, 100)], ()


def _try_once(operator: Callable[..., Any], table: torch.Tensor) -> None:
    """A lookup of row 0 by every feature: a build without kernels for this GPU fails here, not amid measuring."""
    import torch

    rows = torch.zeros(_FEATURES, dtype=torch.int64, device=table.device)
    operator(rows, torch.arange(_FEATURES + 1, dtype=torch.int64, device=table.device))
    if table.device.type == "cuda":
        torch.cuda.synchronize(table.device)


def _fused_kernel(
    operator: Callable[..., Any], table: torch.Tensor, lookups: int, indices: IndexSource, burst: int, pooling: int
) -> Kernel:
    import torch

    lookups = lookups // (pooling * _FEATURES) * pooling * _FEATURES
    offsets = torch.arange(0, lookups + 1, pooling, dtype=torch.int64, device=table.device)

    def prepare() -> Call:
        rows = indices.draw(lookups, table.shape[0], torch.int64)
        return lambda: operator(rows, offsets)

    return Kernel(f"tbe_pooling{pooling}", lookups * row_bytes_of(table), prepare, fresh=True, burst=burst)


def _table_batched(table: torch.Tensor) -> Callable[..., Any]:
    """A table-batched operator whose weights are `table` itself: built tiny, then pointed at it."""
    import torch
    from fbgemm_gpu.split_embedding_configs import EmbOptimType
    from fbgemm_gpu.split_table_batched_embeddings_ops_common import BoundsCheckMode, EmbeddingLocation
    from fbgemm_gpu.split_table_batched_embeddings_ops_training import (
        ComputeDevice,
        SplitTableBatchedEmbeddingBagsCodegen,
    )

    cuda = table.device.type == "cuda"
    place = EmbeddingLocation.DEVICE if cuda else EmbeddingLocation.HOST
    compute = ComputeDevice.CUDA if cuda else ComputeDevice.CPU
    operator = SplitTableBatchedEmbeddingBagsCodegen(
        [(1, table.shape[1], place, compute)],
        feature_table_map=[0] * _FEATURES,
        optimizer=EmbOptimType.EXACT_SGD,
        bounds_check_mode=BoundsCheckMode.NONE,
        device=table.device if cuda else None,
    )
    weights = operator.weights_dev if cuda else operator.weights_host
    weights.data = table.reshape(-1)
    sums = [0] * _FEATURES + [table.shape[0]]
    operator.hash_size_cumsum[:] = torch.tensor(sums, device=operator.hash_size_cumsum.device)
    return operator  # type: ignore[no-any-return]
