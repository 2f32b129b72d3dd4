"""Deterministic counters of one step, counted in the side's process: what the profiler and the dispatcher saw.

Loaded by worker.py from beside it; nothing of `bench` is imported. Every counter is taken from two steps on the same
input; one that differs between them is named `unstable` and is not gated.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

LAUNCHES = ("cudaLaunchKernel", "cudaLaunchKernelExC", "cuLaunchKernel", "cuLaunchKernelEx", "cudaGraphLaunch")
SYNCS = ("cudaDeviceSynchronize", "cudaStreamSynchronize", "cudaEventSynchronize")
AUTOGRAD = "autograd::engine::evaluate_function: "
Counters = dict[str, float]


def count(step: Callable[[], Any], work: Any) -> dict[str, Any]:
    """{counters, unstable, torch}: counts per step, names of those that differ between two steps, torch's version."""
    declared = _declared(work)
    if sys.modules.get("torch") is None:
        return {"counters": declared, "unstable": [], "torch": None}
    first, second = ({**_profiled(step), **_dispatched(step)} for _ in range(2))
    unstable = sorted(name for name in first.keys() | second.keys() if first.get(name) != second.get(name))
    stable = {name: value for name, value in first.items() if name not in unstable}
    version = str(sys.modules["torch"].__version__)
    return {"counters": {**stable, **declared}, "unstable": unstable, "torch": version}


def _declared(work: Any) -> Counters:
    """What the Work of the case says: modelled FLOPs, lookups and bytes."""
    if work is None:
        return {}
    return {
        "lookups": float(work.lookups),
        "modelled_flops": float(work.total("flops")),
        "compulsory_bytes": float(work.total("bytes_compulsory")),
    }


def _profiled(step: Callable[[], Any]) -> Counters:
    """Operators, copies, launches, transfers, synchronisations and allocated peak of one step."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    on_cuda = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_cuda else [])]
    for _ in range(2):  # the first profile of a process carries its own start-up
        if on_cuda:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            held = torch.cuda.memory_allocated()
        with profile(activities=activities, profile_memory=True, acc_events=True) as profiler:
            output = step()
            del output
            if on_cuda:
                torch.cuda.synchronize()
    found = from_events(_events(profiler))
    if on_cuda:
        found["cuda_peak_bytes"] = float(torch.cuda.max_memory_allocated() - held)
        found["syncs"] -= 1
    return found


def _events(profiler: Any) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        events: list[dict[str, Any]] = json.loads(path.read_bytes())["traceEvents"]
    return events


def from_events(events: Iterable[dict[str, Any]]) -> Counters:
    """Counters of a trace's events. allocated_peak_bytes is over what was held when the step began (CPU)."""
    events = list(events)
    operators = [e for e in events if e.get("cat") == "cpu_op" and not e["name"].startswith(AUTOGRAD)]
    runtime = [e for e in events if e.get("cat") in ("cuda_runtime", "cuda_driver")]
    transfers = [e for e in events if e.get("cat") == "gpu_memcpy"]
    return {
        "operators": float(len(operators)),
        "copies": float(sum(e["name"] == "aten::copy_" for e in operators)),
        "launches": float(sum(e["name"] in LAUNCHES for e in runtime)),
        "syncs": float(sum(e["name"] in SYNCS for e in runtime)),
        "transfers": float(len(transfers)),
        "transfer_bytes": float(sum(e.get("args", {}).get("bytes", 0) for e in transfers)),
        "allocated_peak_bytes": _peak(e for e in events if e.get("name") == "[memory]"),
    }


def _peak(events: Iterable[dict[str, Any]]) -> float:
    """Largest running sum of allocations and frees on the host."""
    held = peak = 0
    for event in sorted(events, key=lambda e: float(e["ts"])):
        if event["args"].get("Device Type") == 0:
            held += event["args"]["Bytes"]
            peak = max(peak, held)
    return float(peak)


def _dispatched(step: Callable[[], Any]) -> Counters:
    """FLOPs of the operators that torch knows to count, and bytes of all tensors that operators read or return."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves
    from torch.utils.flop_counter import FlopCounterMode

    class Bytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
        """Adds up the bytes of tensors going into and out of operators."""

        def __init__(self) -> None:
            super().__init__()  # type: ignore[no-untyped-call]
            self.total = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            output = func(*args, **(kwargs or {}))
            tensors = [t for t in tree_leaves((args, kwargs, output)) if isinstance(t, torch.Tensor)]
            self.total += sum(t.numel() * t.element_size() for t in tensors)
            return output

    found: Counters = {}
    try:
        with FlopCounterMode(display=False) as flops:
            step()
        with Bytes() as seen:
            step()
        found = {"counted_flops": float(flops.get_total_flops()), "operand_bytes": float(seen.total)}
    except (NotImplementedError, RuntimeError, TypeError) as error:
        # Compiled and exotic steps may refuse a dispatch mode; the profiler's counters stand.
        print(f"operators cannot be intercepted: {error}", file=sys.stderr)
    found.update(_compiled())
    return found


def _compiled() -> Counters:
    """Graph breaks and compiled graphs so far, where torch.compile has been at work."""
    dynamo = sys.modules.get("torch._dynamo.utils")
    if dynamo is None or not dynamo.counters["stats"].get("unique_graphs"):
        return {}
    breaks = sum(dynamo.counters["graph_break"].values())
    return {"graph_breaks": float(breaks), "compiled_graphs": float(dynamo.counters["stats"]["unique_graphs"])}
