"""`dlrm-bench sweep` as a user runs it: what it writes, what happens when cases or the whole run end badly."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Cli

STEPS = Path(__file__).parent.parent / "data" / "steps.py"
FAST = "[limits]\nbudget_s = 0.05\nmin_repeat_s = 0.005\nmin_repeats = 3\ntrace = false\n"
TINY_12 = (
    FAST + '[[grid]]\npreset = "tiny"\n[grid.axes]\nbatch_size = [1, 2, 3, 4]\nbackend = ["bag", "fused_bag", "tbe"]\n'
)


def write_sweep(folder: Path, text: str) -> None:
    (folder / "mine.toml").write_text(text)


def run_folder(folder: Path) -> Path:
    (found,) = (folder / "results" / "local").iterdir()
    return found


def records(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "records.jsonl").read_text().splitlines()]


def outcomes(run: Path) -> dict[str, dict[str, Any]]:
    return {r["case"]["code"].rpartition(":")[2]: r["outcome"] for r in records(run)}


def test_a_sweep_of_tiny_models_writes_records_traces_and_a_report(cli: Cli) -> None:
    text = TINY_12.replace("trace = false\n", "").replace("[1, 2, 3, 4]", "[256]")
    write_sweep(cli.folder, text + 'phase = ["forward", "train_step"]\n')
    done = cli("sweep", "mine.toml", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    run = cli.folder / told["run"]
    assert told["cases"] == {"ok": 6, "skipped": 0, "failed": 0}
    assert (run / "report.html").stat().st_size > 10_000
    assert (run / "report.md").exists()
    shown = json.loads(cli("show", told["run"], "--json").stdout)
    assert [row["outcome"]["status"] for row in shown] == ["ok"] * 6
    for row in shown:
        metrics = row["metrics"]
        assert metrics["step_s_ci95"][0] <= metrics["step_s_p50"] <= metrics["step_s_ci95"][1]
        assert metrics["samples_per_s"] == pytest.approx(256 / metrics["step_s_p50"])
        assert 0 < metrics["fraction_of_roof"] <= 1.1
        assert {"embedding", "bottom_mlp", "interaction", "top_mlp"} <= set(row["stages"])
    for record in records(run):
        assert (run / record["trace"]["path"]).stat().st_size > 1000
        assert record["check"]["max_error"] <= record["check"]["tolerance"]
        shares = sum(stage["share_frac"] for stage in record["trace"]["stages"].values())
        assert shares == pytest.approx(record["trace"]["coverage_frac"], abs=0.02)
        assert 0 < shares <= 1.02


@pytest.mark.parametrize(
    "limit", ["remeasured=-1", "min_repeats=0", "max_repeats=-3", "budget_s=0", "precision_frac=-0.1", "timeout_s=-1"]
)
def test_a_limit_that_no_measurement_can_keep_is_refused(cli: Cli, limit: str) -> None:
    write_sweep(cli.folder, TINY_12)
    refused = cli("sweep", "mine.toml", "--plan", "--set", limit)
    name, value = limit.split("=")
    assert refused.returncode == 2
    assert name in refused.stderr
    assert value in refused.stderr


def test_some_cases_are_measured_twice_and_a_resume_completes_them_too(cli: Cli) -> None:
    write_sweep(cli.folder, TINY_12)
    plan = json.loads(cli("sweep", "mine.toml", "--plan", "--json").stdout)
    assert len(plan["remeasured"]) == 3
    assert cli("sweep", "mine.toml").returncode == 0
    run = run_folder(cli.folder)
    lines = (run / "remeasured.jsonl").read_text().splitlines(keepends=True)
    assert [json.loads(line)["key"] for line in lines] == plan["remeasured"]
    assert all(json.loads(line)["measurement"]["times_s"] and not json.loads(line)["trace"] for line in lines)
    assert "3 cases measured twice" in (run / "report.html").read_text(encoding="utf-8")
    row = next(r for r in json.loads(cli("show", str(run), "--json").stdout) if r["key"] == plan["remeasured"][0])
    (low, high), (lower, higher) = row["metrics"]["step_s_ci95"], row["step_s_ci95_any_process"]
    assert lower <= low <= high <= higher
    compared = cli("compare", str(run), str(run))
    assert "cases (100 %) agree" in compared.stdout
    assert "6 cases measured twice" in compared.stdout

    (run / "remeasured.jsonl").write_text(lines[0] + lines[1][:100])
    left = json.loads(cli("sweep", "--resume", str(run), "--plan", "--json").stdout)
    assert (left["cases"], left["remeasured"]) == ([], plan["remeasured"][1:])
    assert cli("sweep", "--resume", str(run)).returncode == 0
    again = (run / "remeasured.jsonl").read_text().splitlines(keepends=True)
    assert again[0] == lines[0]
    assert [json.loads(line)["key"] for line in again] == plan["remeasured"]
    assert len(records(run)) == 12


def test_a_case_that_failed_is_not_tried_again_to_learn_how_far_processes_differ(cli: Cli) -> None:
    shutil.copy(STEPS, cli.folder)
    names = ("crash", "killed", "wrong", "crash", "quick", "wrong", "killed")
    grids = "".join(f'[[grid]]\ncode = "steps.py:{name}"\n[grid.set]\nseed = {n}\n' for n, name in enumerate(names))
    write_sweep(cli.folder, FAST + grids)
    assert cli("sweep", "mine.toml").returncode == 3
    run = run_folder(cli.folder)
    assert len(records(run)) == len(names)
    twice = [json.loads(line) for line in (run / "remeasured.jsonl").read_text().splitlines()]
    assert all(record["outcome"]["status"] == "ok" for record in twice)


def test_cases_that_crash_hang_or_fail_are_recorded_and_the_others_run(cli: Cli) -> None:
    shutil.copy(STEPS, cli.folder)
    names = ("crash", "hang", "killed", "wrong", "quick")
    grids = "".join(f'[[grid]]\ncode = "steps.py:{name}"\n' for name in names)
    write_sweep(cli.folder, FAST + "timeout_s = 2\n" + grids)
    done = cli("sweep", "mine.toml")
    assert done.returncode == 3, done.stderr
    found = outcomes(run_folder(cli.folder))
    assert found["quick"]["status"] == "ok"
    assert (found["crash"]["kind"], found["crash"]["signal"]) == ("crash", "SIGSEGV")
    assert (found["hang"]["kind"], found["hang"]["signal"]) == ("timeout", "SIGKILL")
    assert (found["killed"]["kind"], found["killed"]["signal"]) == ("crash", "SIGKILL")
    assert found["wrong"]["kind"] == "error"
    assert "a table of mine is missing" in found["wrong"]["reason"]
    assert "Traceback" in found["wrong"]["detail"]
    assert (run_folder(cli.folder) / "report.html").exists()


def test_a_plan_runs_nothing(cli: Cli) -> None:
    write_sweep(cli.folder, TINY_12)
    done = cli("sweep", "mine.toml", "--plan", "--json")
    plan = json.loads(done.stdout)
    assert len(plan["cases"]) == 12
    assert all(c["memory_bytes"] > 0 and c["estimate_s"] > 0 for c in plan["cases"])
    assert not (cli.folder / "results").exists()


def test_a_case_that_does_not_fit_is_skipped_with_the_figure(cli: Cli) -> None:
    write_sweep(cli.folder, TINY_12)
    flags = ("--axis", "num_rows=100,400000000000", "--set", "batch_size=4", "--set", "backend=bag")
    plan = json.loads(cli("sweep", "mine.toml", "--plan", "--json", *flags).stdout)
    fits, too_big = plan["cases"]
    assert fits["skip_reason"] is None
    assert "of memory (tables" in too_big["skip_reason"]
    done = cli("sweep", "mine.toml", *flags)
    assert done.returncode == 0, done.stderr
    found = [r["outcome"] for r in records(run_folder(cli.folder))]
    assert [o["status"] for o in found] == ["ok", "skipped"]
    assert "TiB" in found[1]["reason"]


def test_what_a_backend_cannot_build_is_skipped_with_its_reason(cli: Cli) -> None:
    write_sweep(cli.folder, FAST + '[[grid]]\npreset = "tiny"\n[grid.axes]\nrow_type = ["float32", "int8"]\n')
    done = cli("sweep", "mine.toml")
    assert done.returncode == 0, done.stderr
    found = [r["outcome"] for r in records(run_folder(cli.folder))]
    assert [o["status"] for o in found] == ["ok", "skipped"]
    assert "stores float32 rows; try 'tbe_int'" in found[1]["reason"]


def test_what_cannot_be_built_is_foreseen_by_the_plan(cli: Cli) -> None:
    axes = (
        'dim = [6, 8]\nrow_type = ["float32", "int8"]\n'
        'phase = ["forward", "train_step"]\ndtype = ["float32", "float16"]\n'
    )
    grid = '[[grid]]\npreset = "tiny"\n[grid.set]\nbackend = "tbe"\n[grid.axes]\n'
    write_sweep(cli.folder, FAST + grid + axes)
    plan = json.loads(cli("sweep", "mine.toml", "--plan", "--json").stdout)["cases"]
    reasons = [c["skip_reason"] for c in plan]
    assert sum(reason is None for reason in reasons) == 3
    for words in ("multiple of 4", "try 'tbe_int'", "loss scaling"):
        assert any(words in reason for reason in reasons if reason)
    done = cli("sweep", "mine.toml")
    assert done.returncode == 0, done.stderr
    found = [r["outcome"] for r in records(run_folder(cli.folder))]
    # Nothing that the plan let pass was refused later.
    assert [o.get("reason") for o in found] == reasons
    assert {o["status"] for o in found} == {"ok", "skipped"}


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--axis", "num_rows=400000000000"], ["the case cannot run here", "TiB of memory", "rows_scale"]),
        (["--axis", "preset=mlperf_dlrm_v2", "--axis", "rows_scale=100"], ["TiB of memory (tables", "rows_scale"]),
        (["--axis", "batch_size=2,4", "--axis", "row_type=int8"], ["none of the 2 cases", "try 'tbe_int'"]),
        (["--axis", "device=cuda:7"], ["cuda:7"]),
    ],
)
def test_a_sweep_of_which_nothing_can_run_is_exit_2(cli: Cli, flags: list[str], words: list[str]) -> None:
    write_sweep(cli.folder, FAST + '[[grid]]\npreset = "tiny"\n')
    done = cli("sweep", "mine.toml", *flags)
    assert done.returncode == 2, done.stderr
    for word in words:
        assert word in done.stderr
    assert not (cli.folder / "results").exists()
    assert cli("sweep", "mine.toml", "--plan", *flags).returncode == 0


BAD = {
    "unknown preset": ('[[grid]]\npreset = "papr"\n', [], ["preset", "'papr'", "did you mean 'paper'"]),
    "negative rows": ('[[grid]]\npreset = "tiny"\n[grid.set]\nnum_rows = -5\n', [], ["num_rows", "-5", "from 1"]),
    "dim 0": ('[[grid]]\npreset = "tiny"\n[grid.axes]\ndim = [0]\n', [], ["dim", "0", "from 1", "grid 1"]),
    "TOML typo": ('[[grid]]\npreset = "tiny\n', [], ["mine.toml", "line 2"]),
    "unknown key": ('[[grid]]\npreset = "tiny"\naxis = {}\n', [], ["mine.toml, line 3", "'axis'", "'axes'"]),
    "wrong type": ('[limits]\nbudget_s = "long"\n[[grid]]\npreset = "tiny"\n', [], ["line 2", "budget_s", "'long'"]),
    "unknown axis in the file": ('[[grid]]\npreset = "tiny"\n[grid.axes]\ndims = [4]\n', [], ["'dims'", "'dim'"]),
    "unknown axis": ('[[grid]]\npreset = "tiny"\n', ["--axis", "bach_size=4"], ["'bach_size'", "'batch_size'"]),
    "no value": ('[[grid]]\npreset = "tiny"\n', ["--axis", "dim"], ["--axis", "NAME=VALUE"]),
    "backend": ('[[grid]]\npreset = "tiny"\n', ["--set", "backend=tbx"], ["backend", "'tbx'", "'tbe'"]),
    "law": ('[[grid]]\npreset = "tiny"\n', ["--set", "indices=zip"], ["indices", "'zip'", "'zipf'"]),
    "budget": ('[[grid]]\npreset = "tiny"\n', ["--budget", "soon"], ["--budget", "'soon'", "10m"]),
    "too small a budget": ('[[grid]]\npreset = "tiny"\n', ["--budget", "0.1s"], ["--budget", "at least"]),
    "no grid": ("", [], ["mine.toml", "[[grid]]"]),
    "unwritable": ('[[grid]]\npreset = "tiny"\n', ["--out", "/proc/here"], ["/proc", "--out DIR"]),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_clear_message_and_exit_2(cli: Cli, name: str) -> None:
    text, flags, expected = BAD[name]
    write_sweep(cli.folder, text)
    done = cli("sweep", "mine.toml", *flags)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    for words in expected:
        assert words in done.stderr
    assert not (cli.folder / "results").exists()


@pytest.mark.slow
def test_a_compiled_case_runs_in_a_forked_worker_and_leaves_nothing_behind(cli: Cli, tmp_path: Path) -> None:
    if not (shutil.which("g++") or shutil.which("clang++")):
        pytest.skip("no C++ compiler")
    write_sweep(cli.folder, FAST + '[[grid]]\npreset = "tiny"\n[grid.axes]\nexecution = ["compile", "cuda_graph"]\n')
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    quiet = Cli(cli.folder, cli.environment | {"TMPDIR": str(scratch)})
    done = quiet("sweep", "mine.toml")
    assert done.returncode == 0, done.stderr
    compiled, captured = records(run_folder(cli.folder))
    assert compiled["outcome"]["status"] == "ok"
    assert compiled["graphs"]["graphs"] == 1
    assert compiled["measurement"]["compile_s"] > 0
    assert captured["outcome"]["reason"] == "a CUDA graph needs a CUDA device"
    assert not list(scratch.glob("dlrm-bench-*"))
    shown = json.loads(cli("show", str(run_folder(cli.folder)), "--json").stdout)
    assert shown[0]["metrics"]["graph_breaks"] == 0
