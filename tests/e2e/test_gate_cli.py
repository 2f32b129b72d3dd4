"""`dlrm-bench gate` as a user runs it: a small git repository, real processes on both sides."""

from __future__ import annotations

import gzip
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Cli

PURE = """
def work(n):
    return lambda: sum(range(n))

def step():
    return work(20_000)

def other():
    return work(5_000)
"""
TORCH = """
import torch
import helper

POOLING = 10

def model():
    x, rows = torch.randn(64, 32), torch.randn(500, 32)
    indices, offsets = torch.randint(0, 500, (64 * POOLING,)), torch.arange(0, 64 * POOLING, POOLING)
    def step():
        with torch.no_grad():
            return helper.forward(x, rows, indices, offsets)
    return step
"""
HELPER = """
import torch

def forward(x, rows, indices, offsets):
    pooled = torch.nn.functional.embedding_bag(indices, rows, offsets, mode="sum")
    return torch.relu((x.t() @ x) + (pooled.t() @ pooled))
"""
MINIMAL = ["--set", "n1=7,7", "--set", "n2=7,7", "--set", "pairs=6", "--set", "block_s=0.003", "--seed", "1"]
GROSS = ["--set", "target_frac=0.9", "--set", "min_effect_frac=0.5"]
"""Only gross changes: other processes of the test machine must not be able to move a verdict."""


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True)


@pytest.fixture
def repo(cli: Cli) -> Cli:
    (cli.folder / "steps.py").write_text(PURE)
    (cli.folder / "torch_steps.py").write_text(TORCH)
    (cli.folder / "helper.py").write_text(HELPER)
    git(cli.folder, "init", "-q")
    git(cli.folder, "add", "-A")
    git(cli.folder, "commit", "-qm", "one")
    return cli


def edit(repo: Cli, file: str, old: str, new: str) -> None:
    text = (repo.folder / file).read_text()
    assert old in text
    (repo.folder / file).write_text(text.replace(old, new))


def told(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def cases(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    return {c["case"].rpartition(":")[2]: c for c in told(done)["cases"]}


def run_dir(repo: Cli) -> Path:
    (found,) = (repo.folder / "results" / "local").iterdir()
    return found


def test_unchanged_code_is_not_red_and_everything_is_written(repo: Cli) -> None:
    done = repo("gate", "--base", "HEAD", "steps.py:step", "steps.py:other", "--json", *MINIMAL, *GROSS)
    assert done.returncode in (0, 5), done.stderr
    for case in cases(done).values():
        assert case["counters"] == []
        assert case["stage1"]["epochs"] == 7
    run = run_dir(repo)
    files = {"run.json", "gate.jsonl", "gate.json", "gate.md", "gate.html", "junit.xml"}
    assert files <= {p.name for p in run.iterdir()}
    blocks = [json.loads(line) for line in (run / "gate.jsonl").read_text().splitlines()]
    timed = [b for b in blocks if b["type"] == "blocks"]
    assert all(len(b["base_s"]) == len(b["head_s"]) == 6 and sum(b["head_first"]) == 3 for b in timed)
    status = subprocess.run(
        ["git", "-C", str(repo.folder), "status", "--porcelain"], capture_output=True, text=True, check=True
    )
    assert status.stdout == ""
    again = repo("gate", "--resume", str(run), "--json")
    assert told(again) == told(done)


@pytest.mark.slow
def test_torch_steps_are_timed_with_the_idle_side_parked(repo: Cli) -> None:
    few = ["--set", "n1=5,5", "--set", "n2=5,5", "--set", "pairs=2", "--set", "control_level=0.05"]
    done = repo("gate", "--base", "HEAD", "torch_steps.py:model", "--json", *few, *GROSS)
    assert done.returncode in (0, 5), done.stderr
    (case,) = cases(done).values()
    assert case["counters"] == []
    assert case["stage1"]["epochs"] == 5


@pytest.mark.slow
def test_a_gross_slow_down_is_a_regression(repo: Cli) -> None:
    edit(repo, "steps.py", "work(20_000)", "work(400_000)")
    done = repo("gate", "--base", "HEAD", "steps.py:step", "steps.py:other", *MINIMAL, *GROSS, "--junit", "junit.xml")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 regressed, 1" in done.stdout
    assert "slower, confirmed on 7 new epochs" in done.stdout
    assert "stage 2, new epoch 7: confirming" in done.stderr
    assert '<failure type="regression"' in (repo.folder / "junit.xml").read_text()


def test_an_extra_copy_and_more_lookups_are_named_by_the_counters(repo: Cli) -> None:
    edit(repo, "helper.py", "x.t() @ x", "x.t().contiguous() @ x")
    done = repo("gate", "--base", "HEAD", "torch_steps.py:model", "--counters-only", "--json")
    assert done.returncode == 1, done.stderr
    (case,) = cases(done).values()
    assert case["reason"]["code"] == "counters"
    assert "copies 1 -> 2" in case["reason"]["message"]
    git(repo.folder, "commit", "-qam", "two")
    edit(repo, "torch_steps.py", "POOLING = 10", "POOLING = 11")
    done = repo("gate", "--base", "HEAD", "torch_steps.py:model", "--counters-only", "--json")
    assert done.returncode == 1, done.stderr
    (case,) = cases(done).values()
    names = {c["name"] for c in case["counters"] if c["breach"]}
    assert "operand_bytes" in names
    assert "copies" not in names


def test_counters_are_saved_and_compared_with_a_file(repo: Cli) -> None:
    saved = repo("gate", "torch_steps.py:model", "--counters-only", "--save", "counters.json")
    assert saved.returncode == 0, saved.stderr
    assert json.loads((run_dir(repo) / "run.json").read_text())["save"] is True
    same = repo("gate", "torch_steps.py:model", "--counters-only", "--against", "counters.json", "--json")
    assert same.returncode == 0, same.stderr
    edit(repo, "helper.py", "torch.relu(", "torch.relu(0 + ")
    more = repo("gate", "torch_steps.py:model", "--counters-only", "--against", "counters.json", "--json")
    assert more.returncode == 1, more.stderr
    assert "operators" in cases(more)["model"]["reason"]["message"]


def test_a_model_of_ours_is_counted_by_lookups_flops_and_bytes(repo: Cli) -> None:
    text = '[[grid]]\npreset = "tiny"\n[grid.set]\nbatch_size = 16\npooling_factor = 10\n'
    (repo.folder / "mine.toml").write_text(text)
    git(repo.folder, "add", "-A")
    git(repo.folder, "commit", "-qm", "sweep")
    same = repo("gate", "--base", "HEAD", "mine.toml", "--counters-only", "--json")
    assert same.returncode == 0, same.stderr
    lines = [json.loads(line) for line in (run_dir(repo) / "gate.jsonl").read_text().splitlines()]
    counted = [line for line in lines if line["type"] == "counted"]
    assert [line["side"] for line in counted] == ["base", "head"]
    assert counted[0]["counters"] == counted[1]["counters"]
    assert {"lookups", "modelled_flops", "compulsory_bytes", "operators"} <= set(counted[0]["counters"])


def test_a_side_that_cannot_import_is_an_error_with_its_traceback(repo: Cli) -> None:
    edit(repo, "steps.py", "def work", "import no_such_module\n\ndef work")
    done = repo("gate", "--base", "HEAD", "steps.py:step", "--counters-only", "--json")
    assert done.returncode == 3, done.stderr
    (case,) = cases(done).values()
    assert case["status"] == "ERROR"
    assert case["reason"]["message"].startswith("head: ModuleNotFoundError")
    assert "steps.py" in case["detail"]
    assert "head failed: ModuleNotFoundError" in done.stderr


def test_a_case_that_one_side_lacks_is_missing_or_new(repo: Cli) -> None:
    edit(repo, "steps.py", "def other", "def another")
    done = repo(
        "gate", "--base", "HEAD", "steps.py:step", "steps.py:other", "steps.py:another", "--counters-only", "--json"
    )
    assert done.returncode == 1, done.stderr
    assert {n: c["status"] for n, c in cases(done).items()} == {"step": "PASS", "other": "MISSING", "another": "NEW"}


ENDINGS = {
    "return lambda: float('nan')": "output holds NaN",
    "import os; os.kill(os.getpid(), 11)": "ended during build by SIGSEGV",
    "raise SystemExit(4)": "SystemExit: 4",
    "return 5": "must return a step",
}


@pytest.mark.parametrize("body", ENDINGS)
def test_what_is_wrong_or_dies_is_an_error_never_fast(repo: Cli, body: str) -> None:
    edit(repo, "steps.py", "    return work(20_000)", f"    {body}")
    done = repo("gate", "--base", "HEAD", "steps.py:step", "steps.py:other", "--counters-only", "--json")
    assert done.returncode == 3, done.stderr
    assert ENDINGS[body] in cases(done)["step"]["reason"]["message"]
    assert cases(done)["other"]["status"] == "PASS"


def test_code_imported_from_the_working_tree_on_both_sides_is_refused(repo: Cli) -> None:
    (repo.folder / "hidden").mkdir()
    shutil.move(repo.folder / "helper.py", repo.folder / "hidden" / "helper.py")
    git(repo.folder, "add", "-A")
    git(repo.folder, "commit", "-qm", "moved")
    repo.environment = repo.environment | {
        "PYTHONPATH": repo.environment["PYTHONPATH"] + ":" + str(repo.folder / "hidden")
    }
    done = repo("gate", "--base", "HEAD", "torch_steps.py:model", "--counters-only", "--json")
    assert done.returncode == 3, done.stderr
    assert "both sides would measure the same code" in cases(done)["model"]["reason"]["message"]


BAD = {
    "unknown revision": (["--base", "nope", "steps.py:step"], ["nope", "not a revision", "one"]),
    "no suite": (["--base", "HEAD"], ["SUITE"]),
    "no base": (["steps.py:step"], ["--base REV"]),
    "unknown sweep": (["--base", "HEAD", "quik"], ["quik", "quick"]),
    "never rejects": (["--base", "HEAD", "steps.py:step", "--set", "n2=3,4"], ["n2", "at least 5 epochs", "ever fail"]),
    "unknown preset": (["--base", "HEAD", "steps.py:step", "--preset", "fast"], ["preset", "'fast'", "quick"]),
    "unknown setting": (["--base", "HEAD", "steps.py:step", "--set", "n3=4"], ["n3"]),
    "save alone": (["steps.py:step", "--save", "f.json"], ["--counters-only"]),
    "no file": (["steps.py:step", "--counters-only", "--against", "f.json"], ["f.json", "--save"]),
    "no run": (["--resume", "nowhere"], ["nowhere", "folder of a gate run"]),
    "budget": (["--base", "HEAD", "steps.py:step", "--budget", "soon"], ["--budget", "10m"]),
    "no interpreter": (["--base-python", "/no/python", "steps.py:step"], ["/no/python", "interpreter"]),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_clear_message_and_exit_2(repo: Cli, name: str) -> None:
    flags, expected = BAD[name]
    done = repo("gate", *flags)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    for words in expected:
        assert words in done.stderr
    assert not (repo.folder / "results").exists()


def test_a_plan_runs_nothing(repo: Cli) -> None:
    done = repo("gate", "--base", "HEAD", "steps.py:step", "--plan", "--json")
    assert done.returncode == 0, done.stderr
    assert told(done)["run"] == ["steps.py:step"]
    assert told(done)["detectable_frac"]["0.01"] >= 0.025
    assert not (repo.folder / "results").exists()


def test_outside_a_repository_it_says_so(cli: Cli) -> None:
    done = cli("gate", "--base", "HEAD", "steps.py:step")
    assert done.returncode == 2
    assert "no git repository here" in done.stderr


def test_an_interrupted_gate_keeps_whole_epochs_and_goes_on(repo: Cli) -> None:
    process = repo.start("gate", "--base", "HEAD", "steps.py:step", *MINIMAL, *GROSS)
    while not [p for p in repo.folder.glob("results/local/*/gate.jsonl") if p.read_text().count('"ended"') >= 3]:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "gate --resume" in said
    done = repo("gate", "--resume", str(run_dir(repo)), "--json")
    assert done.returncode in (0, 5), done.stderr
    assert cases(done)["step"]["stage1"]["epochs"] == 7
    edit(repo, "steps.py", "20_000", "20_001")
    (run_dir(repo) / "gate.jsonl").write_text("")
    changed = repo("gate", "--resume", str(run_dir(repo)))
    assert changed.returncode == 2
    assert "is not what it was when the run began" in changed.stderr


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["aa", "power", "hostile"])
def test_live_selftests_judge_the_tree_against_itself(repo: Cli, kind: str) -> None:
    flags = [*MINIMAL[:-2], *GROSS, "--inject", "9.0", "--out", "kept", "--json"]
    done = repo("selftest", kind, "steps.py:step", *flags)
    report = told(done)
    assert report["kind"] == kind
    assert report["judged"] == 1
    assert report["cases"][0]["epochs"] >= 7
    assert len(report["disturbed_by"]) == (2 if kind == "hostile" else 0)
    if kind == "power":
        assert report["injected_frac"] == 9.0
        assert report["invalid_runs"] or report["failed"] == 1
    else:
        assert report["failed"] == 0
        assert done.returncode == 0
    (home,) = (repo.folder / "kept").iterdir()
    assert {"run-1", "selftest.json", "selftest.html", "selftest-run.json"} <= {p.name for p in home.iterdir()}
    kept = repo("selftest", "keep", str(home), "--out", "public")
    assert kept.returncode == 0, kept.stderr
    for folder in (str(home), "public"):
        again = repo("selftest", "judge", folder, "--json", "--out", "page.html")
        assert (repo.folder / "page.html").read_bytes() == (home / "selftest.html").read_bytes()
        assert (again.returncode, told(again)) == (done.returncode, report)
    packed = sorted(p for p in (repo.folder / "public").rglob("*") if p.is_file())
    names = ["gate.jsonl.gz", "run.json.gz", "selftest-run.json", "selftest.json"]
    assert [p.name for p in packed] == names
    for path in packed:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        assert str(repo.folder).encode() not in content
        assert sys.executable.encode() not in content


@pytest.mark.slow
def test_a_stopped_live_selftest_goes_on_where_it_was(repo: Cli) -> None:
    begun = repo("selftest", "aa", "steps.py:step", *MINIMAL[:-2], *GROSS, "--out", "kept", "--json")
    assert begun.returncode == 0, begun.stderr
    (home,) = (repo.folder / "kept").iterdir()
    log = home / "run-1" / "gate.jsonl"
    lines = log.read_text().splitlines(keepends=True)
    log.write_text("".join(lines[: len(lines) // 2]))
    edit(repo, "steps.py", "20_000", "20_001")
    done = repo("selftest", "aa", "--resume", str(home), "--runs", "2", "--json")
    assert done.returncode == 0, done.stderr
    report = told(done)
    assert (report["runs"], report["judged"], len(report["gate_s"])) == (2, 2, 2)
    assert report["redrawn"]["epochs"] == 14
    assert log.read_text().startswith("".join(lines[: len(lines) // 2]))
    assert "so far 0 of 2 cases failed" in done.stderr
    (home / "run-2" / "gate.jsonl").write_text("".join(lines[: len(lines) // 2]))
    half = repo("selftest", "judge", str(home), "--json")
    assert told(half)["runs"] == 1
    assert "1 of 2 gates are finished, the others are left out" in half.stderr
    other = repo("selftest", "power", "--resume", str(home))
    assert other.returncode == 2
    assert "this is a self-test aa" in other.stderr
