"""A user's repository whose suite uses the fixture: under plain pytest, and gated between two revisions."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import ROOT, Cli
from tests.e2e.test_gate_cli import edit, git, told

EXAMPLE = ROOT / "tests" / "data" / "pytest_repo"
QUICKLY = ["--benchmark-max-time=0.02", "--benchmark-min-rounds=3"]
WRONG = """
import pytest

def test_nan(dlrm_benchmark):
    dlrm_benchmark(lambda: float("nan"))

@pytest.mark.dlrm_bench(budget="1us")
def test_budget(dlrm_benchmark):
    dlrm_benchmark(lambda: sum(range(10_000)))

@pytest.mark.dlrm_bench(metric="p99")
def test_marker(dlrm_benchmark):
    dlrm_benchmark(len, inputs=[()])

def test_nothing(dlrm_benchmark):
    dlrm_benchmark(5)
"""
PLAIN = """
def work(n):
    return sum(range(n))

def test_step(benchmark):
    benchmark(work, 20_000)

def test_other(dlrm_benchmark):
    dlrm_benchmark(work, inputs=[5_000, 5_001])

def test_measures_nothing():
    assert work(3) == 3
"""


@pytest.fixture
def repo(cli: Cli) -> Cli:
    """The example, committed. The plugin is named, so that it is loaded where the entry point is not installed."""
    shutil.copytree(EXAMPLE, cli.folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    (cli.folder / "test_plain.py").write_text(PLAIN)
    git(cli.folder, "init", "-q")
    git(cli.folder, "add", "-A")
    git(cli.folder, "commit", "-qm", "one")
    return Cli(cli.folder, cli.environment | {"PYTEST_PLUGINS": "bench.pytest_plugin", "PYTHONDONTWRITEBYTECODE": "1"})


def run_pytest(repo: Cli, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(
        command, cwd=repo.folder, env=repo.environment, capture_output=True, text=True, timeout=240, check=False
    )


def test_the_plugin_is_registered_as_an_entry_point() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"bench.pytest_plugin": "bench.pytest_plugin"}


def test_the_examples_file_has_what_we_add_and_both_tools_read_it(repo: Cli) -> None:
    done = run_pytest(repo, "benchmarks", "--benchmark-json=out.json", *QUICKLY)
    assert done.returncode == 0, done.stdout + done.stderr
    found = {b["name"]: b for b in json.loads((repo.folder / "out.json").read_text())["benchmarks"]}
    assert list(found) == ["test_inference", "test_published_model", "test_plain"]
    own, model, plain = found.values()
    assert (own["extra_info"]["metric"], own["extra_info"]["tolerance_frac"]) == ("min", 0.05)
    assert (own["extra_info"]["lookups"], own["extra_info"]["num_inputs"]) == (640, 4)
    assert len(own["extra_info"]["fingerprint"]) == 16
    assert 0 < own["extra_info"]["fraction_of_roof"] < 1
    assert model["extra_info"]["flops"] > 0
    assert 0 < model["extra_info"]["fraction_of_roof"] < 1
    assert model["extra_info"]["case"].startswith("tiny-")
    assert plain["extra_info"] == {}
    theirs = subprocess.run(
        [sys.executable, "-m", "pytest_benchmark", "compare", "out.json"],
        cwd=repo.folder,
        env=os.environ,
        capture_output=True,
        text=True,
        check=True,
    )
    assert all(name in theirs.stdout for name in found), theirs.stderr
    ours = repo("compare", "out.json", "out.json", "--json")
    assert ours.returncode == 0, ours.stderr
    assert {c["case"].rpartition("::")[2]: c["change_frac"] for c in told(ours)["cases"]} == dict.fromkeys(found, 0.0)


def test_what_is_wrong_fails_its_test_with_the_reason(repo: Cli) -> None:
    (repo.folder / "test_wrong.py").write_text(WRONG)
    done = run_pytest(repo, "test_wrong.py", *QUICKLY)
    assert done.returncode == 1, done.stdout
    assert "4 failed" in done.stdout
    for words in (
        "the output holds NaN",
        "is above the budget of 1 us",
        "metric = 'p99'",
        "a preset's name, a Case, or a callable",
    ):
        assert words in done.stdout, done.stdout


def test_xdist_is_refused_with_a_clear_message(repo: Cli) -> None:
    pytest.importorskip("xdist")
    done = run_pytest(repo, "test_plain.py", "-n", "2", "-W", "ignore", *QUICKLY)
    assert done.returncode == 1, done.stdout
    assert "dlrm_benchmark measures one test at a time: run without -n" in done.stdout


def gate(repo: Cli, *arguments: str) -> subprocess.CompletedProcess[str]:
    return repo("gate", "--base", "HEAD", "--runner", "pytest", *arguments)


def verdicts(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    return {c["case"].rpartition("::")[2]: c for c in told(done)["cases"]}


def test_counters_of_the_fixture_gate_a_suite_exactly(repo: Cli) -> None:
    edit(repo, "ranker.py", "POOLING = 64, 2_000, 16, 10", "POOLING = 64, 2_000, 16, 11")
    edit(repo, "test_plain.py", "def test_other", "def test_another")
    done = gate(repo, "benchmarks", "test_plain.py", "--counters-only", "--json")
    assert done.returncode == 1, done.stdout + done.stderr
    found = verdicts(done)
    assert {name: c["status"] for name, c in found.items()} == {
        "test_inference": "REGRESSED",
        "test_published_model": "PASS",
        "test_plain": "PASS",
        "test_step": "PASS",
        "test_other": "MISSING",
        "test_another": "NEW",
    }
    assert "lookups 640 -> 704" in found["test_inference"]["reason"]["message"]


def test_a_file_that_one_side_cannot_import_is_an_error_and_takes_no_other_with_it(repo: Cli) -> None:
    (repo.folder / "test_good.py").write_text("def test_fine(benchmark):\n    benchmark(len, ())\n")
    git(repo.folder, "add", "-A")
    git(repo.folder, "commit", "-qm", "two")
    edit(repo, "test_plain.py", "def work", "import no_such_module\n\ndef work")
    done = gate(repo, "test_plain.py", "test_good.py", "--counters-only", "--json")
    assert done.returncode == 3, done.stdout + done.stderr
    found = {c["case"]: c for c in told(done)["cases"]}
    assert {name: c["status"] for name, c in found.items()} == {
        "test_good.py::test_fine": "PASS",
        "test_plain.py": "ERROR",
    }
    case = found["test_plain.py"]
    assert case["reason"]["message"] == "head: ModuleNotFoundError: No module named 'no_such_module'"
    assert "import no_such_module" in case["detail"]


def test_a_suite_that_dies_on_one_side_is_an_error_not_a_usage_error(repo: Cli) -> None:
    edit(repo, "test_plain.py", "    return sum(range(n))", "    import os; os.kill(os.getpid(), 11)")
    done = gate(repo, "test_plain.py", "--counters-only", "--json")
    assert done.returncode == 3, done.stdout + done.stderr
    assert {c["status"] for c in told(done)["cases"]} == {"ERROR"}
    assert "the head side's pytest ended by SIGSEGV" in told(done)["cases"][0]["reason"]["message"]


@pytest.mark.slow
def test_fresh_processes_alternate_and_a_gross_slow_down_is_found(repo: Cli) -> None:
    edit(repo, "test_plain.py", "benchmark(work, 20_000)", "benchmark(work, 2_000_000)")
    flags = ["--set", "n1=7,7", "--set", "n2=7,7", "--set", "target_frac=0.9", "--set", "min_effect_frac=0.5"]
    done = gate(repo, "test_plain.py", "--pytest-args", " ".join(QUICKLY), *flags, "--seed", "1", "--json")
    assert done.returncode == 1, done.stdout + done.stderr
    found = verdicts(done)
    assert found["test_step"]["status"] == "REGRESSED"
    assert found["test_step"]["stage2"]["epochs"] == 7
    assert found["test_other"]["status"] != "REGRESSED"
    (run,) = (repo.folder / "results" / "local").iterdir()
    lines = [json.loads(line) for line in (run / "gate.jsonl").read_text().splitlines()]
    first = {line["plan"]["epoch"]: line["plan"]["first"] for line in lines if line["type"] == "began"}
    blocks = [line for line in lines if line["type"] == "blocks"]
    assert set(first.values()) == {"base", "head"}
    assert all(b["head_first"] == [first[b["epoch"]] == "head"] for b in blocks)
    assert {"control:arithmetic", "control:gather"} <= {b["case"] for b in blocks}
    again = repo("gate", "--resume", str(run), "--json")
    assert told(again) == told(done)


BAD = {
    "no measuring tests": (["ranker.py"], ["pytest-benchmark"]),
    "unknown runner": (["x", "--runner", "nose"], ["nose", "steps"]),
    "no such file": (["missing.py"], ["exit code 4", "missing.py"]),
    "plan": (["test_plain.py", "--plan"], ["--plan", "--budget"]),
    "args for steps": (["x", "--runner", "steps", "--pytest-args", "-x"], ["--pytest-args"]),
    "xdist in the gate": (["test_plain.py", "--pytest-args", "-n 2"], ["one test at a time"]),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_clear_message_and_exit_2(repo: Cli, name: str) -> None:
    flags, expected = BAD[name]
    done = gate(repo, *flags)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback (most recent" not in done.stderr
    for words in expected:
        assert words in done.stderr
    assert not Path(repo.folder / "results").exists()
