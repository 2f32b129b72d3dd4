"""CPU package energy from the kernel's powercap files (RAPL), where they are there and readable."""

from __future__ import annotations

from pathlib import Path

from profiles.probes.files import read_int, read_text

POWERCAP = Path("/sys/class/powercap")


def unwrap(before_uj: int, now_uj: int, range_uj: int) -> int:
    """Microjoules between two readings of a counter that starts again at 0 after `range_uj`."""
    return now_uj - before_uj if now_uj >= before_uj else now_uj + range_uj - before_uj


class RaplSampler:
    """Joules of all CPU packages together since the first reading."""

    def __init__(self, root: Path = POWERCAP) -> None:
        """Look below `root`."""
        # intel-rapl:0 is a package; intel-rapl:0:0 is a part of one and would count twice.
        packages = [f for f in sorted(root.glob("intel-rapl:*")) if f.name.count(":") == 1]
        self._packages = [f for f in packages if (read_text(f / "name") or "").startswith("package")]
        self._root = root
        self._last: dict[Path, int] = {}
        self._total_uj = 0

    def available(self) -> str | None:
        """None, or why energy cannot be read."""
        if not self._packages:
            return f"{self._root} shows no CPU package: no RAPL on this machine (usual in VMs)"
        if read_int(self._packages[0] / "energy_uj") is None:
            return f"{self._packages[0]}/energy_uj may not be read: `sudo chmod a+r` it, or run as root"
        return None

    def channels(self) -> tuple[str, ...]:
        """One: energy_j."""
        return ("energy_j",)

    def read(self) -> dict[str, float]:
        """Joules since the first reading; 0 then."""
        for package in self._packages:
            now = read_int(package / "energy_uj")
            if now is not None:
                span = read_int(package / "max_energy_range_uj") or 0
                self._total_uj += unwrap(self._last.get(package, now), now, span)
                self._last[package] = now
        return {"energy_j": self._total_uj * 1e-6}
