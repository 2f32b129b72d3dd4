"""A sweep with a [quality] table as a user runs it: plan, trials, kill and resume, failures, what a mistake answers."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Cli

GRID = '[limits]\nbudget_s = 0.05\nmin_repeat_s = 0.005\nmin_repeats = 3\ntrace = false\n[[grid]]\npreset = "tiny"\n'
TINY = """[quality]
seeds = [0, 1]
[quality.training]
learning_rates = [0.02]
train_samples = 4096
validation_samples = 512
test_samples = 2048
batch_size = 256
evaluations = 2
num_threads = 1
[[quality.comparison]]
variants = ["fm", "mlp"]
dim = 4
budgets = [4000]
[quality.comparison.log]
num_features = 3
num_dense = 1
num_rows = 10
"""


def write(cli: Cli, text: str) -> None:
    (cli.folder / "mine.toml").write_text(text)


def run_folder(cli: Cli) -> Path:
    (found,) = (cli.folder / "results" / "local").iterdir()
    return found


def trials(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "quality.jsonl").read_text().splitlines()]


def test_a_plan_shows_the_trials_and_runs_nothing(cli: Cli) -> None:
    write(cli, GRID + TINY)
    plan = json.loads(cli("sweep", "mine.toml", "--plan", "--json").stdout)
    assert (len(plan["cases"]), len(plan["trials"])) == (1, 8)
    assert all(t["estimate_s"] > 0 and t["memory_bytes"] > 0 for t in plan["trials"])
    assert plan["estimate_s"] > sum(t["estimate_s"] for t in plan["trials"])
    table = cli("sweep", "mine.toml", "--plan").stdout
    assert "control-mlp-3f-4000-s1-" in table
    assert "9 cases to run, 0 skipped; of these 8 trials" in table
    assert not (cli.folder / "results").exists()


def test_trials_follow_the_cases_and_are_shown(cli: Cli) -> None:
    write(cli, GRID + TINY)
    done = cli("sweep", "mine.toml", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["cases"] == {"ok": 1, "skipped": 0, "failed": 0}
    assert told["trials"] == {"ok": 8, "skipped": 0, "failed": 0}
    assert "[9/9] control-mlp-3f-4000-s1-" in done.stderr
    found = json.loads(cli("show", told["run"], "--quality", "--json").stdout)
    assert [t["key"] for t in found] == [t["key"] for t in trials(cli.folder / told["run"])]
    for trial in found:
        assert [point["samples"] for point in trial["curve"]] == [2048, 4096]
        assert 0 < trial["bayes_log_loss"] < trial["prior_log_loss"] < 0.7
        assert trial["click_log"]["kind"] == trial["log"]
        assert trial["params"] > 40
        assert trial["total_s"] > sum(tried["train_s"] for tried in trial["rates"]) > 0
    assert len({(t["seed"], t["log"], t["bayes_log_loss"]) for t in found}) == 4
    rows = list(csv.DictReader(io.StringIO(cli("show", told["run"], "--quality", "--csv").stdout)))
    for row, trial in zip(rows, found, strict=True):
        assert float(row["log_loss"]) == trial["curve"][-1]["log_loss"]
        assert float(row["gap"]) == pytest.approx(trial["curve"][-1]["log_loss"] - trial["bayes_log_loss"])
    assert "planted-fm-3f-own-s0-" in cli("show", told["run"], "--quality").stdout
    records = json.loads(cli("show", told["run"], "--json").stdout)
    assert len(records) == 1


def test_killed_among_its_trials_a_sweep_resumes_to_the_same_set(cli: Cli) -> None:
    write(cli, GRID + TINY)
    expected = [t["key"] for t in json.loads(cli("sweep", "mine.toml", "--plan", "--json").stdout)["trials"]]
    process = cli.start("sweep", "mine.toml")
    while not [p for p in cli.folder.glob("results/local/*/quality.jsonl") if p.read_bytes().count(b"\n") > 1]:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    run = run_folder(cli)
    with (run / "quality.jsonl").open("ab") as file:
        file.write(b'{"schema_version":1,"key":"torn')
    kept = trials_before_the_tear = (run / "quality.jsonl").read_bytes().rpartition(b"\n")[0].splitlines()
    assert 2 <= len(kept) < 8
    left = json.loads(cli("sweep", "--resume", str(run), "--plan", "--json").stdout)
    assert (len(left["cases"]), len(left["trials"])) == (0, 8 - len(kept))
    done = cli("sweep", "--resume", str(run))
    assert done.returncode == 0, done.stderr
    assert [t["key"] for t in trials(run)] == expected
    assert (run / "quality.jsonl").read_bytes().splitlines()[: len(kept)] == trials_before_the_tear
    assert all(t["outcome"]["status"] == "ok" for t in trials(run))


def test_a_trial_that_diverges_is_a_failure_and_the_others_run(cli: Cli) -> None:
    write(cli, GRID + TINY.replace("[0.02]", "[1e30]"))
    done = cli("sweep", "mine.toml")
    assert done.returncode == 3, done.stderr
    found = trials(run_folder(cli))
    assert len(found) == 8
    for trial in found:
        assert (trial["outcome"]["status"], trial["outcome"]["kind"]) == ("failed", "diverged")
        assert "not finite at any learning rate" in trial["outcome"]["reason"]
        assert trial["curve"] == []
    assert "trials: 0 ok, 0 skipped, 8 failed" in done.stderr
    assert "failed" in cli("show", str(run_folder(cli)), "--quality").stdout


BAD = {
    "unknown variant": (('["fm", "mlp"]', '["fm", "mlpp"]'), ["variants", "'mlpp'", "did you mean 'mlp'", "mine.toml"]),
    "no budget": (("budgets = [4000]", "budgets = []"), ["budgets", "mlp", "mine.toml, line"]),
    "a budget nothing meets": (("[4000]", "[10]"), ["budgets = 10", "'mlp' comes no nearer than", "comparison 1"]),
    "mf of three": (('["fm", "mlp"]', '["mf"]'), ["tables", "exactly 2", "comparison 1"]),
    "a share above 1": (("num_rows = 10", "num_rows = 10\npair_share = 1.5"), ["pair_share = 1.5", "mine.toml, line"]),
    "rank too high": (("num_rows = 10", "num_rows = 10\nrank = 10"), ["rank = 10", "less than num_rows", "line"]),
    "unknown key": (("num_rows = 10", "rows = 10"), ["'rows'", "'num_rows'", "line 25"]),
    "unknown key of training": (("evaluations = 2", "evals = 2"), ["'evals'", "'evaluations'", "line 16"]),
    "unknown log": (
        ("[quality]", '[quality]\nlogs = ["planned"]'),
        ["logs[0] = 'planned'", "did you mean 'planted'", "line 9"],
    ),
    "too few samples": (("train_samples = 4096", "train_samples = 100"), ["train_samples = 100", "from 512"]),
    "no seed": (("seeds = [0, 1]", "seeds = []"), ["seeds = []", "at least one", "line 9"]),
    "wrong type": (("batch_size = 256", 'batch_size = "big"'), ["batch_size", "'big'", "line 15"]),
    "a budget of time too short": (("", ""), ["--budget", "8 trials"]),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_clear_message_and_exit_2(cli: Cli, name: str) -> None:
    (old, new), expected = BAD[name]
    write(cli, GRID + TINY.replace(old, new, 1))
    done = cli("sweep", "mine.toml", *(["--budget", "2s"] if "time" in name else []))
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    for words in expected:
        assert words in done.stderr
    assert not (cli.folder / "results").exists()
