"""Components, operators, memory, ranks and comparisons as tables for the terminal. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from bench.inspection.against_result import Comparison, Row
from bench.inspection.model_result import Memory, Operator, Rank, Ranks
from bench.inspection.result import Component, Inspection
from bench.inspection.tables import MOST_ROWS, Table, ms, share
from bench.inspection.verdict import words
from bench.stage_doubts import beats_roof

UNKNOWN = "unknown"
DOUBTFUL = " ?"
MOST_EVIDENCE = 6


def model_tables(found: Inspection) -> list[Table]:
    """Of one trace, in the order in which they are read."""
    shown = [_components(found)] if found.components else []
    if any(o.n_known for o in found.operators):
        shown.append(_operators(found.operators, found.machine is not None))
    if found.memory:
        shown.append(_memory(found.memory, "" if found.window.policy == "all" else " of the whole trace"))
    return shown


def evidence_line(found: Inspection) -> str:
    """The verdict's numbers in one line; empty where there is no verdict."""
    if found.verdict is None:
        return ""
    shares = ("host_meanwhile_frac", "largest_component_frac")
    named = [
        (name, value)
        for name, value in found.verdict.evidence.items()
        if name.endswith("_frac") and name not in shares and value
    ]
    largest = sorted(named, key=lambda item: -abs(item[1]))[:MOST_EVIDENCE]
    said = [f"{name.removesuffix('_frac').replace('_', ' ')} {value:.1%}" for name, value in largest]
    meanwhile = found.verdict.evidence.get("host_meanwhile_frac")
    if meanwhile and found.verdict.evidence.get("idle_host_late_frac"):
        where = found.verdict.evidence["host_meanwhile"]
        said.append(f"late idle time without input with the host in {where!r} {meanwhile:.1%}")
    return ", ".join(said)


def _components(found: Inspection) -> Table:
    on_gpu = any(c.gpu_us_sum for c in found.components)
    gpu_us, cpu_us = (sum(getattr(c, f) for c in found.components) for f in ("gpu_us_sum", "cpu_us"))
    rates = {(a.component, a.phase): a for a in found.achieved}
    rows = []
    for c in found.components:
        seen = rates.get((c.component, c.phase))
        gpu = [ms(c.gpu_us_sum), share(c.gpu_us_sum, gpu_us), ms(c.gpu_us_wall)] if on_gpu else []
        rate = [_giga(seen.flops_per_s if seen else None), _giga(seen.bytes_per_s if seen else None)]
        known = f"{seen.known_frac:.0%}" if seen and seen.known_frac else ""
        roof = _of_roof(seen.fraction_of_roof if seen else None)
        rows.append([_label(c), *gpu, ms(c.cpu_us), share(c.cpu_us, cpu_us), *rate, known, roof])
    columns = ["", *(("GPU sum, ms", "share", "GPU wall, ms") if on_gpu else ()), "host, ms", "share"]
    home = "" if found.coverage_frac is None else f": {found.coverage_frac:.1%} of the time has a home"
    return _explained(Table(f"components{home}", (*columns, "GFLOP/s", "GB/s", "known for", "of roof"), rows))


def _explained(table: Table) -> Table:
    """The table, its title saying what a question mark means where it has one."""
    if not any(row[-1].endswith(DOUBTFUL) for row in table.rows):
        return table
    return table._replace(title=f"{table.title}; ?: faster than its roof, so from a cache, or measured wrongly")


def _label(component: Component) -> str:
    name = words(component.component) if component.component != "mlp" else "MLP"
    return f"{name} {component.phase}" if component.phase else name


def _giga(value: float | None) -> str:
    return "" if value is None else f"{value / 1e9:,.3g}" if value < 1e12 else f"{value / 1e9:,.0f}"


def _of_roof(value: float | None) -> str:
    """With a question mark where it cannot be right."""
    return "" if value is None else f"{value:.0%}" + (DOUBTFUL if beats_roof(value) else "")


def operator_names(found: Sequence[Operator]) -> list[str]:
    """Names of rows; with the type where an operator has several rows in one component and pass."""
    rows = Counter((o.name, o.component, o.phase) for o in found)
    return [f"{o.name} ({o.dtype})" if rows[o.name, o.component, o.phase] > 1 else o.name for o in found]


def _operators(found: Sequence[Operator], with_roof: bool) -> Table:
    rows = []
    for name, o in zip(operator_names(found)[:MOST_ROWS], found, strict=False):
        rate = [_giga(o.flops_per_s) or UNKNOWN, _giga(o.bytes_per_s) or UNKNOWN] if o.n_known else [UNKNOWN, UNKNOWN]
        roof = [_of_roof(o.fraction_of_roof) or UNKNOWN] if with_roof else []
        place = f"{o.component} {o.phase}".strip()
        rows.append([name, place, f"{o.n:,}", f"{o.n_known:,}", ms(o.sum_us), *rate, o.bytes_convention, *roof])
    columns = ("operator", "component", "n", "known", "sum, ms", "GFLOP/s", "GB/s", "bytes are")
    return _explained(Table("operators by recorded shapes", (*columns, "of roof") if with_roof else columns, rows))


def _memory(found: Sequence[Memory], part: str) -> Table:
    """`part` says what a window does not tell: what is held at its begin was asked for before it."""
    rows = [
        [
            m.device + (" (change only)" if m.from_zero else ""),
            f"{m.allocations:,}",
            _mib(m.allocated_bytes),
            _mib(m.peak_bytes),
            ms(m.peak_at_us),
            UNKNOWN if m.peak_reserved_bytes is None else _mib(m.peak_reserved_bytes),
        ]
        for m in found
    ]
    return Table(f"memory{part}, in MiB", ("", "requests", "requested", "peak held", "at, ms", "peak reserved"), rows)


def _mib(count: int) -> str:
    return f"{count / 2**20:,.1f}"


def rank_table(found: Ranks) -> Table:
    """Ranks down."""
    columns = (
        "rank",
        "span, ms",
        "busy",
        "idle",
        "compute",
        "communication",
        "not hidden",
        "waiting",
        "transfer",
        "last",
    )
    return Table(f"ranks: {found.summary}", columns, [_rank(r) for r in found.ranks])


def _rank(rank: Rank) -> list[str]:
    parts = (rank.busy_us, rank.idle_us, rank.compute_us, rank.comm_us, rank.exposed_comm_us)
    known = [UNKNOWN if value is None else ms(value) for value in (rank.waiting_us, rank.transfer_us)]
    name = rank.file if rank.rank is None else str(rank.rank)
    last = UNKNOWN if rank.last_count is None else f"{rank.last_count:,}"
    return [name, ms(rank.span_us), *(share(p, rank.span_us) for p in parts), *known, last]


def comparison_tables(found: Comparison) -> list[Table]:
    """Parts, counts, and the kernels that moved most."""
    parts = Table(
        "per step: baseline against candidate",
        ("", "baseline, ms", "candidate, ms", "change", "interval", "counts from", "verdict"),
        [_part(row) for row in found.rows],
    )
    counts = Table(
        "counts per step",
        ("", "baseline", "candidate", ""),
        [[c.name.replace("_", " "), _range(c.baseline), _range(c.candidate), c.status] for c in found.counters],
    )
    kernels = Table(
        "kernels that differ most, per step",
        ("", "baseline, us", "candidate, us", "difference, us"),
        [
            [k.name[:90], f"{k.baseline_us:,.3f}", f"{k.candidate_us:,.3f}", f"{k.candidate_us - k.baseline_us:+,.3f}"]
            for k in found.kernels
        ],
    )
    return [parts, counts, *([kernels] if found.kernels else [])]


def _part(row: Row) -> list[str]:
    name = f"{words(row.component) if row.component != 'mlp' else 'MLP'} {row.phase}".strip()
    change = "" if row.change_frac is None else f"{row.change_frac:+.2%}"
    known = row.low_frac is not None and row.high_frac is not None
    interval = f"{row.low_frac:+.2%} to {row.high_frac:+.2%}" if known else UNKNOWN
    times = (ms(row.baseline_us), ms(row.candidate_us))
    return [
        name,
        *times,
        change,
        interval,
        "" if row.least_effect_frac is None else f"{row.least_effect_frac:.1%}",
        row.status,
    ]


def _range(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def comparison_line(found: Comparison) -> str:
    """The verdict first, then why, in one paragraph."""
    named = [f"{r.component} {r.phase}".strip() for r in found.rows if r.status in ("regression", "improvement")]
    counts = [f"{c.status} {c.name.replace('_', ' ')}" for c in found.counters if c.status in ("more", "fewer")]
    said = [*([f"in {', '.join(named)}"] if named else []), *([f"counts: {', '.join(counts)}"] if counts else [])]
    why = "; ".join((*said, *found.reasons)) if found.status != "not comparable" else "; ".join(found.reasons)
    return f"{found.status}: {why}" if why else found.status
