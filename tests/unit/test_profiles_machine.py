"""Identity, fingerprint, trust, GPU probes, stored ceilings, allocator."""

import ctypes
import json
import subprocess
import sys
import types

import msgspec
import pytest

from profiles import allocator, machine_store
from profiles.fingerprint import fingerprint_diff, hash_hard, make_fingerprint
from profiles.identify import identify
from profiles.machine import Ceiling, Ceilings
from profiles.probes import cuda_driver, gpu
from profiles.trust import Conditions, trust_notes


def test_identify_sees_this_machine_without_torch():
    code = "import sys; from profiles.identify import identify; m = identify(); print(m.fingerprint.hash); "
    code += "sys.exit(any(p in sys.modules for p in ('torch', 'numpy', 'pandas')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    machine = identify()
    assert done.stdout.strip() == machine.fingerprint.hash
    assert machine.cpu.logical_cpus >= 1
    assert machine.memory_bytes > 0
    assert machine.fingerprint.hard["visible_cpus"] == machine.cpu.logical_cpus


def test_hash_ignores_order_and_has_sixteen_hex_digits():
    assert hash_hard({"a": 1, "b": [2]}) == hash_hard({"b": [2], "a": 1})
    assert hash_hard({"a": 1}) != hash_hard({"a": 2})
    assert len(bytes.fromhex(hash_hard({}))) == 8


def test_diff_names_hard_fields_first_and_never_volatile_ones():
    a = make_fingerprint({"torch": "2.12", "cpu": 1}, {"kernel": "6.1"}, {"mhz": 1})
    b = make_fingerprint({"torch": "2.13", "cpu": 1, "mig": True}, {"kernel": "6.2"}, {"mhz": 2})
    expected = [("hard.mig", None, True), ("hard.torch", "2.12", "2.13"), ("soft.kernel", "6.1", "6.2")]
    assert fingerprint_diff(a, b) == expected
    assert fingerprint_diff(a, a) == []


def test_a_quiet_bare_machine_has_no_notes():
    assert trust_notes(Conditions(governors=("performance",), turbo=False, load1=0.0, logical_cpus=8)) == ()


def test_every_disturbance_has_its_note():
    seen = Conditions(
        hypervisor="kvm",
        governors=("powersave",),
        turbo=True,
        steal_frac=0.05,
        hardware_counters=False,
        load1=3.0,
        logical_cpus=2,
        quota_cpus=1.5,
        thp="never",
        llc_bytes=480 << 20,
        memory_pressure_frac=0.02,
    )
    text = " ".join(trust_notes(seen))
    for word in ("kvm", "480 MiB", "counters", "powersave", "Turbo", "5.0%", "3.00", "2.0%", "1.5", "4 KiB"):
        assert word in text
    assert len(trust_notes(seen)) == 10


class FakeDriver:
    """libcuda with two devices of 132 SMs, 50 MiB L2 and 80 GiB."""

    def __init__(self, status=0):
        self.status = status

    def cuInit(self, _flags):
        return self.status

    def cuDeviceGetCount(self, out):
        out._obj.value = 2
        return 0

    def cuDeviceGet(self, out, index):
        out._obj.value = index

    def cuDeviceGetName(self, buffer, _size, _handle):
        buffer.value = b"H100"

    def cuDeviceGetPCIBusId(self, buffer, _size, handle):
        buffer.value = f"0000:3B:0{handle.value}.0".encode()

    def cuDeviceTotalMem_v2(self, out, _handle):
        out._obj.value = 80 << 30

    def cuDeviceGetAttribute(self, out, attribute, _handle):
        assert isinstance(out._obj, ctypes.c_int)
        out._obj.value = {16: 132, 38: 50 << 20, 75: 9, 76: 0}[attribute]


class NVMLError(Exception):
    pass


def fake_nvml(**calls):
    return types.SimpleNamespace(NVMLError=NVMLError, **calls)


def refuse(*_args):
    raise NVMLError("Not Supported")


def test_cuda_driver_lists_devices():
    first, second = cuda_driver.list_devices(FakeDriver())
    assert (first.index, second.index, second.pci) == (0, 1, "0000:3b:01.0")
    assert (first.sm_count, first.l2_bytes, first.memory_bytes) == (132, 50 << 20, 80 << 30)
    assert first.compute_capability == "9.0"
    assert cuda_driver.list_devices(FakeDriver(status=100)) == ()


def test_no_driver_library_no_devices(monkeypatch):
    assert cuda_driver.load_driver("libno-such.so") is None
    monkeypatch.setattr(cuda_driver, "load_driver", lambda: None)
    assert cuda_driver.ask_devices() == ()


def test_devices_are_asked_in_a_process_of_their_own(monkeypatch):
    monkeypatch.setattr(cuda_driver, "load_driver", lambda: object())
    assert isinstance(cuda_driver.ask_devices(), tuple)


def test_nvml_adds_driver_mig_and_power():
    nvml = fake_nvml(
        nvmlSystemGetDriverVersion=lambda: b"560.35.03",
        nvmlDeviceGetHandleByPciBusId=lambda pci: pci,
        nvmlDeviceGetMigMode=lambda _h: [1, 1],
        nvmlDeviceGetEnforcedPowerLimit=lambda _h: 700_000,
    )
    found = gpu.combine(cuda_driver.list_devices(FakeDriver()), nvml)[0]
    assert (found.driver, found.mig, found.power_limit_w) == ("560.35.03", True, 700.0)


def test_gpus_without_nvml_or_with_a_refusing_one():
    devices = cuda_driver.list_devices(FakeDriver())
    assert gpu.combine(devices, None)[0].driver == "unknown"
    nvml = fake_nvml(
        nvmlSystemGetDriverVersion=refuse,
        nvmlDeviceGetHandleByPciBusId=lambda pci: pci,
        nvmlDeviceGetMigMode=refuse,
        nvmlDeviceGetEnforcedPowerLimit=refuse,
    )
    found = gpu.combine(devices, nvml)[1]
    assert (found.driver, found.mig, found.power_limit_w) == ("unknown", False, None)


def test_read_gpus_joins_both(monkeypatch):
    monkeypatch.setattr(gpu, "ask_devices", lambda: cuda_driver.list_devices(FakeDriver()))
    monkeypatch.setattr(gpu, "load_nvml", lambda: (None, "none here"))
    assert [g.index for g in gpu.read_gpus()] == [0, 1]


def rate(value):
    return Ceiling(kernel="sum", source="measured", spread_frac=0.01, bytes_per_s=value)


def ceilings(device="cpu"):
    return Ceilings(
        device=device,
        measured_at="2026-01-01T00:00:00+00:00",
        duration_s=1.0,
        stream_read=rate(30e9),
        stream_write=rate(20e9),
        stream_copy=rate(40e9),
        stream_triad=rate(30e9),
    )


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DLRM_BENCH_CACHE", str(tmp_path))
    return tmp_path


def test_ceilings_of_several_devices_come_back(cache):
    machine_store.save_ceilings("ab12", ceilings())
    path = machine_store.save_ceilings("ab12", ceilings("cuda:0"))
    assert path == cache / "machines/ab12.json"
    loaded = machine_store.load_ceilings("ab12")
    assert loaded.ceilings == {"cpu": ceilings(), "cuda:0": ceilings("cuda:0")}
    assert loaded.note is None
    assert [p.name for p in path.parent.iterdir()] == ["ab12.json"]


def test_nothing_stored_is_no_note(cache):
    assert machine_store.load_ceilings("ab12") == machine_store.Loaded()


@pytest.mark.parametrize("damage", [b"", b"{", b'{"schema_version": 1}', b"\xff\xfe"])
def test_a_damaged_file_is_noted_and_replaced(cache, damage):
    path = machine_store.save_ceilings("ab12", ceilings())
    path.write_bytes(damage)
    loaded = machine_store.load_ceilings("ab12")
    assert loaded.ceilings == {}
    assert loaded.note is not None
    assert str(path) in loaded.note
    machine_store.save_ceilings("ab12", ceilings())
    assert "cpu" in machine_store.load_ceilings("ab12").ceilings


def test_another_version_is_measured_again(cache):
    path = machine_store.save_ceilings("ab12", ceilings())
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "schema_version": 99}))
    note = machine_store.load_ceilings("ab12").note
    assert note is not None
    assert "version" in note


def test_cache_folder_follows_the_environment(tmp_path):
    assert machine_store.cache_folder({"XDG_CACHE_HOME": str(tmp_path)}) == tmp_path / "dlrm-bench"
    assert machine_store.cache_folder({}).parts[-2:] == (".cache", "dlrm-bench")


def test_allocator_is_read_back():
    env = allocator.pinned_environment({"PATH": "/bin"})
    assert env["PATH"] == "/bin"
    assert allocator.allocator_state(env) == allocator.AllocatorState(library="glibc", pinned=True, huge_pages=True)
    small = allocator.pinned_environment({}, huge_pages=False)
    assert not allocator.allocator_state(small).huge_pages
    assert not allocator.allocator_state({}).pinned
    assert allocator.allocator_library({"LD_PRELOAD": "/usr/lib/libjemalloc.so.2"}) == "jemalloc"


def test_pinned_allocator_keeps_freed_memory():
    code = """
import ctypes, resource
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
def touch():
    p = libc.malloc(200 << 20); ctypes.memset(p, 1, 200 << 20); libc.free(p)
touch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
touch()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    env = allocator.pinned_environment()
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 100


def test_ceilings_measured_beside_other_load_are_in_doubt(cache):
    machine_store.save_ceilings("ab12", msgspec.structs.replace(ceilings(), other_load_frac=0.4))
    loaded = machine_store.load_ceilings("ab12")
    assert "cpu" in loaded.ceilings
    assert "cpu (40%)" in (loaded.note or "")
