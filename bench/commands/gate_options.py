"""The flags of the gate verb: what they mean together, and what they cannot."""

from __future__ import annotations

from pathlib import Path

import msgspec

from bench.commands.gate_pytest import check_runner
from bench.commands.gate_setup import preset_changes
from bench.commands.sweep import duration_s
from bench.errors import UsageError
from bench.gate import presets


class GateOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The flags of `gate`."""

    suite: list[str]
    base: str | None
    head: str
    base_python: str | None
    head_python: str | None
    preset: str
    settings: list[str]
    seed: int | None
    budget: str | None
    plan: bool
    counters_only: bool
    against: Path | None
    save: Path | None
    out: Path
    resume: Path | None
    baseline: str | None
    baselines: Path
    strict: bool
    junit: Path | None
    markdown: Path | None
    as_json: bool
    argv: tuple[str, ...]
    runner: str
    pytest_args: str


def check_flags(options: GateOptions) -> None:
    """Raises UsageError for flags that do not go together."""
    check_runner(options.runner, options.pytest_args, plan=options.plan)
    if not options.suite:
        raise UsageError("gate needs a SUITE: a sweep's name or file, or path.py:function (several may be given)")
    for name, value in (("--against", options.against), ("--save", options.save)):
        if value is not None and not options.counters_only:
            raise UsageError(f"{name} is about counters; add --counters-only")
    if options.against is not None and options.save is not None:
        raise UsageError("--save writes the head's counters and --against compares with a file: give one of them")
    alone = options.against is not None or options.save is not None
    if alone and options.base:
        raise UsageError("--against and --save look at the head alone; leave --base out")
    if not alone and not (options.base or options.base_python or options.head_python):
        raise UsageError("gate compares two sides: give --base REV (and --head REV, . by default), or two interpreters")


def preset_of_flags(options: GateOptions) -> presets.Preset:
    """The preset with --set. Raises SpecError."""
    return presets.changed(presets.load(options.preset), preset_changes(options.settings))


def budget_s(options: GateOptions) -> float | None:
    """--budget in seconds."""
    return duration_s(options.budget) if options.budget else None
