"""measure(): the peaks of one device, in the process that asks.

For CPU ceilings start that process with `allocator.pinned_environment()`: with glibc's defaults every temporary is
faulted in again, and on 4 KiB pages gathers run at half their rate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from profiles import cuda_ceilings, kernels
from profiles.allocator import allocator_state
from profiles.arena import make_arena
from profiles.libc_kernels import LibcKernels
from profiles.machine import Ceilings
from profiles.probes import cgroup, cpu, load, memory
from profiles.timing import Cell, Deadline, Pace, Progress, Timer, host_timer, run_cells

if TYPE_CHECKING:
    import torch

Around = Callable[[], AbstractContextManager[object]]

ROW_BYTES = (16, 64, 128, 256, 512, 1024)
# The flat ones keep one block of the sum in the L2 cache, which is where a library's inner kernel runs best.
_CPU_SHAPES = (
    (512,) * 3,
    (960, 384, 960),
    (1536, 384, 1536),
    (1024,) * 3,
    (2048,) * 3,
    (3072,) * 3,
    (4096, 1024, 1024),
    (8192, 512, 512),
)
_CUDA_SHAPES = ((2048,) * 3, (4096,) * 3, (8192,) * 3, (8192, 4096, 8192))
_ASSUMED_LLC_BYTES = 64 << 20
_SMALLEST_STREAM_BYTES = 512 << 20
_FAR_BYTES = 8 << 30
"""Random rows of tables this large miss the address translation caches too, which streams never do."""
_MEMORY_SHARE = 0.35
_CUDA_CALLS = 256
"""Calls per timing at most: the host queues these ahead of a device, which takes about a thousand launches."""


@dataclass(frozen=True)
class Plan:
    """Sizes of one measurement; `default_plan` derives them from the device, tests make small ones."""

    arena_bytes: int
    stream_bytes: int
    read_working_sets: tuple[int, ...]
    gather_working_sets: tuple[int, ...]
    row_bytes: tuple[int, ...] = ROW_BYTES
    lookups: int = 200_000
    lookup_bytes: int = 0
    burst: int = 1
    gemm_shapes: tuple[tuple[int, int, int], ...] = _CPU_SHAPES
    gemm_dtypes: tuple[str, ...] = ("float32", "bfloat16", "float16")
    threads: int = 1
    pace: Pace = field(default_factory=Pace)
    notes: tuple[str, ...] = ()

    def lookups_of(self, row_bytes: int) -> int:
        """Lookups per call: at least `lookups`, and enough to move `lookup_bytes`."""
        return max(self.lookups, self.lookup_bytes // row_bytes)


def plan_cpu(l2_bytes: int, llc_bytes: int, available_bytes: int, threads: int) -> Plan:
    """Sizes for a CPU with these caches: streams over 4x the last one, gathers also over 8 GiB.

    Arrays take a third of the available memory at most.
    """
    llc = llc_bytes or _ASSUMED_LLC_BYTES
    l2 = min(l2_bytes or llc // 8, llc)
    wanted = max(4 * llc, _SMALLEST_STREAM_BYTES)
    arena = min(max(wanted, _FAR_BYTES), int(available_bytes * _MEMORY_SHARE)) if available_bytes else wanted
    stream = min(wanted, arena)
    near = [l2 // 2, 4 * l2, llc // 8, llc // 2, llc, stream]
    return Plan(
        arena_bytes=arena,
        stream_bytes=stream,
        read_working_sets=tuple(
            kernels.spread_points([l2 // 2, 2 * l2, 16 << 20, llc // 4, llc, 4 * llc, stream], stream)
        ),
        gather_working_sets=tuple(kernels.spread_points([*near, arena // 4, arena], arena)),
        threads=threads,
        notes=_arena_notes(stream, wanted),
    )


def plan_cuda(l2_bytes: int, free_bytes: int) -> Plan:
    """Sizes for a GPU: 8 GiB where 35 % of the free memory allows, so that address translation counts too."""
    arena = min(max(8 << 30, 4 * l2_bytes), int(free_bytes * _MEMORY_SHARE))
    points = [l2_bytes // 2, 2 * l2_bytes, 4 * l2_bytes, 1 << 30, arena]
    return Plan(
        arena_bytes=arena,
        stream_bytes=arena,
        read_working_sets=tuple(kernels.spread_points(points, arena)),
        gather_working_sets=tuple(kernels.spread_points(points, arena)),
        lookups=500_000,
        lookup_bytes=128 << 20,
        burst=8,
        gemm_shapes=_CUDA_SHAPES,
        gemm_dtypes=("float32", "tf32", "bfloat16", "float16"),
        pace=Pace(max_calls=_CUDA_CALLS),
        notes=_arena_notes(arena, 4 * l2_bytes),
    )


def _arena_notes(arena: int, wanted: int) -> tuple[str, ...]:
    if arena >= wanted:
        return ()
    return (
        f"Memory allowed arrays of {arena / 2**20:.0f} MiB where {wanted / 2**20:.0f} MiB were wanted "
        "(4x the last cache): part of what was read came from the cache.",
    )


def default_plan(device: str) -> Plan:
    """The plan for 'cpu' or 'cuda:N' on this machine. ValueError for another device or one that is absent."""
    if device == "cpu":
        caches = cpu.read_caches(cpu.visible_cpus())
        totals = {c.level: c.total_bytes for c in caches}
        llc = totals[max(totals)] if totals and max(totals) >= 2 else 0
        return plan_cpu(totals.get(2, 0), llc, memory.available_bytes(), cgroup.usable_cpus())
    l2_bytes, free_bytes = cuda_ceilings.memory_sizes(device)
    return plan_cuda(l2_bytes, free_bytes)


def _silent(_label: str, _frac: float) -> None:
    pass


def measure(
    device: str, *, budget_s: float = 30.0, progress: Progress | None = None, plan: Plan | None = None
) -> Ceilings:
    """Measure the peaks of 'cpu' or 'cuda:N' within about `budget_s` seconds, once the memory for it is filled.

    Copy and triad count bytes read plus written, gathers count lookups x row bytes. `progress(label, frac)` is told
    what is being tried. Every ceiling is tried at least once, even past the budget. ValueError for an unknown device.
    """
    import torch

    started, watch = Deadline(0.0), load.LoadWatch()
    plan = plan or default_plan(device)
    (progress or _silent)("memory", 0.0)
    timer: Timer = host_timer if device == "cpu" else cuda_ceilings.event_timer(device)
    with torch.no_grad(), thread_count(plan.threads if device == "cpu" else None)():
        arena = make_arena(plan.arena_bytes, device, plan.threads)
        cells = build_cells(arena, plan)
        deadline = Deadline(budget_s)
        rounds = run_cells(cells.all(), timer, plan.pace, deadline, progress or _silent)
        extra = {} if device == "cpu" else cuda_ceilings.transfers(device)
    notes = (*plan.notes, *cells.notes, *_notes(device, rounds, plan.pace))
    found = Ceilings(
        device=device,
        measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
        duration_s=started.elapsed_s(),
        notes=notes,
        other_load_frac=watch.other_frac(),
        **cells.ceilings(),  # type: ignore[arg-type]
        **extra,  # type: ignore[arg-type]
    )
    (progress or _silent)("done", 1.0)
    return found


def _notes(device: str, rounds: int, pace: Pace) -> Iterator[str]:
    if rounds < min(2, pace.rounds):
        yield "The time budget allowed only one round: a disturbance in it was not tried again."
    state = allocator_state()
    if device == "cpu" and not (state.pinned and state.huge_pages):
        yield "Measured without the pinned allocator and huge pages: gathers and fresh outputs are below their peak."


@dataclass
class Cells:
    """All numbers to find, grouped as they stand in Ceilings."""

    single: dict[str, Cell]
    read_curve: list[Cell]
    gather: list[Cell]
    gemm: dict[str, Cell]
    notes: tuple[str, ...] = ()

    def all(self) -> list[Cell]:
        """In the order of a round; gathers first, while no write has touched the arena."""
        return [*self.gather, *self.read_curve, *self.gemm.values(), *self.single.values()]

    def ceilings(self) -> dict[str, object]:
        """The measured fields of Ceilings."""
        return {
            **{name: cell.ceiling() for name, cell in self.single.items()},
            "stream_read_curve": tuple(c.ceiling() for c in self.read_curve),
            "gather": tuple(c.ceiling() for c in self.gather),
            "gemm": {name: cell.ceiling() for name, cell in self.gemm.items() if cell.rates},
        }


def build_cells(arena: torch.Tensor, plan: Plan) -> Cells:
    """Every cell of `plan`, over one arena."""
    gather, notes = _gather_cells(arena, plan)
    near = arena[: plan.stream_bytes // 4]
    return Cells(
        single=_stream_cells(near, plan),
        read_curve=[_read_cell(near, size, plan.threads) for size in plan.read_working_sets],
        gather=gather,
        gemm={name: _gemm_cell(near, name, plan) for name in plan.gemm_dtypes},
        notes=notes,
    )


def _read_cell(arena: torch.Tensor, size_bytes: int, threads: int) -> Cell:
    data = arena[: size_bytes // 4]
    return Cell(f"read {_size(size_bytes)}", kernels.read_kernels(data), size_bytes, threads=threads)


def _stream_cells(arena: torch.Tensor, plan: Plan) -> dict[str, Cell]:
    size, threads = arena.numel() * 4, plan.threads
    # A quarter keeps its random numbers, from which the rest is restored after each writing.
    written = arena[arena.numel() // 4 :]
    cells = {
        "stream_read": _read_cell(arena, size, threads),
        "stream_copy": Cell("copy", kernels.copy_kernels(arena), size, threads=threads),
        "stream_triad": Cell("triad", kernels.triad_kernels(arena), size, threads=threads),
        "stream_write": Cell(
            "write",
            kernels.write_kernels(written),
            written.numel() * 4,
            threads=threads,
            around=_restored(arena),
        ),
    }
    if arena.device.type == "cpu":
        libc = LibcKernels(threads)
        cells["stream_copy"].kernels = [*cells["stream_copy"].kernels, libc.copy(arena)]
        cells["stream_write"].kernels = [*cells["stream_write"].kernels, libc.fill(written)]
        one = _read_cell(arena, size, 1)
        one.around = thread_count(1)
        cells["stream_read_one_thread"] = one
    return cells


def _restored(arena: torch.Tensor) -> Around:
    """A context that puts random numbers back after kernels have overwritten the arena with constants."""

    @contextmanager
    def around() -> Iterator[None]:
        yield
        kernels.restore(arena)

    return around


def thread_count(threads: int | None) -> Around:
    """A context in which torch uses this many threads (None: as it is)."""

    @contextmanager
    def around() -> Iterator[None]:
        import torch

        before = torch.get_num_threads()
        torch.set_num_threads(threads or before)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    return around


def _gather_cells(arena: torch.Tensor, plan: Plan) -> tuple[list[Cell], tuple[str, ...]]:
    import torch

    most = max(plan.lookups_of(r) for r in plan.row_bytes)
    # Written once so that no timed call faults its pages in.
    floats = max(plan.lookups_of(r) * r for r in plan.row_bytes) // 4
    scratch = torch.zeros(floats, device=arena.device).fill_(1.0)
    indices = kernels.IndexSource(most, arena.device)
    cells: list[Cell] = []
    notes: tuple[str, ...] = ()
    for row_bytes in plan.row_bytes:
        for size in plan.gather_working_sets:
            table = arena[: size // row_bytes * (row_bytes // 4)].view(-1, row_bytes // 4)
            lookups = plan.lookups_of(row_bytes)
            found = kernels.gather_kernels(table, lookups, indices, scratch, plan.burst)
            if arena.device.type == "cuda":
                fused, notes = cuda_ceilings.fused_gather(table, lookups, indices, plan.burst)
                found += fused
            label = f"gather {row_bytes} B from {_size(size)}"
            cells.append(Cell(label, found, size, row_bytes, plan.threads))
    return cells, notes


def _gemm_cell(arena: torch.Tensor, name: str, plan: Plan) -> Cell:
    import torch

    dtype = torch.float32 if name == "tf32" else getattr(torch, name)
    fitting = [s for s in plan.gemm_shapes if max(s[0] * s[1], s[1] * s[2]) <= arena.numel()]
    found = kernels.gemm_kernels(arena, dtype, fitting)
    around = cuda_ceilings.tf32 if name == "tf32" else nullcontext
    return Cell(f"matrix product {name}", found, threads=plan.threads, around=around, flops=True)


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 2**20:.3g} MiB"
