"""An Inspection as tables: for the terminal in words, for CSV as plain rows. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from bench.inspection.result import Device, Host, Inspection, Kernel, Launches, Stream, Thread

MOST_ROWS = 12
LONGEST_NAME = 90
Row = Mapping[str, Any]


class Table(NamedTuple):
    """A title, columns, and cells as text; columns after the first are numbers."""

    title: str
    columns: tuple[str, ...]
    rows: list[list[str]]


def tables(found: Inspection) -> list[Table]:
    """What a terminal shows of one trace."""
    shown = [_devices(found.devices)] if found.devices else []
    if found.devices:
        shown.append(_streams(found.devices))
    if found.launches is not None and found.launches.pairs:
        shown.append(_launches(found.launches))
    if found.copies:
        shown.append(_copies(found))
    if found.kernels:
        shown.append(_kernels("GPU work by name", found.kernels))
    if found.host is not None:
        shown += [_threads(found.host), _kernels("host ops by own time", found.ops)]
    return shown


def ms(value_us: float) -> str:
    """Milliseconds, from microseconds."""
    return f"{value_us / 1000:,.3f}"


def share(part: float, of: float) -> str:
    """A percentage."""
    return f"{part / of:.1%}" if of else ""


_DEVICE_ROWS = (
    ("span", "span_us"),
    ("busy", "busy_us"),
    ("  compute", "compute_us"),
    ("  communication, not hidden by compute", "exposed_comm_us"),
    ("  copies and memsets, not hidden", "exposed_mem_us"),
    ("idle", "idle_us"),
)


def _devices(devices: Mapping[str, Device]) -> Table:
    """Parts down, devices across, each as ms and as a share of its span."""
    rows = [
        [words, *(f"{ms(getattr(d, field))}  {share(getattr(d, field), d.span_us):>6}" for d in devices.values())]
        for words, field in _DEVICE_ROWS
    ]
    for words, cause in (("launched late by the host", "host_late"), ("launched in time, waited", "queued")):
        rows.append([f"  {words}", *(_cause(d, cause) for d in devices.values())])
    if any(d.idle_causes_n.unknown for d in devices.values()):
        rows.append(["  launch not in the trace", *(_cause(d, "unknown") for d in devices.values())])
    if any(d.comm_us for d in devices.values()):
        hidden = [f"{ms(d.comm_overlap_us)}  {share(d.comm_overlap_us, d.comm_us):>6}" for d in devices.values()]
        rows.append(["communication hidden by compute, of all of it", *hidden])
    names = [f"GPU {pid}" + (f" ({d.name})" if d.name else "") for pid, d in devices.items()]
    return Table("where the time went, in ms", ("", *names), rows)


def _cause(device: Device, cause: str) -> str:
    value_us = getattr(device.idle_causes_us, cause)
    return f"{ms(value_us)}  {share(value_us, device.span_us):>6}"


def _streams(devices: Mapping[str, Device]) -> Table:
    columns = ("GPU stream", "events", "busy, ms", "of the span", "queue max", "queue mean")
    rows = [
        [f"{pid} / {number}", f"{s.events:,}", ms(s.busy_us), share(s.busy_us, device.span_us), *_queue(s)]
        for pid, device in devices.items()
        for number, s in sorted(device.streams.items(), key=lambda item: -item[1].busy_us)
    ]
    return Table("streams", columns, rows)


def _queue(stream: Stream) -> list[str]:
    if stream.queue_max is None:
        return ["", ""]
    return [f"{stream.queue_max:,}", f"{stream.queue_mean:.2f}"]


def _launches(found: Launches) -> Table:
    rows = [
        [words, *(f"{getattr(spread, q):,.3f}" for q in ("mean", "p50", "p90", "p99", "min", "max"))]
        for words, spread in (
            ("from call end to work begin", found.delay_us),
            ("  with negative ones as 0", found.delay_clipped_us),
            ("the call itself", found.call_us),
        )
    ]
    title = f"launches, in us: {found.pairs:,} pairs, {found.shorter_than_call:,} with work shorter than its call"
    if found.most_per_launch > 1:
        title += f", up to {found.most_per_launch:,} events of one call"
    return Table(title, ("", "mean", "p50", "p90", "p99", "min", "max"), rows)


def _copies(found: Inspection) -> Table:
    rows = [
        [name, f"{c.n:,}", ms(c.sum_us), "unknown" if c.bytes is None else f"{c.bytes:,}", _rate(c.bytes_per_s)]
        for name, c in sorted(found.copies.items(), key=lambda item: -item[1].sum_us)
    ]
    return Table("copies", ("", "n", "sum, ms", "bytes", "GB/s"), rows)


def _rate(bytes_per_s: float | None) -> str:
    return "unknown" if bytes_per_s is None else f"{bytes_per_s / 1e9:.3f}"


def _kernels(title: str, found: Sequence[Kernel]) -> Table:
    total_us = sum(k.sum_us for k in found)
    rows = [
        [
            _shortened(k.name),
            f"{k.n:,}",
            ms(k.sum_us),
            share(k.sum_us, total_us),
            f"{k.mean_us:,.3f}",
            f"{k.median_us:,.3f}",
            f"{k.sd_us:,.3f}",
        ]
        for k in found[:MOST_ROWS]
    ]
    if len(found) > MOST_ROWS:
        rest_us = sum(k.sum_us for k in found[MOST_ROWS:])
        count = sum(k.n for k in found[MOST_ROWS:])
        rows.append(
            [f"{len(found) - MOST_ROWS:,} more", f"{count:,}", ms(rest_us), share(rest_us, total_us), "", "", ""]
        )
    return Table(title, ("", "n", "sum, ms", "share", "mean, us", "median, us", "sd, us"), rows)


def _shortened(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 3] + "..."


def _threads(host: Host) -> Table:
    columns = ("thread", "events", "busy, ms", "of the span", "gaps", "longest gap, ms")
    rows = [
        [t.name or f"{t.pid} / {t.tid}", f"{t.events:,}", *_times(t, host), f"{t.gaps:,}", ms(t.largest_gap_us)]
        for t in host.threads[:MOST_ROWS]
    ]
    efficiency = f"{host.parallel_efficiency_frac:.1%}"
    return Table(f"host: {ms(host.span_us)} ms, parallel efficiency {efficiency}", columns, rows)


def _times(thread: Thread, host: Host) -> tuple[str, str]:
    return ms(thread.busy_us), share(thread.busy_us, host.span_us)


def flat(found: Sequence[Inspection]) -> dict[str, list[Row]]:
    """Rows for CSV files by the file's name; each row begins with file and rank."""
    files: dict[str, list[Row]] = {}
    for one in found:
        origin = {"file": one.file, "rank": one.rank}
        for name, rows in _flat(one).items():
            files.setdefault(name, []).extend(origin | row for row in rows)
    return {name: rows for name, rows in files.items() if rows}


def _flat(one: Inspection) -> dict[str, list[dict[str, Any]]]:
    plain: dict[str, Any] = msgspec.to_builtins(one)
    devices: dict[str, dict[str, Any]] = plain["devices"]
    streams = [
        {"device": pid, "stream": number} | row for pid, d in devices.items() for number, row in d["streams"].items()
    ]
    return {
        "quality": [plain["quality"]],
        "devices": [{"device": pid} | _unnested(d) for pid, d in devices.items()],
        "streams": streams,
        "launches": [_unnested(plain["launches"])] if plain["launches"] else [],
        "copies": [{"name": name} | row for name, row in plain["copies"].items()],
        "kernels": list(plain["kernels"]),
        "components": list(plain["components"]),
        "operators": list(plain["operators"]),
        "memory": [{k: v for k, v in m.items() if k not in ("time_us", "held_bytes")} for m in plain["memory"]],
        "threads": list(plain["host"]["threads"]) if plain["host"] else [],
        "ops": list(plain["ops"]),
    }


def _unnested(row: Mapping[str, Any]) -> dict[str, Any]:
    """Inner objects as columns 'outer.inner'; tables inside, which have a file of their own, left out."""
    flat_row: dict[str, Any] = {}
    for key, value in row.items():
        if not isinstance(value, dict):
            flat_row[key] = value
        elif key not in ("streams", "by_call"):
            flat_row |= {f"{key}.{inner}": v for inner, v in value.items()}
    return flat_row
