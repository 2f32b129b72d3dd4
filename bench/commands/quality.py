"""show --quality: the trials of a run, what each model learned and what it cost. No torch."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from bench import store
from bench.commands.output import print_json, print_table
from bench.records import QualityTrial

COLUMNS = (
    "key", "log", "variant", "features", "seed", "status", "reason", "budget_flops", "flops_per_sample_forward",
    "params", "learning_rate", "samples", "train_s", "log_loss", "bayes_log_loss", "gap", "first_order_log_loss",
    "prior_log_loss", "auc", "bayes_auc",
)  # fmt: skip


def show_quality(run_dir: Path, *, as_json: bool, as_csv: bool) -> None:
    """Print a run's trials: a table, every field (JSON), or a line each (CSV)."""
    manifest = store.read_manifest(run_dir)
    trials = store.read_trials(run_dir)
    if as_json:
        print_json([msgspec.to_builtins(trial) for trial in trials])
    elif as_csv:
        out = csv.DictWriter(sys.stdout, COLUMNS)
        out.writeheader()
        out.writerows(row(trial) for trial in trials)
    else:
        _print_table(f"{manifest.name} {manifest.created_at}", trials)


def row(trial: QualityTrial) -> dict[str, Any]:
    """One trial as flat values, its last point as the result; `gap` is the log loss above the truth's, in nats."""
    values = {name: getattr(trial, name, None) for name in COLUMNS}
    values |= {"variant": trial.model.variant, "features": len(trial.model.tables)}
    values |= {"status": trial.outcome.status, "reason": trial.outcome.reason}
    if trial.curve and trial.bayes_log_loss is not None:
        last = trial.curve[-1]
        values |= msgspec.structs.asdict(last) | {"gap": last.log_loss - trial.bayes_log_loss}
    return values


def _print_table(title: str, trials: Sequence[QualityTrial]) -> None:
    columns = ["trial", "outcome", "FLOPs/sample", "parameters", "train", "log loss", "above truth", "AUC", "truth's"]
    cells = [_cells(trial, row(trial)) for trial in trials]
    print_table(title, columns, cells, right=range(2, len(columns)))


def _cells(trial: QualityTrial, values: dict[str, Any]) -> list[str]:
    if values["log_loss"] is None:
        return [trial.key, trial.outcome.status, str(trial.outcome.reason or ""), *[""] * 6]
    return [
        trial.key,
        trial.outcome.status,
        f"{trial.flops_per_sample_forward:,.0f}",
        f"{trial.params:,}",
        f"{values['train_s']:.1f} s",
        f"{values['log_loss']:.4f}",
        f"{values['gap']:.4f}",
        f"{values['auc']:.4f}",
        f"{values['bayes_auc']:.4f}",
    ]
