"""pytest plugin: the fixture dlrm_benchmark on top of pytest-benchmark's, and the marker dlrm_bench.

Options and JSON are pytest-benchmark's. On top of a bare call it builds a model's Case, checks its result, waits for
the GPU, rotates inputs, and puts machine, work and fraction of roof into extra_info. Loaded in every pytest run where
the distribution is installed: only pytest is imported until a test asks for the fixture.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from profiles.machine import Machine
    from workloads.work import Work

COUNT, COUNTERS = "DLRM_BENCH_COUNT", "dlrm_bench_counters"
GATED = "DLRM_GATE_SIDE"
"""Set where a gate runs this pytest as one of its sides."""
MARKER = "dlrm_bench(tolerance=0.05, budget='10ms', metric='median'): what a gate finds, the most time, what counts"
XDIST = "dlrm_benchmark measures one test at a time: run without -n (pytest-xdist), or with -n 0"
NO_BENCHMARK = "dlrm_benchmark stands on pytest-benchmark, which is not installed: pip install pytest-benchmark"
MACHINE = pytest.StashKey["Machine"]()


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", MARKER)


class DlrmBenchmark:
    """What the fixture hands out: call it once per test."""

    def __init__(self, request: pytest.FixtureRequest, benchmark: Any) -> None:
        self._request, self.benchmark = request, benchmark

    def __call__(self, what: Any, *, inputs: Sequence[Any] | None = None, work: Work | None = None, **axes: Any) -> Any:
        """Measure a preset's name (with axes), a Case, or a callable; returns the last output.

        inputs: what a callable is given in rotation, one per call. work: of one call, for bytes, FLOPs and the roof.
        Fails the test for what cannot be measured, for NaN in the output, and, not under a gate, beyond its budget.
        """
        from bench.gate.loading import not_finite
        from bench.pytesting.asked import asked
        from bench.pytesting.target import target_of
        from workloads.spec import SpecError

        machine = _machine(self._request.config)
        try:
            wanted = asked([mark.kwargs for mark in self._request.node.iter_markers("dlrm_bench")])
            target = target_of(what, inputs, work, axes, machine.llc_bytes)
        except SpecError as error:
            pytest.fail(str(error), pytrace=False)
        if not_finite(target.once()):
            pytest.fail("the output holds NaN: a wrong result is never fast", pytrace=False)
        counters = _counters(target)
        if counters is not None:
            self._request.node.user_properties.append((COUNTERS, counters))
        output = self.benchmark(target.once)
        self._tell(target, wanted, machine, counters)
        return output

    def _tell(self, target: Any, wanted: Any, machine: Machine, counters: dict[str, Any] | None) -> None:
        from bench.gate.render.words import time_cell
        from bench.pytesting.told import extra_info

        stats = self.benchmark.stats.stats if self.benchmark.stats is not None else None
        median_s = stats.median if stats is not None else None
        name = self._request.node.nodeid
        self.benchmark.extra_info.update(extra_info(name, target, wanted, machine, median_s, counters))
        # One process of many is no verdict: under a gate its own error rate decides, on either side alike.
        if stats is None or wanted.budget_s is None or os.environ.get(GATED):
            return
        found = getattr(stats, wanted.metric)
        if not found <= wanted.budget_s:
            told = f"{wanted.metric} {time_cell(found)} is above the budget of {time_cell(wanted.budget_s)}"
            pytest.fail(told, pytrace=False)


def _machine(config: pytest.Config) -> Machine:
    """This machine with the ceilings that are known of it, identified once per session; nothing is measured here."""
    if MACHINE not in config.stash:
        import msgspec

        from profiles.identify import identify
        from profiles.machine_store import load_ceilings

        machine = identify()
        known = load_ceilings(machine.fingerprint.hash).ceilings
        config.stash[MACHINE] = msgspec.structs.replace(machine, ceilings=known)
    return config.stash[MACHINE]


def _counters(target: Any) -> dict[str, Any] | None:
    """The deterministic tier, where a gate asks for it: what one step does, counted."""
    if not os.environ.get(COUNT):
        return None
    from bench.gate.counting import count

    return count(target.first, target.work)


def _refuse_xdist(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        pytest.fail(XDIST, pytrace=False)


if importlib.util.find_spec("pytest_benchmark") is None:

    @pytest.fixture
    def dlrm_benchmark() -> DlrmBenchmark:
        """Says what is missing."""
        pytest.fail(NO_BENCHMARK, pytrace=False)

else:

    @pytest.fixture
    def dlrm_benchmark(request: pytest.FixtureRequest, benchmark: Any) -> DlrmBenchmark:
        """Measures a preset's name (with axes), a Case, or a callable; see DlrmBenchmark."""
        _refuse_xdist(request.config)
        return DlrmBenchmark(request, benchmark)
