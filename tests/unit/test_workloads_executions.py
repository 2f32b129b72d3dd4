"""Executions: what can run where, steps compiled for real, and CUDA graphs on a stand-in for torch.cuda."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bench.records import Case, Limits
from bench.running import harness
from bench.running.request import Request, Result
from bench.sweep_spec import make_case
from profiles.allocator import allocator_in_force
from workloads import executions
from workloads.executions import ExecutionError, Want
from workloads.spec import SpecError

torch = pytest.importorskip("torch")

from workloads import presets, reference, steps  # noqa: E402
from workloads.batch import make_batch  # noqa: E402
from workloads.executions import compile as compiling  # noqa: E402
from workloads.executions import cuda_graph  # noqa: E402
from workloads.spec import with_axis  # noqa: E402

TINY = presets.load_preset("tiny").spec
LIMITS = Limits(budget_s=0.05, min_repeat_s=0.002)


@pytest.mark.parametrize("name", executions.names())
@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("phase", ["forward", "train_step"])
def test_every_execution_says_whether_it_can(name: str, device: str, phase: str) -> None:
    reason = executions.load(name).available(Want(device=device, phase=phase, backend="tbe"))
    assert reason is None or reason.strip()


def test_names_are_those_a_case_takes() -> None:
    assert executions.names() == sorted(("eager", "compile", "cuda_graph"))
    for name in executions.names():
        assert make_case("tiny", None, {"execution": name}).execution == name
    with pytest.raises(SpecError, match=r"did you mean 'compile'\?.*known: eager, compile, cuda_graph"):
        make_case("tiny", None, {"execution": "compiled"})


@pytest.mark.parametrize(
    ("want", "reason"),
    [
        (Want(), "needs a CUDA device"),
        (Want(device="cuda", backend="bag", phase="train_step"), "sparse gradients.*try 'tbe'"),
        (Want(device="cuda", backend="torchrec"), "torchrec reads its jagged tensor's offsets"),
        (Want(device="cuda", backend="torchrec", phase="train_step"), "torchrec reads its jagged tensor's offsets"),
        (Want(device="cuda", backend="tbe", phase="train_step", optimizer="adam"), "Adam counts"),
        (Want(device="cuda", backend="tbe", placement="managed_caching"), "on the host"),
        (Want(device="cuda", backend="bag", placement="host"), "on the host"),
        (Want(device="cuda", backend="tbe", phase="train_step", optimizer="rowwise_adagrad"), None),
        (Want(device="cuda", backend="bag"), None),
    ],
)
def test_a_cuda_graph_is_refused_with_its_reason(want: Want, reason: str | None) -> None:
    found = cuda_graph.available(want)
    assert found is None if reason is None else found is not None and re.search(reason, found)


def test_compiling_without_a_compiler_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    assert "g++ or clang++" in str(compiling.available(Want()))
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert "CXX=no-such-compiler" in str(compiling.available(Want()))


def test_versions_of_a_compiled_function() -> None:
    found = [compiling.version_of(text) for text in ("0/0", "3/1", "12/4_1", "!1/0/2", "-")]
    assert found == [0, 1, 4, 2, 0]


@contextmanager
def caches_of_this_test() -> Iterator[None]:
    """What compiling sets in the process, put back."""
    import torch._dynamo.config as dynamo_config
    import torch._inductor.config as inductor_config

    names = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")
    before = {name: os.environ.get(name) for name in names}
    try:
        with dynamo_config.patch({}), inductor_config.patch({}):
            yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        torch._dynamo.reset()


def compiler() -> None:
    reason = compiling.available(Want())
    if reason:
        pytest.skip(reason)


def run(tmp_path: Path, trace: bool = True, **settings: Any) -> Result:
    # The worker is this very process, so its allocator is the one to ask for.
    asked = {"batch_size": 16, "num_threads": 1, "allocator": allocator_in_force()} | settings
    case: Case = make_case("tiny", None, asked)
    events: list[tuple[str, dict[str, Any]]] = []
    request = Request(
        case=case,
        limits=msgspec.structs.replace(LIMITS, trace=trace),
        llc_bytes=2**20,
        trace_path=str(tmp_path / "case.pt.trace.json.gz"),
        scratch=str(tmp_path),
    )
    with caches_of_this_test():
        harness.run_case(msgspec.json.encode(request), lambda kind, body: events.append((kind, body)))
    return msgspec.convert(events[-1][1], Result)


def test_a_compiled_train_step_is_right_counted_and_traced(tmp_path: Path) -> None:
    compiler()
    result = run(tmp_path, phase="train_step", execution="compile", backend="fused_bag", lengths="poisson")
    graphs, found = result.graphs, result.measurement
    assert graphs is not None
    assert (graphs.graphs, graphs.breaks, graphs.recompiles) == (1, 0, 0)
    assert "dynamic dimension" in graphs.notes[0]
    assert found.compile_s is not None
    assert found.compile_s >= found.first_call_s > max(found.times_s)
    assert not {"graph_breaks", "recompiled"} & set(found.flags)
    assert result.costs.prepare_s >= found.compile_s
    assert result.check is not None
    assert result.check.max_error <= result.check.tolerance
    assert result.trace is not None
    assert min(result.trace.stages["compiled"].forward_s, result.trace.stages["compiled"].backward_s) > 0
    assert {"loss", "optimizer"} <= set(result.trace.stages)
    assert list((tmp_path / "inductor").rglob("*.so"))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_step_with_rounding_of_its_own_is_still_caught_when_a_lookup_is_wrong(dtype: str) -> None:
    """Gradients a little off pass, as a fused backward's do; a row that was updated for another one does not."""
    bundle = steps.build_model(TINY, phase="train_step", dtype=dtype)
    batch = make_batch(TINY, 32, 0)
    step = steps.make_step(bundle)

    def rounded(item: Any) -> Any:
        output = step(item)
        for weight in bundle.model.embedding.table_weights():
            weight.copy_(weight * (1 + 1e-4))
        return output

    def wrong(item: Any) -> Any:
        bags = item.lookups[0]
        moved = bags.indices.clone()
        moved[0] = (moved[0] + 1) % TINY.tables[0].num_rows
        return step(item._replace(lookups=(bags._replace(indices=moved), *item.lookups[1:])))

    before = [w.clone() for w in bundle.model.embedding.table_weights()]
    for taken, alike, ok in ((rounded, True, False), (rounded, False, True), (wrong, False, False)):
        for weight, old in zip(bundle.model.embedding.table_weights(), before, strict=True):
            weight.copy_(old)
        found = reference.check(bundle, batch, taken, same_kernels=alike)
        assert found.ok == ok, found
        assert "updated rows" in found.what or found.ok


def test_breaks_are_counted_with_their_reasons(tmp_path: Path) -> None:
    """FBGEMM's CPU operators have no shapes for torch.compile (1.8): the model falls apart, and the record says so."""
    compiler()
    from workloads import backends

    reason = backends.load("tbe").available("cpu", "forward")
    if reason:
        pytest.skip(reason)
    result = run(tmp_path, trace=False, execution="compile", backend="tbe")
    assert result.graphs is not None
    assert result.graphs.breaks >= 1
    assert any("fbgemm" in text for text in result.graphs.reasons)
    assert "graph_breaks" in result.measurement.flags


def test_what_cannot_be_compiled_fails_and_never_runs_in_eager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.compile", lambda model, **_: model)
    with pytest.raises(ExecutionError, match="made no graph"):
        run(tmp_path, execution="compile")


def test_errors_of_the_compiler_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(model: Any, **_: Any) -> Any:
        def call(*__: Any) -> None:
            raise torch._dynamo.exc.FailOnRecompileLimitHit("too many shapes\nmore")

        return call

    monkeypatch.setattr("torch.compile", broken)
    with pytest.raises(ExecutionError, match=r"^torch\.compile: FailOnRecompileLimitHit: too many shapes$"):
        run(tmp_path, execution="compile")


def test_only_dimensions_that_vary_are_dynamic() -> None:
    for lengths, expected in (("fixed", 0), ("poisson", 3)):
        spec = with_axis(TINY, "lengths", lengths)
        bundle = steps.build_model(spec, "fused_bag")
        inputs = [bundle.prepare(make_batch(spec, 16, 0, number)) for number in range(3)]
        groups = sum(
            len({bags.indices.shape for bags in group}) > 1 for group in zip(*[i.lookups for i in inputs], strict=True)
        )
        assert compiling.mark_dynamic(inputs) == expected * groups


class FakeGraph:
    """Holds what was captured; `replay` runs it again, as a device would the kernels."""

    def __init__(self) -> None:
        self.work: Any = None

    def replay(self) -> None:
        self.work()


class FakeStream:
    def wait_stream(self, other: FakeStream) -> None:
        return None


class FakeCuda:
    """torch.cuda as far as capture uses it, on the CPU: a capture records the step, only a replay runs it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.captures = 0
        self.steps: list[str] = []
        self.capturing: FakeGraph | None = None
        for name in ("Stream", "current_stream", "stream", "device", "CUDAGraph", "graph"):
            monkeypatch.setattr(torch.cuda, name, getattr(self, name))

    def Stream(self) -> FakeStream:
        return FakeStream()

    def current_stream(self) -> FakeStream:
        return FakeStream()

    def CUDAGraph(self) -> FakeGraph:
        return FakeGraph()

    @contextmanager
    def stream(self, _: FakeStream) -> Iterator[None]:
        yield

    @contextmanager
    def device(self, _: object) -> Iterator[None]:
        yield

    @contextmanager
    def graph(self, graph: FakeGraph) -> Iterator[None]:
        self.captures += 1
        self.capturing = graph
        yield
        self.capturing = None


def captured(monkeypatch: pytest.MonkeyPatch, phase: str) -> tuple[FakeCuda, Any, Any, list[Any]]:
    """A captured step whose capture runs nothing and whose replay runs the eager step on the static inputs."""
    cuda = FakeCuda(monkeypatch)
    bundle = steps.build_model(TINY, "bag", phase=phase)
    made = [make_batch(TINY, 8, 0, number) for number in range(3)]
    inputs = [bundle.prepare(batch) for batch in made]
    eager, make = [], steps.make_step

    def recording(*arguments: Any, **more: Any) -> Any:
        step = make(*arguments, **more)
        eager.append(step)
        buffer: dict[str, Any] = {}

        def either(item: Any) -> Any:
            if cuda.capturing is None:
                cuda.steps.append("run")
                return step(item)
            rates = [g["lr"] for o in bundle.optimizers.values() for g in o.param_groups]
            output = torch.zeros(8) if phase == "forward" else torch.zeros(())
            buffer["output"] = output

            def work() -> None:
                groups = [g for o in bundle.optimizers.values() for g in o.param_groups]
                now = [g["lr"] for g in groups]
                for group, rate in zip(groups, rates, strict=True):
                    group["lr"] = rate
                output.copy_(step(item))
                for group, rate in zip(groups, now, strict=True):
                    group["lr"] = rate

            cuda.capturing.work = work
            return output

        return either

    monkeypatch.setattr(steps, "make_step", recording)
    ready = cuda_graph.wrap(bundle, inputs, Path())
    monkeypatch.setattr(steps, "make_step", make)
    return cuda, bundle, ready, made


@pytest.mark.parametrize("phase", ["forward", "train_step"])
def test_a_captured_step_copies_its_inputs_and_agrees_with_the_reference(
    monkeypatch: pytest.MonkeyPatch, phase: str
) -> None:
    cuda, bundle, ready, made = captured(monkeypatch, phase)
    assert cuda.steps == ["run"] * cuda_graph.WARMUP_STEPS
    assert cuda.captures == 1
    for batch in made:
        assert reference.check(bundle, batch, ready.step).ok
    # The check trains at rates of its own, which a graph holds as constants: captured for it and after it.
    assert cuda.captures == (1 if phase == "forward" else 1 + 2 * len(made))
    assert cuda.steps == ["run"] * cuda_graph.WARMUP_STEPS
    graphs = ready.graphs()
    assert graphs is not None
    moved = re.search(r"copies its inputs \((\d+) B\)", graphs.notes[0])
    assert moved is not None
    assert int(moved[1]) == sum(t.numel() * t.element_size() for t in cuda_graph.tensors_of(bundle.prepare(made[0])))


def test_a_graph_that_were_not_captured_again_would_be_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    _, bundle, ready, made = captured(monkeypatch, "train_step")
    monkeypatch.setattr(cuda_graph.Captured, "refresh", lambda self: None)
    assert not reference.check(bundle, made[0], ready.step).ok


def test_inputs_of_several_shapes_are_refused() -> None:
    spec = with_axis(TINY, "lengths", "poisson")
    bundle = steps.build_model(spec)
    inputs = [bundle.prepare(make_batch(spec, 8, 0, number)) for number in range(3)]
    with pytest.raises(SpecError, match="lengths = 'fixed'"):
        cuda_graph.require_one_shape(inputs)


def test_a_failed_capture_says_what_torch_said(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = FakeCuda(monkeypatch)

    @contextmanager
    def refusing(graph: FakeGraph) -> Iterator[None]:
        try:
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nmore")
        finally:
            raise RuntimeError("operation failed due to a previous error during capture")
        yield

    monkeypatch.setattr(torch.cuda, "graph", refusing)
    bundle = steps.build_model(TINY)
    with pytest.raises(
        ExecutionError, match=r"could not be captured: CUDA error: operation not permitted .* capturing$"
    ):
        cuda_graph.wrap(bundle, [bundle.prepare(make_batch(TINY, 8, 0))], Path())
    assert cuda.captures == 0
