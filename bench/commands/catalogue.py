"""list and describe: what there is and what it costs, without running anything. No torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from bench import metrics
from bench.commands.output import print_json, print_table
from bench.plan import gib
from bench.sweep_spec import CASE_AXES, load_sweep, parse_flag, sweep_names
from workloads import backends, executions, indices, lengths, models, presets
from workloads.spec import MODEL_AXES, TABLE_AXES, SpecError, unknown, with_axes

Row = dict[str, str | None]


def _presets() -> list[Row]:
    return [{"name": n, "about": presets.load_preset(n).notes} for n in presets.names()]


def _sweeps() -> list[Row]:
    return [{"name": n, "about": load_sweep(n).description} for n in sweep_names()]


def _models() -> list[Row]:
    return [{"name": n, "about": _first_line(models.load(n).__doc__)} for n in models.names()]


def _backends() -> list[Row]:
    rows: list[Row] = []
    for name in backends.names():
        module = backends.load(name)
        rows += [
            {"name": name, "about": _first_line(module.__doc__), "device": device, "unavailable": reason}
            for device in ("cpu", "cuda")
            for reason in [module.available(device, "train_step")]
        ]
    return rows


def _executions() -> list[Row]:
    rows: list[Row] = []
    for name in executions.names():
        module = executions.load(name)
        rows += [
            {"name": name, "about": _first_line(module.__doc__), "device": device, "unavailable": reason}
            for device in ("cpu", "cuda")
            for reason in [module.available(executions.Want(device=device, backend="tbe"))]
        ]
    return rows


def _indices() -> list[Row]:
    return [{"name": name} for name in indices.names()]


def _lengths() -> list[Row]:
    return [{"name": name} for name in lengths.names()]


def _metrics() -> list[Row]:
    return [{"name": m.name, "unit": m.unit, "better": m.better, "about": m.description} for m in metrics.METRICS]


LISTS: dict[str, Callable[[], list[Row]]] = {
    "presets": _presets,
    "sweeps": _sweeps,
    "models": _models,
    "backends": _backends,
    "executions": _executions,
    "indices": _indices,
    "lengths": _lengths,
    "metrics": _metrics,
}


def _first_line(text: str | None) -> str:
    return (text or "").strip().split("\n")[0]


def show_list(what: str | None, *, as_json: bool) -> None:
    """Print one list, or all of them."""
    if what is not None and what not in LISTS:
        raise unknown("list", what, list(LISTS))
    chosen = {what: LISTS[what]()} if what else {name: make() for name, make in LISTS.items()}
    if as_json:
        print_json(chosen[what] if what else chosen)
        return
    for name, rows in chosen.items():
        columns = list(rows[0]) if rows else ["name"]
        print_table(name, columns, [[row.get(c) or "" for c in columns] for row in rows])


def show_description(preset: str, axes: Sequence[str], *, as_json: bool) -> None:
    """Print parameters, bytes, FLOPs and memory of a preset, with axes applied."""
    from workloads.describe import describe

    chosen = presets.load_preset(preset)
    batch_size, settings = chosen.batch_size, {}
    for flag in axes:
        name, values = parse_flag(flag, "--axis")
        if len(values) != 1:
            raise SpecError("--axis", flag, "describe takes one value of each axis; sweep takes several")
        if name == "batch_size":
            batch_size = _batch_size(values[0])
        elif name in CASE_AXES:
            raise SpecError(
                "--axis",
                flag,
                "describe takes batch_size and the axes of the model: " + ", ".join((*TABLE_AXES, *MODEL_AXES)),
            )
        else:
            settings[name] = values[0]
    spec = with_axes(chosen.spec, settings)
    presets.check_names(spec)
    found = describe(spec, batch_size)
    if as_json:
        print_json(found)
    else:
        _print_description(found)


def _batch_size(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise SpecError("batch_size", value, "a whole number above 0")
    return value


def _print_description(found: dict[str, Any]) -> None:
    plain = [[k.replace("_", " "), _say(k, v)] for k, v in found.items() if not isinstance(v, dict)]
    plain += [[f"  {k.replace('_', ' ')}", gib(v)] for k, v in found["memory_parts_bytes"].items() if v]
    plain += [[f"replay {k.replace('_', ' ')}", _say(k, v)] for k, v in found.get("replay", {}).items()]
    print_table(str(found["name"]), ["", ""], plain, right=[1])
    stages = found["stages"]
    columns = ["stage", "FLOPs", "useful FLOPs", "logical bytes", "algorithmic bytes", "compulsory bytes", "FLOP/B"]
    rows = [[name, *(f"{v:,.0f}" for v in stage.values()), _intensity(stage)] for name, stage in stages.items()]
    print_table(f"one forward step of {found['batch_size']} samples", columns, rows, right=range(1, len(columns)))


def _intensity(stage: dict[str, float]) -> str:
    moved = stage["bytes_compulsory"]
    return f"{stage['flops'] / moved:.3g}" if moved else ""


def _say(name: str, value: object) -> str:
    if name.endswith("_bytes") and isinstance(value, (int, float)):
        return f"{value:,.0f} ({gib(value)})"
    return f"{value:,.6g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
