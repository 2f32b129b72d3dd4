"""The command line: parses, dispatches to bench/commands, prints errors and picks exit codes.

Only typer is imported here; each verb imports what it needs when it is called, so that help and lists stay instant.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from bench import interrupts
from bench.cli_baseline import HOME, baseline_app
from bench.errors import Exit, StoppedError, UsageError, machine_fault
from bench.terminal import printable
from profiles.trace.errors import TraceError
from workloads.spec import SpecError

app = typer.Typer(
    name="dlrm-bench",
    help="Benchmark recommendation models on this machine, see what bounds them, and keep it that way.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Json = Annotated[bool, typer.Option("--json", help="Print exactly one JSON document on stdout.")]
Axis = Annotated[list[str] | None, typer.Option("--axis", metavar="NAME=V1,V2", help="Sweep these values. Repeatable.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Fix a case field, model field or limit. Repeatable."),
]
Run = Annotated[
    Path, typer.Argument(metavar="RUN", help="A run folder, below results/local unless --out said otherwise.")
]
Baselines = Annotated[Path, typer.Option("--baselines", metavar="DIR", help="Where baselines are kept.")]
Out = Annotated[Path, typer.Option("--out", help="Where the run folder is made.")]


@app.command("machine")
def machine_verb(
    refresh: Annotated[bool, typer.Option("--refresh", help="Measure the ceilings again.")] = False,
    device: Annotated[str, typer.Option(help="cpu or cuda:N.")] = "cpu",
    json: Json = False,
) -> None:
    """Identify this machine and measure its ceilings (kept by fingerprint)."""
    from bench.commands.machine import show_machine

    show_machine(refresh=refresh, device=device, as_json=json)


@app.command()
def doctor(json: Json = False) -> None:
    """Say what is installed, what works, what limits trust, and the cure. Changes nothing."""
    from bench.commands.machine import show_doctor

    show_doctor(as_json=json)


@app.command("list")
def list_verb(
    what: Annotated[
        str | None, typer.Argument(help="presets, sweeps, models, backends, executions, indices, lengths or metrics.")
    ] = None,
    json: Json = False,
) -> None:
    """List what there is, with the reason where something cannot run here."""
    from bench.commands.catalogue import show_list

    show_list(what, as_json=json)


@app.command()
def describe(
    preset: Annotated[str, typer.Argument(help="A preset's name or a preset file.")],
    axis: Axis = None,
    json: Json = False,
) -> None:
    """Parameters, tables, bytes, FLOPs and memory of a model, without running it."""
    from bench.commands.catalogue import show_description

    show_description(preset, axis or [], as_json=json)


@app.command()
def sweep(
    name: Annotated[str | None, typer.Argument(help="A sweep's name, or a sweep file (.toml).")] = None,
    axis: Axis = None,
    settings: Set = None,
    plan: Annotated[bool, typer.Option("--plan", help="Print the cases, memory and time, and stop.")] = False,
    out: Out = Path("results/local"),
    resume: Annotated[Path | None, typer.Option("--resume", metavar="RUN", help="Complete this run.")] = None,
    budget: Annotated[
        str | None, typer.Option("--budget", metavar="TIME", help="Time for the whole sweep: 90s, 10m, 2h.")
    ] = None,
    refresh: Annotated[bool, typer.Option("--refresh", help="Measure the ceilings again first.")] = False,
    json: Json = False,
) -> None:
    """Run a sweep, each case in its own process, and write its report."""
    from bench.commands.sweep import SweepOptions, run_sweep

    options = SweepOptions(
        name=name,
        axes=axis or [],
        settings=settings or [],
        plan=plan,
        out=out,
        resume=resume,
        budget=budget,
        refresh=refresh,
        as_json=json,
        argv=tuple(sys.argv[1:]),
    )
    raise typer.Exit(run_sweep(options))


@app.command()
def show(
    run: Run,
    json: Json = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print comma-separated values.")] = False,
    quality: Annotated[bool, typer.Option("--quality", help="What the models of a [quality] sweep learned.")] = False,
) -> None:
    """The records of a run as a table of derived metrics."""
    if quality:
        from bench.commands.quality import show_quality

        show_quality(run, as_json=json, as_csv=csv)
        return
    from bench.commands.results import show_run

    show_run(run, as_json=json, as_csv=csv)


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="One run folder, or several of one machine.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE.html", help="Default: report.html in the run folder.")
    ] = None,
) -> None:
    """Write the plotted, self-contained report (HTML, and Markdown beside it)."""
    from bench.commands.results import make_report

    make_report(runs, out)


@app.command()
def inspect(
    traces: Annotated[
        list[Path], typer.Argument(metavar="TRACE...", help="Traces of torch.profiler, or a folder: one rank each.")
    ],
    window: Annotated[
        str, typer.Option(help="all, steps, or steps-without-first-and-last: which part is looked at.")
    ] = "all",
    against: Annotated[
        list[Path] | None,
        typer.Option("--against", metavar="TRACE", help="Compare with this baseline: a trace or a folder. Repeatable."),
    ] = None,
    components: Annotated[
        Path | None,
        typer.Option("--components", metavar="FILE.toml", help="Rules of your own, before the shipped ones."),
    ] = None,
    machine: Annotated[
        str | None,
        typer.Option("--machine", metavar="FILE|cpu|cuda:N", help="Ceilings to hold operators against."),
    ] = None,
    json: Json = False,
    csv: Annotated[
        Path | None,
        typer.Option("--csv", metavar="FOLDER|FILE.csv", help="Write all tables into a folder, or the kernels."),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Write a self-contained page with a zoomable timeline."),
    ] = None,
    perfetto: Annotated[
        bool, typer.Option("--perfetto", help="Hand the trace to ui.perfetto.dev in a browser of this machine.")
    ] = False,
) -> None:
    """Where the time of a profiler trace went, by component and operator, what bounds it, and what changed."""
    from bench.commands.inspect_traces import InspectOptions, run_inspect

    options = InspectOptions(
        traces=traces,
        window=window,
        as_json=json,
        csv=csv,
        against=against or [],
        components=components,
        machine=machine,
        html=html,
        perfetto=perfetto,
    )
    raise typer.Exit(run_inspect(options))


@app.command("profile")
def profile_verb(
    target: Annotated[
        str, typer.Argument(metavar="PRESET|FILE.py:FUNCTION", help="A preset or preset file, or a step of your own.")
    ],
    axis: Annotated[
        list[str] | None, typer.Option("--axis", metavar="NAME=VALUE", help="Change the case. Repeatable.")
    ] = None,
    settings: Set = None,
    steps: Annotated[int | None, typer.Option("--steps", help="How many steps are profiled (3).")] = None,
    out: Out = Path("results/local"),
    html: Annotated[bool, typer.Option("--html/--no-html", help="Write the trace's page into the run folder.")] = True,
    json: Json = False,
) -> None:
    """Measure one case, trace it in a pass of its own, and say where its time goes."""
    from bench.commands.profile_case import ProfileOptions, run_profile

    options = ProfileOptions(
        target=target,
        axes=axis or [],
        settings=settings or [],
        steps=steps,
        out=out,
        html=html,
        as_json=json,
        argv=tuple(sys.argv[1:]),
    )
    raise typer.Exit(run_profile(options))


@app.command()
def gate(
    suite: Annotated[
        list[str] | None, typer.Argument(metavar="SUITE...", help="A sweep's name or file, or path.py:function.")
    ] = None,
    base: Annotated[str | None, typer.Option(metavar="REV", help="Compare against this revision.")] = None,
    head: Annotated[str, typer.Option(metavar="REV", help="What is judged; . is the working tree.")] = ".",
    base_python: Annotated[str | None, typer.Option(metavar="PYTHON", help="Interpreter of the base side.")] = None,
    head_python: Annotated[str | None, typer.Option(metavar="PYTHON", help="Interpreter of the head side.")] = None,
    preset: Annotated[str, typer.Option(help="quick, default or rigorous.")] = "default",
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Change a field of the preset. Repeatable.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of every random choice; recorded.")] = None,
    budget: Annotated[str | None, typer.Option(metavar="TIME", help="Time for the whole gate: 90s, 10m, 2h.")] = None,
    runner: Annotated[str, typer.Option(help="steps, or pytest: SUITE is pytest's own arguments.")] = "steps",
    pytest_args: Annotated[
        str, typer.Option("--pytest-args", metavar="'ARGS'", help="More arguments for pytest, on both sides.")
    ] = "",
    plan: Annotated[bool, typer.Option("--plan", help="Say how long and what it could find, and stop.")] = False,
    counters_only: Annotated[bool, typer.Option("--counters-only", help="No timing: seconds, on any machine.")] = False,
    against: Annotated[Path | None, typer.Option(metavar="FILE", help="Counters saved before stand for base.")] = None,
    save: Annotated[Path | None, typer.Option(metavar="FILE", help="Save the head's counters and stop.")] = None,
    out: Out = Path("results/local"),
    resume: Annotated[
        Path | None, typer.Option("--resume", metavar="RUN", help="Complete this run, or judge it again.")
    ] = None,
    baseline: Annotated[
        str | None, typer.Option("--baseline", metavar="NAME", help="SUITE is finished sweep runs; judge them by this.")
    ] = None,
    baselines: Baselines = HOME,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 5 where a case is inconclusive.")] = False,
    junit: Annotated[Path | None, typer.Option(metavar="FILE", help="Write JUnit XML here too.")] = None,
    markdown: Annotated[Path | None, typer.Option(metavar="FILE", help="Write Markdown here too.")] = None,
    json: Json = False,
) -> None:
    """Judge whether head is slower than base: counters exactly, times by a paired test with a known error rate."""
    from bench.commands.gate import run_gate
    from bench.commands.gate_options import GateOptions

    options = GateOptions(
        suite=suite or [],
        base=base,
        head=head,
        base_python=base_python,
        head_python=head_python,
        preset=preset,
        settings=settings or [],
        seed=seed,
        budget=budget,
        plan=plan,
        counters_only=counters_only,
        against=against,
        save=save,
        baseline=baseline,
        baselines=baselines,
        out=out,
        resume=resume,
        strict=strict,
        junit=junit,
        markdown=markdown,
        as_json=json,
        argv=tuple(sys.argv[1:]),
        runner=runner,
        pytest_args=pytest_args,
    )
    raise typer.Exit(run_gate(options))


@app.command()
def export(
    run: Run,
    to: Annotated[str, typer.Option("--to", help="csv, parquet, pytest-benchmark, asv or google-benchmark.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="The file (asv: folder); in the run folder by default.")
    ] = None,
) -> None:
    """A sweep run in another tool's format."""
    from bench.commands.export import export_run

    export_run(run, to, out)


app.add_typer(baseline_app, name="baseline", help="Stored baselines of this machine, for gate --baseline NAME RUN.")


@app.command()
def compare(base: Run, head: Run, json: Json = False) -> None:
    """Two sweep runs or pytest-benchmark files of one machine, case by case. Advisory: one process a side."""
    from bench.commands.compare import compare_runs

    raise typer.Exit(compare_runs(base, head, as_json=json))


@app.command()
def selftest(
    what: Annotated[
        str,
        typer.Argument(
            help="stats (simulated); live on SUITE: aa (unchanged), power (slowed), hostile (disturbed); "
            "judge or keep DIR: what a live one recorded."
        ),
    ],
    suite: Annotated[list[str] | None, typer.Argument(metavar="SUITE...|DIR")] = None,
    runs: Annotated[int | None, typer.Option(help="Gate runs of a live one; 1 by default.")] = None,
    preset: Annotated[str, typer.Option(help="quick, default or rigorous.")] = "default",
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Change a field of the preset. Repeatable.")
    ] = None,
    inject: Annotated[float, typer.Option(help="power: head runs this share of steps more than it counts.")] = 0.05,
    seed: Annotated[int, typer.Option(help="Seed of every random choice.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="stats: write this JSON too. Live: where the runs go. keep: where to. judge: write this page."
        ),
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Go on with a live one that was stopped; --runs may be raised.")
    ] = None,
    json: Json = False,
) -> None:
    """Prove the gate: exact tables, false failures and power, simulated or on this machine."""
    from bench.commands.selftest import SelftestOptions, run_selftest

    options = SelftestOptions(
        what=what,
        suite=suite or [],
        runs=runs,
        preset=preset,
        settings=settings or [],
        inject_frac=inject,
        seed=seed,
        out=out,
        resume=resume,
        as_json=json,
    )
    raise typer.Exit(run_selftest(options))


def main() -> NoReturn:
    """Run the command line and exit with a documented code."""
    interrupts.install()
    try:
        code = app(standalone_mode=False)
    except (SpecError, UsageError, TraceError) as error:
        _fail(str(error), Exit.USAGE)
    except typer.Exit as stop:
        sys.exit(stop.exit_code)
    except StoppedError as stop:
        _fail(str(stop), Exit.INTERRUPTED)
    except KeyboardInterrupt:
        _fail("stopped", Exit.INTERRUPTED)
    except BrokenPipeError:
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(Exit.OK)
    except Exception as error:
        if (told := machine_fault(error)) is not None:
            _fail(told, Exit.USAGE)
        if not hasattr(error, "format_message"):
            raise
        _fail(_click_message(error), Exit.USAGE)
    sys.exit(code if isinstance(code, int) else Exit.OK)


def _click_message(error: Exception) -> str:
    """A parser error's message with the command it belongs to."""
    context = getattr(error, "ctx", None)
    where = f"{context.command_path}: " if context is not None else ""
    return where + str(error.format_message()) + " (see --help)"  # type: ignore[attr-defined]


def _fail(message: str, code: Exit) -> NoReturn:
    with contextlib.suppress(OSError):  # nobody may read any more
        print(printable(f"error: {message}" if code is Exit.USAGE else message), file=sys.stderr, flush=True)
    sys.exit(code)
