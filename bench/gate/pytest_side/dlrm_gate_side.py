"""Loaded into one side's pytest by the gate (-p dlrm_gate_side): says what was collected, how tests ended, controls.

Like worker.py it imports nothing of `bench`: whatever of that name the side imports is the side's own. Its folder is on
the side's PYTHONPATH. DLRM_GATE_SIDE names a file of instructions in JSON: out (file to write), timed (else tests run
once), wanted (tests to keep, null: all), controls (their names), tree and checkout (to notice code of the wrong one).
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

CONTROL_BLOCKS, BLOCK_S = 25, 0.010
OUTSIDE = ("site-packages", "dist-packages")
COUNTERS = "dlrm_bench_counters"
KEPT: dict[str, Any] = {"tests": {}, "errors": {}, "ended": {}, "counters": {}, "controls": {}}
ASKED = os.environ.get("DLRM_GATE_SIDE")
TOLD: dict[str, Any] = json.loads(Path(ASKED).read_bytes()) if ASKED else {}
NEUTRAL: dict[str, Any] = {
    "maxfail": 0,
    "dist": "no",
    "benchmark_only": False,
    "benchmark_skip": False,
    "benchmark_enable": False,
    "benchmark_save": None,
    "benchmark_autosave": None,
    "benchmark_compare": [],
    "benchmark_compare_fail": None,
    "benchmark_histogram": [],
}
"""Options of pytest, xdist and pytest-benchmark that addopts hold for other runs, as they are by default.

Here they would end the process (-x, --benchmark-only beside --benchmark-disable, --benchmark-compare-fail), measure
nothing (--benchmark-skip, --dist without -n), or write files that nobody asked for.
"""


def pytest_configure(config: pytest.Config) -> None:
    """Refuse to share the machine among processes; what addopts say of other runs is not for this one.

    Before pytest-benchmark reads its options: its own hook is called last.
    """
    option = config.option
    if getattr(option, "numprocesses", None) or (getattr(option, "dist", "no") != "no" and getattr(option, "tx", None)):
        raise pytest.UsageError("the gate measures one test at a time: leave -n (pytest-xdist) out of addopts")
    for name, value in NEUTRAL.items():
        if hasattr(option, name):
            setattr(option, name, value)
    if hasattr(option, "benchmark_disable"):
        option.benchmark_disable = not TOLD.get("timed")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep tests that measure, and of those the wanted ones."""
    measuring = [i for i in items if "benchmark" in getattr(i, "fixturenames", ())]
    for item in measuring:
        marks = [dict(m.kwargs) for m in item.iter_markers("dlrm_bench")]
        KEPT["tests"][item.nodeid] = {key: value for given in reversed(marks) for key, value in given.items()}
    wanted = None if TOLD.get("wanted") is None else frozenset(TOLD["wanted"])
    kept = [i for i in measuring if wanted is None or i.nodeid in wanted]
    config.hook.pytest_deselected(items=[i for i in items if i not in kept])
    items[:] = kept


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """Note a file that could not be imported."""
    if report.failed:
        KEPT["errors"][report.nodeid] = report.longreprtext


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note how a test ended, the worst of its phases, and what its fixture counted."""
    KEPT["counters"] |= {report.nodeid: dict(report.user_properties).get(COUNTERS) or {}}
    before = KEPT["ended"].get(report.nodeid, {"outcome": "passed"})
    if report.outcome != "passed" and before["outcome"] != "failed":
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext
        KEPT["ended"][report.nodeid] = {"outcome": report.outcome, "told": str(reason)}
    elif report.when == "call":
        KEPT["ended"].setdefault(report.nodeid, before)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish() -> None:
    """Time the null controls in this very process, and write everything down."""
    KEPT["foreign"] = _foreign()
    for name in TOLD.get("controls") or ():
        KEPT["controls"][name] = _control(name)
    torch = sys.modules.get("torch")
    KEPT["torch"] = None if torch is None else str(torch.__version__)
    if TOLD.get("out"):
        Path(TOLD["out"]).write_text(json.dumps(KEPT, default=str))


def _foreign() -> str | None:
    """A module that comes from the repository's working tree though this side has a checkout of its own."""
    tree, checkout = TOLD.get("tree"), TOLD.get("checkout")
    if not tree or tree == checkout:
        return None
    for name, module in list(sys.modules.items()):
        path = str(getattr(module, "__file__", None) or "")
        inside = path.startswith(tree + os.sep) and not path.startswith(f"{checkout}{os.sep}")
        if inside and path not in TOLD.get("ours", ()) and not any(part in path for part in OUTSIDE):
            return f"{name} ({path})"
    return None


def _control(name: str) -> float:
    """Median seconds per step of a null control, the same few lines on both sides."""
    spec = importlib.util.spec_from_file_location("_gate_loading", Path(__file__).parent.parent / "loading.py")
    if spec is None or spec.loader is None:
        raise ImportError("loading.py is not where the gate has it")
    loading = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loading)
    loaded = loading.control(name)
    steps = max(1, round(BLOCK_S / loading.warm(loaded)))
    feed = loaded.feed(0)
    blocks = [loading.clock(loaded.step, [next(feed) for _ in range(steps)]) / steps for _ in range(CONTROL_BLOCKS)]
    return float(sorted(blocks)[CONTROL_BLOCKS // 2])
