"""gate --runner pytest: what its flags mean, and the tests of both sides before anything is measured."""

from __future__ import annotations

import shlex
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.errors import UsageError
from bench.gate.log import MarkerAsk, SideName
from bench.gate.pytest_run import collect
from bench.gate.revisions import Revision
from bench.gate.side import Checkout, SideLostError
from bench.gate.suite import Place, SuiteCase
from workloads.spec import SpecError, unknown

RUNNERS = ("steps", "pytest")


def check_runner(runner: str, pytest_args: str, *, plan: bool) -> None:
    """Raises SpecError or UsageError for flags that mean nothing, before anything is checked out."""
    if runner not in RUNNERS:
        raise unknown("--runner", runner, list(RUNNERS))
    if pytest_args and runner != "pytest":
        raise UsageError("--pytest-args is for --runner pytest")
    if plan and runner == "pytest":
        raise UsageError("--plan cannot know how long a pytest suite takes; run it once with --budget TIME instead")
    pytest_arguments((), pytest_args)


def pytest_arguments(suite: Sequence[str], pytest_args: str) -> tuple[str, ...]:
    """What pytest is given on both sides. Raises UsageError where no shell could read it."""
    try:
        return (*suite, *shlex.split(pytest_args))
    except ValueError as error:
        raise UsageError(f"--pytest-args {pytest_args!r}: {error}; it is read as a shell reads words") from None


def pytest_cases(
    arguments: Sequence[str],
    places: Mapping[SideName, Place],
    revisions: Mapping[SideName, Revision],
    working_tree: Path,
) -> tuple[tuple[SuiteCase, ...], dict[str, MarkerAsk]]:
    """The tests that measure, and what their markers ask. Raises UsageError with pytest's last lines."""
    sides = {
        name: Checkout(
            side=name,
            python=revisions[name].python,
            root=place.root,
            folder=place.folder if place.folder.is_dir() else place.root,
            working_tree=working_tree,
        )
        for name, place in places.items()
    }
    print(f"collecting tests of {' and '.join(sides)}", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="dlrm-gate-") as folder:
        try:
            cases, tests = collect(sides, arguments, Path(folder))
        except SideLostError as lost:
            raise UsageError(f"{lost}\n{lost.log}") from None
    if not cases:
        raise SpecError("SUITE", " ".join(arguments), "tests that use pytest-benchmark's fixture, or dlrm_benchmark")
    return cases, tests
