"""How fast are traces read, and in how much memory? `python -m tools.trace_speed [TRACE] [--hta PYTHON]`

Prints medians of five, each reading in a process of its own, so that peak memory is that reading's: TRACE as plain
JSON and as gzip, the whole report on the command line, and files of 431 MB and 1 GB made in a temporary folder by
repeating the events of TRACE later in time. With --hta, the interpreter of an environment where
HolisticTraceAnalysis 0.5.0 is installed loads the same file in the same run, alternating with ours.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parent.parent
DEFAULT = ROOT.parent / "shared/traces/open/large_V100_memprof/df_index_resolver.json.gz"
REPEATS = 5
LARGE_BYTES, HUGE_BYTES = 431_000_000, 1_000_000_000
_EVENTS = re.compile(rb'"traceEvents"\s*:\s*\[')
_NUMBERS = re.compile(rb'("(ts|correlation|External id)":\s*)(\d+)')
# The kernel's own peak of this process: getrusage would report its parent's where that was larger.
_PEAK = """
def peak():
    with open("/proc/self/status") as status:
        return int(next(line for line in status if line.startswith("VmHWM")).split()[1]) * 1024
"""
_READ = """
import json, sys, time
from pathlib import Path
from profiles.trace.reader import read_trace
began = time.perf_counter()
trace = read_trace(Path(sys.argv[1]))
seconds = time.perf_counter() - began
print(json.dumps({"seconds": seconds, "peak_bytes": peak(), "json_bytes": trace.quality.bytes_read}))
"""
_HTA = """
import json, logging, sys, time
logging.disable(logging.CRITICAL)
from hta.common.trace import Trace
began = time.perf_counter()
Trace(trace_files={0: sys.argv[1]}, trace_dir="").load_traces(use_multiprocessing=False)
seconds = time.perf_counter() - began
print(json.dumps({"seconds": seconds, "peak_bytes": peak()}))
"""


def child(python: str, code: str, path: Path) -> dict[str, float]:
    """One reading in a process of its own."""
    done = subprocess.run(
        [python, "-c", _PEAK + code, str(path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise SystemExit(f"{python} on {path}:\n{done.stderr}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def report_s(path: Path) -> float:
    """Wall time of the whole command, its start included."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "bench", "inspect", str(path)], cwd=ROOT, capture_output=True, check=True)
    return time.perf_counter() - began


def repeated(text: bytes, target: Path, size_bytes: int) -> None:
    """The events of `text` again and again, each time later and with numbers of their own, for `size_bytes`."""
    begin = _EVENTS.search(text)
    end = text.rfind(b"]")
    if begin is None or end < 0:
        raise SystemExit("the trace holds no list of events to repeat")
    events = text[begin.end() : end].rstrip()
    times = [int(m[3]) for m in _NUMBERS.finditer(events) if m[2] == b"ts"]
    shifts = {b"ts": max(times) - min(times) + 1, b"correlation": 10_000_000, b"External id": 10_000_000}

    with target.open("wb") as file:
        file.write(text[: begin.end()])
        for count in range(max(round(size_bytes / len(events)), 1)):
            shift = {word: count * by for word, by in shifts.items()}

            def later(found: re.Match[bytes], shift: dict[bytes, int] = shift) -> bytes:
                return found[1] + b"%d" % (int(found[3]) + shift[found[2]])

            file.write((b"," if count else b"") + _NUMBERS.sub(later, events))
        file.write(text[end:])


def say(what: str, found: Sequence[dict[str, float]]) -> None:
    """One line of medians."""
    seconds, peak = (median(f[key] for f in found) for key in ("seconds", "peak_bytes"))
    size = found[0]["json_bytes"]
    rate = f"{size / seconds / 1e6:7.0f} MB/s"
    print(f"{what:24} {size / 1e6:8.1f} MB JSON  {seconds:7.2f} s  {rate}  {peak / 2**20:7.0f} MiB peak", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trace", nargs="?", type=Path, default=DEFAULT)
    parser.add_argument("--hta", metavar="PYTHON", help="an interpreter with HolisticTraceAnalysis 0.5.0")
    parser.add_argument("--repeats", type=int, default=REPEATS)
    chosen = parser.parse_args()
    content = chosen.trace.read_bytes()
    text = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    with tempfile.TemporaryDirectory() as folder:
        plain, packed, made = (Path(folder) / name for name in ("plain.json", "packed.json.gz", "made.json"))
        plain.write_bytes(text)
        packed.write_bytes(gzip.compress(text, 6))
        for path in (plain, packed):
            say(path.name, [child(sys.executable, _READ, path) for _ in range(chosen.repeats)])
        print(
            f"{'whole report':24} {len(text) / 1e6:8.1f} MB JSON  {_report(plain, chosen.repeats):7.2f} s", flush=True
        )
        if chosen.hta:
            _against_hta(chosen.hta, packed, chosen.repeats)
        for size_bytes in (LARGE_BYTES, HUGE_BYTES):
            repeated(text, made, size_bytes)
            say("repeated", [child(sys.executable, _READ, made) for _ in range(chosen.repeats)])


def _report(path: Path, repeats: int) -> float:
    return median(report_s(path) for _ in range(repeats))


def _against_hta(python: str, path: Path, repeats: int) -> None:
    """Alternating, so that a change of the machine meets both."""
    pairs = [(child(sys.executable, _READ, path), child(python, _HTA, path)) for _ in range(repeats)]
    ours, theirs = (median(pair[side]["seconds"] for pair in pairs) for side in (0, 1))
    peaks = [median(pair[side]["peak_bytes"] for pair in pairs) / 2**20 for side in (0, 1)]
    ratio = median(b["seconds"] / a["seconds"] for a, b in pairs)
    print(f"HTA 0.5.0 {theirs:.2f} s, {peaks[1]:.0f} MiB; ours {ours:.2f} s, {peaks[0]:.0f} MiB; ratio {ratio:.1f}")


if __name__ == "__main__":
    main()
