"""diagnose(): what is installed, what works, what does not, and the exact cure. It never changes a setting."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

from profiles.doctor_noise import noise_findings
from profiles.finding import Finding
from profiles.machine import Machine
from profiles.probes import gpu, memory, power
from profiles.probes.cuda_driver import load_driver
from profiles.samplers.rapl import RaplSampler

_IMPORT_TIMEOUT_S = 60.0
_SMALL_MEMORY_BYTES = 4 << 30
# The torch each fbgemm-gpu was built against; any other pair fails to load or, worse, loads and computes wrongly.
TORCH_OF_FBGEMM = {"1.6": "2.11", "1.7": "2.12", "1.8": "2.13"}


TryImport = Callable[[str], str | None]


def try_import(module: str) -> str | None:
    """None where `import module` works in a fresh interpreter, else the last line of what it said.

    A fresh one, because a library that does not fit kills the process or leaves half a module behind.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", f"import {module}"],
            capture_output=True,
            timeout=_IMPORT_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"import {module} took over {_IMPORT_TIMEOUT_S:.0f} s"
    if done.returncode == 0:
        return None
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"import {module} ended with status {done.returncode}"


def diagnose(machine: Machine, *, importing: TryImport = try_import) -> tuple[Finding, ...]:
    """Look at everything the suite can use. Takes some seconds: packages are really imported, elsewhere."""
    return (
        torch_finding(machine, importing),
        fbgemm_finding(machine, importing),
        torchrec_finding(machine, importing),
        gpu_finding(machine),
        counters_finding(power.has_hardware_counters(), power.read_perf_paranoid()),
        energy_finding(RaplSampler().available()),
        governor_finding(power.read_governors()),
        huge_page_finding(memory.read_thp()),
        quota_finding(machine),
        *noise_findings(machine),
        memory_finding(machine.memory_bytes, memory.available_bytes()),
    )


def torch_finding(machine: Machine, importing: TryImport) -> Finding:
    """torch: nothing can be measured without it; results can be read, gated and reported."""
    version = machine.software.torch
    extra = "cuda" if machine.gpus else "cpu"
    if version is None:
        return Finding(
            topic="torch",
            level="missing",
            found="torch is not installed: nothing can be measured, results can still be read and gated",
            cure=f"pip install 'dlrm-bench[{extra}]'",
        )
    problem = importing("torch")
    if problem:
        return Finding(
            topic="torch",
            level="missing",
            found=f"torch {version} is installed but does not import: {problem}",
            cure="pip install --force-reinstall torch==2.13.0",
        )
    if machine.gpus and not machine.software.cuda:
        return Finding(
            topic="torch",
            level="warn",
            found=f"torch {version} is built without CUDA, so the GPUs here cannot be used",
            cure="pip install --force-reinstall torch==2.13.0 --index-url https://download.pytorch.org/whl/cu130",
        )
    return Finding(topic="torch", level="ok", found=f"torch {version} imports")


def fbgemm_finding(machine: Machine, importing: TryImport) -> Finding:
    """fbgemm: its version must be the one built for this torch."""
    version, torch = machine.software.fbgemm, machine.software.torch
    package = "fbgemm-gpu" if machine.software.cuda else "fbgemm-gpu-cpu"
    fitting = fbgemm_for(torch)
    cure = f"pip install '{package}=={fitting}.*'" if fitting else f"pip install torch==2.13.0 {package}==1.8.0"
    if version is None:
        found = "fbgemm-gpu is not installed: its embedding backends are skipped"
        return Finding(topic="fbgemm", level="missing", found=found, cure=cure)
    wanted = TORCH_OF_FBGEMM.get(_minor(version))
    if torch and wanted and wanted != _minor(torch):
        found = f"fbgemm-gpu {version} was built for torch {wanted}, torch {torch} is installed"
        return Finding(topic="fbgemm", level="warn", found=found, cure=cure)
    problem = importing("fbgemm_gpu") if torch else "torch is not installed"
    if problem:
        found = f"fbgemm-gpu {version} does not import: {problem}"
        return Finding(topic="fbgemm", level="warn", found=found, cure=cure)
    return Finding(topic="fbgemm", level="ok", found=f"fbgemm-gpu {version} imports with torch {torch}")


def fbgemm_for(torch: str | None) -> str | None:
    """The fbgemm-gpu minor version built for this torch, None where no known one was."""
    return next((f for f, t in TORCH_OF_FBGEMM.items() if torch and _minor(torch) == t), None)


def _minor(version: str) -> str:
    return ".".join(version.split("+", maxsplit=1)[0].split(".")[:2])


def torchrec_finding(machine: Machine, importing: TryImport) -> Finding:
    """torchrec: needed for its sharded embedding backend only."""
    # torchrec declares fbgemm-gpu (the CUDA build), which on a CPU machine would replace fbgemm-gpu-cpu.
    cure = "pip install --no-deps torchrec==1.8.0 && pip install tensordict torchmetrics tqdm pyre-extensions"
    version = machine.software.torchrec
    if version is None:
        found = "torchrec is not installed: its embedding backend is skipped"
        return Finding(topic="torchrec", level="missing", found=found, cure=cure)
    problem = importing("torchrec")
    if problem:
        found = f"torchrec {version} does not import: {problem}"
        return Finding(topic="torchrec", level="warn", found=found, cure=cure)
    return Finding(topic="torchrec", level="ok", found=f"torchrec {version} imports")


def gpu_finding(machine: Machine) -> Finding:
    """GPU: driver, NVML and devices."""
    nvml, reason = gpu.load_nvml()
    if machine.gpus:
        names = ", ".join(f"cuda:{g.index} {g.name}" for g in machine.gpus)
        if nvml is None:
            found = f"{names}, but no telemetry: {reason}"
            return Finding(topic="gpu", level="warn", found=found, cure="pip install nvidia-ml-py")
        return Finding(topic="gpu", level="ok", found=names)
    if load_driver() is None:
        return Finding(topic="gpu", level="missing", found="no NVIDIA driver (libcuda.so.1): CUDA cases are skipped")
    return Finding(
        topic="gpu",
        level="warn",
        found="an NVIDIA driver is installed but CUDA shows no device",
        cure="check `nvidia-smi` and CUDA_VISIBLE_DEVICES; in a container, start it with --gpus all",
    )


def counters_finding(there: bool, paranoid: int | None) -> Finding:
    """Hardware counters: without them memory traffic is modelled."""
    if not there:
        found = "no hardware performance counters (usual in VMs): memory traffic is modelled, not measured"
        return Finding(topic="perf counters", level="missing", found=found, cure="use a bare-metal machine")
    if paranoid is not None and paranoid > 0:
        return Finding(
            topic="perf counters",
            level="warn",
            found=f"kernel.perf_event_paranoid is {paranoid}: machine-wide memory counters cannot be read",
            cure="sudo sysctl kernel.perf_event_paranoid=0",
        )
    return Finding(topic="perf counters", level="ok", found="hardware performance counters are readable")


def energy_finding(reason: str | None) -> Finding:
    """CPU energy through RAPL."""
    if reason is None:
        return Finding(topic="cpu energy", level="ok", found="RAPL energy counters are readable")
    cure = "sudo chmod -R a+r /sys/class/powercap/intel-rapl:*/" if "may not be read" in reason else None
    return Finding(topic="cpu energy", level="missing", found=reason, cure=cure)


def governor_finding(governors: tuple[str, ...]) -> Finding:
    """CPU frequency governor."""
    if not governors:
        return Finding(topic="governor", level="warn", found="the kernel controls no CPU frequency here (usual in VMs)")
    names = ", ".join(governors)
    if governors == ("performance",):
        return Finding(topic="governor", level="ok", found=names)
    cure = "sudo cpupower frequency-set -g performance"
    return Finding(topic="governor", level="warn", found=f"the frequency governor is {names}", cure=cure)


def huge_page_finding(thp: str) -> Finding:
    """Transparent huge pages for the tables."""
    if thp in {"always", "madvise"}:
        return Finding(topic="huge pages", level="ok", found=f"transparent huge pages: {thp}")
    return Finding(
        topic="huge pages",
        level="warn",
        found=f"transparent huge pages: {thp}; tables lie on 4 KiB pages and gathers run slower",
        cure="echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled",
    )


def quota_finding(machine: Machine) -> Finding:
    """CPU quota of the control group."""
    quota, cpus = machine.cpu.quota_cpus, machine.cpu.logical_cpus
    if quota is None or quota >= cpus:
        return Finding(topic="cpu quota", level="ok", found=f"{cpus} CPUs, no tighter quota")
    return Finding(
        topic="cpu quota",
        level="warn",
        found=f"a quota of {quota:g} CPUs on {cpus} visible ones: bursts are throttled",
        cure=f"run with at most {max(1, int(quota))} threads, or lift it (docker: --cpus={cpus})",
    )


def memory_finding(total: int, available: int) -> Finding:
    """Memory for the tables."""
    found = f"{available / 2**30:.1f} GiB available of {total / 2**30:.1f} GiB"
    if available >= _SMALL_MEMORY_BYTES:
        return Finding(topic="memory", level="ok", found=found)
    cure = "end other processes, or choose presets whose tables fit (`dlrm-bench describe PRESET`)"
    return Finding(topic="memory", level="warn", found=found, cure=cure)
