"""Replay of captured lookups: batches read from a file, a piece at a time. Imports torch and pyarrow when asked.

Formats, told by the file name: `.pt`, a tuple (indices (N,), offsets (T*B+1,), lengths (T, B)) as in Meta's
dlrm_datasets, all of table 0 first, where T is the model's if there are no lengths; `.parquet`, a row per sample and a
column per table, in the order of the spec, each a whole number or a list of them; `.tsv` or `.txt`, Criteo's click
logs: label, 13 counts, 26 hexadecimal values.

A row number that a table does not have is an error, unless `remap` folds it into the table (row modulo num_rows).
Criteo's values are 32-bit hashes, not rows: they are always folded. Every error is a SpecError that names the file.
"""

from __future__ import annotations

import hashlib
import pickle
import warnings
import zipfile
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from workloads.batch import Batch, Ints, Singles, make_batch
from workloads.spec import ModelSpec, SpecError

if TYPE_CHECKING:
    from torch import Tensor

CRITEO_DENSE, CRITEO_SPARSE = 13, 26


MAX_LOOKUPS = 2**27
"""Lookups of a file that are read at most: 2 GiB of inputs, which is also the most that a case holds."""
SCAN_SAMPLES = 4096
DIGEST_LENGTH = 16


class Piece(NamedTuple):
    """Some samples as the file has them: per table rows (n,) and lengths (B,); what the file has of dense and labels.

    `places` names, per table, the place in the file of each lookup: a function from its number in `rows` to text.
    `tables` is how many the file has.
    """

    rows: list[Ints]
    lengths: list[Ints]
    places: Callable[[int, int], str]
    tables: int
    dense: Singles | None = None
    labels: Singles | None = None


def read_batches(
    path: str | Path, spec: ModelSpec, batch_size: int, *, seed: int = 0, remap: bool = False
) -> Iterator[Batch]:
    """Full batches of the file in its order; a rest that fills none is left out.

    Dense features, labels and pooling weights that the file does not have are drawn from `seed`. Raises SpecError, also
    while iterating, for a file that is not what its name says, a row outside its table, or no full batch.
    """
    path = Path(path)
    number = -1
    for number, piece in enumerate(_pieces(path, spec, batch_size)):
        samples = piece.lengths[0].size
        if samples == batch_size:
            yield _batch(path, spec, piece, seed, number, remap or always_folds(path))
        elif number == 0:
            raise too_few(path, batch_size, samples)
    if number < 0:
        raise no_samples(path)


def too_few(path: str | Path, batch_size: int, samples: int) -> SpecError:
    """The error for a file that does not fill one batch."""
    return SpecError("batch_size", batch_size, f"at most {samples}, the samples in the file", str(path))


def no_samples(path: str | Path) -> SpecError:
    """The error for a file with nothing in it."""
    return SpecError("file", str(path), "a file with lookups in it: this one is empty")


def always_folds(path: str | Path) -> bool:
    """Whether the file holds hashes instead of rows: Criteo logs."""
    return Path(path).suffix in (".tsv", ".txt")


class Scan(NamedTuple):
    """A file read from beginning to end: the samples that may be replayed, lookups per table, the file's tables."""

    samples: int
    lookups: tuple[int, ...]
    tables: int


def scan(path: str | Path, spec: ModelSpec, *, remap: bool = False) -> Scan:
    """Read all that can be replayed (up to 2^27 lookups) and keep nothing. Raises SpecError for the first fault."""
    path = Path(path)
    samples, tables = 0, 0
    lookups = np.zeros(len(spec.tables), dtype=np.int64)
    for piece in _pieces(path, spec, SCAN_SAMPLES):
        for t, part in enumerate(piece.rows):
            _fit(path, spec, t, part, piece, remap or always_folds(path))
        samples, tables = samples + piece.lengths[0].size, piece.tables
        lookups += [part.size for part in piece.rows]
        if lookups.sum() >= MAX_LOOKUPS:
            break
    if samples == 0:
        raise no_samples(path)
    return Scan(samples, tuple(lookups.tolist()), tables)


def digest(path: str | Path) -> str:
    """The first 16 hexadecimal digits of the file's SHA-256. Raises SpecError where it cannot be read."""
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:DIGEST_LENGTH]
    except OSError as error:
        raise SpecError("file", str(path), f"a readable file: {error.strerror}") from None


def _pieces(path: Path, spec: ModelSpec, samples: int) -> Iterator[Piece]:
    """The file in pieces of so many samples, the last with the rest. Raises SpecError for what no reader reads."""
    if path.suffix not in READERS:
        raise SpecError("file", str(path), f"a file to replay: {', '.join(READERS)}")
    if not path.is_file():
        raise SpecError("file", str(path), "a readable file: No such file")
    if path.stat().st_size == 0:
        raise no_samples(path)
    try:
        yield from READERS[path.suffix](path, spec, samples)
    except OSError as error:
        raise SpecError("file", str(path), f"a readable file: {error}") from None


def _batch(path: Path, spec: ModelSpec, piece: Piece, seed: int, number: int, remap: bool) -> Batch:
    rows = [_fit(path, spec, t, part, piece, remap) for t, part in enumerate(piece.rows)]
    folded = sum(int(np.count_nonzero(p >= t.num_rows)) for t, p in zip(spec.tables, piece.rows, strict=True))
    lengths = np.concatenate(piece.lengths)
    drawn = make_batch(_without_lookups(spec), piece.lengths[0].size, seed, number, num_threads=1)
    return Batch(
        dense=drawn.dense if piece.dense is None else piece.dense,
        indices=np.concatenate(rows),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        labels=drawn.labels if piece.labels is None else piece.labels,
        weights=_weights(spec, rows, seed, number),
        seed=seed,
        number=number,
        remapped=folded,
    )


def _without_lookups(spec: ModelSpec) -> ModelSpec:
    """The spec's dense features with one plain table, for drawing what is not replayed."""
    from msgspec.structs import replace

    table = replace(spec.tables[0], pooling_factor=1.0, lengths="fixed", indices="uniform", weighted=False)
    return replace(spec, variant="mlp", form="", tables=(table,), bottom_mlp=(), top_mlp=(), replay="")


def _weights(spec: ModelSpec, rows: list[Ints], seed: int, number: int) -> Singles | None:
    """Weights in [0.5, 1.5) where a table is weighted, 1 elsewhere; None where none is."""
    if not any(t.weighted for t in spec.tables):
        return None
    generator = np.random.Generator(np.random.SFC64([seed, number, 103]))
    drawn = [generator.random(r.size, dtype=np.float32) + np.float32(0.5) for r in rows]
    parts = [d if t.weighted else np.ones_like(d) for t, d in zip(spec.tables, drawn, strict=True)]
    return np.concatenate(parts)


def _fit(path: Path, spec: ModelSpec, t: int, rows: Ints, piece: Piece, remap: bool) -> Ints:
    """Rows inside table `t`. Raises SpecError with the place of the first that is not."""
    num_rows = spec.tables[t].num_rows
    wrong = rows < 0 if remap else (rows < 0) | (rows >= num_rows)
    if wrong.any():
        first = int(np.argmax(wrong))
        cure = (
            "a row of at least 0"
            if rows[first] < 0
            else "a row that the table has; --axis remap=true folds larger ones into it"
        )
        table = f"table {spec.tables[t].name!r} of {num_rows} rows"
        raise SpecError("index", int(rows[first]), f"{cure} ({table})", f"{path}: {piece.places(t, first)}")
    return rows % num_rows if remap else rows


def _read_tensors(path: Path, spec: ModelSpec, batch_size: int) -> Iterator[Piece]:
    """The file is mapped, not read: a piece costs its own lookups."""
    tensors = _load_tensors(path)
    indices, offsets = tensors[0].numpy(), tensors[1].numpy()
    lengths = tensors[2].numpy() if len(tensors) == 3 else None
    tables = len(spec.tables) if lengths is None else _count_tables(path, offsets, lengths)
    _check_tensors(path, spec, indices, offsets, tables)
    if lengths is not None:
        _check_lengths(path, offsets, lengths)
    samples = (offsets.size - 1) // tables
    for start in range(0, samples, batch_size):
        stop = min(start + batch_size, samples)
        bounds = [offsets[t * samples + start : t * samples + stop + 1] for t in range(len(spec.tables))]

        def place(t: int, lookup: int, bounds: list[Any] = bounds) -> str:
            return f"row {int(bounds[t][0]) + lookup} of indices"

        yield Piece(
            [indices[int(b[0]) : int(b[-1])].astype(np.int64) for b in bounds],
            [np.diff(b).astype(np.int64) for b in bounds],
            place,
            tables,
        )


def _load_tensors(path: Path) -> list[Tensor]:
    """The tensors of a tuple. A pickle with anything else in it is refused before any of it runs (weights_only)."""
    import torch

    zipped = zipfile.is_zipfile(path)
    with path.open("rb") as file:
        if file.read(2) == b"PK" and not zipped:
            raise SpecError("file", str(path), "a whole torch file: this one is truncated; copy it again")
    try:
        with warnings.catch_warnings():
            # Warns of pickle protocols that torch does not write; such a file is refused anyway, or is a plain tuple.
            warnings.simplefilter("ignore")
            found = torch.load(path, weights_only=True, mmap=zipped, map_location="cpu")
    except pickle.UnpicklingError as error:
        raise SpecError(
            "file", str(path), f"a tuple of plain tensors; refused unopened: {_first_line(error)}"
        ) from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise SpecError("file", str(path), f"a whole torch file: {_first_line(error)}") from None
    plain = isinstance(found, (tuple, list)) and len(found) in (2, 3)
    if not plain or not all(isinstance(t, torch.Tensor) and not t.is_floating_point() for t in found):
        raise SpecError("file", str(path), "a tuple (indices, offsets, lengths) of whole-number tensors")
    return list(found)


def says_tables(path: str | Path) -> bool:
    """Whether the file itself says how many tables it has: all but a `.pt` without lengths. Raises SpecError."""
    return Path(path).suffix != ".pt" or len(_load_tensors(Path(path))) == 3


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]


def _check_tensors(path: Path, spec: ModelSpec, indices: NDArray[Any], offsets: NDArray[Any], tables: int) -> None:
    rules = [
        (indices.ndim == 1 and offsets.ndim == 1, "shape", [indices.shape, offsets.shape], "indices (N,), offsets"),
        (len(spec.tables) <= tables, "tables", len(spec.tables), f"at most the {tables} tables of the file"),
        (offsets.size % tables == 1 % tables, "offsets", offsets.size, f"T*B + 1 numbers (T = {tables} tables)"),
    ]
    for holds, field, value, allowed in rules:
        if not holds:
            raise SpecError(field, value, allowed, str(path))
    falls = np.flatnonzero(np.diff(offsets) < 0)
    if falls.size:
        raise SpecError(
            "offsets", int(offsets[falls[0] + 1]), "never falling", f"{path}: row {falls[0] + 1} of offsets"
        )
    if offsets.size < 2 or offsets[0] != 0 or offsets[-1] != indices.size:
        ends = [int(o) for o in (*offsets[:1], *offsets[-1:])]
        raise SpecError("offsets", ends, f"first 0, last the number of indices ({indices.size})", str(path))


def _count_tables(path: Path, offsets: NDArray[Any], lengths: NDArray[Any]) -> int:
    """T, which the shape of the lengths alone says. Raises SpecError where there is none or offsets are not as many."""
    if lengths.ndim != 2 or not lengths.size:
        allowed = "lengths (T, B), whose shape says how many tables the file has; leave lengths out to take the model's"
        raise SpecError("lengths", f"shape {lengths.shape}", allowed, str(path))
    tables, samples = lengths.shape
    if offsets.size != lengths.size + 1:
        told = f"T*B + 1 = {lengths.size + 1} numbers, as lengths ({tables}, {samples}) say"
        raise SpecError("offsets", offsets.size, told, str(path))
    return int(tables)


def _check_lengths(path: Path, offsets: NDArray[Any], lengths: NDArray[Any]) -> None:
    """Raise SpecError unless the offsets are the sums of the lengths."""
    wrong = np.flatnonzero(np.diff(offsets) != lengths.ravel())
    if wrong.size:
        bag, samples = int(wrong[0]), lengths.shape[1]
        place = f"{path}: table {bag // samples}, sample {bag % samples}"
        told = f"{int(offsets[bag + 1]) - int(offsets[bag])}, the distance of its offsets"
        raise SpecError("lengths", int(lengths.ravel()[bag]), told, place)


def _read_parquet(path: Path, spec: ModelSpec, batch_size: int) -> Iterator[Piece]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            columns = _columns(path, spec, file.schema_arrow.names)
            first = 0
            for batch in file.iter_batches(batch_size, columns=columns):
                if batch.num_rows:
                    yield _parquet_piece(path, batch, columns, first, len(file.schema_arrow.names))
                first += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        raise SpecError("file", str(path), f"a whole Parquet file: {_first_line(error)}") from None


def _columns(path: Path, spec: ModelSpec, names: list[str]) -> list[str]:
    """Columns named as the tables, or the first ones where they are named otherwise."""
    wanted = [t.name for t in spec.tables]
    if set(wanted) <= set(names):
        return wanted
    if len(names) < len(wanted):
        raise SpecError("tables", len(wanted), f"at most the {len(names)} columns of the file", str(path))
    return names[: len(wanted)]


def _parquet_piece(path: Path, batch: Any, columns: list[str], first: int, tables: int) -> Piece:
    parts = [_column(path, batch.column(name), name, batch.num_rows) for name in columns]

    def place(t: int, lookup: int) -> str:
        sample = int(np.searchsorted(np.cumsum(parts[t][1]), lookup, side="right"))
        return f"row {first + sample}, column {columns[t]!r}"

    return Piece([rows for rows, _ in parts], [lengths for _, lengths in parts], place, tables)


def _column(path: Path, column: Any, name: str, samples: int) -> tuple[Ints, Ints]:
    """Rows (n,) and lengths (B,). A missing value is an empty bag. Raises SpecError for what is no whole number."""
    import pyarrow as pa

    nested = pa.types.is_list(column.type) or pa.types.is_large_list(column.type)
    kind = column.type.value_type if nested else column.type
    if not pa.types.is_integer(kind):
        raise SpecError(f"column {name!r}", str(column.type), "whole numbers, or lists of them", str(path))
    if nested:
        values = column.flatten()
        lengths = column.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    else:
        values, lengths = column.drop_null(), column.is_valid().to_numpy(zero_copy_only=False)
    if values.null_count:
        raise SpecError(f"column {name!r}", None, "lists without missing values", str(path))
    return values.to_numpy(zero_copy_only=False).astype(np.int64), lengths.astype(np.int64)


def _read_criteo(path: Path, spec: ModelSpec, batch_size: int) -> Iterator[Piece]:
    """One lookup per table, a missing value as 0. Counts x become log(1 + x), missing or negative ones 0."""
    if len(spec.tables) > CRITEO_SPARSE or spec.num_dense not in (0, CRITEO_DENSE):
        value = [len(spec.tables), spec.num_dense]
        raise SpecError("tables, num_dense", value, "at most 26 tables and 13 (or no) dense features", str(path))
    with path.open(encoding="utf-8", errors="replace") as file:
        first = 1
        while lines := list(islice(file, batch_size)):
            samples = [_criteo_line(path, number, line) for number, line in enumerate(lines, first)]
            yield _criteo_piece(spec, samples, first)
            first += len(lines)


def _criteo_line(path: Path, number: int, line: str) -> tuple[float, list[float], list[int]]:
    fields = line.rstrip("\r\n").split("\t")
    where, expected = f"{path}: line {number}", 1 + CRITEO_DENSE + CRITEO_SPARSE
    if len(fields) != expected:
        raise SpecError("fields", len(fields), f"{expected}: label, 13 counts, 26 values, between tabs", where)
    try:
        counts = [max(float(f or 0), 0.0) for f in fields[1 : 1 + CRITEO_DENSE]]
        return float(fields[0]), counts, [int(f or "0", 16) for f in fields[1 + CRITEO_DENSE :]]
    except ValueError as error:
        raise SpecError("field", str(error).rpartition(": ")[2], "a number (values in hexadecimal)", where) from None


def _criteo_piece(spec: ModelSpec, samples: list[tuple[float, list[float], list[int]]], first: int) -> Piece:
    labels, counts, values = zip(*samples, strict=True)
    columns = np.array(values, dtype=np.int64).T[: len(spec.tables)]
    ones = np.ones(len(samples), dtype=np.int64)
    dense = np.log1p(np.array(counts, dtype=np.float64)).astype(np.float32)[:, : spec.num_dense]

    def place(t: int, lookup: int) -> str:
        return f"line {first + lookup}, value {t + 1}"

    return Piece(list(columns), [ones] * len(columns), place, CRITEO_SPARSE, dense, np.array(labels, dtype=np.float32))


READERS: dict[str, Callable[[Path, ModelSpec, int], Iterator[Piece]]] = {
    ".pt": _read_tensors,
    ".parquet": _read_parquet,
    ".tsv": _read_criteo,
    ".txt": _read_criteo,
}
