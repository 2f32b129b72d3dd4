"""Realistic regressions in a user's repository, each named by the deterministic tier: no timing, no luck."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.conftest import Cli
from tests.e2e.test_gate_cli import cases, edit, git

STEPS = """
import torch
from workloads.work import StageWork, Work

BATCH, ROWS, DIM = 64, 1_000, 16
POOLING = 10

def lookup():
    table = torch.nn.EmbeddingBag(ROWS, DIM, mode="sum")
    indices = torch.randint(0, ROWS, (BATCH, POOLING))
    gathered = BATCH * POOLING * DIM * 4
    stages = {"embedding": StageWork(flops=BATCH * POOLING * DIM, bytes_compulsory=gathered)}
    work = Work(samples=BATCH, lookups=BATCH * POOLING, row_bytes=DIM * 4, stages=stages)
    def step():
        with torch.no_grad():
            return table(indices)
    return step, work

def interaction():
    features = torch.randn(BATCH, 8, DIM)
    def step():
        return torch.bmm(features, features.transpose(1, 2))
    return step

def layer():
    x, weight, bias = torch.randn(BATCH, DIM), torch.randn(DIM, DIM), torch.randn(DIM)
    def step():
        return torch.addmm(bias, x, weight).relu_()
    return step

def untouched():
    x = torch.randn(BATCH, DIM)
    return lambda: x @ x.t()
"""
SUITE = [f"steps.py:{name}" for name in ("lookup", "interaction", "layer", "untouched")]
EDITS = {
    "POOLING = 10": "POOLING = 11",
    "features.transpose(1, 2))": "features.transpose(1, 2).contiguous())",
    "torch.addmm(bias, x, weight).relu_()": "torch.relu(x @ weight + bias)",
}


@pytest.fixture
def repo(cli: Cli) -> Cli:
    (cli.folder / "steps.py").write_text(STEPS)
    git(cli.folder, "init", "-q")
    git(cli.folder, "add", "-A")
    git(cli.folder, "commit", "-qm", "one")
    return cli


def test_each_regression_is_named_and_what_was_not_touched_is_not(repo: Cli) -> None:
    for old, new in EDITS.items():
        edit(repo, "steps.py", old, new)
    junit, page = Path("junit.xml"), Path("gate.md")
    formats = ["--junit", str(junit), "--markdown", str(page)]
    done = repo("gate", "--base", "HEAD", *SUITE, "--counters-only", "--json", *formats)
    assert done.returncode == 1, done.stderr
    found = cases(done)
    assert {n: c["status"] for n, c in found.items()} == {
        "lookup": "REGRESSED",
        "interaction": "REGRESSED",
        "layer": "REGRESSED",
        "untouched": "PASS",
    }
    told = {name: case["reason"]["message"] for name, case in found.items()}
    assert "lookups 640 -> 704" in told["lookup"]
    assert "compulsory_bytes 40,960 -> 45,056" in told["lookup"]
    assert "copies 0 -> 1" in told["interaction"]
    assert "allocated_peak_bytes" in told["interaction"]
    # A product with the bias in it becomes a product and a sum: one more tensor is written and read again.
    assert "operand_bytes 17,472 -> 25,664" in told["layer"]
    assert "copies" not in told["layer"]
    assert (repo.folder / junit).read_text().count('<failure type="regression"') == 3
    assert "**3 regressed, 1 unchanged.**" in (repo.folder / page).read_text()


def test_changes_that_head_does_not_have_are_told(repo: Cli) -> None:
    edit(repo, "steps.py", "POOLING = 10", "POOLING = 11")
    done = repo("gate", "--base", "HEAD", "--head", "HEAD", "steps.py:untouched", "--plan")
    assert done.returncode == 0, done.stderr
    assert "the working tree has changes that are not in HEAD" in done.stderr


def test_another_torch_is_not_comparable_with_stored_counters(repo: Cli) -> None:
    saved = repo("gate", "steps.py:lookup", "--counters-only", "--save", "counters.json")
    assert saved.returncode == 0, saved.stderr
    stored = repo.folder / "counters.json"
    text = stored.read_text()
    version = text.partition('"torch": "')[2].partition('"')[0]
    stored.write_text(text.replace(version, "1.0.0"))
    done = repo("gate", "steps.py:lookup", "--counters-only", "--against", "counters.json", "--json")
    assert done.returncode == 4, done.stderr
    (case,) = cases(done).values()
    assert (case["status"], case["reason"]["code"]) == ("NOT_COMPARABLE", "torch")
    assert "save the counters anew" in case["reason"]["message"]
