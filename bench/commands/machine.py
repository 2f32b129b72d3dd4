"""machine and doctor: what this machine is, what it can reach, what limits trust."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from bench.commands.output import print_json, print_table, stderr
from bench.errors import UsageError
from bench.machine_lock import machine_lock
from bench.plan import gib
from bench.running.environment import environment
from bench.running.forkserver import Emit
from bench.running.pool import Pool
from profiles.machine import Ceiling, Ceilings, Machine

CEILINGS_BUDGET_S = 30.0
CEILINGS_TIMEOUT_S = 600.0


def measure_ceilings(payload: bytes, emit: Emit) -> None:
    """Entry of a worker: measure one device's ceilings."""
    from profiles.ceilings import measure

    request = msgspec.json.decode(payload)

    def progress(what: str, done_frac: float) -> None:
        emit("progress", {"what": what, "done_frac": done_frac})

    ceilings = measure(request["device"], budget_s=request["budget_s"], progress=progress)
    emit("result", msgspec.to_builtins(ceilings))


def with_ceilings(machine: Machine, devices: Sequence[str], pool: Pool, *, refresh: bool = False) -> Machine:
    """The machine with the ceilings of `devices`, measured where they are not known yet."""
    from profiles.machine_store import load_ceilings

    loaded = load_ceilings(machine.fingerprint.hash)
    if loaded.note:
        stderr().print(loaded.note, markup=False)
    known = {} if refresh else dict(loaded.ceilings)
    present = {"cpu", *(f"cuda:{g.index}" for g in machine.gpus)}
    missing = [d for d in devices if d not in known and d in present]
    for device in missing:
        known[device] = _undisturbed(device, pool)
        _save(machine, known[device])
    return msgspec.structs.replace(machine, ceilings=known)


def _undisturbed(device: str, pool: Pool) -> Ceilings:
    """Measured once, or twice where something else used the machine the first time; the quieter one counts."""
    first = _measured(device, pool)
    if not first.disturbed:
        return first
    stderr().print(f"other load took {first.other_load_frac:.0%} of the CPUs meanwhile: measuring once more")
    return min(first, _measured(device, pool), key=lambda c: c.other_load_frac)


def _save(machine: Machine, ceilings: Ceilings) -> None:
    """Keep the ceilings for the next run; a folder that cannot be written costs only the time to measure again."""
    from profiles.machine_store import save_ceilings

    if ceilings.disturbed:
        load = f"{ceilings.other_load_frac:.0%}"
        stderr().print(f"the ceilings were measured beside other load ({load} of the CPUs): used now, not kept")
        return
    try:
        save_ceilings(machine.fingerprint.hash, ceilings)
    except OSError as error:
        stderr().print(f"the ceilings were not kept ({error}); they will be measured again", markup=False)


def _measured(device: str, pool: Pool) -> Ceilings:
    """Measure in a process of its own, as cases are, with progress. Raises UsageError where it fails."""
    from rich.progress import Progress

    found: dict[str, Any] = {}
    with Progress(console=stderr(), transient=True) as progress:
        task = progress.add_task(f"measuring the ceilings of {device}", total=1.0)

        def on_event(kind: str, body: dict[str, Any]) -> None:
            if kind == "progress":
                words = f"ceilings of {device}: {body['what']}"
                progress.update(task, completed=body["done_frac"], description=words)
            else:
                found.update(body)

        server = pool.server(environment("pinned", True))
        request = {"device": device, "budget_s": CEILINGS_BUDGET_S}
        ending = server.run("bench.commands.machine:measure_ceilings", request, on_event, CEILINGS_TIMEOUT_S)
    if ending.kind != "ok" or not found:
        raise UsageError(f"the ceilings of {device} could not be measured: {ending.reason}\n{ending.log}")
    return msgspec.convert(found, Ceilings)


def show_machine(*, refresh: bool, device: str, as_json: bool) -> None:
    """Print identity and ceilings."""
    from profiles.identify import identify

    machine = identify()
    known = {"cpu", *(f"cuda:{g.index}" for g in machine.gpus)}
    if device not in known:
        raise UsageError(f"there is no device {device} on this machine; known: {', '.join(sorted(known))}")
    with machine_lock(), Pool() as pool:
        machine = with_ceilings(machine, sorted({"cpu", device}), pool, refresh=refresh)
    if as_json:
        print_json(machine_json(machine, device))
    else:
        _print_machine(machine, device)


def machine_json(machine: Machine, device: str) -> dict[str, Any]:
    """`machine --json`: identity, `fingerprint` (its hash), and the ceilings of one device."""
    plain: dict[str, Any] = msgspec.to_builtins(machine)
    identity = plain.pop("fingerprint")
    ceilings = plain.pop("ceilings").get(device, {})
    return {"fingerprint": identity["hash"], "identity": identity, "device": device, **plain, "ceilings": ceilings}


def _print_machine(machine: Machine, device: str) -> None:
    cpu, software = machine.cpu, machine.software
    caches = ", ".join(f"L{c.level} {gib(c.size_bytes)} x {c.instances}" for c in cpu.caches)
    rows = [
        ["processor", f"{cpu.name}, {cpu.logical_cpus} CPUs ({caches})"],
        ["memory", gib(machine.memory_bytes)],
        *(["GPU", f"{g.name}, {gib(g.memory_bytes)}"] for g in machine.gpus),
        ["software", f"Python {software.python}, torch {software.torch}, fbgemm {software.fbgemm}"],
        ["fingerprint", machine.fingerprint.hash],
        *(["limits trust", note] for note in machine.trust),
    ]
    print_table("machine", ["", ""], rows)
    ceilings = machine.ceilings.get(device)
    if ceilings is not None:
        _print_ceilings(device, ceilings)


def _print_ceilings(device: str, ceilings: Ceilings) -> None:
    rows = [[name, _rate(c), f"{c.spread_frac:.1%}", c.kernel, c.source] for name, c in named_ceilings(ceilings)]
    print_table(f"ceilings of {device}", ["", "best", "spread", "kernel", "source"], rows, right=[1, 2])
    _print_gather(ceilings.gather)


def _print_gather(gather: Sequence[Ceiling]) -> None:
    """Row bytes down, working sets across."""
    found = {(c.row_bytes, c.working_set_bytes): c for c in gather}
    sets = sorted({c.working_set_bytes or 0 for c in gather})
    row_sizes = sorted({c.row_bytes or 0 for c in gather})
    rows = [[f"{r} B", *(_rate(found[r, s]) if (r, s) in found else "" for s in sets)] for r in row_sizes]
    print_table("random gather, by row bytes and working set", ["rows", *map(gib, sets)], rows, right=range(1, 20))
    kernels = ", ".join(sorted({c.kernel for c in gather}))
    print(f"measured; best of several kernels ({kernels}); all spreads with --json")


def named_ceilings(ceilings: Ceilings) -> list[tuple[str, Ceiling]]:
    """Every single ceiling with a name for people."""
    single = [(f.replace("_", " "), getattr(ceilings, f)) for f in Ceilings.__struct_fields__]
    named = [(name, c) for name, c in single if isinstance(c, Ceiling)]
    return named + [(f"matrix product {dtype}", c) for dtype, c in ceilings.gemm.items()]


def _rate(ceiling: Ceiling) -> str:
    if ceiling.bytes_per_s is not None:
        return f"{ceiling.bytes_per_s / 1e9:.3g} GB/s"
    if ceiling.flops_per_s is not None:
        return f"{ceiling.flops_per_s / 1e9:,.0f} GFLOP/s"
    return f"{(ceiling.seconds or 0) * 1e6:.3g} us"


def show_doctor(*, as_json: bool) -> None:
    """Print findings and cures."""
    from profiles.doctor import diagnose
    from profiles.identify import identify

    findings = diagnose(identify())
    if as_json:
        print_json(findings)
        return
    print_table("doctor", ["", "what", "found", "cure"], [[f.level, f.topic, f.found, f.cure or ""] for f in findings])
