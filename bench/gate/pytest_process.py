"""One pytest process of one side: started, awaited, and what it wrote read back. One process is one epoch."""

from __future__ import annotations

import json
import math
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from bench.gate.side import OURS, Checkout, SideLostError
from profiles.allocator import pinned_environment

PLUGIN_FOLDER = Path(__file__).parent / "pytest_side"
TIMEOUT_S = 1800.0
GOOD_CODES = (0, 1, 5)
"""Passed, some tests or files failed, no tests; else (interrupted, internal, usage) nothing is told about tests."""
TAIL_BYTES = 4000
STATISTICS = ("min", "mean", "median")


class HowEnded(msgspec.Struct, frozen=True, kw_only=True):
    """How a test ended: passed, failed or skipped; `told`: its traceback or reason."""

    outcome: str
    told: str = ""


class PytestResult(msgspec.Struct, frozen=True, kw_only=True):
    """What one process said. tests: what each test's marker asks. errors: files that could not be imported."""

    tests: dict[str, dict[str, Any]]
    errors: dict[str, str]
    ended: dict[str, HowEnded]
    controls: dict[str, float]
    torch: str | None
    foreign: str | None
    counters: dict[str, dict[str, Any]] = {}
    times_s: dict[str, float] = {}


class PytestCall(msgspec.Struct, frozen=True, kw_only=True):
    """How pytest is to be run. timed: else every test runs once. count: its counters are wanted."""

    arguments: tuple[str, ...]
    collect_only: bool = False
    timed: bool = False
    count: bool = False
    wanted: tuple[str, ...] | None = None
    controls: tuple[str, ...] = ()
    padding_bytes: int = 0
    hash_seed: int = 0


def run_pytest(checkout: Checkout, call: PytestCall, folder: Path, name: str) -> PytestResult:
    """Run it to its end. Raises SideLostError with the last lines where nothing can be learnt from it."""
    # Absolute: the side runs in a checkout of its own.
    asked, told, measured, log = (
        folder.resolve() / f"{name}.{end}" for end in ("asked.json", "told.json", "benchmark.json", "log")
    )
    for file in (told, measured):
        file.unlink(missing_ok=True)
    asked.write_bytes(msgspec.json.encode(_instructions(checkout, call, told)))
    with log.open("wb") as output:
        try:
            code = subprocess.run(
                _command(checkout, call, measured),
                cwd=checkout.folder,
                env=_environment(checkout, call, asked),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=TIMEOUT_S,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            raise SideLostError(
                f"the {checkout.side} side's pytest: not done within {TIMEOUT_S:g} s", _tail(log)
            ) from None
    result = _told(told)
    if result is None or code not in GOOD_CODES:
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        raise SideLostError(f"the {checkout.side} side's pytest ended {how}", _tail(log))
    return with_measured(result, measured) if measured.exists() else result


def _command(checkout: Checkout, call: PytestCall, measured: Path) -> list[str]:
    plugins = ("-p", "dlrm_gate_side", "-p", "no:cacheprovider")
    # Without it pytest runs no test at all where one file cannot be imported.
    on = "--continue-on-collection-errors"
    command = [checkout.python, "-m", "pytest", *call.arguments, *plugins, "-q", on]
    if call.collect_only:
        return [*command, "--collect-only"]
    return [*command, f"--benchmark-json={measured}"] if call.timed else [*command, "--benchmark-disable"]


def _instructions(checkout: Checkout, call: PytestCall, told: Path) -> dict[str, Any]:
    """In a file: the names of a large suite are more than one variable of an environment may hold (128 KiB)."""
    return {
        "out": str(told),
        "timed": call.timed,
        "wanted": call.wanted,
        "controls": call.controls,
        "tree": str(checkout.working_tree),
        "checkout": str(checkout.root),
        "ours": [str(p) for p in Path(__file__).parent.rglob("*.py")],
    }


def _environment(checkout: Checkout, call: PytestCall, asked: Path) -> Mapping[str, str]:
    """As for the gate's own workers: the side's code first, ours last, the allocator pinned."""
    own = {
        "PYTHONPATH": ":".join([*checkout.roots, str(PLUGIN_FOLDER), str(OURS)]),
        "PYTHONHASHSEED": str(call.hash_seed),
        "DLRM_BENCH_PADDING": "x" * call.padding_bytes,
        "DLRM_GATE_SIDE": str(asked),
        "DLRM_BENCH_COUNT": "1" if call.count else "",
        "KINETO_LOG_LEVEL": "5",
    }
    return pinned_environment() | own


def _told(path: Path) -> PytestResult | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=PytestResult)
    except (OSError, msgspec.DecodeError):
        return None


def with_measured(result: PytestResult, path: Path) -> PytestResult:
    """The times of pytest-benchmark's file: of each test the statistic that its marker names, else the median."""
    times = {}
    for found in json.loads(path.read_bytes())["benchmarks"]:
        metric = result.tests.get(found["fullname"], {}).get("metric", "median")
        stats = found.get("stats") or {}
        times[found["fullname"]] = float(stats.get(metric if metric in STATISTICS else "median", math.nan))
    return msgspec.structs.replace(result, times_s=times)


def _tail(log: Path) -> str:
    return log.read_bytes()[-TAIL_BYTES:].decode(errors="replace").strip()


def measuring_tests(result: PytestResult, broken: Sequence[str]) -> list[str]:
    """Tests of files that both sides could import."""
    return [name for name in result.tests if not any(name.startswith(f"{file}::") for file in broken)]
