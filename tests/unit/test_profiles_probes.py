"""Probes on recorded texts; numbers computed by hand."""

import os

import pytest

from profiles.probes import cgroup, cpu, files, load, memory, power, software

CPUINFO = """processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 143
model name\t: Intel(R) Xeon(R) Platinum 8481C
stepping\t: 8
microcode\t: 0x2b0005c0
cpu MHz\t\t: 2600.000
physical id\t: 0
core id\t\t: 0
flags\t\t: fpu sse4_2 avx2 fma avx512f amx_bf16 hypervisor

processor\t: 1
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 143
model name\t: Intel(R) Xeon(R) Platinum 8481C
stepping\t: 8
cpu MHz\t\t: 3000.000
physical id\t: 0
core id\t\t: 0
flags\t\t: fpu sse4_2

processor\t: 2
physical id\t: 1
core id\t\t: 0
"""
ARM = """processor\t: 0
Features\t: fp asimd sve
CPU implementer\t: 0x41
CPU architecture: 8
CPU part\t: 0xd40
CPU revision\t: 1

processor\t: 1
Features\t: fp asimd sve

Hardware\t: board
"""


def test_cpuinfo_of_two_hyperthreads_and_a_second_socket():
    info = cpu.parse_cpuinfo(CPUINFO)
    assert (info.vendor, info.family, info.model, info.stepping) == ("GenuineIntel", 6, 143, 8)
    assert (info.physical_cores, info.sockets, info.mhz) == (2, 2, 2800.0)
    assert cpu.isa_flags(info.flags) == ("sse4_2", "avx2", "fma", "avx512f", "amx_bf16")


def test_only_visible_cpus_count():
    assert cpu.parse_cpuinfo(CPUINFO, frozenset({0, 1})).physical_cores == 1
    assert cpu.parse_cpuinfo(CPUINFO, frozenset({9})) == cpu.CpuInfo()
    assert cpu.parse_cpuinfo("") == cpu.CpuInfo()


def test_arm_names_its_fields_otherwise():
    info = cpu.parse_cpuinfo(ARM)
    assert (info.vendor, info.family, info.model, info.physical_cores) == ("0x41", 8, 0xD40, 2)
    assert cpu.isa_flags(info.flags) == ("asimd", "sve")
    assert info.mhz is None


@pytest.mark.parametrize(("text", "size"), [("48K", 49152), ("32M", 32 << 20), ("1G", 1 << 30), ("512\n", 512)])
def test_cache_size(text, size):
    assert cpu.parse_cache_size(text) == size


def entry(level, kind, size, shared):
    return cpu.CacheEntry(level=level, type=kind, size=size, shared_cpu_list=shared)


def test_caches_count_each_instance_once():
    entries = [entry("1", "Data", "48K", str(c)) for c in range(4)]
    entries += [entry("1", "Instruction", "32K", str(c)) for c in range(4)]
    entries += [entry("2", "Unified", "2048K", "0-1"), entry("2", "Unified", "2048K", "0-1")]
    entries += [entry("2", "Unified", "2048K", "2,3"), entry("3", "Unified", "30M", "0-3")]
    found = {c.level: (c.size_bytes, c.instances) for c in cpu.parse_caches(entries)}
    assert found == {1: (49152, 4), 2: (2 << 20, 2), 3: (30 << 20, 1)}


def test_hybrid_caches_keep_their_total():
    (cache,) = cpu.parse_caches([entry("2", "Unified", "2M", "0"), entry("2", "Unified", "4M", "1-4")])
    assert cache.total_bytes == 6 << 20


def test_read_caches_from_a_folder(tmp_path):
    folder = tmp_path / "cpu0/cache/index2"
    folder.mkdir(parents=True)
    for name, text in {"level": "2", "type": "Unified", "size": "1M", "shared_cpu_list": "0"}.items():
        (folder / name).write_text(text + "\n")
    (tmp_path / "cpu0/cache/index3").mkdir()
    (cache,) = cpu.read_caches(frozenset({0}), tmp_path)
    assert (cache.level, cache.size_bytes, cache.line_bytes) == (2, 1 << 20, 64)


def test_numa_nodes_that_own_a_visible_cpu(tmp_path):
    for node, cpus in enumerate(("0-3", "4-7", "")):
        (tmp_path / f"node{node}").mkdir()
        (tmp_path / f"node{node}/cpulist").write_text(cpus)
    assert cpu.numa_nodes(frozenset({1, 5}), tmp_path) == 2
    assert cpu.numa_nodes(frozenset({1}), tmp_path) == 1
    assert cpu.numa_nodes(frozenset({1}), tmp_path / "none") == 1


@pytest.mark.parametrize(
    ("flags", "clocks", "vendor", "name"),
    [
        (["hypervisor"], "tsc kvm-clock", None, "kvm"),
        (["hypervisor"], "hyperv_clocksource_tsc_page acpi_pm", None, "hyperv"),
        (["hypervisor"], "tsc", "Amazon EC2", "Amazon EC2"),
        (["hypervisor"], "tsc", None, "unidentified"),
        ([], "tsc hpet", "Dell Inc.", None),
        ([], "", "xen", "xen"),
    ],
)
def test_hypervisor(flags, clocks, vendor, name):
    assert cpu.parse_hypervisor(flags, clocks, vendor) == name


def test_cpu_list():
    assert files.parse_cpu_list("0-2,5\n") == (0, 1, 2, 5)
    assert files.parse_cpu_list("") == ()


def test_unreadable_files_are_none(tmp_path):
    assert files.read_text(tmp_path / "no") is None
    assert files.read_int(tmp_path / "no") is None
    (tmp_path / "word").write_text("many")
    assert files.read_int(tmp_path / "word") is None


def test_quotas():
    assert cgroup.parse_quota_v2("150000 100000\n") == 1.5
    assert cgroup.parse_quota_v2("max 100000") is None
    assert cgroup.parse_quota_v1("50000", "100000") == 0.5
    assert cgroup.parse_quota_v1("-1", "100000") is None


def test_limits():
    assert cgroup.parse_limit("max") is None
    assert cgroup.parse_limit("9223372036854771712") is None
    assert cgroup.parse_limit("2147483648\n") == 2 << 30


def test_throttled_seconds_of_both_versions():
    assert cgroup.parse_throttled_s("usage_usec 5\nthrottled_usec 2500000\n") == 2.5
    assert cgroup.parse_throttled_s("nr_throttled 3\nthrottled_time 1500000000\n") == 1.5
    assert cgroup.parse_throttled_s("usage_usec 5") is None


def test_the_tightest_limit_of_a_version_2_tree(tmp_path):
    inner = tmp_path / "root/a/b"
    inner.mkdir(parents=True)
    (inner / "cpu.max").write_text("max 100000\n")
    (inner.parent / "cpu.max").write_text("200000 100000\n")
    (inner / "memory.max").write_text("1073741824\n")
    (inner / "cpu.stat").write_text("throttled_usec 1000000\n")
    member = tmp_path / "self"
    member.write_text("0::/a/b\n")
    assert cgroup.read_quota_cpus(tmp_path / "root", member) == 2.0
    assert cgroup.read_memory_limit(tmp_path / "root", member) == 1 << 30
    assert cgroup.read_throttled_s(tmp_path / "root", member) == 1.0
    (inner.parent / "cpu.stat").write_text("throttled_usec 2500000\n")
    assert cgroup.read_throttled_s(tmp_path / "root", member) == 3.5
    assert cgroup.usable_cpus(tmp_path / "root", member) == min(2, len(os.sched_getaffinity(0)))
    (inner / "cpu.max").write_text("50000 100000\n")
    assert cgroup.usable_cpus(tmp_path / "root", member) == 1


def test_a_version_1_tree_whose_path_is_the_hosts(tmp_path):
    for controller, name, text in (
        ("cpu", "cpu.cfs_quota_us", "150000"),
        ("cpu", "cpu.cfs_period_us", "100000"),
        ("memory", "memory.limit_in_bytes", "4096"),
    ):
        (tmp_path / controller).mkdir(exist_ok=True)
        (tmp_path / controller / name).write_text(text)
    member = tmp_path / "self"
    member.write_text("4:memory:/docker/abc\n1:cpu,cpuacct:/docker/abc\n0::/\n")
    assert cgroup.read_quota_cpus(tmp_path, member) == 1.5
    assert cgroup.read_memory_limit(tmp_path, member) == 4096
    assert cgroup.read_throttled_s(tmp_path, member) is None


def test_meminfo_and_selected():
    sizes = memory.parse_meminfo("MemTotal:       24684084 kB\nHugePages_Total:       3\nEmpty:\n")
    assert sizes == {"MemTotal": 24684084 * 1024, "HugePages_Total": 3}
    assert memory.parse_selected("always [madvise] never") == "madvise"
    assert memory.parse_selected("") == "unknown"


def test_stat_and_its_fractions():
    before = load.parse_stat("cpu  100 0 50 800 50 0 0 0 0 0\ncpu0 1 2 3 4\n")
    after = load.parse_stat("cpu  150 0 60 820 60 0 0 10 7 0\n")
    assert before is not None
    assert after is not None
    assert before.total == 1000
    assert load.fractions(before, after) == (0.6, 0.1)
    assert load.fractions(after, after) == (0.0, 0.0)
    assert load.parse_stat("intr 5") is None


def test_pressure_and_load():
    text = "some avg10=1.50 avg60=0.20 avg300=0.06 total=6735463\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0"
    assert load.parse_psi(text) == load.Pressure(avg10_frac=0.015, total_s=6.735463)
    assert load.parse_psi("") is None
    assert load.parse_loadavg("0.07 0.02 0.00 1/84 5563") == 0.07
    assert load.parse_loadavg("") is None


def test_power_files(tmp_path):
    policy = tmp_path / "devices/system/cpu/cpu0/cpufreq"
    policy.mkdir(parents=True)
    (policy / "scaling_governor").write_text("powersave\n")
    assert power.read_governors(tmp_path) == ("powersave",)
    assert power.read_turbo(tmp_path) is None
    (tmp_path / "bus/event_source/devices/cpu").mkdir(parents=True)
    assert power.has_hardware_counters(tmp_path)
    assert not power.has_memory_counters(tmp_path)


@pytest.mark.parametrize(
    ("no_turbo", "boost", "on"), [("0", None, True), ("1", "1", False), (None, "0", False), (None, None, None)]
)
def test_turbo(no_turbo, boost, on):
    assert power.parse_turbo(no_turbo, boost) is on


def test_torch_constants():
    text = "from typing import Optional\n__version__ = '2.13.0+cu130'\ndebug = False\ncuda: Optional[str] = '13.0'\n"
    constants = software.parse_torch_version(text)
    assert (constants["__version__"], constants["cuda"]) == ("2.13.0+cu130", "13.0")


def test_torch_blas():
    mkl = "#define AT_MKLDNN_ENABLED() 1\n#define AT_MKL_ENABLED() 1\n#define AT_BUILD_WITH_BLAS() 1\n"
    assert software.parse_torch_blas(mkl) == "mkl+onednn"
    assert software.parse_torch_blas(mkl.replace("AT_MKL_ENABLED() 1", "AT_MKL_ENABLED() 0")) == "blas+onednn"
    assert software.parse_torch_blas("") is None


def test_absent_packages():
    assert software.package_version("no-such-distribution-here") is None


def test_other_load_is_what_neither_idled_nor_was_ours():
    before = load.CpuTimes(user=0, nice=0, system=0, idle=0)
    after = load.CpuTimes(user=60, nice=0, system=10, idle=20, steal=10)
    # 100 ticks: 70 busy and 10 stolen, of which 0.5 s = 50 ticks are ours.
    assert load.other_load_frac(before, after, 0.5, 100) == 0.3
    assert load.other_load_frac(before, after, 9.0, 100) == 0.0
    assert load.other_load_frac(before, before, 0.0, 100) == 0.0


def test_load_watch_without_proc(tmp_path):
    assert load.LoadWatch(tmp_path).other_frac() == 0.0
    assert 0.0 <= load.LoadWatch().other_frac() <= 1.0
