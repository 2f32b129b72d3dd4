"""The verbs that only read: one JSON document each, tables that name what they show, clear errors."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from bench import store
from bench.metrics import METRICS
from tests import sample_records
from tests.e2e.conftest import Cli


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder with sample records in it."""
    folder = tmp_path / "run"
    folder.mkdir()
    found = [*sample_records.records()[:3], sample_records.records()[-1]]
    store.write_manifest(folder, sample_records.manifest(found))
    with store.Appender(folder) as out:
        for record in found:
            out.add(record)
    return folder


def read(cli: Cli, *arguments: str) -> Any:
    done = cli(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_machine_has_the_ceilings_with_kernel_spread_and_source(cli: Cli) -> None:
    machine = read(cli, "machine")
    ceilings = machine["ceilings"]
    assert len(machine["fingerprint"]) == 16
    assert {"row_bytes", "working_set_bytes", "bytes_per_s"} <= set(ceilings["gather"][0])
    single = [ceilings[f"stream_{name}"] for name in ("read", "write", "copy", "triad")]
    for ceiling in (*single, *ceilings["gather"], *ceilings["gemm"].values()):
        assert ceiling["source"] == "measured"
        assert ceiling["kernel"]
        assert 0 <= ceiling["spread_frac"] < 1
        assert (ceiling["bytes_per_s"] or ceiling["flops_per_s"]) > 0


def test_a_device_that_is_not_there_is_named(cli: Cli) -> None:
    done = cli("machine", "--device", "cuda:7")
    assert done.returncode == 2
    assert "no device cuda:7" in done.stderr


def test_doctor_finds_torch_and_says_what_to_do_about_the_rest(cli: Cli) -> None:
    findings = {f["topic"]: f for f in read(cli, "doctor")}
    assert findings["torch"]["level"] == "ok"
    assert {f["level"] for f in findings.values()} <= {"ok", "warn", "missing"}


@pytest.mark.parametrize("what", ["presets", "sweeps", "models", "backends", "indices", "lengths", "metrics"])
def test_every_list_is_not_empty(cli: Cli, what: str) -> None:
    assert all(row["name"] for row in read(cli, "list", what))
    assert what in cli("list").stdout


def test_list_says_why_a_backend_cannot_run(cli: Cli) -> None:
    rows = {(r["name"], r["device"]): r["unavailable"] for r in read(cli, "list", "backends")}
    assert rows["bag", "cpu"] is None
    assert ("bag", "cuda") in rows


def test_describe_has_the_papers_numbers(cli: Cli) -> None:
    found = read(cli, "describe", "paper")
    assert (found["table_rows"], found["table_bytes"]) == (8_000_000, 2_048_000_000)
    assert (found["lookups_per_sample"], found["gather_bytes_per_sample"]) == (800, 204_800)
    assert found["memory_needed_bytes"] == sum(found["memory_parts_bytes"].values())
    assert "embedding" in cli("describe", "paper").stdout


def test_describe_takes_axes_and_says_so(cli: Cli) -> None:
    found = read(cli, "describe", "paper", "--axis", "rows_scale=0.1", "--axis", "batch_size=7")
    assert (found["table_rows"], found["rows_scale"], found["batch_size"]) == (800_000, 0.1, 7)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["papr"], "did you mean 'paper'"),
        (["paper", "--axis", "dim=8,16"], "one value of each axis"),
        (["paper", "--axis", "backend=tbe"], "axes of the model"),
        (["paper", "--axis", "batch_size=0"], "batch_size = 0"),
    ],
)
def test_describe_answers_a_mistake(cli: Cli, flags: list[str], words: str) -> None:
    done = cli("describe", *flags)
    assert done.returncode == 2
    assert words in done.stderr


def test_show_as_json_table_and_csv(cli: Cli, run: Path) -> None:
    rows = read(cli, "show", str(run))
    plain = {"key", "case", "outcome", "metrics", "stages", "inputs"}
    told = {"trust", "advice", "modelled", "settings", "step_s_ci95_any_process"}
    assert [set(row) for row in rows] == [plain | told] * 4
    assert all(row["key"] in cli("show", str(run)).stdout for row in rows)
    table = list(csv.DictReader(io.StringIO(cli("show", str(run), "--csv").stdout)))
    assert [line["key"] for line in table] == [row["key"] for row in rows]
    assert {m.name for m in METRICS} <= set(table[0])


def test_report_of_a_run_and_of_two(cli: Cli, run: Path) -> None:
    assert cli("report", str(run)).returncode == 0
    both = cli("report", str(run), str(run), "--out", "both.html")
    assert both.returncode == 0, both.stderr
    assert (run / "report.html").exists()
    assert (cli.folder / "both.html").exists()


def test_reports_of_different_machines_are_not_mixed(cli: Cli, run: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    made = store.read_manifest(run)
    foreign = replace(made.machine, fingerprint=replace(made.machine.fingerprint, hash="f" * 16))
    store.write_manifest(other, replace(made, machine=foreign))
    done = cli("report", str(run), str(other))
    assert done.returncode == 2
    assert "different machines" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"), [(["swep"], "'sweep'"), (["sweep"], "list sweeps"), (["list", "preset"], "'presets'")]
)
def test_a_wrong_word_is_answered_with_the_right_one(cli: Cli, arguments: list[str], words: str) -> None:
    done = cli(*arguments)
    assert done.returncode == 2
    assert words in done.stderr


def test_a_pipe_that_closes_early_is_no_error(cli: Cli) -> None:
    process = cli.start("list", "--json")
    assert process.stdout is not None
    process.stdout.close()
    _, said = process.communicate(timeout=60)
    assert "Traceback" not in said
