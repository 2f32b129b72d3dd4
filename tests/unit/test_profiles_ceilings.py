"""Best-of timing with a fake clock, plans, kernels, and one small real measurement."""

from contextlib import contextmanager, nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest

from profiles import cuda_ceilings
from profiles.timing import Cell, Deadline, Kernel, Pace, host_timer, repeat_count, run_cell, run_cells

torch = pytest.importorskip("torch")

from profiles import arena, ceilings, kernels  # noqa: E402
from profiles.libc_kernels import LibcKernels  # noqa: E402


class FakeClock:
    """A timer whose calls say how long they take; keeps what was run."""

    def __init__(self):
        self.now_s = 0.0
        self.ran = []

    def __call__(self, calls):
        seconds = sum(call() for call in calls)
        self.now_s += seconds
        self.ran.append(len(calls))
        return seconds


def fixed(name, work, seconds):
    return Kernel(name, work, lambda: lambda: seconds)


def silent(_label, _frac):
    pass


def test_the_best_kernel_wins_and_states_its_spread():
    times = iter([1.0, 1.0, 0.5, 1.0, 0.8])
    good = Kernel("good", 8.0, lambda: lambda: next(times))
    cell = Cell("c", [fixed("slow", 8.0, 0.8), good], working_set_bytes=5, row_bytes=2, threads=3)
    run_cell(cell, FakeClock(), Pace(tries=4, min_timing_s=0, long_call_s=10, max_call_s=10))
    found = cell.ceiling()
    # good's tries are 8, 16, 8 and 10 per second: best 16, median 9.
    assert (found.kernel, found.bytes_per_s, found.spread_frac) == ("good", 16.0, (16 - 9) / 16)
    assert (found.working_set_bytes, found.row_bytes, found.threads, found.source) == (5, 2, 3, "measured")


def test_hopeless_kernels_are_dropped_after_the_first_round():
    cell = Cell("c", [fixed("fast", 10.0, 1.0), fixed("slow", 10.0, 2.0)])
    deadline = Deadline(1e9)
    run_cells([cell], FakeClock(), Pace(rounds=3, tries=1, max_call_s=10), deadline, silent)
    assert (len(cell.rates["fast"]), len(cell.rates["slow"])) == (3, 1)


def test_calls_that_would_take_too_long_are_not_made():
    cell = Cell("c", [fixed("small", 10.0, 0.1), fixed("huge", 1000.0, 10.0)], flops=True)
    run_cell(cell, FakeClock(), Pace(max_call_s=0.5))
    assert list(cell.rates) == ["small"]
    assert cell.ceiling().flops_per_s == pytest.approx(100.0)


def test_a_slow_routine_is_not_tried_on_what_only_a_fast_one_can_do():
    """Ten units a second in one layout, a thousand in the other: the large shape would take 100 s and 1 s."""
    shapes = [
        ("fast small", 10.0, 0.01),
        ("slow small", 10.0, 1.0),
        ("fast large", 1000.0, 1.0),
        ("slow large", 1e3, 100),
    ]
    kernels_ = [replace(fixed(*shape), family=shape[0].split()[0]) for shape in shapes]
    cell = Cell("c", kernels_, flops=True)
    run_cell(cell, FakeClock(), Pace(max_call_s=2.0))
    assert list(cell.rates) == ["fast small", "slow small", "fast large"]


def test_short_calls_are_repeated_until_a_timing_is_long_enough():
    clock = FakeClock()
    run_cell(Cell("c", [fixed("k", 1.0, 0.25)]), clock, Pace(tries=2, min_timing_s=1.0, long_call_s=1.0))
    assert clock.ran == [1, 4, 4]
    assert repeat_count(0.0, Pace(max_calls=7)) == 7


def test_fresh_kernels_prepare_every_call():
    prepared = []

    def prepare():
        prepared.append(1)
        return lambda: 0.5

    clock = FakeClock()
    cell = Cell("c", [Kernel("k", 6.0, prepare, fresh=True, burst=3)])
    run_cell(cell, clock, Pace(tries=2))
    assert (clock.ran, len(prepared)) == ([1, 3, 3], 7)
    assert cell.best_rate() == 12.0


def test_past_the_deadline_every_cell_still_gets_one_try():
    clock = FakeClock()
    cells = [Cell(str(i), [fixed("a", 1.0, 1.0), fixed("b", 1.0, 1.0)]) for i in range(3)]
    deadline = Deadline(3.5, now=lambda: clock.now_s)
    rounds = run_cells(cells, clock, Pace(rounds=5, tries=2, max_call_s=9, long_call_s=9), deadline, silent)
    assert rounds == 1
    assert [list(c.rates) for c in cells] == [["a", "b"], ["a"], ["a"]]


def test_a_cell_without_tries_is_an_error():
    with pytest.raises(ValueError, match="no kernel ran for empty"):
        Cell("empty", []).ceiling()


def test_around_is_entered_for_each_round():
    seen = []

    @contextmanager
    def around():
        seen.append("in")
        yield
        seen.append("out")

    cell = Cell("c", [fixed("a", 1.0, 1.0)], around=around)
    run_cells([cell], FakeClock(), Pace(rounds=2), Deadline(99), silent)
    assert seen == ["in", "out"] * 2


def test_host_timer_runs_every_call():
    seen = []
    assert host_timer([lambda: seen.append(1)] * 3) > 0
    assert len(seen) == 3


def test_cpu_plan_uses_four_times_the_cache():
    plan = ceilings.plan_cpu(4 << 20, 480 << 20, 64 << 30, 2)
    assert plan.stream_bytes == 1920 << 20
    assert plan.read_working_sets[0] == 2 << 20
    assert plan.read_working_sets[-1] == plan.stream_bytes
    assert plan.gather_working_sets[-1] == plan.arena_bytes == 8 << 30
    assert plan.notes == ()


def test_cpu_plan_says_when_memory_is_too_small():
    plan = ceilings.plan_cpu(4 << 20, 480 << 20, 1 << 30, 2)
    assert plan.arena_bytes == plan.stream_bytes == int((1 << 30) * 0.35)
    assert max(plan.gather_working_sets) <= plan.arena_bytes
    assert "cache" in plan.notes[0]


def test_cpu_plan_without_known_caches():
    plan = ceilings.plan_cpu(0, 0, 0, 1)
    assert plan.arena_bytes == plan.stream_bytes == 512 << 20
    assert list(plan.read_working_sets) == sorted(set(plan.read_working_sets))


def test_cuda_plan():
    plan = ceilings.plan_cuda(50 << 20, 130 << 30)
    assert plan.arena_bytes == 8 << 30
    assert plan.lookups_of(16) == 8 << 20
    assert plan.lookups_of(1024) == 500_000
    assert "tf32" in plan.gemm_dtypes
    # The host must be able to queue all calls of a timing while the device spins.
    assert plan.pace.max_calls <= 256


def test_spread_points_merges_neighbours_and_clamps():
    assert list(kernels.spread_points([100, 110, 200, 900], 250)) == [100, 200]
    assert list(kernels.spread_points([100, 400, 900], 250)) == [100, 250]


def test_default_plan_of_an_absent_device():
    if torch.cuda.is_available():
        pytest.skip("a CUDA device is here")
    with pytest.raises(ValueError, match=r"tpu.*cpu"):
        ceilings.default_plan("tpu:0")


def test_arena_is_random_everywhere():
    data = arena.make_arena(1 << 20, "cpu", 3)
    assert data.numel() == 1 << 18
    blocks = data.view(64, -1)
    assert float(blocks.std(1).min()) > 0.25
    assert abs(float(data.mean())) < 0.01
    assert len(torch.unique(blocks[:, 0])) > 60


def test_stream_kernels_do_what_they_count():
    data = arena.make_arena(1 << 20, "cpu", 1)
    first = data[0].item()
    for kernel in [*kernels.read_kernels(data), *kernels.triad_kernels(data)]:
        kernel.prepare()()
    assert kernels.read_kernels(data)[0].work == 1 << 20
    assert kernels.copy_kernels(data)[0].work == 1 << 20
    kernels.copy_kernels(data)[0].prepare()()
    assert data[data.numel() // 2].item() == first
    kernels.write_kernels(data[data.numel() // 4 :])[0].prepare()()
    assert data[-1].item() == 0.5
    kernels.restore(data)
    assert data[data.numel() // 2].item() == first
    assert float(data.std()) > 0.25


def test_libc_kernels_copy_and_fill_every_share():
    data = arena.make_arena(1 << 20, "cpu", 1)
    libc = LibcKernels(2)
    copy = libc.copy(data)
    copy.prepare()()
    half = data.numel() // 2
    assert copy.work == 1 << 20
    assert torch.equal(data[:half], data[half:])
    fill = libc.fill(data)
    fill.prepare()()
    assert float(data.min()) == float(data.max()) == pytest.approx(0.747, abs=1e-3)


def gathers(table, lookups=2000):
    indices = kernels.IndexSource(lookups, table.device)
    return kernels.gather_kernels(table, lookups, indices, torch.zeros(lookups * table.shape[1]))


def test_gather_kernels_count_rows():
    table = torch.rand(100, 16)
    for kernel in gathers(table):
        assert kernel.work == 2000 * 64
        out = kernel.prepare()()
        assert out.shape[0] in {2000, 100, 20}


def test_indices_differ_from_call_to_call_and_stay_in_range():
    source = kernels.IndexSource(1000, torch.device("cpu"), windows=2)
    drawn = [source.draw(500, 77, torch.int32) for _ in range(5)]
    assert all(int(d.min()) >= 0 and int(d.max()) < 77 for d in drawn)
    assert all(not torch.equal(a, b) for i, a in enumerate(drawn) for b in drawn[:i])
    assert drawn[0].dtype == torch.int32
    counts = torch.bincount(torch.cat(drawn).long(), minlength=77)
    assert int(counts.min()) > 5


def test_gemm_kernels_count_two_flops_per_multiply_add():
    data = torch.rand(1 << 12)
    found = kernels.gemm_kernels(data, torch.bfloat16, [(8, 16, 32)])
    assert [k.name for k in found] == ["mm_8x16x32", "mm_nt_8x16x32"]
    for kernel in found:
        assert kernel.work == 2 * 8 * 16 * 32
        assert kernel.prepare()().shape == (8, 32)


@pytest.mark.fbgemm
def test_fused_gather_reads_the_given_table():
    pytest.importorskip("fbgemm_gpu")
    table = torch.rand(50, 16)
    source = kernels.IndexSource(1600, table.device)
    found, notes = cuda_ceilings.fused_gather(table, 1600, source, 1)
    assert notes == ()
    assert found[0].work == 1600 * 64
    with torch.no_grad():
        operator = cuda_ceilings._table_batched(table)
        rows = torch.arange(16) * 3
        out = operator(rows, torch.arange(0, 17, 2))
        assert found[0].prepare()().shape == (10, 8 * 16)
    assert torch.allclose(out.view(8, 16), table[rows].view(8, 2, 16).sum(1))


def test_fused_gather_says_why_not(monkeypatch):
    def broken(_table):
        raise ImportError("no fbgemm")

    monkeypatch.setattr(cuda_ceilings, "_table_batched", broken)
    table = torch.rand(5, 4)
    found, notes = cuda_ceilings.fused_gather(table, 160, kernels.IndexSource(160, table.device), 1)
    assert found == []
    assert "no fbgemm" in notes[0]


def test_launch_latency_is_per_launch():
    clock = iter([1.0, 3.0, 2.0, 2.0, 4.0])
    found = cuda_ceilings.launch_latency("cpu", lambda calls: next(clock) * len(calls) / 1000)
    assert (found.seconds, found.spread_frac) == (pytest.approx(1e-3), pytest.approx(1.0))


class FakeDevice:
    """A host that queues a call in `queueing_s` and a device that works it off in `call_s`, each with its clock."""

    def __init__(self, monkeypatch, queueing_s, call_s, waits=False):
        self.queueing_s, self.call_s, self.waits = queueing_s, call_s, waits
        self.host_s = self.free_s = 0.0
        self.spins_s = []
        monkeypatch.setattr(torch.cuda, "device", lambda _device: nullcontext())
        monkeypatch.setattr(torch.cuda, "Event", lambda enable_timing: FakeEvent(self))
        monkeypatch.setattr(torch.cuda, "_sleep", self.sleep)
        monkeypatch.setattr(cuda_ceilings, "time", SimpleNamespace(perf_counter=lambda: self.host_s))

    def sleep(self, cycles):
        self.spins_s.append(cycles / 2e9)
        self.work(self.spins_s[-1])

    def work(self, seconds):
        self.free_s = max(self.free_s, self.host_s) + seconds

    def call(self):
        self.host_s += self.queueing_s
        self.work(self.call_s)
        if self.waits:
            self.host_s = self.free_s


class FakeEvent:
    def __init__(self, device):
        self.device = device

    def record(self):
        self.at_s = max(self.device.free_s, self.device.host_s)

    def query(self):
        return self.device.host_s >= self.at_s

    def synchronize(self):
        self.device.host_s = max(self.device.host_s, self.at_s)

    def elapsed_time(self, end):
        return (end.at_s - self.at_s) * 1e3


@pytest.mark.parametrize(
    ("calls", "queueing_s", "call_s", "spins"),
    [(8, 130e-6, 50e-6, 2), (256, 7e-6, 5e-6, 1), (256, 40e-6, 5e-6, 2), (1, 10e-6, 3e-3, 1)],
)
def test_the_device_is_held_until_the_host_has_queued_every_call(monkeypatch, calls, queueing_s, call_s, spins):
    device = FakeDevice(monkeypatch, queueing_s, call_s)
    assert cuda_ceilings.event_timer("cuda:0")([device.call] * calls) == pytest.approx(calls * call_s)
    assert len(device.spins_s) == spins
    assert device.spins_s[-1] > calls * queueing_s


def test_calls_that_wait_for_the_device_are_not_tried_for_ever(monkeypatch):
    device = FakeDevice(monkeypatch, 10e-6, 0.2, waits=True)
    assert cuda_ceilings.event_timer("cuda:0")([device.call] * 3) == pytest.approx(0.6, rel=0.01)
    assert len(device.spins_s) == 3
    assert max(device.spins_s) <= 0.1


def test_tf32_is_put_back():
    before = torch.get_float32_matmul_precision()
    with cuda_ceilings.tf32():
        assert torch.get_float32_matmul_precision() == "high"
    assert torch.get_float32_matmul_precision() == before


def test_a_small_real_measurement():
    plan = ceilings.Plan(
        arena_bytes=8 << 20,
        stream_bytes=4 << 20,
        read_working_sets=(1 << 20, 4 << 20),
        gather_working_sets=(1 << 20, 8 << 20),
        row_bytes=(64, 256),
        lookups=2000,
        gemm_shapes=((64, 64, 64), (4096, 4096, 4096)),
        gemm_dtypes=("float32", "bfloat16"),
        threads=2,
        pace=Pace(rounds=2, tries=2, min_timing_s=0.0005),
    )
    told = []
    threads = torch.get_num_threads()
    found = ceilings.measure("cpu", budget_s=5, plan=plan, progress=lambda label, frac: told.append((label, frac)))
    assert torch.get_num_threads() == threads
    assert found.device == "cpu"
    assert {c.row_bytes for c in found.gather} == {64, 256}
    assert len(found.gather) == 4
    assert found.stream_read_one_thread is not None
    assert found.stream_read_one_thread.threads == 1
    assert set(found.gemm) == {"float32", "bfloat16"}
    assert found.gemm["float32"].kernel in {"mm_64x64x64", "mm_nt_64x64x64"}
    rates = [found.stream_read, found.stream_write, found.stream_copy, found.stream_triad, *found.gather]
    assert all(c.bytes_per_s and c.bytes_per_s > 1e7 for c in rates)
    assert told[0] == ("memory", 0.0)
    assert told[-1] == ("done", 1.0)
    assert any("pinned" in note for note in found.notes)
