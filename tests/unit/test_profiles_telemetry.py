"""Background sampling and its sources, on this process, on folders and on a fake NVML."""

import os
import time
import types

import pytest

from profiles.samplers import nvml as nvml_module
from profiles.samplers.host import HostSampler
from profiles.samplers.nvml import NvmlSampler
from profiles.samplers.process import ProcessSampler, parse_stat, parse_switches
from profiles.samplers.rapl import RaplSampler, unwrap
from profiles.telemetry import Sampler, Telemetry


class Counting:
    def __init__(self, reason=None):
        self.reason = reason
        self.count = 0

    def available(self):
        return self.reason

    def channels(self):
        return ("count",)

    def read(self):
        self.count += 1
        return {"count": float(self.count)}


class Absent(Counting):
    pass


def test_samples_carry_the_shared_clock_and_stop():
    source: Sampler = Counting()
    start = time.perf_counter()
    with Telemetry([source, Absent("not here")], period_s=0.01) as telemetry:
        time.sleep(0.1)
    end = time.perf_counter()
    assert telemetry.absent == {"Absent": "not here"}
    assert telemetry.channels() == ("count",)
    assert 4 <= len(telemetry.samples) <= 13
    assert all(start <= s.at_s <= end for s in telemetry.samples)
    assert [s.values["count"] for s in telemetry.samples] == [1.0 + at for at in range(len(telemetry.samples))]
    assert 0 <= telemetry.cost_frac < 0.5
    count = len(telemetry.samples)
    time.sleep(0.03)
    assert len(telemetry.samples) == count


def test_period_must_be_positive():
    with pytest.raises(ValueError, match="period_s"):
        Telemetry([], period_s=0)


def test_stat_of_a_process_with_brackets_in_its_name():
    fields = ["S", *map(str, range(4, 53))]
    values = parse_stat("42 (a (b) c) " + " ".join(fields))
    ticks, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    assert values == {
        "minor_faults": 10.0,
        "major_faults": 12.0,
        "cpu_s": (14 + 15) / ticks,
        "threads": 20.0,
        "rss_bytes": 24.0 * page,
    }


def test_switches():
    text = "Name:\tpython\nvoluntary_ctxt_switches:\t7\nnonvoluntary_ctxt_switches:\t3\n"
    assert parse_switches(text) == {"voluntary_switches": 7.0, "involuntary_switches": 3.0}


def test_this_process():
    sampler = ProcessSampler(os.getpid())
    assert sampler.available() is None
    assert "cpu_frac" not in sampler.read()
    values = sampler.read()
    assert set(values) == set(sampler.channels())
    assert values["rss_bytes"] > 1 << 20


def test_a_process_that_is_gone(tmp_path):
    sampler = ProcessSampler(1, tmp_path)
    assert "no such process" in (sampler.available() or "")
    assert sampler.read() == {}


def test_host_fractions_between_two_readings(tmp_path):
    (tmp_path / "pressure").mkdir()
    (tmp_path / "stat").write_text("cpu 100 0 0 100 0 0 0 0\n")
    (tmp_path / "loadavg").write_text("0.5 0 0 1/2 3\n")
    (tmp_path / "pressure/cpu").write_text("some avg10=0.00 avg60=0.00 avg300=0.00 total=1000000\n")
    sampler = HostSampler(tmp_path)
    assert sampler.available() is None
    assert {"host_cpu_frac", "steal_frac", "psi_cpu_some_frac", "load1"} <= set(sampler.channels())
    assert "psi_memory_some_frac" not in sampler.channels()
    first = sampler.read()
    assert first["load1"] == 0.5
    assert "host_cpu_frac" not in first
    (tmp_path / "stat").write_text("cpu 130 0 0 160 0 0 0 10\n")
    second = sampler.read()
    assert (second["host_cpu_frac"], second["steal_frac"]) == (0.3, 0.1)
    assert second["psi_cpu_some_frac"] == 0.0


def test_host_without_proc(tmp_path):
    assert "cannot be read" in (HostSampler(tmp_path).available() or "")
    assert "host_cpu_frac" not in HostSampler(tmp_path).read()


def test_unwrap():
    assert unwrap(10, 15, 100) == 5
    assert unwrap(90, 5, 100) == 15


def rapl_folder(root, name, label, energy):
    folder = root / name
    folder.mkdir()
    (folder / "name").write_text(label)
    (folder / "energy_uj").write_text(str(energy))
    (folder / "max_energy_range_uj").write_text("1000000")
    return folder


def test_rapl_adds_packages_and_survives_the_wrap(tmp_path):
    first = rapl_folder(tmp_path, "intel-rapl:0", "package-0", 900_000)
    second = rapl_folder(tmp_path, "intel-rapl:1", "package-1", 100_000)
    rapl_folder(tmp_path, "intel-rapl:0:0", "dram", 5)
    sampler = RaplSampler(tmp_path)
    assert sampler.available() is None
    assert sampler.channels() == ("energy_j",)
    assert sampler.read() == {"energy_j": 0.0}
    (first / "energy_uj").write_text("100000")
    (second / "energy_uj").write_text("400000")
    assert sampler.read()["energy_j"] == pytest.approx(0.5)


def test_rapl_reasons(tmp_path):
    assert "no CPU package" in (RaplSampler(tmp_path).available() or "")
    (rapl_folder(tmp_path, "intel-rapl:0", "package-0", 1) / "energy_uj").unlink()
    assert "may not be read" in (RaplSampler(tmp_path).available() or "")


class NVMLError(Exception):
    pass


def refuse(*_args):
    raise NVMLError("Not Supported")


def fake_nvml(**changes):
    calls = {
        "NVMLError": NVMLError,
        "NVML_CLOCK_SM": 1,
        "NVML_CLOCK_MEM": 2,
        "NVML_TEMPERATURE_GPU": 0,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetHandleByPciBusId": lambda pci: pci,
        "nvmlDeviceGetUtilizationRates": lambda _h: types.SimpleNamespace(gpu=50, memory=25),
        "nvmlDeviceGetClockInfo": lambda _h, kind: {1: 1980, 2: 2619}[kind],
        "nvmlDeviceGetPowerUsage": lambda _h: 350_000,
        "nvmlDeviceGetTotalEnergyConsumption": lambda _h: 7_500,
        "nvmlDeviceGetTemperature": lambda _h, _kind: 45,
        "nvmlDeviceGetCurrentClocksThrottleReasons": lambda _h: 4,
        "nvmlDeviceGetMemoryInfo": lambda _h: types.SimpleNamespace(used=1 << 30),
        "nvmlDeviceGetComputeRunningProcesses": lambda _h: [types.SimpleNamespace(pid=7), types.SimpleNamespace(pid=9)],
    }
    return types.SimpleNamespace(**(calls | changes))


def test_nvml_units():
    sampler = NvmlSampler(nvml=fake_nvml())
    assert sampler.available() is None
    assert sampler.read() == {
        "gpu_utilisation_frac": 0.5,
        "gpu_memory_controller_frac": 0.25,
        "gpu_sm_clock_hz": 1.98e9,
        "gpu_memory_clock_hz": 2.619e9,
        "gpu_power_w": 350.0,
        "gpu_energy_j": 7.5,
        "gpu_temperature_c": 45.0,
        "gpu_throttle_reasons": 4.0,
        "gpu_memory_used_bytes": float(1 << 30),
        "gpu_processes": 2.0,
    }


def test_what_a_gpu_refuses_drops_out_with_its_reason():
    nvml = fake_nvml(nvmlDeviceGetTotalEnergyConsumption=refuse)
    del nvml.nvmlDeviceGetCurrentClocksThrottleReasons
    sampler = NvmlSampler(nvml=nvml, pci="0000:3b:00.0")
    assert set(sampler.dropped) == {"gpu_energy_j", "gpu_throttle_reasons"}
    assert "Not Supported" in sampler.dropped["gpu_energy_j"]
    assert "gpu_power_w" in sampler.channels()
    assert len(sampler.read()) == 8


def test_processes_that_may_not_be_seen_drop_out_too():
    class NVMLLibraryMismatchError(Exception):
        pass

    def lacking(_handle):
        raise NVMLLibraryMismatchError("no such function in this driver")

    without = {"nvmlDeviceGetComputeRunningProcesses": lacking, "NVMLLibraryMismatchError": NVMLLibraryMismatchError}
    for nvml in (fake_nvml(nvmlDeviceGetComputeRunningProcesses=refuse), fake_nvml(**without)):
        sampler = NvmlSampler(nvml=nvml)
        assert set(sampler.dropped) == {"gpu_processes"}
        assert "gpu_sm_clock_hz" in sampler.read()


def test_nvml_without_the_gpu_or_without_a_driver(monkeypatch):
    assert "no GPU 3" in (NvmlSampler(3, nvml=fake_nvml(nvmlDeviceGetHandleByIndex=refuse)).available() or "")
    monkeypatch.setattr(nvml_module, "load_nvml", lambda: (None, "NVML does not start"))
    assert NvmlSampler().available() == "NVML does not start"
