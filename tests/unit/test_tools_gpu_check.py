"""tools/gpu_check.sh where there is no GPU: every part is named with how it ended, and what was skipped with why."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from bench import store
from tests import sample_records
from tools import gpu_summary

ROOT = Path(__file__).parent.parent.parent


def test_the_summary_counts_reasons_and_measured_cases(tmp_path: Path) -> None:
    work, out = tmp_path / "work", tmp_path / "out"
    run = store.new_run_dir(work / "runs", "quick")
    out.mkdir()
    records = sample_records.records()
    store.write_manifest(run, sample_records.manifest(records))
    with store.Appender(run) as appender:
        for record in records:
            appender.add(record)
    (work / "parts.tsv").write_text("tests\tdone\t7\nsweep quick\tran out of time (killed after 60 s)\t60\n")
    (out / "tests.txt").write_text("a PASSED\nSKIPPED [3] tests/hardware/x.py: no fbgemm\n== 2 passed, 3 skipped ==\n")
    made = [(run, store.read_records(run))]
    text = gpu_summary.summary(work, out, made)
    assert "| sweep quick | ran out of time (killed after 60 s) | 60 |" in text
    assert "SKIPPED [3] tests/hardware/x.py: no fbgemm" in text
    counts = {s: sum(r.outcome.status == s for r in records) for s in ("ok", "skipped", "failed")}
    assert f"{counts['ok']} ok, {counts['skipped']} skipped, {counts['failed']} failed" in text
    for record in records:
        if record.outcome.status != "ok":
            assert str(record.outcome.reason) in text
    gpu_summary.keep(out, made)
    with tarfile.open(out / "runs.tar.gz") as archive:
        assert sorted(Path(name).name for name in archive.getnames()) == ["records.jsonl", "run.json"]
    assert (out / "report.html").stat().st_size > 10_000


def test_out_of_time_is_said_and_is_no_success(tmp_path: Path) -> None:
    """With seconds in all, the first part is killed and the others are told to have had no time."""
    pytest.importorskip("torch")
    environment = os.environ | {"PYTHON": sys.executable, "GPU_CHECK_S": "6"}
    command = ["bash", str(ROOT / "tools" / "gpu_check.sh"), str(tmp_path / "out")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1, done.stderr
    text = (tmp_path / "out" / "summary.md").read_text()
    assert "no time left" in text
    assert {"doctor", "tests", "ceilings", "sweep embedding", "sweep quick"} <= {
        line.split("|")[1].strip() for line in text.splitlines() if line.startswith("|")
    }
