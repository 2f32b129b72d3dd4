"""The rules and ceilings that `inspect` looks with, from its flags. No torch."""

from __future__ import annotations

import re
from pathlib import Path

from bench.errors import UsageError
from bench.inspection.modelling import Lens
from profiles.trace.roofs import Roofs, load_roofs, roofs_of
from profiles.trace.rules import load_rules


def make_lens(components: Path | None, machine: str | None) -> Lens:
    """`machine`: a file, or 'cpu' or 'cuda:N' for a device of this machine that was measured before."""
    return Lens(rules=load_rules(components), roofs=_roofs(machine) if machine is not None else None)


def _roofs(machine: str) -> Roofs:
    if not re.fullmatch(r"cpu|cuda:\d+", machine):
        return load_roofs(Path(machine))
    from profiles.identify import identify
    from profiles.machine_store import load_ceilings

    here = identify().fingerprint.hash
    found = load_ceilings(here).ceilings
    if machine not in found:
        known = ", ".join(sorted(found)) or "none"
        measure = f"dlrm-bench machine --device {machine}"
        raise UsageError(f"--machine {machine}: not measured on this machine yet (measured: {known}); run: {measure}")
    return roofs_of(found[machine], f"{machine} of this machine")
