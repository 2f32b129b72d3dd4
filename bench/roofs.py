"""The least time each stage of a case could take on the measured ceilings of its device."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import msgspec

from bench.by_identity import by_identity
from bench.records import Case, Record
from profiles.machine import Ceilings, Machine
from profiles.roofline import gather_roof, gemm_roof, stream_roof
from workloads.placements import as_stored
from workloads.work import StageWork, line_bytes

ROOF_TOLERANCE = 1.1
"""What is faster than its lower bound by more than this factor was not doing the counted work."""

Bound = Literal["gather", "stream", "compute"]


FRESH_FRAC = 0.9
"""Batches whose distinct rows add up to this share of all rows they touch have next to none in common."""


class StageRoof(NamedTuple):
    """Least seconds a stage can take on this machine's measured ceilings, and the ceiling that sets it."""

    seconds: float
    bound: Bound


def ceilings_of(record: Record, machine: Machine) -> Ceilings | None:
    """Measured ceilings of the device that the case ran on; 'cuda' is 'cuda:0'."""
    device = record.case.device
    return machine.ceilings.get(device) or machine.ceilings.get(f"{device}:0")


def stage_roof(record: Record, stage: str, work: StageWork, ceilings: Ceilings) -> StageRoof:
    """Least seconds of one stage: max(compulsory bytes / roof of its working set, FLOPs / GEMM peak).

    The embedding's roof is the measured gather of its row size, that of other stages the stream.
    """
    assert record.work is not None
    gathers = stage == "embedding" and record.work.row_bytes > 0 and bool(ceilings.gather)
    if gathers:
        rate = _gather_rate(ceilings, record.work.row_bytes, gathered_bytes(record, work))
    else:
        rate = stream_roof(ceilings, work.working_set_bytes)
    moving_s = work.bytes_compulsory / rate if rate else 0.0
    computing_s = _computing_s(work, ceilings, product_dtype(record.case))
    if computing_s > moving_s:
        return StageRoof(computing_s, "compute")
    return StageRoof(moving_s, "gather" if gathers else "stream")


def gathered_bytes(record: Record, work: StageWork) -> int:
    """Working set of the gather ceiling that the embedding of this case is held to.

    Usually the rows that the rotation touches: what a step meets again is found in a cache as often as in a random
    gather over so many bytes. Where nearly every row of a step was last touched more than two last-level caches ago, or
    the caches are emptied before each step, none is found there, and the ceiling is that of a gather over the whole
    tables, or four last-level caches where they are smaller.
    """
    inputs, case = record.inputs, record.case
    if inputs is None or case.model is None or not (case.cache_mode == "cold" or _never_met_again(record)):
        return work.working_set_bytes
    stored = as_stored(case.model, case.backend, case.device, case.placement)
    return max(work.working_set_bytes, stored.table_bytes, 4 * inputs.llc_bytes)


def _never_met_again(record: Record) -> bool:
    """Whether the batches of a rotation beyond the last-level cache have few rows in common."""
    inputs, work = record.inputs, record.work
    if inputs is None or work is None or inputs.residency != "dram":
        return False
    apart = inputs.num_batches * inputs.unique_rows_per_step * work.row_bytes
    return inputs.rotation_unique_bytes >= FRESH_FRAC * apart


def product_dtype(case: Case) -> str | None:
    """The name of the matrix-product ceiling that the case's products are held to; None where none is measured.

    float32 products that may be rounded to tf32 are held to tf32, the fastest they may be computed in.
    """
    precision = "high" if case.tf32 else case.matmul_precision
    if case.dtype != "float32" or precision == "highest":
        return case.dtype
    if precision == "medium" and case.device == "cpu":
        # A CPU with units for bfloat16 uses them and gives float32 results: no ceiling is of such products.
        return None
    return "tf32"


def _gather_rate(ceilings: Ceilings, row_bytes: float, working_set_bytes: int) -> float:
    """Bytes/s of a random gather in whole cache lines, as compulsory bytes are counted.

    Ceilings count the bytes of rows. A row that ends within a line takes the rest of it along, and one narrower than
    the narrowest measured is gathered at least as fast, in rows per second, as that.
    """
    width = max(1, round(row_bytes))
    narrowest = min(c.row_bytes for c in ceilings.gather if c.row_bytes)
    return gather_roof(ceilings, width, working_set_bytes) * line_bytes(width) / max(width, narrowest)


def _computing_s(work: StageWork, ceilings: Ceilings, dtype: str | None) -> float:
    if not work.flops or dtype is None or dtype not in ceilings.gemm:
        return 0.0
    peak = gemm_roof(ceilings, dtype)
    return work.flops / peak if peak else 0.0


@by_identity
def stage_roofs(record: Record, machine: Machine) -> dict[str, StageRoof]:
    """StageRoof per stage of the work; empty where work or ceilings are missing."""
    ceilings = ceilings_of(record, machine)
    if record.work is None or ceilings is None:
        return {}
    return {name: stage_roof(record, name, work, ceilings) for name, work in record.work.stages.items()}


def roof_step_s(record: Record, machine: Machine) -> float | None:
    """Least seconds of the step: the stages' least times, one after the other, each pass by itself (bound_step_s)."""
    total = math.fsum(roof.seconds for roof in stage_roofs(record, machine).values())
    return total or None


def bound_step_s(record: Record, machine: Machine) -> float | None:
    """What no step undercuts, in seconds: as roof_step_s, but without bytes that a cache may keep through the step.

    They differ in train steps alone: those whose rows of one step stay in a cache from the forward to the backward
    pass, while the rotation's do not fit, may truly be faster than roof_step_s, which counts each pass by itself.
    """
    ceilings = ceilings_of(record, machine)
    if record.work is None or ceilings is None:
        return None
    total = math.fsum(
        stage_roof(record, name, _without_kept(work), ceilings).seconds for name, work in record.work.stages.items()
    )
    return total or None


def _without_kept(work: StageWork) -> StageWork:
    return msgspec.structs.replace(work, bytes_compulsory=work.bytes_compulsory - work.bytes_kept)


def gather_roof_bytes_per_s(record: Record, machine: Machine) -> float | None:
    """Measured gather ceiling (bytes/s of whole lines) for the row size and working set of the case."""
    ceilings = ceilings_of(record, machine)
    stage = record.work.stages.get("embedding") if record.work else None
    if ceilings is None or not ceilings.gather or stage is None or record.work is None or not record.work.row_bytes:
        return None
    return _gather_rate(ceilings, record.work.row_bytes, gathered_bytes(record, stage)) or None
