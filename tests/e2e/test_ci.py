"""The GitHub Action's own script run for real, and what .ci/gate holds against what."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.gate import counters
from bench.gate.suite import Place, suite_cases
from tests.e2e.conftest import ROOT, Cli
from tests.e2e.test_gate_cli import PURE, edit, git

yaml = pytest.importorskip("yaml")


def action() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text())
    return found


@pytest.fixture
def repo(cli: Cli) -> Cli:
    (cli.folder / "steps.py").write_text(PURE)
    git(cli.folder, "init", "-q")
    git(cli.folder, "add", "-A")
    git(cli.folder, "commit", "-qm", "one")
    return cli


def run_step(repo: Cli, number: int, **environment: str) -> subprocess.CompletedProcess[str]:
    """A step's script, as a runner runs it: bash that ends at the first error."""
    script = action()["runs"]["steps"][number]["run"]
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
        cwd=repo.folder,
        env=repo.environment | environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def gated(repo: Cli, home: Path, suite: str, arguments: str = "--counters-only") -> tuple[str, dict[str, str], str]:
    """(code, outputs, what the log shows) of the first step."""
    home.mkdir(exist_ok=True)
    files = {name: str(home / name) for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
    command = f"{sys.executable} -m bench"
    runner = {"RUNNER_TEMP": str(home), "GITHUB_ACTIONS": "true", "COMMAND": command, **files}
    done = run_step(repo, 0, SUITE=suite, BASE="HEAD", ARGUMENTS=arguments, **runner)
    assert done.returncode == 0, done.stderr
    outputs = dict(line.split("=", 1) for line in (home / "GITHUB_OUTPUT").read_text().splitlines())
    return outputs["code"], outputs, done.stderr


def test_the_report_is_uploaded_before_the_job_fails(repo: Cli, tmp_path: Path) -> None:
    gate, upload, end = action()["runs"]["steps"]
    assert (upload["if"], end["if"]) == ("always()", "always()")
    assert upload["with"]["path"] == "${{ steps.gate.outputs.report }}"
    assert upload["with"]["name"] == "${{ steps.gate.outputs.artifact }}"
    assert "exit" not in gate["run"]
    edit(repo, "steps.py", "def other", "def renamed")
    lines = "steps.py:step\nsteps.py:other\n", "--counters-only\n--seed 5\n"
    code, outputs, log = gated(repo, tmp_path / "runner", *lines)
    assert code == "1"
    report = Path(outputs["report"])
    assert json.loads((report / "gate.json").read_text())["counts"] == {"MISSING": 1, "PASS": 1}
    (manifest,) = report.glob("runs/*/run.json")
    assert json.loads(manifest.read_text())["seed"] == 5
    assert "1 missing" in (report / "gate.md").read_text()
    assert '<failure type="missing"' in (report / "junit.xml").read_text()
    assert "1 missing" in (tmp_path / "runner" / "GITHUB_STEP_SUMMARY").read_text()
    assert "::error file=steps.py,title=steps.py%3Aother%3A MISSING::" in log
    assert run_step(repo, 2, CODE=code).returncode == 1


def test_the_exit_code_is_the_gates(repo: Cli, tmp_path: Path) -> None:
    home = tmp_path / "runner"
    code, first, _ = gated(repo, home, "steps.py:step")
    assert code == "0"
    assert first["artifact"] == Path(first["report"]).name
    edit(repo, "steps.py", "    return work(20_000)", "    return lambda: float('nan')")
    assert gated(repo, home, "steps.py:step")[0] == "3"
    code, last, _ = gated(repo, home, "nothing")
    assert code == "2"
    assert last["artifact"] != first["artifact"]
    assert not (Path(last["report"]) / "gate.md").exists(), "a report of another use of the action in the same job"
    assert (Path(first["report"]) / "gate.md").exists()
    assert run_step(repo, 2, CODE="").returncode == 2
    assert run_step(repo, 2, CODE="0").returncode == 0


def test_our_own_gate_holds_every_case_against_a_reviewed_file() -> None:
    place = Place(root=ROOT, folder=ROOT)
    stored = counters.read(ROOT / ".ci" / "counters.json")
    assert stored.torch is not None
    assert [c.name for c in suite_cases([".ci/gate.toml"], None, place)] == list(stored.cases)
    assert all(found["operators"] > 0 and found["modelled_flops"] > 0 for found in stored.cases.values())
    assert (ROOT / ".ci" / "run").read_text().rstrip().endswith(".ci/gate")
    subprocess.run(["bash", "-n", str(ROOT / ".ci" / "gate")], check=True)
