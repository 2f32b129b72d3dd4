"""Runs in other tools' formats, read back by those tools where they can be had."""

from __future__ import annotations

import csv
import json
import math
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bench import exporting, metrics, store
from bench.commands.compare import compare_runs
from bench.commands.export import export_run
from bench.errors import Exit, SchemaError, UsageError
from bench.exporting import FORMATS
from bench.gate.advisory import compare, timed
from bench.pytesting.read import read_benchmarks
from bench.pytesting.round_stats import round_stats
from bench.records import Outcome, Record
from tests import sample_records
from workloads.spec import SpecError

GOOD = [sample_records.record(c) for c in sample_records.scaling_cases()[:3]]
BAD = msgspec.structs.replace(
    GOOD[0], key="bad", outcome=Outcome(status="failed", kind="error", reason="boom"), measurement=None
)


def run_folder(folder: Path, records: list[Record], **changes: Any) -> Path:
    folder.mkdir(parents=True)
    store.write_manifest(folder, msgspec.structs.replace(sample_records.manifest(records), **changes))
    with store.Appender(folder) as out:
        for record in records:
            out.add(record)
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return run_folder(tmp_path / "run", [*GOOD, BAD], commit="0123456789abcdef0123456789abcdef01234567")


def exported(run: Path, to: str, capsys: pytest.CaptureFixture[str]) -> Path:
    export_run(run, to, None)
    told = capsys.readouterr()
    assert ("1 cases without times are left out" in told.err) == (to not in ("csv", "parquet"))
    return Path(told.out.strip())


def document(path: Path) -> Any:
    return json.loads(path.read_text())


def test_csv_has_every_case_and_metric(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with exported(run, "csv", capsys).open() as file:
        rows = list(csv.DictReader(file))
    assert [r["status"] for r in rows] == ["ok", "ok", "ok", "failed"]
    assert list(rows[0])[3:] == [m.name for m in metrics.METRICS]
    machine = store.read_manifest(run).machine
    assert float(rows[0]["step_s_p50"]) == metrics.value(GOOD[0], machine, "step_s_p50")


def test_parquet_is_read_by_pandas(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import pandas as pd

    frame = pd.read_parquet(exported(run, "parquet", capsys))
    machine = store.read_manifest(run).machine
    assert list(frame["key"]) == [r.key for r in (*GOOD, BAD)]
    assert frame["step_s_p50"][1] == metrics.value(GOOD[1], machine, "step_s_p50")
    assert frame["fraction_of_roof"].dtype == "float64"
    assert math.isnan(frame["step_s_p50"][3])
    assert set(frame["fingerprint"]) == {machine.fingerprint.hash}


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6, 7, 8, 9, 14, 101])
def test_round_statistics_are_those_of_pytest_benchmark(count: int) -> None:
    import random

    from pytest_benchmark.stats import Stats

    chance = random.Random(count)
    data = [chance.expovariate(1.0) for _ in range(count)]
    theirs = Stats()
    for value in data:
        theirs.update(value)
    ours, wanted = round_stats(data), theirs.as_dict() | {"data": data}
    assert ours.keys() == wanted.keys()
    for name, value in wanted.items():
        assert ours[name] == (pytest.approx(value) if name != "outliers" else value), name


def test_no_round_has_no_statistics() -> None:
    with pytest.raises(ValueError, match="at least one round"):
        round_stats([])


def test_pytest_benchmarks_own_compare_reads_the_file(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = exported(run, "pytest-benchmark", capsys)
    done = subprocess.run(
        [sys.executable, "-m", "pytest_benchmark", "compare", str(path), "--csv", str(path.with_suffix(".csv"))],
        capture_output=True,
        text=True,
        cwd=run,
        check=True,
    )
    assert all(r.key in done.stdout for r in GOOD), done.stdout + done.stderr
    with path.with_suffix(".csv").open() as file:
        rows = {r["name"]: r for r in csv.DictReader(file)}
    for record in GOOD:
        assert record.measurement is not None
        assert float(rows[record.key]["min"]) == pytest.approx(min(record.measurement.times_s))
    extra = document(path)["benchmarks"][0]["extra_info"]
    assert extra["fingerprint"] == GOOD[0].machine
    assert extra["bytes_compulsory"] > 0
    assert 0 < extra["fraction_of_roof"] < 1.5


def test_what_was_written_is_read_back_as_it_was(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = exported(run, "pytest-benchmark", capsys)
    for case in compare(timed(GOOD), read_benchmarks(path)):
        assert case.change_frac == pytest.approx(0)
    assert compare_runs(run, path, as_json=True) == Exit.OK


def test_asv_loads_its_files(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = pytest.importorskip("asv.results")
        util = pytest.importorskip("asv.util")
        from asv.benchmarks import Benchmarks
        from asv.machine import Machine
    path = exported(run, "asv", capsys)
    loaded = results.Results.load(str(path), machine_name=path.parent.name)
    assert loaded.commit_hash == store.read_manifest(run).commit
    described = util.load_json(str(path.parent.parent / "benchmarks.json"), api_version=Benchmarks.api_version)
    machine = util.load_json(str(path.parent / "machine.json"), api_version=Machine.api_version)
    assert machine["machine"] == path.parent.name == loaded.params["machine"]
    names = set(loaded.get_all_result_keys())
    assert names == {name for name in described if name != "version"}
    assert len(names) == len(GOOD)
    for record in GOOD:
        assert record.measurement is not None
        (name,) = (n for n in names if n.endswith(record.key))
        assert loaded.get_result_value(name, [])[0] == pytest.approx(sorted_median(record.measurement.times_s))
        assert loaded.get_result_samples(name, [])[0] == pytest.approx(list(record.measurement.times_s))
        (stats,) = loaded.get_result_stats(name, [])
        assert stats["ci_99_a"] <= loaded.get_result_value(name, [])[0] <= stats["ci_99_b"]
        assert stats["repeat"] == len(record.measurement.times_s)


def sorted_median(values: tuple[float, ...]) -> float:
    from statistics import median

    return median(values)


def test_asv_needs_a_commit(tmp_path: Path) -> None:
    without = run_folder(tmp_path / "run", GOOD, commit=None)
    with pytest.raises(UsageError, match="asv keeps results by commit"):
        export_run(without, "asv", None)


def test_google_benchmark_has_the_fields_that_its_tools_read(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = document(exported(run, "google-benchmark", capsys))
    context = {"date", "host_name", "executable", "num_cpus", "caches", "load_avg", "library_build_type"}
    assert context <= found["context"].keys()
    for record in GOOD:
        assert record.measurement is not None
        mine = [b for b in found["benchmarks"] if b["run_name"] == record.key]
        repeats = [b for b in mine if b["run_type"] == "iteration"]
        assert [b["real_time"] for b in repeats] == pytest.approx([t * 1e9 for t in record.measurement.times_s])
        assert [b["repetition_index"] for b in repeats] == list(range(len(repeats)))
        for b in mine:
            wanted = {"name", "iterations", "real_time", "cpu_time", "time_unit", "repetitions", "threads"}
            assert wanted <= b.keys()
            assert b["time_unit"] == "ns"
        aggregates = {b["aggregate_name"]: b for b in mine if b["run_type"] == "aggregate"}
        assert aggregates.keys() == {"mean", "median", "stddev"}
        assert aggregates["median"]["name"] == f"{record.key}_median"
        assert repeats[0]["items_per_second"] > 0


def test_what_cannot_be_written_says_why(run: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="csv, parquet, pytest-benchmark, asv, google-benchmark"):
        export_run(run, "xml", None)
    nothing = run_folder(tmp_path / "nothing", [BAD])
    with pytest.raises(UsageError, match="no case of it has times"):
        export_run(nothing, "google-benchmark", None)
    with pytest.raises(UsageError, match="cannot be written"):
        export_run(run, "csv", tmp_path / "none" / "x.csv")
    assert all(exporting.load(name).SUFFIX is not None for name in FORMATS)


def benchmark_file(path: Path, *benchmarks: dict[str, Any], node: str = "here") -> Path:
    info = {"node": node, "python_version": "3.11", "cpu": {"brand_raw": "A Processor"}}
    path.write_text(json.dumps({"machine_info": info, "benchmarks": list(benchmarks), "version": "5"}))
    return path


def test_files_written_without_us_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rounds = [1.0, 1.01, 0.99, 1.0, 1.02, 1.0]
    one = {"fullname": "t.py::a", "stats": {"median": 1.0, "data": rounds}}
    slow = {"fullname": "t.py::a", "stats": {"median": 2.0, "data": [2 * t for t in rounds]}}
    saved = {"fullname": "t.py::a", "stats": {"median": 1.5}}
    base, head = benchmark_file(tmp_path / "a.json", one), benchmark_file(tmp_path / "b.json", slow)
    assert compare_runs(base, head, as_json=True) == Exit.OK
    (case,) = json.loads(capsys.readouterr().out)["cases"]
    assert case["change_frac"] == pytest.approx(1.0)
    assert case["low_frac"] > 0
    medians = benchmark_file(tmp_path / "c.json", saved)
    assert compare_runs(base, medians, as_json=True) == Exit.OK
    (case,) = json.loads(capsys.readouterr().out)["cases"]
    assert (case["change_frac"], case["low_frac"]) == (0.5, None)
    foreign = benchmark_file(tmp_path / "d.json", one, node="there")
    assert compare_runs(base, foreign, as_json=False) == Exit.NOT_COMPARABLE
    empty = benchmark_file(tmp_path / "e.json", {"fullname": "t.py::a", "stats": {"data": [None]}})
    assert compare_runs(base, empty, as_json=False) == Exit.NOT_COMPARABLE
    (tmp_path / "f.json").write_text("{}")
    with pytest.raises(SchemaError, match="not a file of pytest-benchmark"):
        compare_runs(base, tmp_path / "f.json", as_json=False)
    with pytest.raises(UsageError, match="cannot be read"):
        compare_runs(base, tmp_path / "g.json", as_json=False)
