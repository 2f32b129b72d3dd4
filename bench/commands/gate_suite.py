"""What a gate run compares: the cases of both sides by its runner, and the manifest that says so."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from bench.commands.gate_options import GateOptions, budget_s
from bench.commands.gate_pytest import pytest_arguments, pytest_cases
from bench.commands.gate_setup import make_manifest
from bench.gate import counters, presets
from bench.gate.log import Counted, GateManifest, MarkerAsk, SideName
from bench.gate.revisions import Revision
from bench.gate.suite import Place, SuiteCase, suite_cases
from bench.records import Case
from profiles.machine import Machine


class Suite(msgspec.Struct, frozen=True):
    """What is gated: cases of both sides, base's counters where a file stands for it, what pytest's markers ask."""

    cases: tuple[SuiteCase, ...]
    base_lines: tuple[Counted, ...]
    tests: dict[str, MarkerAsk]


def read_suite(
    options: GateOptions, places: Mapping[SideName, Place], root: Path, revisions: Mapping[SideName, Revision]
) -> Suite:
    """The cases of both sides. Raises SpecError or UsageError."""
    if options.runner == "pytest":
        cases, tests = pytest_cases(_pytest_args(options), places, revisions, root)
    else:
        cases, tests = suite_cases(options.suite, places.get("base"), places["head"]), {}
    if options.against is None:
        return Suite(cases, (), tests)
    stored = counters.read(options.against)
    known = {c.name for c in cases}
    ours = [msgspec.structs.replace(c, base=c.head if c.name in stored.cases else None) for c in cases]
    gone = [SuiteCase(name=n, base=Case(code=n), head=None) for n in stored.cases if n not in known]
    return Suite((*ours, *gone), counters.as_base(stored), tests)


def _pytest_args(options: GateOptions) -> tuple[str, ...]:
    return pytest_arguments(options.suite, options.pytest_args) if options.runner == "pytest" else ()


def gate_manifest(
    options: GateOptions,
    root: Path,
    folder: Path,
    revisions: tuple[Revision, Revision],
    suite: Suite,
    preset: presets.Preset,
    machine: Machine,
) -> GateManifest:
    """What run.json is to say."""
    made = make_manifest(
        root, folder, revisions, suite.cases, preset, machine, suite=options.suite, seed=options.seed, argv=options.argv
    )
    return msgspec.structs.replace(
        made,
        budget_s=budget_s(options),
        counters_only=options.counters_only,
        against=None if options.against is None else str(options.against),
        save=options.save is not None,
        runner="pytest" if options.runner == "pytest" else "steps",
        pytest_args=_pytest_args(options),
        tests=suite.tests,
    )
