"""Ceilings that operators of a trace are held against: of a machine that was measured, or written down by hand.

A trace does not say what its machine can reach, so the machine is always named by the user, never assumed.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from profiles.machine import Ceilings
from profiles.roofline import gather_roof
from profiles.trace.errors import TraceError
from profiles.trace.operators import OperatorTimes
from profiles.trace.shapes import LOGICAL, MESSAGE


class Roofs(msgspec.Struct, frozen=True, kw_only=True):
    """`bytes_per_s` of reading memory, FLOP/s by dtype, and where measured the curves of `ceilings`."""

    name: str
    bytes_per_s: float
    flops_per_s: dict[str, float]
    source: str = "datasheet"
    ceilings: Ceilings | None = None

    def seconds(self, work: OperatorTimes) -> float | None:
        """The shortest time for the known work of an operator; None for messages and where a ceiling is missing.

        Lookups are held against random reads of rows of their size from tables of their size.
        """
        if not work.n_known or work.bytes_convention == MESSAGE:
            return None
        peak = self.flops_per_s.get(work.dtype)
        if work.flops and not peak:
            return None
        return max(work.flops / peak if peak else 0.0, work.bytes / self._bytes_per_s(work))

    def _bytes_per_s(self, work: OperatorTimes) -> float:
        if self.ceilings is None or work.bytes_convention != LOGICAL or not work.row_bytes or not work.table_bytes:
            return self.bytes_per_s
        if not self.ceilings.gather:
            return self.bytes_per_s
        return gather_roof(self.ceilings, round(work.row_bytes), round(work.table_bytes))

    def fraction(self, work: OperatorTimes) -> float | None:
        """How much of its roof an operator reached: shortest time over the time it took."""
        shortest = self.seconds(work)
        return shortest / (work.known_ns * 1e-9) if shortest is not None and work.known_ns else None


class _Measured(msgspec.Struct, frozen=True):
    """Of what `dlrm-bench machine --json` prints."""

    device: str
    ceilings: Ceilings
    fingerprint: str = ""


def roofs_of(ceilings: Ceilings, name: str, float32: str | None = "float32") -> Roofs:
    """Measured ceilings of one device. The faster of the ways to read memory is the roof.

    float32: the ceiling that float32 products are held to, None where none is known. A trace does not say in what
    precision they were computed.
    """
    reads = [ceilings.stream_read.bytes_per_s or 0.0, ceilings.stream_triad.bytes_per_s or 0.0]
    flops_per_s = {dtype: c.flops_per_s for dtype, c in ceilings.gemm.items() if c.flops_per_s}
    exact = flops_per_s.pop("float32", None)
    peak = exact if float32 == "float32" else flops_per_s.get(float32 or "")
    told = "" if float32 == "float32" else f"; float32 products: {float32 or 'no ceiling'}"
    return Roofs(
        name=name,
        bytes_per_s=max(reads),
        flops_per_s=({"float32": peak} if peak else {}) | flops_per_s,
        source=f"measured {ceilings.measured_at}{told}",
        ceilings=ceilings,
    )


def load_roofs(path: Path) -> Roofs:
    """From the output of `dlrm-bench machine --json`, or {name, bytes_per_s, flops_per_s, source}. TraceError."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise TraceError(path, f"cannot be read ({error.strerror or error})") from error
    try:
        measured = msgspec.json.decode(text, type=_Measured)
    except msgspec.DecodeError as first:
        return _by_hand(path, text, first)
    return _positive(path, roofs_of(measured.ceilings, f"{measured.device} of {measured.fingerprint or path.name}"))


def _by_hand(path: Path, text: bytes, first: Exception) -> Roofs:
    try:
        return _positive(path, msgspec.json.decode(text, type=Roofs))
    except msgspec.DecodeError as error:
        needs = 'save `dlrm-bench machine --json`, or write {"name", "bytes_per_s", "flops_per_s": {"float32": ...}}'
        raise TraceError(path, f"holds no ceilings ({error}; {first}); {needs}") from error


def _positive(path: Path, roofs: Roofs) -> Roofs:
    if roofs.bytes_per_s <= 0 or any(v <= 0 for v in roofs.flops_per_s.values()):
        raise TraceError(path, "ceilings must be above 0, in bytes/s and FLOP/s; measure the machine again")
    return roofs
