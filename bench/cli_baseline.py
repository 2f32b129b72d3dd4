"""The command line's baseline verbs: parsing and dispatch only, as in cli.py."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

baseline_app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The baseline's name.")]
Home = Annotated[Path, typer.Option("--baselines", metavar="DIR", help="Where baselines are kept.")]
HOME = Path("results/baselines")


@baseline_app.command()
def record(
    name: Name,
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Finished sweep runs, each a separate process.")],
    anew: Annotated[bool, typer.Option("--anew", help="Begin the next baseline; the one in force stays.")] = False,
    baselines: Home = HOME,
) -> None:
    """Add finished sweep runs. One that fails against the baseline in force is refused."""
    from bench.commands.baseline import record as add

    raise typer.Exit(add(name, runs, baselines, anew=anew))


@baseline_app.command()
def accept(
    name: Name,
    reason: Annotated[str, typer.Option(help="Why these times are right; kept in the file.")],
    machine: Annotated[str | None, typer.Option(metavar="HASH", help="Of another machine than this one.")] = None,
    baselines: Home = HOME,
) -> None:
    """Put the recorded runs in force (5 separate ones at least), as a file to review and commit."""
    from bench.commands.baseline import accept as put_in_force

    raise typer.Exit(put_in_force(name, reason, baselines, machine or _here()))


@baseline_app.command("list")
def list_verb(
    baselines: Home = HOME,
    json: Annotated[bool, typer.Option("--json", help="Print exactly one JSON document on stdout.")] = False,
) -> None:
    """Baselines of every machine, and the smallest change each can enforce."""
    from bench.commands.baseline import show

    raise typer.Exit(show(baselines, as_json=json))


@baseline_app.command()
def prune(
    name: Name,
    keep: Annotated[int | None, typer.Option(help="Keep the newest so many runs in force.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Drop the baseline in force too.")] = False,
    machine: Annotated[str | None, typer.Option(metavar="HASH", help="Of another machine than this one.")] = None,
    baselines: Home = HOME,
) -> None:
    """Drop recorded runs that were not accepted, and the oldest ones in force."""
    from bench.commands.baseline import prune as drop

    raise typer.Exit(drop(name, baselines, machine or _here(), keep=keep, everything=everything))


def _here() -> str:
    from profiles.identify import identify

    return identify().fingerprint.hash
