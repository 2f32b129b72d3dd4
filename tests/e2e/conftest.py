"""The real command line in a subprocess, with a machine cache and a lock of the test session's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from filelock import FileLock

ROOT = Path(__file__).parent.parent.parent


class Cli:
    """Runs `dlrm-bench` in `folder`."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder, self.environment = folder, environment

    def command(self, arguments: Sequence[str]) -> list[str]:
        return [sys.executable, "-m", "bench", *arguments]

    def __call__(self, *arguments: str, timeout: float = 240) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(arguments),
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """In a process group of its own, so that a test can kill all of it."""
        return subprocess.Popen(
            self.command(arguments),
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )


@pytest.fixture(scope="session")
def cli_environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    own = tmp_path_factory.mktemp("own")
    shared = tmp_path_factory.getbasetemp().parent if "PYTEST_XDIST_WORKER" in os.environ else own
    # A pytest that a test starts is not one of our workers.
    plain = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST_")}
    environment = plain | {
        "DLRM_BENCH_CACHE": str(shared / "cache"),
        "DLRM_BENCH_LOCK": str(own / "bench.lock"),
        "PYTHONPATH": os.pathsep.join(p for p in (str(ROOT), os.environ.get("PYTHONPATH", "")) if p),
        "COLUMNS": "200",
    }
    with FileLock(shared / "ceilings.lock"):
        _keep_ceilings(Cli(own, environment))
    return environment


def _keep_ceilings(cli: Cli) -> None:
    """Measure once for all workers. On a busy machine the program would not keep them, and measure in every test."""
    done = cli("machine", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    path = Path(cli.environment["DLRM_BENCH_CACHE"]) / "machines" / f"{told['fingerprint']}.json"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        stored = {"schema_version": 1, "fingerprint": told["fingerprint"], "ceilings": {"cpu": told["ceilings"]}}
        path.write_text(json.dumps(stored))


@pytest.fixture
def cli(tmp_path: Path, cli_environment: dict[str, str]) -> Cli:
    return Cli(tmp_path, cli_environment)
