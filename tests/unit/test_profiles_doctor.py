"""Every finding of the doctor, by machines made up for it."""

import msgspec
import pytest

from profiles import doctor
from profiles import doctor_noise as noise
from profiles.identify import identify
from profiles.machine import Gpu, Software


def works(_module):
    return None


def breaks(_module):
    return "ImportError: undefined symbol"


@pytest.fixture(scope="module")
def here():
    return identify()


def having(machine, gpus=(), **software):
    versions = Software(python="3.11.7", **software)
    return msgspec.structs.replace(machine, software=versions, gpus=tuple(gpus))


GPU = Gpu(index=0, name="H100", sm_count=132, memory_bytes=1, l2_bytes=1, compute_capability="9.0")


def test_torch(here):
    absent = doctor.torch_finding(having(here), works)
    assert (absent.level, absent.cure) == ("missing", "pip install 'dlrm-bench[cpu]'")
    assert doctor.torch_finding(having(here, torch="2.13.0"), works).level == "ok"
    assert "undefined symbol" in doctor.torch_finding(having(here, torch="2.13.0"), breaks).found
    assert "without CUDA" in doctor.torch_finding(having(here, [GPU], torch="2.13.0"), works).found


@pytest.mark.parametrize(
    ("torch", "fbgemm", "level", "cure"),
    [
        ("2.13.0+cpu", "1.8.0", "ok", None),
        ("2.12.1", "1.8.0", "warn", "fbgemm-gpu-cpu==1.7.*"),
        ("2.11.0", None, "missing", "fbgemm-gpu-cpu==1.6.*"),
        ("2.9.0", None, "missing", "torch==2.13.0 fbgemm-gpu-cpu==1.8.0"),
        (None, "1.8.0", "warn", "torch==2.13.0"),
    ],
)
def test_fbgemm_must_fit_torch(here, torch, fbgemm, level, cure):
    finding = doctor.fbgemm_finding(having(here, torch=torch, fbgemm=fbgemm), works)
    assert finding.level == level
    assert (cure or "") in (finding.cure or "")


def test_a_broken_fbgemm_is_a_finding(here):
    finding = doctor.fbgemm_finding(having(here, torch="2.13.0", cuda="13.0", fbgemm="1.8.0"), breaks)
    assert finding.level == "warn"
    assert "fbgemm-gpu==1.8.*" in (finding.cure or "")


def test_torchrec(here):
    assert doctor.torchrec_finding(having(here), works).level == "missing"
    assert doctor.torchrec_finding(having(here, torchrec="1.8.0"), works).level == "ok"
    assert doctor.torchrec_finding(having(here, torchrec="1.8.0"), breaks).level == "warn"


def test_gpu(here, monkeypatch):
    monkeypatch.setattr(doctor.gpu, "load_nvml", lambda: (object(), None))
    assert doctor.gpu_finding(having(here, [GPU])).level == "ok"
    monkeypatch.setattr(doctor.gpu, "load_nvml", lambda: (None, "NVML does not start"))
    assert "NVML does not start" in doctor.gpu_finding(having(here, [GPU])).found
    monkeypatch.setattr(doctor, "load_driver", lambda: None)
    assert doctor.gpu_finding(having(here)).level == "missing"
    monkeypatch.setattr(doctor, "load_driver", lambda: object())
    assert "CUDA_VISIBLE_DEVICES" in (doctor.gpu_finding(having(here)).cure or "")


def test_system(here):
    assert doctor.counters_finding(False, None).level == "missing"
    assert doctor.counters_finding(True, 2).cure == "sudo sysctl kernel.perf_event_paranoid=0"
    assert doctor.counters_finding(True, -1).level == "ok"
    assert doctor.energy_finding(None).level == "ok"
    assert "chmod" in (doctor.energy_finding("x may not be read").cure or "")
    assert doctor.governor_finding(("performance",)).level == "ok"
    assert doctor.governor_finding(("powersave",)).cure == "sudo cpupower frequency-set -g performance"
    assert doctor.governor_finding(()).level == "warn"
    assert doctor.huge_page_finding("madvise").level == "ok"
    assert doctor.huge_page_finding("never").level == "warn"
    assert doctor.memory_finding(8 << 30, 6 << 30).level == "ok"
    assert "1.0 GiB available" in doctor.memory_finding(8 << 30, 1 << 30).found


def test_quota(here):
    limited = msgspec.structs.replace(here.cpu, logical_cpus=8, quota_cpus=1.5)
    finding = doctor.quota_finding(msgspec.structs.replace(here, cpu=limited))
    assert "at most 1 threads" in (finding.cure or "")
    free = msgspec.structs.replace(here.cpu, quota_cpus=None)
    assert doctor.quota_finding(msgspec.structs.replace(here, cpu=free)).level == "ok"


def test_imports_are_tried_elsewhere():
    assert doctor.try_import("json") is None
    assert "no_such_module_here" in (doctor.try_import("no_such_module_here") or "")
    assert "status 3" in (doctor.try_import("os; os._exit(3)") or "")


def test_diagnose_looks_at_everything(here):
    topics = [f.topic for f in doctor.diagnose(here, importing=works)]
    assert len(topics) == len(set(topics)) == 18


def test_noise():
    assert noise.turbo_finding(False).level == "ok"
    assert "no_turbo" in (noise.turbo_finding(True).cure or "")
    assert noise.turbo_finding(None).level == "warn"
    assert noise.smt_finding(False).level == "ok"
    assert "smt/control" in (noise.smt_finding(True).cure or "")
    assert noise.numa_finding(1).level == "ok"
    assert "numactl" in (noise.numa_finding(2).cure or "")
    assert noise.steal_finding(0.0, "KVM").level == "ok"
    assert "KVM) took 3.0%" in noise.steal_finding(0.03, "KVM").found
    assert noise.load_finding(0.02, 8).level == "ok"
    assert "4.0 of 8 CPUs" in noise.load_finding(0.5, 8).found
    assert noise.throttle_finding(0.0, 0.0).level == "ok"
    assert "12 times" in noise.throttle_finding(12.0, 0.0).found
    assert "quota" in noise.throttle_finding(None, 0.1).found
    assert "paranoid=0" in (noise.traffic_finding("sudo sysctl kernel.perf_event_paranoid=0").cure or "")
    assert noise.traffic_finding(None).level == "ok"


def test_allocators_that_are_absent_come_with_their_package(monkeypatch):
    monkeypatch.setattr(noise, "missing_library", lambda name: f"no {name}; apt install lib{name}")
    monkeypatch.setattr(noise, "find_library", lambda _: None)
    finding = noise.allocator_finding()
    assert finding.level == "missing"
    assert finding.cure == "no jemalloc; apt install libjemalloc; no tcmalloc; apt install libtcmalloc"
