"""The export verb: a run in another tool's format."""

from __future__ import annotations

from pathlib import Path

from bench import exporting, store
from bench.commands.output import stderr
from bench.errors import UsageError


def export_run(run_dir: Path, to: str, out: Path | None) -> None:
    """Write the run and print where. Raises SpecError or UsageError."""
    form = exporting.load(to)
    run = exporting.Exported(store.read_manifest(run_dir), store.read_records(run_dir))
    left_out = len(run.records) - len(run.measured)
    if not run.measured and not form.ALL_RECORDS:
        raise UsageError(f"{run_dir}: no case of it has times, and {to} holds nothing else")
    if left_out and not form.ALL_RECORDS:
        told = f"{left_out} cases without times are left out: {to} has no place for them"
        stderr().print(told, markup=False, soft_wrap=True)
    path = out or run_dir / f"{to}{form.SUFFIX}"
    try:
        print(form.write(run, path))
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror}); choose a place with --out") from None
