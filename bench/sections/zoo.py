"""Every preset of a run side by side: size, work, speed, and where the step goes; those that did not fit with why."""

from __future__ import annotations

from bench import metrics
from bench.records import Record
from bench.reporting.cases import Cell, Column
from bench.reporting.format import MISSING, capacity, count, percent, seconds
from bench.reporting.labels import PHASES
from bench.reporting.verdict import largest_stage
from bench.run import Run
from bench.sections import Section, Table
from bench.stage_doubts import unlike
from bench.study.scaling import series

MIN_MODELS = 3
TITLES = ("Tables", "Batch", "Lookups/sample", "FLOPs/sample", "Step", "Samples/s", "Embedding", "Of roof")


def section(run: Run) -> Section | None:
    """None for fewer than three models, or where they are one model at several numbers of features."""
    records = [r for r in run.records if r.case.model]
    if len({r.case.model.name for r in records if r.case.model}) < MIN_MODELS or series(records):
        return None
    columns = (Column("Model", kind="text"), *(Column(t) for t in TITLES), Column("Largest stage", kind="text"))
    scaled = sum(r.case.model.rows_scale != 1.0 for r in records if r.case.model)
    skipped = [r for r in records if r.outcome.status == "skipped"]
    text = [f"{len(skipped)} of {len(records)} cases were skipped; each says why and what to do."] if skipped else []
    text += [f"{scaled} of {len(records)} have scaled tables, named beside the model."] if scaled else []
    return Section(
        "zoo",
        "Models side by side",
        text=tuple(text),
        tables=(Table("", columns, tuple(_row(r, run) for r in records)),),
        notes=(
            "Each at its published batch size unless the batch says otherwise. Scaled tables (rows ×) keep dims, "
            "lookups and networks: fewer distinct rows touch more of the caches, so lookups are faster than full size.",
        ),
    )


def _row(record: Record, run: Run) -> tuple[Cell, ...]:
    model = record.case.model
    assert model is not None
    scale = f"rows ×{model.rows_scale:g} of the published" if model.rows_scale != 1.0 else ""
    note = ", ".join(filter(None, (PHASES.get(record.case.phase, record.case.phase), record.case.backend, scale)))
    sizes = (
        Cell(capacity(metrics.table_bytes(record) or 0), f"{count(model.table_rows)} rows"),
        Cell(str(record.case.batch_size)),
        Cell(count(model.lookups_per_sample)),
    )
    name = Cell(model.name, note)
    if record not in run.measured:
        return (name, *sizes, *[Cell(MISSING)] * 5, Cell(record.outcome.status, record.outcome.reason or ""))
    step = metrics.step_s(record) or 0.0
    flops = record.work.total("flops") / record.work.samples if record.work else None
    shares = metrics.stages(record, run.machine)
    embedding = None if unlike(record) else shares.get("embedding", {}).get("share_frac")
    roof = metrics.value(record, run.machine, "fraction_of_roof")
    largest = largest_stage(record, run.machine)
    return (
        name,
        *sizes,
        Cell(count(flops) if flops is not None else MISSING),
        Cell(seconds(step)),
        Cell(f"{count(record.case.batch_size / step)}/s"),
        Cell(percent(embedding) if embedding is not None else MISSING),
        Cell(percent(roof) if roof is not None else MISSING),
        Cell(f"{largest.name.replace('_', ' ')}, {percent(largest.share_frac)}" if largest else MISSING),
    )
