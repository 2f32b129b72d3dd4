"""What distinguishes the cases of a run: axes that vary, and short labels made of them alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.by_identity import by_identity
from bench.records import Case, Record
from bench.reporting.format import count, short
from bench.terminal import printable
from workloads.spec import ModelSpec, TableSpec, num_features

Value = str | int | float | bool
Axes = dict[str, Value]

WORDS = {
    "rows": "rows",
    "dim": "dim",
    "batch": "B",
    "tables": "tables",
    "pooling": "L",
    "threads": "threads",
    "seed": "seed",
    "exponent": "s",
    "rank": "rank",
    "cache_load": "cache load",
    "tf32": "tf32",
    "interop": "inter-op threads",
    "denormals": "denormals",
    "allocator": "allocator",
    "wait policy": "wait",
    "matmul precision": "matmul",
    "bounds check": "bounds check",
    "pooling mode": "pooling",
    "shift": "shift",
    "hot rows": "hot rows",
    "hot share": "hot share",
    "reuse": "reuse",
    "working set": "working set",
    "length spread": "length spread",
    "dense inputs": "dense inputs",
    "bottom MLP": "bottom MLP",
    "top MLP": "top MLP",
    "cross layers": "cross layers",
    "content": "content",
}
USUAL: Axes = {
    "allocator": "pinned",
    "pages": "huge",
    "affinity": "every CPU",
    "interop": 0,
    "wait policy": "default",
    "denormals": "kept",
    "matmul precision": "highest",
    "index dtype": "int64",
    "bounds check": "none",
    "without grad": "no_grad",
}
"""Settings of the process and their default values, as axes_of words them. Threads are an axis of their own."""
MANY_SETTINGS = 3
WITHIN: dict[str, tuple[str, ...]] = {
    "pooling mode": ("model",),
    "weighted": ("model",),
    "shift": ("model",),
    "hot rows": ("model",),
    "hot share": ("model",),
    "reuse": ("model",),
    "working set": ("model",),
    "length spread": ("model",),
    "dense inputs": ("model",),
    "bottom MLP": ("model", "interaction"),
    "top MLP": ("model",),
    "self-interaction": ("model",),
    "cross layers": ("model",),
    "form": ("model",),
    "rank": ("model",),
    "replay": ("model",),
    "content": ("model", "replay"),
    "remap": ("model", "replay"),
}
"""Axes told only where cases that agree in these differ in them (not having one is a value too): what merely belongs to
a model is said by its name."""
TITLES = {
    "rows": "rows per table",
    "dim": "dim",
    "batch": "batch size",
    "tables": "tables",
    "pooling": "pooling factor",
    "threads": "threads",
    "cache": "cache mode",
    "cache_load": "cache load factor",
}
MIXED = "mixed"
"""The value of an axis in which the tables of one model differ."""
PHASES = {"forward": "forward", "train_step": "train"}


@by_identity
def axes_of(case: Case) -> Axes:
    """Every axis of a case by its short name; those of the model only where it has one."""
    found: Axes = {"code": case.code} if case.code else {}
    if case.model:
        found |= _model_axes(case.model)
    found |= {
        "batch": case.batch_size,
        "backend": case.backend,
        "phase": case.phase,
        "device": case.device,
        "dtype": case.dtype,
        "execution": case.execution,
        "threads": case.num_threads,
        "cache": case.cache_mode,
        "allocator": case.allocator,
        "pages": "huge" if case.huge_pages else "4 KiB",
        "seed": case.seed,
    }
    found |= {
        "affinity": f"CPU {case.affinity}" if case.affinity else "every CPU",
        "interop": case.interop_threads,
        "wait policy": case.wait_policy,
        "denormals": "flushed" if case.flush_denormal else "kept",
        "matmul precision": case.matmul_precision,
        "index dtype": case.index_dtype,
        "bounds check": case.bounds_check,
        "without grad": "inference_mode" if case.inference_mode else "no_grad",
    }
    if case.phase == "train_step":
        found["optimizer"] = case.optimizer
    if case.device != "cpu":
        found |= {"placement": case.placement, "tf32": case.tf32}
    if case.placement == "managed_caching":
        found["cache_load"] = case.cache_load_factor
    return found


def _model_axes(model: ModelSpec) -> Axes:
    tables = model.tables[: num_features(model)]
    number = len(tables)
    found: Axes = _replay_axes(model) | {
        "model": model.name,
        "rows": round(sum(t.num_rows for t in tables) / number),
        "dim": round(sum(t.dim for t in tables) / number),
        "tables": number,
        "pooling": sum(t.pooling_factor for t in tables) / number,
        "indices": _common(tables, "indices"),
        "exponent": _common(tables, "exponent"),
        "lengths": _common(tables, "lengths"),
        "interaction": model.interaction,
        "rows_scale": model.rows_scale,
        "row_type": _common(tables, "row_type"),
    }
    if model.form:
        found["form"] = model.form
    if model.variant == "dcnv2" or model.cross_rank:
        found["rank"] = model.cross_rank or "full"
    weighted = {True: "weighted", False: "unweighted"}
    return found | {
        "pooling mode": _common(tables, "pooling"),
        "weighted": weighted.get(_common(tables, "weighted"), MIXED),
        "shift": _common(tables, "shift"),
        "hot rows": _common(tables, "hot_rows"),
        "hot share": _common(tables, "hot_share"),
        "reuse": _common(tables, "reuse"),
        "working set": _common(tables, "working_set"),
        "length spread": _common(tables, "length_spread"),
        "dense inputs": model.num_dense,
        "bottom MLP": _bottom_mlp(model),
        "top MLP": _widths(model.top_mlp),
        "self-interaction": "self-interaction" if model.interaction_self else "no self-interaction",
        "cross layers": model.cross_layers,
    }


def _replay_axes(model: ModelSpec) -> Axes:
    """The file by its name and, since two folders may hold files of one name, by its content."""
    if not model.replay:
        return {}
    found: Axes = {"replay": Path(model.replay).name, "remap": "rows folded" if model.remap else "rows as captured"}
    return found | {"content": model.captured.digest[:8]} if model.captured else found


def _common(tables: Sequence[TableSpec], field: str) -> Any:
    """What all tables have in a field, or that they differ."""
    found = {getattr(t, field) for t in tables}
    return found.pop() if len(found) == 1 else MIXED


def _bottom_mlp(model: ModelSpec) -> str:
    """Widths; the last one follows the tables' dim where the interaction is a dot product: no axis of its own."""
    widths = model.bottom_mlp
    if model.interaction == "dot" and widths and widths[-1] == model.tables[0].dim:
        return "-".join((*map(str, widths[:-1]), "dim"))
    return _widths(widths)


def _widths(widths: Sequence[int]) -> str:
    return "-".join(map(str, widths)) or "none"


def varying(cases: Sequence[Case]) -> list[str]:
    """Axes with more than one value among `cases`, in reading order; of those that have the axis.

    That tables were scaled is told even where all were scaled alike; of axes in WITHIN only what tells cases of one
    model apart.
    """
    every = [axes_of(c) for c in cases]
    names = dict.fromkeys(name for axes in every for name in axes)
    scaled = any(axes.get("rows_scale", 1.0) != 1.0 for axes in every)
    told = {"rows_scale"} if scaled else set()
    return [n for n in names if n in told or _varies(n, every)]


def _varies(name: str, every: Sequence[Axes]) -> bool:
    if name not in WITHIN:
        return len({axes[name] for axes in every if name in axes}) > 1
    by_owner: dict[tuple[Value | None, ...], set[Value | None]] = {}
    for axes in every:
        by_owner.setdefault(tuple(axes.get(owner) for owner in WITHIN[name]), set()).add(axes.get(name))
    return any(len(found) > 1 for found in by_owner.values())


def value_text(name: str, value: Value) -> str:
    """One value of an axis: rows 1M, train, 4 KiB."""
    if name in ("rows", "hot rows") and not isinstance(value, str):
        return count(float(value))
    if name == "rows_scale":
        return f"all rows ×{value:g}" if value != 1.0 else "full size"
    if name == "phase":
        return PHASES.get(str(value), str(value))
    return short(value, 6) if isinstance(value, float) else str(value)


def named(name: str, value: Value) -> str:
    """An axis value that says which axis it is: 'dim 64', but 'tbe'."""
    text = value_text(name, value)
    return f"{WORDS[name]} {text}" if name in WORDS else text


def label(case: Case, names: Sequence[str]) -> str:
    """The case in words, by the axes in `names`: 'rows 1M · dim 64 · B 2048 · tbe · forward'.

    Where several settings of the process vary, those at their defaults are left out.
    """
    axes = axes_of(case)
    if sum(n in USUAL for n in names) >= MANY_SETTINGS:
        names = [n for n in names if axes.get(n) != USUAL.get(n, ())]
    return " · ".join(named(n, axes[n]) for n in names if n in axes) or case_name(case)


def case_name(case: Case) -> str:
    """Model or code name; a model whose tables were scaled says so."""
    if case.model and case.model.rows_scale != 1.0:
        return f"{case.model.name} (rows ×{case.model.rows_scale:g})"
    return case.model.name if case.model else (case.code or "code").rpartition(":")[2]


def labels(records: Sequence[Record]) -> dict[str, str]:
    """Label of each record by key, made of the axes that vary between them."""
    names = varying([r.case for r in records])
    return {r.key: label(r.case, names) for r in records}


def telling(cases: Sequence[Case], first: Sequence[str]) -> list[str]:
    """As few axes as tell these cases apart, those of `first` before the others: short names for a legend."""
    names = varying(cases)
    ordered = [n for n in first if n in names] + [n for n in names if n not in first]
    least = {label(c, names) for c in cases}
    return next(
        (ordered[:n] for n in range(1, len(ordered) + 1) if len({label(c, ordered[:n]) for c in cases}) == len(least)),
        names,
    )


def held(records: Sequence[Record], group: Sequence[Record]) -> str:
    """What `group` shares of that which varies among `records`: 'tbe · forward', to say which part a plot shows."""
    within = set(varying([r.case for r in group]))
    names = [n for n in varying([r.case for r in records]) if n not in within]
    axes = axes_of(group[0].case)
    return " · ".join(named(n, axes[n]) for n in names if n in axes)


def fit(text: str, most: int) -> str:
    """A label of at most about `most` characters: its longest parts lose their ends."""
    parts = printable(text).split(" · ")
    while len(" · ".join(parts)) > most and max(map(len, parts)) > 8:
        longest = max(range(len(parts)), key=lambda i: len(parts[i]))
        parts[longest] = parts[longest].rstrip("…")[:-1] + "…"
    return " · ".join(parts)


def fit_apart(texts: Sequence[str], most: int) -> list[str]:
    """Labels as `fit` cuts them; those that would then read alike lose their middles instead, so that ends tell."""
    cut = [fit(text, most) for text in texts]
    alike = {label for label, count in Counter(cut).items() if count > 1}
    return [
        _without_middle(printable(text), most) if label in alike and len(text) > most else label
        for text, label in zip(texts, cut, strict=True)
    ]


def _without_middle(text: str, most: int) -> str:
    begin = 2 * most // 5
    return f"{text[:begin].rstrip()}…{text[len(text) - (most - begin - 1) :].lstrip()}"


def slices(records: Sequence[Record], axes: Sequence[str]) -> list[list[Record]]:
    """Groups of records that differ in `axes` alone, the largest first; only those in which each of them varies."""
    groups: dict[frozenset[tuple[str, Value]], list[Record]] = {}
    apart = {*axes, *_dependent(axes)}
    for record in records:
        found = axes_of(record.case)
        if all(name in found for name in axes):
            rest = frozenset(item for item in found.items() if item[0] not in apart)
            groups.setdefault(rest, []).append(record)
    usable = [g for g in groups.values() if all(len(values(g, name)) > 1 for name in axes)]
    return sorted(usable, key=len, reverse=True)


def _dependent(axes: Sequence[str]) -> Sequence[str]:
    """Axes that exist or change because of another one."""
    return [n for other, n in (("phase", "optimizer"), ("rows", "rows_scale")) if other in axes]


def values(records: Sequence[Record], name: str) -> list[Value]:
    """Values of an axis among records: numbers in order of size, words in order of appearance."""
    found = list(dict.fromkeys(axes[name] for r in records if name in (axes := axes_of(r.case))))
    return sorted(found) if all(isinstance(v, (int, float)) for v in found) else found


def where(record: Record, wanted: Mapping[str, Value]) -> bool:
    """Whether the record has these axis values."""
    axes = axes_of(record.case)
    return all(axes.get(name) == value for name, value in wanted.items())
