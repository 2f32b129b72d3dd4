"""What gate runs and live self-tests share: flags to settings, places, cases that cannot run, the manifest."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path

from bench.commands.sweep import surroundings
from bench.errors import UsageError
from bench.gate import presets
from bench.gate.log import SCHEMA_VERSION, GateManifest, SideName
from bench.gate.revisions import WORKING_TREE, Revision, resolve
from bench.gate.side import Checkout
from bench.gate.suite import Place, SuiteCase, not_gated
from bench.records import Case
from bench.sweep import now, own_version
from bench.sweep_spec import parse_flag
from profiles.machine import Machine
from workloads.spec import SpecError

MEMORY_SHARE = 0.85
"""Both sides are alive at once: together they may take this share of what is free."""


def preset_changes(settings: Sequence[str]) -> dict[str, object]:
    """--set flags as fields of a preset. Raises SpecError."""
    changes: dict[str, object] = {}
    for flag in settings:
        name, values = parse_flag(flag, "--set")
        pair = name in ("n1", "n2")
        changes[name] = [values[0], values[-1]] if pair else values[0]
        if len(values) > (2 if pair else 1):
            raise SpecError("--set", flag, "one value is needed, or for n1 and n2 fewest,most")
    return changes


def make_places(root: Path, folder: Path, base: Path | None, head: Path) -> dict[SideName, Place]:
    """Where each side's code lies, and the folder in it that answers to the one we are in."""
    inside = folder.resolve().relative_to(root.resolve())
    found: dict[SideName, Place] = {"head": Place(root=head, folder=head / inside)}
    return found if base is None else {"base": Place(root=base, folder=base / inside), **found}


def skip_reasons(cases: Sequence[SuiteCase], machine: Machine) -> dict[str, str]:
    """Cases that cannot run here, each with its reason."""
    around = surroundings(machine)

    def reason(case: Case) -> str | None:
        unavailable = around.unavailable(case) or not_gated(case)
        if unavailable:
            return unavailable
        needed = 2 * sum(around.memory_needed(case).values())
        usable = MEMORY_SHARE * around.memory_available_bytes
        return (
            f"both sides need {needed / 2**30:.3g} GiB, {usable / 2**30:.3g} may be used" if needed > usable else None
        )

    found = {c.name: reason(c.head or c.base or Case()) for c in cases}
    return {name: told for name, told in found.items() if told}


def make_manifest(
    root: Path,
    folder: Path,
    revisions: tuple[Revision, Revision],
    cases: tuple[SuiteCase, ...],
    preset: presets.Preset,
    machine: Machine,
    *,
    suite: Sequence[str],
    seed: int | None,
    argv: Sequence[str] = (),
) -> GateManifest:
    """The manifest of a gate run that starts now; a seed is drawn where none is asked for."""
    return GateManifest(
        schema_version=SCHEMA_VERSION,
        kind="gate",
        created_at=now(),
        argv=tuple(argv),
        suite=tuple(suite),
        repository=str(root),
        folder=str(folder),
        base=revisions[0],
        head=revisions[1],
        cases=cases,
        preset=preset,
        seed=seed if seed is not None else secrets.randbits(31),
        budget_s=None,
        machine=machine.cpu.name,
        machine_hash=machine.fingerprint.hash,
        llc_bytes=machine.llc_bytes("cpu"),
        version=own_version(),
    )


def side_checkout(name: SideName, place: Place, manifest: GateManifest) -> Checkout:
    """What a side's process needs to know."""
    revision = manifest.base if name == "base" else manifest.head
    folder = place.folder if place.folder.is_dir() else place.root
    return Checkout(
        side=name, python=revision.python, root=place.root, folder=folder, working_tree=Path(manifest.repository)
    )


def require_same(run_dir: Path, manifest: GateManifest, machine: Machine, root: Path) -> None:
    """Raises UsageError where new epochs would not belong to the old ones."""
    differences = []
    if machine.fingerprint.hash != manifest.machine_hash:
        differences.append(f"the run was begun on another machine or with other software ({manifest.machine})")
    for side in (manifest.base, manifest.head):
        now_is = resolve(root, side.asked if side.asked == WORKING_TREE else side.commit, side.python)
        if (now_is.commit, now_is.changes) != (side.commit, side.changes):
            differences.append(f"{side.label} is not what it was when the run began")
    if differences:
        raise UsageError(f"{run_dir}: cannot be resumed: {'; '.join(differences)}; start a new run")
