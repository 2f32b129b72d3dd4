"""The inputs of a case: drawn from the laws of its tables, or replayed from the file that its spec names.

A file is read twice: once whole, before anything is built, so that a fault in it is found then and the spec knows its
digest, mean lengths and samples (`bind`); and once for the batches of a case (`make_inputs`).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import msgspec

from workloads import pairs, replay
from workloads.batch import Batch, expected_touch, make_batch, touch
from workloads.spec import REPLAY, Captured, ModelSpec, SpecError
from workloads.work import TableTouch


class Inputs(NamedTuple):
    """Batches in order. `wrapped`: the file had fewer than were asked for, so they come around sooner."""

    batches: list[Batch]
    wrapped: bool = False


def bind(spec: ModelSpec, batch_size: int) -> ModelSpec:
    """The spec with what its replay file says; unchanged where it names none.

    Tables get `indices` and `lengths` "replay" and the file's mean as their pooling factor. Raises SpecError for a file
    that cannot be replayed into these tables in batches of this size: all that a case may use has been read then.
    """
    if not spec.replay:
        if spec.remap:
            raise SpecError("remap", True, "only with replay: --axis replay=FILE")
        return spec
    if pairs.has_pairs(spec):
        raise SpecError("replay", spec.replay, "none where form = 'hashed': its last table's lookups are derived")
    path = Path(spec.replay).absolute()
    found, digest = _scan(path, spec.tables, spec.num_dense, spec.remap, _state(path))
    if found.samples < batch_size:
        raise replay.too_few(path, batch_size, found.samples)
    # A table that is never looked up gets the least that a spec can say: one lookup in all.
    means = [max(n, 1) / found.samples for n in found.lookups]
    tables = tuple(
        msgspec.structs.replace(t, indices=REPLAY, lengths=REPLAY, pooling_factor=mean)
        for t, mean in zip(spec.tables, means, strict=True)
    )
    captured = Captured(digest=digest, samples=found.samples, tables=found.tables)
    return msgspec.structs.replace(spec, tables=tables, replay=str(path), captured=captured)


def _state(path: Path) -> tuple[int, int]:
    """Size and time of change, by which a file that was read before is known."""
    try:
        found = path.stat()
    except OSError as error:
        raise SpecError("replay", str(path), f"a readable file: {error.strerror}") from None
    return found.st_size, found.st_mtime_ns


@functools.lru_cache(maxsize=64)
def _scan(
    path: Path, tables: tuple[object, ...], num_dense: int, remap: bool, state: tuple[int, int]
) -> tuple[replay.Scan, str]:
    """A sweep has many cases of one file: each kind of tables reads it once."""
    plain = ModelSpec(name="scan", variant="mlp", tables=tables, num_dense=num_dense)  # type: ignore[arg-type]
    return replay.scan(path, plain, remap=remap), _digest(path, state)


@functools.lru_cache(maxsize=64)
def _digest(path: Path, state: tuple[int, int]) -> str:
    return replay.digest(path)


def changed(spec: ModelSpec) -> str | None:
    """Why the file is no longer the one that the spec was bound to, or None."""
    if spec.captured is None:
        return None
    path = Path(spec.replay)
    try:
        found = _digest(path, _state(path))
    except SpecError as error:
        return str(error)
    if found != spec.captured.digest:
        return f"{path}: its content has changed since (digest {found}, was {spec.captured.digest})"
    return None


def tables_of(spec: ModelSpec) -> str:
    """Where a bound spec's number of tables in the file comes from. Raises SpecError for a file that is gone."""
    if replay.says_tables(spec.replay):
        return "the file"
    return "the model: the file has no lengths, and may be of another number of tables"


def make_inputs(spec: ModelSpec, batch_size: int, seed: int, count: int) -> Inputs:
    """`count` batches, from laws or file; fewer where the file has no more. Raises SpecError."""
    if not spec.replay:
        return Inputs([make_batch(spec, batch_size, seed, number) for number in range(count)])
    there = count if spec.captured is None else min(count, spec.captured.samples // batch_size)
    read = replay.read_batches(spec.replay, spec, batch_size, seed=seed, remap=spec.remap)
    batches = list(islice(read, there))
    return Inputs(batches, wrapped=len(batches) < count)


def unique_bytes(spec: ModelSpec, batch_size: int) -> float:
    """Bytes of distinct rows in one batch: expected from the laws, counted in the file's first batch."""
    distinct = [t.unique_rows for t in touches(spec, batch_size)]
    return sum(n * t.row_bytes for n, t in zip(distinct, spec.tables, strict=True))


def touches(spec: ModelSpec, batch_size: int) -> tuple[TableTouch, ...]:
    """What a batch does to each table: expected from the laws, counted in the file's first batch."""
    if not spec.replay:
        return expected_touch(spec, batch_size)
    return touch(spec, make_inputs(spec, batch_size, 0, 1).batches)


def rows_remapped_frac(batches: Sequence[Batch]) -> float:
    """Share of lookups whose row was folded into its table."""
    return sum(b.remapped for b in batches) / max(sum(b.indices.size for b in batches), 1)
