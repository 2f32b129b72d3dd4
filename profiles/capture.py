"""A trace of a few steps: torch.profiler around a callable, on a bounded schedule, never around timed steps."""

from __future__ import annotations

import gzip
import tempfile
from collections.abc import Callable
from pathlib import Path

from profiles.atomic_file import write_atomically


def capture(
    step: Callable[[], object], path: Path, *, steps: int = 3, warmup: int = 1, device: str = "cpu", wait: int = 1
) -> None:
    """Run wait + warmup + steps calls of `step` and write the Chrome trace of the last `steps` to `path`.

    `path` ends in .json or .json.gz and is written whole or not at all. On 'cuda' kernels are recorded too. Shapes
    are recorded, stacks are not. ValueError for another suffix or steps < 1.
    """
    import torch
    from torch.profiler import ProfilerActivity, profile, record_function, schedule

    if steps < 1 or not path.name.endswith((".json", ".json.gz")):
        raise ValueError(f"capture needs steps >= 1 and a .json or .json.gz path, got steps={steps}, {path}")
    activities = [ProfilerActivity.CPU]
    if device.startswith("cuda"):
        activities.append(ProfilerActivity.CUDA)
    plan = schedule(wait=wait, warmup=warmup, active=steps, repeat=1)
    with profile(activities=activities, schedule=plan, record_shapes=True, acc_events=True) as profiler:
        for _ in range(wait + warmup + steps):
            with record_function("step"):
                step()
                if device.startswith("cuda"):
                    torch.cuda.synchronize(device)
            profiler.step()
    _export(profiler, path)


def _export(profiler: object, path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(plain))  # type: ignore[attr-defined]
        content = plain.read_bytes()
    write_atomically(path, gzip.compress(content, compresslevel=5) if path.name.endswith(".gz") else content)
