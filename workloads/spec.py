"""TableSpec and ModelSpec: the frozen description of a model, validated where it is made."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar, get_args, get_type_hints

import msgspec

Pooling = Literal["sum", "mean"]
Interaction = Literal["dot", "cat"]
RowType = Literal["float32", "float16", "int8", "int4"]
Form = Literal["", "pairwise", "square_of_sum", "block", "hashed"]

MAX_ROWS = 2**40
REPLAY = "replay"
"""What `indices` and `lengths` of tables say whose lookups come from a file."""
SHORT_REUSE = 0.9
"""Where less than this share of the asked reuse is delivered, it is told beside the case."""
NEEDS_BOTTOM_MLP = ("dlrm", "dlrm_cat", "embedding")

_Spec = TypeVar("_Spec", bound=msgspec.Struct)


class SpecError(ValueError):
    """Bad input: names the place (file or axis), the field, the value given and what is allowed."""

    def __init__(self, field: str, value: object, allowed: str, where: str = "") -> None:
        self.field, self.value, self.allowed, self.where = field, value, allowed, where
        place = f"{where}: " if where else ""
        super().__init__(f"{place}{field} = {value!r} is not allowed; {allowed}")

    def at(self, where: str) -> SpecError:
        """The same error, placed in a file."""
        return SpecError(self.field, self.value, self.allowed, where)


def unknown(kind: str, name: object, known: list[str], where: str = "") -> SpecError:
    """An error for a name that is not known, with the nearest one that is."""
    near = difflib.get_close_matches(str(name), known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return SpecError(kind, name, f"{hint}known: {', '.join(known) or 'none'}", where)


def bad_value(kind: type[msgspec.Struct], field: str, value: object, problem: str) -> SpecError:
    """The error for a value that a field of `kind` does not take: its choices where it has some, else `problem`."""
    choices = get_args(get_type_hints(kind).get(field))
    if choices and choices[-1] is Ellipsis:
        choices = get_args(choices[0])
    if choices and all(isinstance(c, str) for c in choices):
        return unknown(field, value, list(choices))
    return SpecError(field, value, problem)


def _require(condition: bool, field: str, value: object, allowed: str) -> None:
    if not condition:
        raise SpecError(field, value, allowed)


def _choice(field: str, value: object, choices: Any) -> None:
    if value not in get_args(choices):
        raise unknown(field, value, list(get_args(choices)))


_LAW_PARAMETERS = (
    ("shift", 0, 1_000_000_000),
    ("hot_rows", 1, MAX_ROWS),
    ("hot_share", 0, 1),
    ("reuse", 0, 0.999),
    ("working_set", 1, 65_536),
    ("length_spread", 0, 3),
)


_ROW_BYTES: dict[str, Callable[[int], int]] = {
    "float32": lambda dim: dim * 4,
    "float16": lambda dim: dim * 2,
    "int8": lambda dim: dim + 4,
    "int4": lambda dim: (dim + 1) // 2 + 4,
}


class TableSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One embedding table and the feature that looks it up.

    num_rows (E) x dim (D) weights; each sample of a batch looks up a bag of `pooling_factor` (L) rows on average.
    `indices` and `lengths` name distributions in workloads/indices.py and workloads/lengths.py. Their parameters are
    read only by the laws that have them: `exponent` and `shift` of zipf; `hot_rows` that take a `hot_share` of the
    lookups (hot_set); `reuse`, the share of lookups that repeat one of the last `working_set` lookups (temporal);
    `steps`, classes of rows from hot to cold as (share of rows, share of lookups), each summing to 1;
    `length_spread`, the standard deviation of the logarithm (lognormal). `row_type` is how rows are stored; int8 and
    int4 rows hold their scale and bias too, and only backend 'tbe_int' has anything but float32. Raises SpecError.
    """

    name: str
    num_rows: int
    dim: int
    pooling_factor: float = 1.0
    pooling: Pooling = "sum"
    indices: str = "uniform"
    exponent: float = 1.05
    lengths: str = "fixed"
    weighted: bool = False
    shift: float = 0.0
    hot_rows: int = 100
    hot_share: float = 0.9
    reuse: float = 0.5
    working_set: int = 1024
    steps: tuple[tuple[float, float], ...] = ()
    length_spread: float = 1.0
    row_type: RowType = "float32"

    def __post_init__(self) -> None:
        _require(1 <= self.num_rows <= MAX_ROWS, "num_rows", self.num_rows, f"a whole number from 1 to {MAX_ROWS}")
        _require(1 <= self.dim <= 65_536, "dim", self.dim, "a whole number from 1 to 65536")
        _require(
            math.isfinite(self.pooling_factor) and 0 < self.pooling_factor <= 1_000_000,
            "pooling_factor",
            self.pooling_factor,
            "a number above 0, at most 1000000",
        )
        if self.lengths == "fixed":
            whole = float(self.pooling_factor).is_integer()
            _require(whole, "pooling_factor", self.pooling_factor, "a whole number when lengths = 'fixed'")
        _require(
            math.isfinite(self.exponent) and 0 <= self.exponent <= 8, "exponent", self.exponent, "a number from 0 to 8"
        )
        _choice("pooling", self.pooling, Pooling)
        _choice("row_type", self.row_type, RowType)
        self._check_laws()

    def _check_laws(self) -> None:
        for field, low, high in _LAW_PARAMETERS:
            value = getattr(self, field)
            _require(math.isfinite(value) and low <= value <= high, field, value, f"a number from {low} to {high}")
        if self.indices == "steps" or self.steps:
            positive = all(r > 0 and s >= 0 for r, s in self.steps)
            ones = all(abs(math.fsum(column) - 1) < 1e-6 for column in zip(*self.steps, strict=True))
            told = "(share of rows, share of lookups) pairs, each column summing to 1"
            _require(bool(self.steps) and positive and ones, "steps", [list(s) for s in self.steps], told)

    @property
    def row_bytes(self) -> int:
        """Bytes of one row as stored, with scale and bias (2 bytes each) where it is quantised; without padding, which
        is the backend's (placements.as_stored)."""
        return _ROW_BYTES[self.row_type](self.dim)

    @property
    def pooled_bytes(self) -> int:
        """Bytes of one pooled row, fp32."""
        return self.dim * 4


class PaddedTable(TableSpec, frozen=True, kw_only=True):
    """A table whose rows are padded to a multiple of `row_alignment` bytes. For counting alone: no case holds one."""

    row_alignment: int

    @property
    def row_bytes(self) -> int:
        """Bytes of one row as stored, padding included."""
        return math.ceil(_ROW_BYTES[self.row_type](self.dim) / self.row_alignment) * self.row_alignment


class Captured(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a file of captured lookups was when it was read whole: its content's digest, the samples that may be
    replayed, and the tables it has."""

    digest: str
    samples: int
    tables: int


class ModelSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A recommendation model: tables, dense inputs and the networks around the interaction.

    `bottom_mlp` and `top_mlp` hold layer output widths (the input width is num_dense, respectively what the
    interaction gives); the last of `top_mlp` is 1. `num_dense` 0 and empty MLPs give an embedding-only model.
    `rows_scale` records by how much num_rows was scaled from the published model. Parameters of some variants only:
    `cross_layers` and `cross_rank` (0: full rank) of dcn and dcnv2; `form`, how fm or poly2 writes its second-order
    term (empty: the variant's own default). `replay` names a file of captured lookups to use instead of the tables'
    laws, `remap` whether its rows are folded into tables that are smaller; `captured` is what workloads.inputs found in
    it. Raises SpecError.
    """

    name: str
    variant: str = "dlrm"
    tables: tuple[TableSpec, ...] = ()
    num_dense: int = 0
    bottom_mlp: tuple[int, ...] = ()
    top_mlp: tuple[int, ...] = ()
    interaction: Interaction = "dot"
    interaction_self: bool = False
    rows_scale: float = 1.0
    cross_layers: int = 3
    cross_rank: int = 0
    form: Form = ""
    replay: str = ""
    remap: bool = False
    captured: Captured | None = None

    def __post_init__(self) -> None:
        _require(len(self.tables) > 0, "tables", [], "at least one table")
        _require(0 <= self.num_dense <= 1_000_000, "num_dense", self.num_dense, "a whole number from 0 to 1000000")
        _choice("interaction", self.interaction, Interaction)
        _choice("form", self.form, Form)
        _require(1 <= self.cross_layers <= 100, "cross_layers", self.cross_layers, "a whole number from 1 to 100")
        _require(0 <= self.cross_rank <= 1_000_000, "cross_rank", self.cross_rank, "a whole number from 0 to 1000000")
        for field in ("bottom_mlp", "top_mlp"):
            widths = getattr(self, field)
            _require(all(1 <= w <= 1_000_000 for w in widths), field, list(widths), "layer widths from 1 to 1000000")
        _require(
            bool(self.bottom_mlp) == bool(self.num_dense)
            or (not self.bottom_mlp and self.variant not in NEEDS_BOTTOM_MLP),
            "bottom_mlp",
            list(self.bottom_mlp),
            f"widths where num_dense is above 0 and none where it is 0 (num_dense = {self.num_dense})",
        )
        if self.top_mlp:
            _require(self.top_mlp[-1] == 1, "top_mlp", list(self.top_mlp), "widths that end in 1 (the logit)")
            if self.interaction == "dot" and self.variant == "dlrm":
                self._require_one_dim()

    def _require_one_dim(self) -> None:
        dims = sorted({t.dim for t in self.tables})
        _require(len(dims) == 1, "dim", dims, "one dim for all tables where interaction = 'dot'")
        if self.bottom_mlp:
            _require(
                self.bottom_mlp[-1] == dims[0],
                "bottom_mlp",
                list(self.bottom_mlp),
                f"widths that end in the tables' dim ({dims[0]}) where interaction = 'dot'",
            )

    @property
    def table_rows(self) -> int:
        """Rows of all tables."""
        return sum(t.num_rows for t in self.tables)

    @property
    def table_bytes(self) -> int:
        """Bytes of all tables as stored."""
        return sum(t.num_rows * t.row_bytes for t in self.tables)

    @property
    def lookups_per_sample(self) -> float:
        """Mean lookups of one sample over all tables."""
        return math.fsum(t.pooling_factor for t in self.tables)

    @property
    def gather_bytes_per_sample(self) -> float:
        """Mean bytes of rows looked up for one sample."""
        return math.fsum(t.pooling_factor * t.row_bytes for t in self.tables)


_LAW_AXES = ("exponent", "shift", "hot_rows", "hot_share", "reuse", "working_set", "length_spread")
TABLE_AXES = ("num_rows", "dim", "pooling_factor", "pooling", "indices", "lengths", "weighted", "row_type", *_LAW_AXES)
_MLP_AXES = ("bottom_mlp", "top_mlp")
_PLAIN_AXES = (
    "variant",
    "num_dense",
    *_MLP_AXES,
    "interaction",
    "interaction_self",
    "cross_layers",
    "cross_rank",
    "form",
    "replay",
    "remap",
)
MODEL_AXES = ("num_tables", "num_features", "rows_scale", *_PLAIN_AXES)


def with_axes(spec: ModelSpec, settings: Mapping[str, Any]) -> ModelSpec:
    """`spec` with several axes set: parameters of the model first and at once, since some of them only fit together
    (num_dense and bottom_mlp), then the others in the order given. Raises SpecError."""
    plain = {axis: value for axis, value in settings.items() if axis in _PLAIN_AXES}
    spec = _with_plain(spec, plain) if plain else spec
    for axis, value in settings.items():
        if axis not in plain:
            spec = with_axis(spec, axis, value)
    return spec


def with_axis(spec: ModelSpec, axis: str, value: Any) -> ModelSpec:
    """`spec` with one axis set: a TableSpec field on every table, a number of tables or features, rows_scale or a
    parameter of the model.

    `dim` also sets the width at which the bottom MLP ends where the interaction is a dot product, since the two
    are one number there. MLPs are widths joined by dashes ('512-256-1', '' for none). Another `variant` is another
    model and named so. Raises SpecError for an axis or value that is not allowed.
    """
    if axis == "num_tables":
        return _with_num_tables(spec, value)
    if axis == "num_features":
        return _with_num_features(spec, value)
    if axis == "rows_scale":
        return _with_rows_scale(spec, value)
    if axis in _PLAIN_AXES:
        return _with_plain(spec, {axis: value})
    if axis not in TABLE_AXES:
        raise unknown("axis", axis, [*TABLE_AXES, *MODEL_AXES])
    tables = tuple(_replace(t, {axis: value}) for t in spec.tables)
    changes: dict[str, Any] = {"tables": tables}
    if axis == "dim" and spec.interaction == "dot" and spec.bottom_mlp:
        changes["bottom_mlp"] = (*spec.bottom_mlp[:-1], tables[0].dim)
    return _replace(spec, changes)


def _replace(struct: _Spec, changes: dict[str, Any]) -> _Spec:
    """A copy with `changes`, types checked as when read from a file."""
    plain = {f: getattr(struct, f) for f in struct.__struct_fields__} | changes
    try:
        return msgspec.convert(plain, type(struct), from_attributes=True)
    except SpecError:
        raise
    except msgspec.ValidationError as error:
        if isinstance(error.__cause__, SpecError):
            raise error.__cause__ from None
        field, value = next(iter(changes.items()))
        raise bad_value(type(struct), field, value, str(error).partition(" - at")[0]) from None


def _with_plain(spec: ModelSpec, changes: Mapping[str, Any]) -> ModelSpec:
    read = {axis: _widths(axis, value) if axis in _MLP_AXES else value for axis, value in changes.items()}
    if read.get("variant", spec.variant) != spec.variant:
        read["name"] = f"{spec.name}-{read['variant']}"
    return _replace(spec, read)


def _widths(axis: str, value: Any) -> tuple[int, ...]:
    """(512, 256, 1) from '512-256-1', or from 1; () from ''."""
    text = str(value)
    _require(bool(re.fullmatch(r"(\d+(-\d+)*)?", text)), axis, value, "widths joined by dashes, such as '512-256-1'")
    return tuple(int(width) for width in text.split("-") if width)


def has_pair_table(spec: ModelSpec) -> bool:
    """Whether the last table holds hashed pairs of the values of the others (poly2, form 'hashed')."""
    return spec.variant == "poly2" and spec.form == "hashed"


def num_features(spec: ModelSpec) -> int:
    """Sparse features that interact: the tables, without one that holds hashed pairs."""
    return len(spec.tables) - has_pair_table(spec)


def _with_num_features(spec: ModelSpec, value: Any) -> ModelSpec:
    """`value` features, the tables repeated in turn; a table of hashed pairs keeps its rows per pair of features."""
    if not has_pair_table(spec):
        return _with_num_tables(spec, value, "num_features")
    *features, pair_table = spec.tables
    made = _with_num_tables(msgspec.structs.replace(spec, tables=tuple(features)), value, "num_features")
    before, after = (max(n * (n - 1) // 2, 1) for n in (len(features), value))
    rows = max(1, round(pair_table.num_rows / before * after))
    grown = _replace(pair_table, {"num_rows": rows, "pooling_factor": float(after)})
    return msgspec.structs.replace(made, tables=(*made.tables, grown))


def _with_num_tables(spec: ModelSpec, value: Any, axis: str = "num_tables") -> ModelSpec:
    whole = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 100_000
    _require(whole, axis, value, "a whole number from 1 to 100000")
    chosen = (spec.tables[i % len(spec.tables)] for i in range(value))
    tables = tuple(msgspec.structs.replace(t, name=f"t{i}") for i, t in enumerate(chosen))
    return msgspec.structs.replace(spec, tables=tables)


def _with_rows_scale(spec: ModelSpec, value: Any) -> ModelSpec:
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= 1000
    _require(number, "rows_scale", value, "a number above 0, at most 1000")
    tables = tuple(
        msgspec.structs.replace(t, num_rows=max(1, round(t.num_rows * value / spec.rows_scale))) for t in spec.tables
    )
    return msgspec.structs.replace(spec, tables=tables, rows_scale=float(value))
