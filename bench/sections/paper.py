"""The DLRM paper's own benchmark, under every reading of what it left unspecified, beside its published times."""

from __future__ import annotations

from collections.abc import Sequence

from bench import metrics
from bench.records import Case, Record
from bench.reporting.cases import Cell, Column
from bench.reporting.format import percent, seconds
from bench.reporting.labels import PHASES
from bench.run import Run
from bench.sections import Section, Table
from workloads.spec import ModelSpec, TableSpec

STEPS = 1000
PUBLISHED_S = (("Caffe2, 2 × Xeon Gold 6138", 256.0), ("V100", 62.0))
"""Seconds for 1,000 batches as published (arXiv 1906.00091), both only about that."""
TABLES, ROWS, DIM, BATCH = 8, 1_000_000, 64, 2048
BOTTOM, TOP, DENSE = (512, 64), (1024, 1024, 1024, 1), 512
POOLINGS = {("fixed", 100.0): "100", ("uniform", 50.0): "up to 100"}


def section(run: Run) -> Section | None:
    """None where the paper's model was not measured at its size, batch and pooling."""
    found = [r for r in run.measured if is_paper(r.case)]
    if not found:
        return None
    heads = [Column(f"× {name}, {s:g} s") for name, s in PUBLISHED_S]
    columns = (
        Column("Lookups per table", kind="text"),
        Column("Step", kind="text"),
        Column("Threads", kind="text"),
        Column("Backend", kind="text"),
        Column("1,000 batches"),
        Column("with the profiler on"),
        *heads,
    )
    ordered = sorted(found, key=lambda r: metrics.step_s(r) or 0.0)
    return Section(
        "paper",
        "The paper's benchmark, and what it left open",
        text=(_range(ordered),),
        tables=(Table("", columns, tuple(_row(r) for r in ordered)),),
        notes=(
            "Published: about 256 s on two Xeon Gold 6138 (Caffe2) and about 62 s on a V100 for 1,000 batches of 2,048 "
            "(Naumov et al. 2019). The paper does not say how many threads ran, whether a batch is a training step or "
            "inference, whether every bag has 100 lookups or up to 100 (as its published script draws them; here 0 to "
            "100, all equally likely), whether the profiler was on, or whether generating the data counts. Here it "
            "never does.",
            "Times are the median step times 1,000; × is this time over the published one (below 1: faster here). They "
            "compare this machine and today's kernels with theirs, not one implementation with another. The profiled "
            "time is of a pass of its own of a few steps.",
        ),
    )


def is_paper(case: Case) -> bool:
    """Whether the case is the published one in everything the paper states, and plain in what it does not mention."""
    plain = (case.dtype, case.execution, case.cache_mode) == ("float32", "eager", "rotated")
    return case.model is not None and case.batch_size == BATCH and plain and _is_paper_model(case.model)


def _is_paper_model(model: ModelSpec) -> bool:
    networks = (model.num_dense, model.bottom_mlp, model.top_mlp) == (DENSE, BOTTOM, TOP)
    interaction = (model.variant, model.interaction, model.interaction_self) == ("dlrm", "dot", False)
    alike = len(model.tables) == TABLES and len({(t.lengths, t.pooling_factor) for t in model.tables}) == 1
    return networks and interaction and alike and not model.replay and all(map(_is_paper_table, model.tables))


def _is_paper_table(table: TableSpec) -> bool:
    """Rows of float32, drawn evenly and summed."""
    size = (table.num_rows, table.dim) == (ROWS, DIM)
    rows = (table.row_type, table.indices, table.pooling, table.weighted) == ("float32", "uniform", "sum", False)
    return size and rows and (table.lengths, table.pooling_factor) in POOLINGS


def _row(record: Record) -> tuple[Cell, ...]:
    case, step = record.case, metrics.step_s(record) or 0.0
    assert case.model is not None
    table = case.model.tables[0]
    profiled = record.trace.step_s if record.trace else None
    total = STEPS * step
    return (
        Cell(POOLINGS[table.lengths, table.pooling_factor], f"{table.lengths}, mean {_mean_length(record):.1f}"),
        Cell(PHASES.get(case.phase, case.phase)),
        Cell(str(record.settings.num_threads if record.settings else case.num_threads or "all")),
        Cell(case.backend),
        Cell(seconds(total), "", total),
        Cell(seconds(STEPS * profiled), _more(profiled / step - 1)) if profiled else Cell("–"),
        *(Cell(f"{total / published:.2f}×", "", total / published) for _, published in PUBLISHED_S),
    )


def _mean_length(record: Record) -> float:
    assert record.case.model is not None
    return record.inputs.mean_length if record.inputs else record.case.model.tables[0].pooling_factor


def _range(ordered: Sequence[Record]) -> str:
    least, most = (STEPS * (metrics.step_s(r) or 0.0) for r in (ordered[0], ordered[-1]))
    return (
        f"The same words of the paper allow {seconds(least)} to {seconds(most)} for 1,000 batches on this machine, a "
        f"factor of {most / least:.1f}, over {len(ordered)} readings of what it leaves open."
    )


def _more(frac: float) -> str:
    """What the profiler added; where noise was larger than that, it reads less."""
    return f"{percent(abs(frac))} {'more' if frac >= 0 else 'less'}"
