"""inspect on the command line: verdict and components, ceilings, rules of one's own, ranks, comparisons."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import ROOT, Cli
from tests.traces import call, event, mark, work

TRACES = ROOT.parent / "shared/traces/open"
STEPS = 6


def shaped(name: str, start: int, dur: int, dims: list[list[int]]) -> dict[str, Any]:
    found = event(name, start, dur, dims=dims)
    found["args"]["Input type"] = ["float"] * len(dims)
    return found


def job(
    *, gather_ns: int = 3_000, allreduce_ns: int = 1_000, extra: int = 0, step_ns: int = 10_000
) -> list[dict[str, Any]]:
    """Six steps: lookups, a layer and a collective; the device works nearly all the time, unless steps are longer."""
    events: list[dict[str, Any]] = []
    for n in range(STEPS):
        at, number = step_ns * n, 10 * n
        events += [
            mark(f"ProfilerStep#{n}", at, step_ns - 1),
            mark("embedding", at, 200),
            event("aten::embedding_bag", at + 10, 100),
            call(at + 20, 10, number + 1),
            mark("top_mlp", at + 300, 200),
            shaped("aten::linear", at + 310, 100, [[64, 32], [16, 32], [16]]),
            call(at + 320, 10, number + 2),
            event("c10d::allreduce_", at + 600, 100),
            call(at + 620, 10, number + 3),
            work("gather", at + 1_000, gather_ns + n, correlation=number + 1),
            work("sgemm", at + 5_000, 4_000, correlation=number + 2),
            work("ncclKernel_AllReduce", at + 5_000, allreduce_ns, correlation=number + 3, stream=9),
        ]
        for more in range(extra):
            events += [call(at + 700 + 20 * more, 10, number + 4), work("k", at + 9_000, 1, correlation=number + 4)]
    return events


def written(path: Path, events: list[dict[str, Any]], **head: Any) -> str:
    path.write_bytes(gzip.compress(json.dumps({**head, "traceEvents": events}).encode()))
    return str(path)


@pytest.fixture
def one(tmp_path: Path) -> str:
    return written(tmp_path / "one.json.gz", job())


def test_the_verdict_comes_before_the_tables(cli: Cli, one: str) -> None:
    done = cli("inspect", one)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[3].startswith("verdict: launch-bound. ")
    assert "at most" in lines[3]
    assert lines[4].startswith("evidence: ")
    assert lines[5].startswith("components: 100.0% of the time has a home")
    assert done.stdout.index("operators by recorded shapes") < done.stdout.index("where the time went")


def test_components_and_operators_in_the_document(cli: Cli, one: str) -> None:
    found = json.loads(cli("inspect", one, "--json").stdout)
    assert found["coverage_frac"] == 1.0
    times = {(c["component"], c["phase"]): c["gpu_us_sum"] for c in found["components"]}
    assert times == {("top_mlp", "forward"): 24.0, ("embedding", "forward"): 18.015, ("comms", ""): 6.0}
    linear = next(o for o in found["operators"] if o["name"] == "aten::linear")
    assert linear["flops"] == STEPS * 2 * 64 * 32 * 16
    assert linear["flops_per_s"] == pytest.approx(STEPS * 2 * 64 * 32 * 16 / 24e-6)
    assert linear["fraction_of_roof"] is None
    assert found["verdict"]["evidence"]["idle_host_late_frac"] > 0.1


def test_ceilings_by_a_file(cli: Cli, one: str, tmp_path: Path) -> None:
    machine = tmp_path / "machine.json"
    machine.write_text(json.dumps({"name": "X1", "bytes_per_s": 1e12, "flops_per_s": {"float32": 1e11}}))
    found = json.loads(cli("inspect", one, "--machine", str(machine), "--json").stdout)
    linear = next(o for o in found["operators"] if o["name"] == "aten::linear")
    assert linear["fraction_of_roof"] == pytest.approx(linear["flops_per_s"] / 1e11)
    assert found["machine"]["name"] == "X1"
    assert "of roof" in cli("inspect", one, "--machine", str(machine)).stdout


def test_a_machine_that_was_not_measured(cli: Cli, one: str, tmp_path: Path) -> None:
    done = cli("inspect", one, "--machine", "cuda:7")
    assert done.returncode == 2
    assert "dlrm-bench machine --device cuda:7" in done.stderr
    assert cli("inspect", one, "--machine", str(tmp_path / "none.json")).returncode == 2


def test_rules_of_ones_own(cli: Cli, one: str, tmp_path: Path) -> None:
    rules = tmp_path / "mine.toml"
    rules.write_text("[[rule]]\ncomponent = 'tables'\nkernel = '^gather$'\n")
    found = json.loads(cli("inspect", one, "--components", str(rules), "--json").stdout)
    assert {c["component"] for c in found["components"] if c["gpu_us_sum"]} == {"tables", "top_mlp", "comms"}
    rules.write_text("\n[[rule]]\ncomponent = 'tables'\nkernel = '('\n")
    done = cli("inspect", one, "--components", str(rules))
    assert done.returncode == 2
    assert "mine.toml: line 2: rule 1: kernel = '('" in done.stderr


def test_ranks_side_by_side(cli: Cli, tmp_path: Path) -> None:
    for rank, dur in enumerate((3_000, 3_000, 1_000)):
        identity = {"rank": rank, "world_size": 3}
        written(tmp_path / f"w{rank}.pt.trace.json.gz", job(allreduce_ns=dur), distributedInfo=identity)
    done = cli("inspect", str(tmp_path))
    assert done.stdout.startswith(
        "ranks: 57% of the time in 6 collectives is waiting for other ranks; rank 2 comes last"
    )
    found = json.loads(cli("inspect", str(tmp_path), "--json").stdout)["comparison"]
    assert found["straggler"] == 2
    assert [r["waiting_us"] for r in found["ranks"]] == [12.0, 12.0, 0.0]


def test_windows_of_one_rank_are_not_compared_as_ranks(cli: Cli, tmp_path: Path) -> None:
    """A schedule with repeat=2 and tensorboard_trace_handler: two files of each worker in one folder."""
    for rank in range(2):
        for cycle in range(2):
            name = f"worker{rank}.{1694128201545 + 60_000 * cycle + rank}.pt.trace.json.gz"
            written(tmp_path / name, job(), distributedInfo={"rank": rank, "world_size": 2})
    done = cli("inspect", str(tmp_path))
    line = done.stdout.splitlines()[0]
    assert done.returncode == 0
    assert line.startswith("ranks are not compared: 2 traces are of rank 0 (")
    assert all(f"worker0.{time}.pt.trace.json.gz" in line for time in (1694128201545, 1694128261545))
    assert "waiting for other ranks" not in done.stdout
    found = json.loads(cli("inspect", str(tmp_path), "--json").stdout)
    assert (len(found["traces"]), found["comparison"]) == (4, None)
    assert cli("inspect", str(tmp_path), "--html", "windows.html").returncode == 0
    assert "Ranks beside each other: 2 traces are of rank 0" in (cli.folder / "windows.html").read_text()
    against = cli("inspect", str(tmp_path), "--against", str(tmp_path))
    assert (against.returncode, against.stdout.partition("(")[0]) == (4, "not comparable: 2 traces are of rank 0 ")


def test_a_comparison_and_its_exit_code(cli: Cli, one: str, tmp_path: Path) -> None:
    slow = written(tmp_path / "slow.json.gz", job(gather_ns=3_300))
    done = cli("inspect", slow, "--against", one)
    assert done.returncode == 1
    assert done.stdout.startswith("regression: in ")
    assert "embedding forward" in done.stdout.splitlines()[0]
    assert cli("inspect", one, "--against", slow).stdout.startswith("improvement: in ")
    same = cli("inspect", one, "--against", one)
    assert (same.returncode, same.stdout.splitlines()[0]) == (0, "no change")
    found = json.loads(cli("inspect", slow, "--against", one, "--json").stdout)["against"]
    changed = {(r["component"], r["phase"]): r["change_frac"] for r in found["rows"] if r["status"] == "regression"}
    assert changed["embedding", "forward"] == pytest.approx(0.1, abs=0.001)
    assert ("top_mlp", "forward") not in changed


def test_time_of_the_host_between_unchanged_kernels_is_a_regression(cli: Cli, one: str, tmp_path: Path) -> None:
    slow = written(tmp_path / "slow.json.gz", job(step_ns=15_000))
    done = cli("inspect", slow, "--against", one)
    assert done.returncode == 1
    assert done.stdout.splitlines()[0] == "regression: in step (wall)"
    (idle,) = [line for line in done.stdout.splitlines() if line.startswith(("│ idle ", "| idle "))]
    assert "not judged" in idle


def test_more_launches_are_a_regression_by_count(cli: Cli, one: str, tmp_path: Path) -> None:
    more = written(tmp_path / "more.json.gz", job(extra=1))
    done = cli("inspect", more, "--against", one)
    assert done.returncode == 1
    assert "more launches" in done.stdout.splitlines()[0]


def test_a_reader_that_stops_early_is_no_regression(one: str) -> None:
    """Closed after the first line, before the tables are written."""
    command = [sys.executable, "-m", "bench", "inspect", one, "--against", one]
    environ = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "no change\n"
        process.stdout.close()
        assert process.wait() == 0


def test_other_hardware_is_not_comparable(cli: Cli, one: str, tmp_path: Path) -> None:
    sides = [
        written(tmp_path / f"{name}.json.gz", job(), deviceProperties=[{"id": 0, "name": name}]) for name in ("A", "B")
    ]
    done = cli("inspect", sides[0], "--against", sides[1])
    assert done.returncode == 4
    assert done.stdout.startswith("not comparable: different hardware: B and A")
    assert "per step: baseline against candidate" in done.stdout
    assert cli("inspect", one, "--against", str(tmp_path / "none.json")).returncode == 2


def test_eight_real_ranks_in_one_command(cli: Cli) -> None:
    folder = TRACES / "recsys_dlrm_torchrec_8xV100"
    if not folder.is_dir():
        pytest.skip(f"no real traces in {TRACES}")
    found = json.loads(cli("inspect", str(folder), "--json").stdout)
    assert len(found["traces"]) == 8
    assert min(t["coverage_frac"] for t in found["traces"]) >= 0.97
    assert found["comparison"]["straggler"] == 7
    assert found["comparison"]["collectives"] == 8


CAPTURE = """
import sys, torch
from pathlib import Path
from profiles.capture import capture

torch.manual_seed(0)
torch.set_num_threads(1)
tables = torch.nn.EmbeddingBag(20000, 64, mode="sum")
bottom = torch.nn.Linear(13, 64)
top = torch.nn.Sequential(torch.nn.Linear(67, 256), torch.nn.ReLU(), torch.nn.Linear(256, 1))
optimizer = torch.optim.SGD([*tables.parameters(), *bottom.parameters(), *top.parameters()], lr=0.1)
dense, labels = torch.rand(512, 13), torch.rand(512, 1)
indices, offsets = torch.randint(0, 20000, (512 * 20,)), torch.arange(0, 512 * 20, 20)

def step():
    optimizer.zero_grad()
    pooled, hidden = tables(indices, offsets), bottom(dense)
    vectors = torch.stack([pooled, hidden], 1)
    pairs = torch.bmm(vectors, vectors.transpose(1, 2)).flatten(1)
    out = top(torch.cat([pooled, pairs[:, 1:]], 1))
    torch.nn.functional.binary_cross_entropy_with_logits(out, labels).backward()
    optimizer.step()

capture(step, Path(sys.argv[1]), steps=6)
"""


def test_a_capture_without_a_gpu_and_without_annotations(cli: Cli, tmp_path: Path) -> None:
    """A DLRM in plain torch: ops alone tell its parts apart, and shapes tell the work of its lookups."""
    pytest.importorskip("torch")
    path = tmp_path / "own.json.gz"
    environ = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CAPTURE, str(path)], check=True, env=environ, capture_output=True
    )
    found = json.loads(cli("inspect", str(path), "--json").stdout)
    assert found["devices"] == {}
    parts = {(c["component"], c["phase"]) for c in found["components"]}
    both = {(name, phase) for name in ("embedding", "mlp", "interaction", "loss") for phase in ("forward", "backward")}
    assert parts >= both | {("optimizer", "")}
    assert found["coverage_frac"] > 0.9
    bag = next(o for o in found["operators"] if o["name"] == "aten::embedding_bag")
    assert (bag["n_known"], bag["bytes_convention"]) == (6, "logical")
    assert bag["flops"] == 6 * 512 * 20 * 64
    same = cli("inspect", str(path), "--against", str(path))
    assert same.returncode == 0
    assert "not judged" in same.stdout.splitlines()[0]
