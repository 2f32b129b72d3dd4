"""Where tables lie: what is refused and why, what is counted where, and pooled rows that go to another device."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from bench.commands.sweep import surroundings, unavailable
from bench.records import Case
from bench.reporting.labels import axes_of
from bench.sweep_spec import make_case
from profiles.machine import Cpu, Fingerprint, Gpu, Machine, Software
from workloads import backends, placements
from workloads.describe import device_memory, memory_needed
from workloads.spec import SpecError

GIB = 2**30


def machine(*indices: int) -> Machine:
    gpus = tuple(
        Gpu(index=i, name="g", sm_count=1, memory_bytes=GIB, l2_bytes=2**20, compute_capability="9.0", pci=f"0:{i}")
        for i in indices
    )
    identity = Fingerprint(hash="0", hard={}, soft={}, volatile={})
    return Machine(cpu=Cpu(), gpus=gpus, memory_bytes=GIB, software=Software(python="3.11"), fingerprint=identity)


@pytest.mark.parametrize("backend", backends.names())
@pytest.mark.parametrize("placement", placements.PLACEMENTS)
def test_only_a_gpu_has_placements(backend: str, placement: str) -> None:
    module = backends.load(backend)
    on_cpu = placements.refused(module, backend, "cpu", placement)
    assert (on_cpu is None) == (placement == "device")
    on_gpu = placements.refused(module, backend, "cuda", placement)
    can = placement in ("device", "host") or backend in ("tbe", "tbe_int")
    assert (on_gpu is None) == can
    if not can:
        assert "its placements: device, host" in str(on_gpu)


def test_a_case_takes_placement_and_load_factor_and_its_older_keys_stay() -> None:
    plain = make_case("tiny", None, {})
    managed = make_case("tiny", None, {"placement": "managed_caching", "cache_load_factor": 0.1, "device": "cuda"})
    assert plain.key() != managed.key()
    assert "placement" not in Case()._identity()
    assert axes_of(managed)["cache_load"] == 0.1
    assert axes_of(managed)["placement"] == "managed_caching"
    assert "placement" not in axes_of(plain)
    with pytest.raises(SpecError, match=r"cache_load_factor = 0\.0 is not allowed; a number above 0"):
        make_case("tiny", None, {"cache_load_factor": 0})
    with pytest.raises(SpecError, match=r"did you mean 'managed'\?"):
        make_case("tiny", None, {"placement": "manage"})


@pytest.mark.parametrize(
    ("settings", "gpus", "reason"),
    [
        ({"device": "cuda"}, (), "no CUDA GPU on this machine"),
        ({"device": "cuda:3"}, (0, 1), "device cuda:3: not on this machine; known: cuda:0, cuda:1"),
        ({"tf32": True}, (), "tf32 is a format of CUDA devices"),
        ({"placement": "host"}, (), "on the CPU there is only 'device'"),
        ({"execution": "cuda_graph"}, (), "needs a CUDA device"),
    ],
)
def test_what_cannot_run_here_says_why(settings: dict[str, Any], gpus: tuple[int, ...], reason: str) -> None:
    found = unavailable(make_case("tiny", None, settings), machine(*gpus))
    assert found is not None
    assert reason in found


def test_a_users_own_step_is_only_run_as_it_is() -> None:
    assert "execution eager only" in str(unavailable(Case(code="/x/steps.py:step", execution="compile"), machine()))
    assert unavailable(Case(code="/x/steps.py:step"), machine()) is None


def test_gpus_are_found_by_name_and_by_bus_id() -> None:
    found = machine(0, 1)
    assert [found.pci(d) for d in ("cuda", "cuda:1", "cuda:2", "cpu")] == ["0:0", "0:1", None, None]
    assert (found.llc_bytes("cuda:1"), found.llc_bytes("cuda:2")) == (2**20, 0)


def test_memory_is_counted_where_it_lies() -> None:
    spec = make_case("tiny", None, {}).model
    assert spec is not None
    parts = memory_needed(spec, 8, "train_step", "tbe", "float32", optimizer="adam")
    on_device = device_memory(parts, "device", 0.2)
    assert set(parts) - set(on_device) == {"table_scratch", "reference_check"}
    managed = device_memory(parts, "managed", 0.2)
    assert set(on_device) - set(managed) == {"tables", "optimizer_state", "table_gradients"}
    cached = device_memory(parts, "managed_caching", 0.25)
    assert cached["table_cache"] == round(spec.table_bytes / 4)
    assert device_memory(parts, "host", 0.2) == managed


def test_the_plan_counts_padded_rows_where_they_are_padded() -> None:
    around = surroundings(machine(0))
    asked = {"backend": "tbe_int", "row_type": "int4", "dim": 64, "device": "cuda"}
    for more, row_bytes in (({}, 48), ({"placement": "host"}, 36), ({"device": "cpu"}, 36)):
        case = make_case("tiny", None, asked | more)
        assert case.model is not None
        assert around.memory_needed(case)["tables"] == case.model.table_rows * row_bytes


def test_unified_memory_reaches_the_backend_with_its_load_factor() -> None:
    assert placements.extra(None, "device", 0.2) == {}
    assert placements.extra(None, "host", 0.2) == {}
    assert placements.extra(None, "managed", 0.5) == {"placement": "managed", "cache_load_factor": 0.5}
    with pytest.raises(SpecError, match="cache_load_factor"):
        placements.extra(None, "managed", 1.5)


def test_pooled_rows_go_to_the_output_device() -> None:
    torch = pytest.importorskip("torch")
    from workloads import presets, steps
    from workloads.batch import make_batch

    spec = presets.load_preset("tiny").spec
    bundle = steps.build_model(spec)
    batch = make_batch(spec, 4, 0)
    embedding = bundle.model.embedding
    assert embedding(embedding.prepare(batch)).device.type == "cpu"
    embedding.output_device = torch.device("meta")
    assert embedding(embedding.prepare(batch)).device.type == "meta"


@pytest.mark.fbgemm
def test_fbgemm_is_told_where_tables_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    """FBGEMM's constructor needs a GPU for anything but HOST, so what it is called with is looked at."""
    if reason := backends.load("tbe").available("cpu", "forward"):
        pytest.skip(reason)
    import torch

    from workloads import presets, tbe_module

    calls: list[tuple[list[Any], dict[str, Any]]] = []

    class Recorder(torch.nn.Module):
        def __init__(self, specs: list[Any], **more: Any) -> None:
            super().__init__()
            calls.append((specs, more))
            self.order: list[str] = []

        def flush(self) -> None:
            self.order.append("flush")

        def reset_cache_states(self) -> None:
            self.order.append("reset")

        def split_embedding_weights(self) -> list[Any]:
            self.order.append("views")
            return [torch.zeros(1)] * len(calls[-1][0])

    monkeypatch.setattr(tbe_module, "SplitTableBatchedEmbeddingBagsCodegen", Recorder)
    tables = presets.load_preset("tiny").spec.tables
    for placement, location in tbe_module.LOCATIONS.items():
        module = tbe_module.TableBatched(
            tables,
            device="cuda",
            dtype=torch.float32,
            optimizer="sgd",
            learning_rate=0.1,
            storage=tbe_module.Storage(placement, 0.3),
        )
        specs, more = calls[-1]
        assert {spec[2] for spec in specs} == {location}
        assert more["cache_load_factor"] == 0.3
        module.table_weights()
        order: Any = module.ops[0].order
        assert order == (["flush", "reset", "views"] if placement == "managed_caching" else ["views"])


def test_free_memory_of_a_gpu_is_asked_by_bus_id() -> None:
    from profiles.probes.gpu import free_bytes

    class NvmlError(Exception):
        pass

    asked: list[bytes] = []
    nvml = SimpleNamespace(
        NVMLError=NvmlError,
        nvmlDeviceGetHandleByPciBusId=lambda pci: asked.append(pci) or "handle",
        nvmlDeviceGetMemoryInfo=lambda handle: SimpleNamespace(free=123),
    )
    gpu = machine(0).gpus[0]
    assert free_bytes(gpu, nvml) == 123
    assert asked == [b"0:0"]

    def refuses(handle: str) -> None:
        raise NvmlError

    nvml.nvmlDeviceGetMemoryInfo = refuses
    assert free_bytes(gpu, nvml) == GIB
