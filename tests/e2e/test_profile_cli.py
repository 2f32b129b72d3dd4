"""`dlrm-bench profile` as a user runs it: what it measures, prints and writes."""

from __future__ import annotations

import json
import re
import shutil
import socket
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest

from bench.perfetto import ORIGIN, PORT
from bench.sealing import seal, unseal
from tests.e2e.conftest import Cli

STEPS = Path(__file__).parent.parent / "data" / "steps.py"
FAST = ("--set", "budget_s=0.05", "--set", "min_repeat_s=0.005", "--set", "min_repeats=3")


def profiled(cli: Cli, *arguments: str) -> dict[str, Any]:
    done = cli("profile", *arguments, *FAST, "--json")
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def named(rows: Sequence[dict[str, Any]], name: str, phase: str) -> dict[str, Any]:
    (row,) = [r for r in rows if (r["component"], r["phase"]) == (name, phase)]
    return row


@pytest.mark.parametrize("phase", ["forward", "train_step"])
def test_components_add_up_to_the_profiled_step(cli: Cli, phase: str) -> None:
    told = profiled(cli, "tiny", "--axis", f"phase={phase}", "--axis", "batch_size=256", "--steps", "4")
    assert told["steps"] == 4
    assert sum(c["wall_us"] for c in told["components"]) == pytest.approx(told["step_us"], rel=0.03)
    assert told["sum_us"] == pytest.approx(told["step_us"], rel=0.03)
    assert sum(c["share_frac"] for c in told["components"]) == pytest.approx(1.0, abs=0.03)
    parts = {(c["component"], c["phase"]) for c in told["components"]}
    stages = ("embedding", "bottom_mlp", "interaction", "top_mlp")
    assert {(s, "forward") for s in stages} <= parts
    assert ("between ops", "") in parts
    if phase == "train_step":
        assert {(s, "backward") for s in stages} | {("optimizer", "")} <= parts
    for name, rate in (("embedding", "bytes_per_s"), ("bottom_mlp", "flops_per_s"), ("top_mlp", "flops_per_s")):
        row = named(told["components"], name, "forward")
        assert row[rate] > 0
        assert row["known_frac"] > 0.5
        assert row["fraction_of_roof"] > 0
    check_modelled(told)


def check_modelled(told: dict[str, Any]) -> None:
    """Rates are work over time, or the document says why there is none."""
    modelled = {s["stage"]: s for s in told["modelled"]}
    assert {"embedding", "bottom_mlp", "interaction", "top_mlp"} <= set(modelled)
    for stage in modelled.values():
        if stage["doubt"] is None:
            assert stage["compulsory_bytes_per_s"] == pytest.approx(stage["bytes_compulsory"] / stage["step_s"])
            assert stage["flops_per_s"] == pytest.approx(stage["flops"] / stage["step_s"])
        else:
            assert (stage["compulsory_bytes_per_s"], stage["flops_per_s"], stage["fraction_of_roof"]) == (None,) * 3
    if any(s["step_s"] is not None for s in modelled.values()):
        timed_s = told["timed_step_us"] * 1e-6
        assert 0 < sum(s["step_s"] for s in modelled.values()) <= timed_s * 1.01


def test_it_writes_trace_page_and_record_that_other_verbs_read(cli: Cli) -> None:
    told = profiled(cli, "tiny")
    run, trace, page = (cli.folder / told[name] for name in ("run", "trace", "page"))
    assert trace.is_relative_to(run)
    assert page.is_relative_to(run)
    assert page.read_text().startswith("<!doctype html>")
    (record,) = [json.loads(line) for line in (run / "records.jsonl").read_text().splitlines()]
    assert record["key"] == told["key"]
    assert record["trace"]["steps"] == 3
    assert told["overhead_ratio"] == record["trace"]["overhead_ratio"]
    assert record["trace"]["step_s"] == pytest.approx(told["step_us"] * 1e-6, rel=1e-6)
    (shown,) = json.loads(cli("show", told["run"], "--json").stdout)
    assert shown["metrics"]["step_s_p50"] * 1e6 == pytest.approx(told["timed_step_us"])
    assert cli("report", told["run"]).returncode == 0
    report = (run / "report.html").read_text()
    assert f'href="traces/{page.name}"' in report
    assert f'href="traces/{trace.name}"' in report
    resumed = cli("sweep", "--resume", told["run"], "--json")
    assert json.loads(resumed.stdout)["cases"] == {"ok": 1, "skipped": 0, "failed": 0}
    inspected = json.loads(cli("inspect", told["trace"], "--window", "steps", "--json").stdout)
    ours = {(c["component"], c["phase"]): c["cpu_us"] for c in told["inspection"]["components"]}
    assert {(c["component"], c["phase"]): c["cpu_us"] for c in inspected["components"]} == ours


def test_a_terminal_gets_tables_and_paths(cli: Cli) -> None:
    done = cli("profile", "tiny", *FAST, "--no-html")
    assert done.returncode == 0, done.stderr
    for words in ("timed step", "profiled step", "verdict: ", "embedding forward", "between ops", "work modelled"):
        assert words in done.stdout
    assert "trace: " in done.stderr
    assert "page: " not in done.stderr
    assert not list(cli.folder.rglob("*.html"))


def test_a_step_of_ones_own(cli: Cli) -> None:
    shutil.copy(STEPS, cli.folder)
    told = profiled(cli, "steps.py:multiplies")
    assert told["modelled"] == []
    assert told["sum_us"] == pytest.approx(told["step_us"], rel=0.03)
    assert {o["name"] for o in told["inspection"]["ops"]} >= {"aten::mm"}
    crashed = cli("profile", "steps.py:crash", *FAST, "--json")
    assert crashed.returncode == 3
    assert json.loads(crashed.stdout)["outcome"]["signal"] == "SIGSEGV"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing_like_it"], "known"),
        (["tiny", "--axis", "batch_size=1,2"], "measure several with sweep"),
        (["tiny", "--axis", "colour=red"], "colour"),
        (["tiny", "--axis", "batch_size=many"], "batch_size"),
        (["tiny", "--set", "trace=false"], "needs the trace"),
        (["tiny", "--steps", "0"], "above 0"),
        (["no_file.py:step"], "there is no file"),
        (["tiny", "--axis", "device=cuda:77"], "cuda:77"),
        (["paper", "--axis", "rows_scale=1000"], "of memory"),
        (["tiny", "--axis", "rows_scale=0"], "error: rows_scale = 0"),
    ],
)
def test_bad_use_ends_with_2_and_writes_nothing(cli: Cli, arguments: list[str], words: str) -> None:
    done = cli("profile", *arguments)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert words in done.stderr
    assert not (cli.folder / "results").exists()


def test_a_sweep_links_a_page_of_each_case(cli: Cli) -> None:
    limits = "[limits]\nbudget_s = 0.05\nmin_repeat_s = 0.005\nmin_repeats = 3\n"
    grid = '[[grid]]\npreset = "tiny"\n[grid.axes]\nbatch_size = [8, 16]\n'
    (cli.folder / "mine.toml").write_text(limits + grid)
    run = cli.folder / json.loads(cli("sweep", "mine.toml", "--json").stdout)["run"]
    linked = re.findall(r'href="(traces/[^"]+)"', (run / "report.html").read_text())
    assert len([name for name in linked if name.endswith(".html")]) == 2
    assert len(linked) == 4
    assert all((run / name).is_file() for name in linked)
    (run / linked[0]).unlink()
    # Whoever forges a path can forge the checksum too.
    first, *rest = (run / "records.jsonl").read_bytes().splitlines()
    forged = seal((unseal(first) or b"").replace(b'"path":"traces/', b'"path":"../', 1))
    (run / "records.jsonl").write_bytes(b"\n".join((forged, *rest)) + b"\n")
    assert cli("report", str(run)).returncode == 0
    again = re.findall(r'href="([^"]*traces/[^"]+|\.\./[^"]+)"', (run / "report.html").read_text())
    assert len(again) == 2


def test_html_of_inspect_needs_a_place_to_be_written(cli: Cli) -> None:
    told = profiled(cli, "tiny")
    assert cli("inspect", told["trace"], "--html", "page.html").returncode == 0
    assert (cli.folder / "page.html").read_text().startswith("<!doctype html>")
    for target in ("no/such/folder/page.html", "results"):
        done = cli("inspect", told["trace"], "--html", target)
        assert done.returncode == 2
        assert f"--html {target}" in done.stderr
    both = cli("inspect", told["trace"], "--html", "page.html", "--perfetto")
    assert both.returncode == 2


def test_perfetto_hands_over_one_file_and_ends(cli: Cli) -> None:
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", PORT)) == 0:
            pytest.skip(f"port {PORT} is in use on this machine")
    trace = cli.folder / "a.json"
    trace.write_text(json.dumps({"traceEvents": []}))
    process = cli.start("inspect", "a.json", "--perfetto")
    assert process.stderr is not None
    said = process.stderr.readline() + process.stderr.readline()
    assert f"{ORIGIN}/#!/?url=http://127.0.0.1:{PORT}/a.json" in said
    busy = cli("inspect", "a.json", "--perfetto")
    assert busy.returncode == 2
    assert f"port {PORT}" in busy.stderr
    with pytest.raises(HTTPError, match="404") as refused:
        urllib.request.urlopen(f"http://127.0.0.1:{PORT}/other.json", timeout=10)
    refused.value.close()
    with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/a.json", timeout=10) as answer:
        assert answer.read() == trace.read_bytes()
    assert "fetched" in process.communicate(timeout=20)[1]
    assert process.returncode == 0
