"""Our ceilings beside likwid-bench's in the same minute: `python -m tools.likwid [--tries 3]`

Needs likwid-bench (Debian package likwid). Prints stream read and fp32 matrix product as ratios to its load and
single-precision FMA kernels with all CPUs; the widest vector kernel this processor has is taken beside the AVX one.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys

KERNELS = {
    "stream_read": ("MByte/s", 1e6, "4GB", ("load_avx", "load_avx512")),
    "gemm": ("MFlops/s", 1e6, "64kB", ("peakflops_sp_avx_fma", "peakflops_sp_avx512_fma")),
}


def likwid(kernel: str, size: str, unit: str) -> float | None:
    """Figure of one kernel in its own unit; None where the processor lacks it."""
    threads = len(os.sched_getaffinity(0))
    command = ["likwid-bench", "-t", kernel, "-w", f"S0:{size}:{threads}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(rf"^{unit}:\s+([\d.]+)", done.stdout, re.MULTILINE)
    return float(found[1]) if found and float(found[1]) > 0 else None


def ours() -> dict[str, float]:
    """Our ceilings, measured now."""
    command = [sys.executable, "-m", "bench", "machine", "--refresh", "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    ceilings = json.loads(done.stdout)["ceilings"]
    return {
        "stream_read": ceilings["stream_read"]["bytes_per_s"],
        "gemm": ceilings["gemm"]["float32"]["flops_per_s"],
    }


def main() -> None:
    """Print a line per try and figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tries", type=int, default=3)
    for number in range(1, parser.parse_args().tries + 1):
        mine = ours()
        for name, (unit, factor, size, kernels) in KERNELS.items():
            for kernel in kernels:
                theirs = likwid(kernel, size, unit)
                if theirs is not None:
                    ratio = mine[name] / (theirs * factor)
                    print(
                        f"try {number}: {name:11} ours {mine[name] / 1e9:7.1f} G/s  {kernel:24} "
                        f"{theirs * factor / 1e9:7.1f} G/s  ratio {ratio:.3f}",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
