"""The worker's side of a case, run in this process on tiny models: what is found, what fails, what is rotated."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from bench.records import Case, InputStats, Limits
from bench.running import case_inputs, harness, own_code
from bench.running.case_inputs import num_batches, residency
from bench.running.flush import Flush
from bench.running.request import Request, Result
from bench.sweep_spec import make_case
from profiles.allocator import allocator_in_force
from tests.fakes import FakeCuda
from workloads.batch import make_batch, touch
from workloads.spec import with_axis

pytest.importorskip("torch")

MIB = 2**20
LIMITS = Limits(budget_s=0.05, min_repeat_s=0.002, trace=False)


def request(**settings: Any) -> Request:
    # The worker is this very process, so its allocator is the one to ask for.
    asked = {"allocator": allocator_in_force()} | settings
    return Request(case=make_case("tiny", None, asked), limits=LIMITS, llc_bytes=MIB)


def run(case: Request) -> tuple[Result, list[str]]:
    events: list[tuple[str, dict[str, Any]]] = []
    harness.run_case(msgspec.json.encode(case), lambda kind, body: events.append((kind, body)))
    phases = [str(body.get("phase", kind)) for kind, body in events]
    return msgspec.convert(events[-1][1], Result), phases


@pytest.mark.parametrize("phase", ["forward", "train_step"])
def test_a_case_is_checked_before_it_is_timed(phase: str) -> None:
    result, order = run(request(phase=phase, batch_size=8))
    assert order == ["build", "inputs", "prepare", "check", "measure", "measuring", "measured", "trace", "result"]
    assert result.check is not None
    assert 0 <= result.check.max_error <= result.check.tolerance
    assert result.settings.grad_mode == (phase == "train_step")
    assert result.work is not None
    assert result.work.lookups == 8 * (4 + 4 + 1 + 2)
    assert result.costs.fixed_s >= 0


def test_a_wrong_result_is_never_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    from workloads import tables

    def broken(weight: Any, *_: Any) -> None:
        weight.fill_(float("nan"))

    monkeypatch.setattr("workloads.pooling.fill_table", broken)
    with pytest.raises(harness.WrongResultError, match="tolerance"):
        run(request(batch_size=4))
    assert tables.fill_table is not broken


def test_a_traced_case_says_where_its_time_went(tmp_path: Path) -> None:
    asked = msgspec.structs.replace(
        request(phase="train_step", batch_size=64),
        limits=msgspec.structs.replace(LIMITS, trace=True),
        trace_path=str(tmp_path / "case.pt.trace.json.gz"),
    )
    result, _ = run(asked)
    assert result.trace is not None
    named = {"embedding", "bottom_mlp", "interaction", "top_mlp", "loss", "optimizer"}
    assert named <= set(result.trace.stages) <= named | {"backward"}
    assert all(s.backward_s > 0 for n, s in result.trace.stages.items() if n.endswith(("mlp", "ion")))
    shares = sum(s.share_frac for s in result.trace.stages.values())
    assert shares == pytest.approx(result.trace.coverage_frac, abs=0.02)
    times_s = sorted(result.measurement.times_s)
    assert result.trace.overhead_ratio == result.trace.step_s / times_s[len(times_s) // 2]


def test_tables_without_values_are_never_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workloads.pooling.fill_table", lambda weight, *_: weight.zero_())
    with pytest.raises(harness.InvariantError, match="table 0 holds rows of zeros"):
        run(request(batch_size=4))


@pytest.mark.parametrize("backend", ["bag", "fused_bag"])
def test_a_table_update_counts_as_embedding_whether_fused_or_not(backend: str, tmp_path: Path) -> None:
    asked = msgspec.structs.replace(
        request(phase="train_step", batch_size=512, backend=backend),
        limits=msgspec.structs.replace(LIMITS, trace=True),
        trace_path=str(tmp_path / "case.pt.trace.json.gz"),
    )
    trace = run(asked)[0].trace
    assert trace is not None
    assert "embedding_update" not in trace.stages
    assert trace.stages["embedding"].backward_s > 0


def test_an_update_of_its_own_is_added_to_the_embeddings_backward() -> None:
    from bench.running.tracing import _with_update

    stages = {"embedding": (3.0, 1.0), "embedding_update": (2.0, 0.0), "loss": (1.0, 0.0)}
    assert _with_update(stages) == {"embedding": (3.0, 3.0), "loss": (1.0, 0.0)}


def test_cold_mode_times_single_steps() -> None:
    result, _ = run(request(cache_mode="cold"))
    assert result.measurement.steps_per_repeat == 1


def test_a_cold_case_is_traced_cold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from profiles import capture as capturing

    given: list[Any] = []
    capture = capturing.capture
    monkeypatch.setattr(capturing, "capture", lambda *a, **more: (given.append(more["before"]), capture(*a, **more)))
    for mode in ("cold", "rotated"):
        asked = msgspec.structs.replace(
            request(cache_mode=mode, batch_size=64),
            limits=msgspec.structs.replace(LIMITS, trace=True),
            trace_path=str(tmp_path / f"{mode}.pt.trace.json.gz"),
        )
        assert run(asked)[0].trace is not None
    cold, rotated = given
    assert isinstance(cold, Flush)
    assert rotated is None


@pytest.mark.parametrize(("held_bytes", "peak"), [(40, 60), (None, 100)])
def test_the_peak_of_device_memory_is_without_the_buffer_of_the_flush(
    held_bytes: int | None, peak: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    class Held:
        """A flush that holds memory from the moment it is made."""

        def __init__(self) -> None:
            order.append("buffer")
            self.held_bytes = held_bytes

        def __call__(self) -> None:
            return None

    order: list[str] = []
    cuda = FakeCuda()
    monkeypatch.setattr(harness, "flush_of", lambda _: None if held_bytes is None else Held())
    monkeypatch.setattr(torch.cuda, "Event", cuda.Event)
    monkeypatch.setattr(torch.cuda, "synchronize", cuda.synchronize)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: order.append("reset"))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 100)
    asked = request()
    asked = msgspec.structs.replace(asked, case=msgspec.structs.replace(asked.case, device="cuda"))
    found = harness._measure(lambda _: cuda.launch(0.1), [None], asked, lambda *_: None)
    assert found.device_peak_bytes == peak
    assert order == (["reset"] if held_bytes is None else ["buffer", "reset"])


def test_threads_are_as_asked() -> None:
    import torch

    before = torch.get_num_threads()
    try:
        assert run(request(num_threads=1))[0].settings.num_threads == 1
    finally:
        torch.set_num_threads(before)


def test_settings_are_read_back_and_not_assumed() -> None:
    import torch

    found = run(request())[0].settings
    assert (found.flush_denormal, found.inference_mode, found.gc_disabled) == (False, False, True)
    # One thread: OpenMP's others, which this process has already started, keep the mode they were started with.
    before = torch.get_num_threads()
    try:
        assert run(request(flush_denormal=True, num_threads=1))[0].settings.flush_denormal
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(before)


def test_a_setting_that_the_step_itself_changes_back_fails_the_case(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import torch\ndef step():\n    torch.set_float32_matmul_precision('medium')\n    return lambda: None\n"
    )
    asked = Case(code=f"{tmp_path}/mine.py:step", allocator=allocator_in_force())  # type: ignore[arg-type]
    with pytest.raises(harness.InvariantError, match="matmul_precision 'highest' was asked, 'medium' is in force"):
        run(Request(case=asked, limits=LIMITS, llc_bytes=MIB))


def test_users_code_may_come_with_or_without_work(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from workloads.work import StageWork, Work\n"
        "def bare():\n    return lambda: sum(range(1000))\n"
        "def counted():\n"
        "    work = Work(samples=4, lookups=0, row_bytes=0, stages={'top_mlp': StageWork(flops=1000)})\n"
        "    return (lambda: sum(range(1000))), work\n"
    )
    for name, samples in (("bare", None), ("counted", 4)):
        case = Case(code=f"{tmp_path}/mine.py:{name}", allocator=allocator_in_force())  # type: ignore[arg-type]
        result, _ = run(Request(case=case, limits=LIMITS, llc_bytes=MIB))
        assert (result.work.samples if result.work else None) == samples


def test_a_function_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("")
    with pytest.raises(AttributeError, match="has no function step"):
        own_code.load_function(f"{tmp_path}/mine.py:step")


class TestNumBatches:
    """Enough that distinct rows exceed four last-level caches, or the table is covered, or no step repeats a batch."""

    def test_hot_is_one(self) -> None:
        assert num_batches(request(cache_mode="hot")) == 1

    def test_a_small_table_needs_no_more_than_covers_it(self) -> None:
        small = request(num_rows=1000, pooling_factor=10, batch_size=100)
        assert num_batches(small) == 3

    def test_a_large_table_exceeds_the_cache(self) -> None:
        spec = {"num_rows": 10_000_000, "dim": 64, "pooling_factor": 20, "batch_size": 1000, "num_tables": 1}
        asked = msgspec.structs.replace(request(**spec), limits=Limits(budget_s=100))
        distinct_bytes = num_batches(asked) * 20_000 * 256
        assert 4 * MIB <= distinct_bytes <= 4 * MIB + 2 * 20_000 * 256

    def test_padded_rows_fill_the_cache_sooner(self) -> None:
        spec = {"num_rows": 10_000_000, "dim": 64, "pooling_factor": 20, "batch_size": 1000, "num_tables": 1}
        for device, batches in (("cpu", 6), ("cuda", 5)):  # 20,000 rows of 36 and of 48 bytes
            asked = request(**spec, backend="tbe_int", row_type="int4", device=device)
            assert num_batches(msgspec.structs.replace(asked, limits=Limits(budget_s=100))) == batches

    def test_making_inputs_is_bounded_by_the_measuring_time(self) -> None:
        spec = {"num_rows": 10_000_000, "pooling_factor": 100, "batch_size": 1000, "num_tables": 4}
        for limits, surely_s in ((Limits(budget_s=9.0), 0.6), (Limits(budget_s=0.2), 0.2)):
            asked = Request(case=make_case("tiny", None, spec), limits=limits, llc_bytes=10_000 * MIB)
            # A precise case stops after the least number of repeats; two batches are the least to rotate.
            assert num_batches(asked) * 400_000 <= max(surely_s * case_inputs.GENERATE_LOOKUPS_PER_S, 2 * 400_000)


@pytest.mark.parametrize(("device", "row_bytes"), [("cpu", 8), ("cuda", 16)])
def test_bytes_of_a_case_are_those_of_rows_as_stored(device: str, row_bytes: int) -> None:
    asked = request(backend="tbe_int", row_type="int4", device=device, cache_mode="hot", batch_size=64)
    given = harness._make_inputs(asked, SimpleNamespace(spec=asked.case.model, prepare=lambda batch: batch))
    assert given.work.row_bytes == row_bytes
    assert given.work.stages["embedding"].bytes_logical == given.work.lookups * row_bytes
    assert given.stats.rotation_unique_bytes == given.stats.unique_rows_per_step * row_bytes


class TestInputStats:
    """How far the inputs are from the asked laws stands beside the result."""

    def stats(self, **fields: Any) -> InputStats:
        spec = with_axis(make_case("tiny", None, {}).model, "pooling_factor", 20)  # type: ignore[arg-type]
        for name, value in fields.items():
            spec = with_axis(spec, name, value)
        made = [make_batch(spec, 500, 3, number) for number in range(2)]
        return case_inputs.input_stats(spec, made, touch(spec, made), MIB)

    def test_drawn_inputs_are_near_their_laws(self) -> None:
        found = self.stats(indices="zipf", lengths="poisson")
        assert found.index_ks is not None
        assert found.length_ks is not None
        assert found.index_ks_lookups == pytest.approx(20_000, rel=0.01)
        assert found.length_ks_bags == 1000
        assert found.index_ks < 2.3 / 20_000**0.5
        assert found.length_ks < 1 / 1000**0.5

    def test_where_no_law_can_be_compared_there_is_no_distance(self) -> None:
        found = self.stats(indices="sequential", lengths="fixed")
        assert (found.index_ks, found.length_ks, found.replay) == (None, None, None)
        assert found.top_1pct_ranks_mass is None
        assert found.top_1pct_mass > 0

    def test_the_mass_of_ranks_is_of_the_tables_that_have_them(self) -> None:
        """Uniform tables of 1000, 1000, 10 and 500 rows: the first 10, 10, 1 and 5, each a quarter of the lookups."""
        found = self.stats(indices="uniform")
        assert found.top_1pct_ranks_mass == pytest.approx((0.01 + 0.01 + 0.1 + 0.01) / 4, abs=0.005)

    def test_the_delivered_reuse_stands_beside_the_asked_one(self) -> None:
        """10,000 lookups a batch of each table, as many as the working set has: half of `reuse`."""
        found = self.stats(indices="temporal", reuse=0.8, working_set=10_000)
        assert found.reuse_asked == pytest.approx(0.8)
        assert found.reuse_delivered == pytest.approx(0.8 * 9999 / 20_000)
        assert self.stats(indices="zipf").reuse_asked is None

    def test_the_table_farthest_from_its_law_is_told(self) -> None:
        spec = with_axis(make_case("tiny", None, {}).model, "pooling_factor", 20)  # type: ignore[arg-type]
        made = [make_batch(spec, 500, 3, number) for number in range(2)]
        skewed = msgspec.structs.replace(spec.tables[0], indices="zipf", exponent=3.0)
        asked = msgspec.structs.replace(spec, tables=(skewed, *spec.tables[1:]))
        found = case_inputs.input_stats(asked, made, touch(asked, made), MIB)
        assert found.index_ks is not None
        assert found.index_ks > 0.5

    def test_records_from_before_still_read(self) -> None:
        plain = msgspec.to_builtins(self.stats())
        new = (
            "index_ks",
            "index_ks_lookups",
            "length_ks",
            "length_ks_bags",
            "replay",
            "reuse_asked",
            "reuse_delivered",
            "top_1pct_ranks_mass",
        )
        old = msgspec.convert({k: v for k, v in plain.items() if k not in new}, InputStats)
        assert old.index_ks is None
        assert old.replay is None


@pytest.mark.parametrize(
    ("touched", "llc", "verdict"), [(3, 1, "dram"), (1, 1, "mixed"), (1, 3, "cache"), (1, 0, "unknown")]
)
def test_residency_compares_what_is_touched_with_the_cache(touched: int, llc: int, verdict: str) -> None:
    assert residency(touched * MIB, llc * MIB) == verdict


@pytest.mark.parametrize("phase", ["forward", "train_step"])
def test_the_dense_part_runs_and_is_counted_in_its_own_precision(phase: str) -> None:
    full, half = (run(request(phase=phase, dtype=dtype, batch_size=32))[0] for dtype in ("float32", "bfloat16"))
    assert half.check is not None
    assert half.check.max_error <= half.check.tolerance
    assert full.work is not None
    assert half.work is not None
    assert 2 * half.work.stages["top_mlp"].bytes_compulsory == full.work.stages["top_mlp"].bytes_compulsory
    assert half.work.stages["embedding"] == full.work.stages["embedding"]


def test_float16_is_for_inference() -> None:
    assert run(request(dtype="float16", batch_size=32))[0].check is not None
    with pytest.raises(ValueError, match="loss scaling"):
        run(request(dtype="float16", phase="train_step"))


def test_the_first_call_is_the_first_of_all() -> None:
    result, _ = run(request(batch_size=8))
    assert result.measurement.first_call_s > 0
    assert result.measurement.compile_s is None
    assert result.graphs is None


def test_a_case_is_measured_as_long_as_its_inputs_took() -> None:
    limits = Limits(budget_s=0.4, min_repeat_s=0.03, min_repeats=12, max_repeats=200)
    found = case_inputs.measured_as_long(limits, 1.87)
    assert (found.budget_s, found.min_repeats) == (1.87, 63)
    assert found.min_repeats * found.min_repeat_s >= 1.87
    assert case_inputs.measured_as_long(limits, 0.1) == limits
    assert case_inputs.measured_as_long(limits, 60.0).min_repeats == limits.max_repeats
