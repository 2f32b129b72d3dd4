"""inspect on the command line: quality first, one JSON document, CSV files, clear errors, no torch."""

from __future__ import annotations

import csv
import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import ROOT, Cli
from tests.traces import call, event, mark, work

KEYS = {"quality", "window", "devices", "components", "coverage_frac", "launches", "copies", "kernels", "verdict"}
DERIVED = ROOT.parent / "shared/traces/open/derived"


def step(rank: int) -> list[dict[str, Any]]:
    return [
        mark("ProfilerStep#1", 0, 9_000),
        event("aten::mm", 100, 900),
        call(200, 100, 1),
        work("gemm", 1_000, 1_000 + rank, correlation=1),
    ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Traces of two ranks."""
    for rank in (1, 0):
        text = json.dumps({"distributedInfo": {"rank": rank}, "traceEvents": step(rank)}).encode()
        (tmp_path / f"worker{1 - rank}.pt.trace.json.gz").write_bytes(gzip.compress(text))
    return tmp_path


def test_quality_comes_first(cli: Cli, folder: Path) -> None:
    path = folder / "worker1.pt.trace.json.gz"
    done = cli("inspect", str(path))
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == f"{path} (rank 0)"
    assert lines[1] == "data quality: 4 events, 1 of them GPU work, 1 step; no faults found"
    assert lines[2] == "window: all, nothing dropped"
    assert "gemm" in done.stdout
    windowed = cli("inspect", str(path), "--window", "steps").stdout
    assert "window: steps, 1 step, 0.009 ms from 0.000 ms on" in windowed


def test_one_json_document(cli: Cli, folder: Path) -> None:
    one = json.loads(cli("inspect", str(folder / "worker1.pt.trace.json.gz"), "--json").stdout)
    assert set(one) >= KEYS
    assert one["devices"]["0"]["busy_us"] == 1.0
    both = json.loads(cli("inspect", str(folder), "--json").stdout)
    assert [t["rank"] for t in both["traces"]] == [0, 1]
    assert [t["devices"]["0"]["busy_us"] for t in both["traces"]] == [1.0, 1.001]


def test_what_is_no_trace_in_a_folder_is_named_and_left_out(cli: Cli, folder: Path) -> None:
    others = {"a.json": "see b.json", "b.json": json.dumps({"cases": []}), "c.json": json.dumps([{"name": "case"}])}
    for name, text in others.items():
        (folder / name).write_text(text)
    done = cli("inspect", str(folder), "--json")
    assert done.returncode == 0
    assert [t["rank"] for t in json.loads(done.stdout)["traces"]] == [0, 1]
    told = done.stderr.splitlines()
    assert [line.partition(".json: ")[0] for line in told] == [f"left out: {folder / name}" for name in "abc"]
    assert cli("inspect", str(folder / "b.json")).returncode == 2
    # A damaged trace is a rank that is missing, not a file of another kind.
    (folder / "rank2.json").write_text('{"schemaVersion": 1, "devi')
    done = cli("inspect", str(folder))
    assert (done.returncode, "rank2.json" in done.stderr) == (2, True)


def test_packed_and_unpacked_ranks_beside_each_other(cli: Cli, tmp_path: Path) -> None:
    for rank, name in enumerate(("rank0.json", "rank1.json.gz")):
        text = json.dumps({"distributedInfo": {"rank": rank}, "traceEvents": step(rank)}).encode()
        (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    found = json.loads(cli("inspect", str(tmp_path), "--json").stdout)
    assert [t["rank"] for t in found["traces"]] == [0, 1]


def test_csv_into_a_folder_or_a_file(cli: Cli, folder: Path) -> None:
    done = cli("inspect", str(folder), "--csv", "out")
    assert (done.returncode, done.stdout) == (0, "")
    with (cli.folder / "out/devices.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["rank"], row["busy_us"]) for row in rows] == [("0", "1.0"), ("1", "1.001")]
    assert cli("inspect", str(folder), "--csv", "kernels.csv").returncode == 0
    with (cli.folder / "kernels.csv").open() as file:
        assert {row["name"] for row in csv.DictReader(file)} == {"gemm"}
    done = cli("inspect", str(folder), "--csv", "kernels.csv/out")
    assert done.returncode == 2
    assert "cannot be written" in done.stderr


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (None, "No such file"),
        (b"", "is empty"),
        (b"hello", "no JSON"),
        (b'{"traceEvents": [{"ph"', "no event can be read"),
    ],
)
def test_what_cannot_be_read_is_one_line_and_exit_code_2(cli: Cli, tmp_path: Path, content: bytes, what: str) -> None:
    path = tmp_path / "t.json"
    if content is not None:
        path.write_bytes(content)
    done = cli("inspect", str(path), "--json")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert what in done.stderr
    assert str(path) in done.stderr


def test_wrong_words(cli: Cli, folder: Path) -> None:
    done = cli("inspect", str(folder), "--window", "some")
    assert done.returncode == 2
    assert "steps-without-first-and-last" in done.stderr
    assert cli("inspect").returncode == 2


@pytest.mark.skipif(not DERIVED.is_dir(), reason="no real traces in shared/traces beside the repository")
def test_every_damaged_trace_is_answered(cli: Cli) -> None:
    for path in sorted(DERIVED.iterdir()):
        done = cli("inspect", str(path))
        assert (done.returncode, done.stderr) == (0, ""), path
        line = done.stdout.splitlines()[1]
        assert line.startswith("data quality: ")
        truncated = "truncated" in path.name
        assert ("TRUNCATED" in line) == truncated, line


def test_no_torch_for_reading_traces() -> None:
    heavy = "{'torch', 'matplotlib', 'pandas'}"
    code = f"import sys, bench.commands.inspect_traces; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
