"""Generated command lines, mutated sweep files and run folders: an answer or one clear error, never a traceback.

Everything goes through the real entry point, in this process. DLRM_BENCH_EXAMPLES=3400 for ten thousand in all.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
from pathlib import Path

import msgspec
import pytest

from bench import cli, store
from bench.errors import Exit
from bench.sweep_spec import AXES, LIMIT_FIELDS, SWEEPS
from tests.sample_records import manifest, records
from workloads import presets

EXAMPLES = int(os.environ.get("DLRM_BENCH_EXAMPLES", "120"))
DOCUMENTED = {int(code) for code in Exit}
VALUES = (
    *(
        "0",
        "1",
        "-1",
        "2",
        "7",
        "64",
        "1e3",
        "1e30",
        "-1e-9",
        "nan",
        "inf",
        "0.5",
        "9" * 25,
        "true",
        "false",
        "''",
        "none",
    ),
    *("bag", "tbe", "tbe_int", "cuda", "cuda:99", "cpu", "forward", "train_step", "float16", "int4", "zipf", "uniform"),
    *(
        "mean",
        "sum",
        "dlrm",
        "fm",
        "mf",
        "poly2",
        "dcnv2",
        "dot",
        "adam",
        "../../etc/passwd",
        "\u202e",
        "a,b",
        "{}",
        "[1",
        "x" * 300,
    ),
)
NOISE = (
    b"",
    b"\x00",
    b"\xff",
    b"}",
    b'"',
    b"-",
    b"9" * 30,
    b"[[grid]]",
    b"null",
    b"NaN",
    b"{",
    b"\n",
    b"\r",
    "é".encode(),
)


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of the program called with these words. An error that escapes is a failure here."""
    monkeypatch.setattr(sys, "argv", ["dlrm-bench", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


def accept(code: int, out: str, err: str, words: object) -> None:
    """A documented exit code: with 0 one JSON document (or nothing), with 2 one message that says something."""
    if code == Exit.OK and out:
        msgspec.json.decode(out)
    assert code in DOCUMENTED, words
    assert "Traceback" not in err, words
    if code == Exit.USAGE:
        assert err.startswith("error: "), (words, err)
        assert len(err.strip()) > len("error: ") + 10, (words, err)


def mutated(data: bytes, rng: random.Random) -> bytes:
    """A few bytes changed, cut out, doubled or inserted; or the end cut off."""
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) + 1)
        length = rng.choice((0, 1, 2, 8, 60))
        kind = rng.randrange(4)
        if kind == 0:
            data = data[:at] + rng.choice(NOISE) + data[at + length :]
        elif kind == 1:
            data = data[:at] + data[at + length :]
        elif kind == 2:
            data = data[:at] + data[at : at + length] + data[at:]
        else:
            data = data[:at] if rng.random() < 0.2 else data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
    return data


def flag(rng: random.Random) -> str:
    """NAME=VALUES, mostly of known names."""
    name = rng.choice((*AXES, *AXES, *LIMIT_FIELDS, "rowz", "", "name"))
    return f"{name}={','.join(rng.choice(VALUES) for _ in range(rng.randint(1, 2)))}"


@pytest.mark.parametrize("verb", ["describe", "sweep"])
def test_generated_configurations(verb, monkeypatch, capsys):
    rng = random.Random(f"configurations {verb}")
    codes = set()
    for _ in range(EXAMPLES // 2):
        axes = [word for _ in range(rng.randint(0, 3)) for word in ("--axis", flag(rng))]
        sets = [word for _ in range(rng.randint(0, 2)) for word in ("--set", flag(rng))] if verb == "sweep" else []
        name = rng.choice(presets.names()) if verb == "describe" else "quick"
        words = [verb, name, *axes, *sets, *(["--plan"] if verb == "sweep" else []), "--json"]
        code, out, err = run(monkeypatch, capsys, *words)
        accept(code, out, err, words)
        codes.add(code)
    assert codes == {Exit.OK, Exit.USAGE}


def test_mutated_sweep_files(tmp_path, monkeypatch, capsys):
    rng = random.Random("sweep files")
    sources = [path.read_bytes() for path in sorted(SWEEPS.glob("*.toml"))]
    file, codes = tmp_path / "mutated.toml", set()
    for _ in range(EXAMPLES):
        file.write_bytes(mutated(rng.choice(sources), rng))
        code, out, err = run(monkeypatch, capsys, "sweep", file, "--plan", "--json")
        accept(code, out, err, file.read_bytes())
        codes.add(code)
    assert codes == {Exit.OK, Exit.USAGE}


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    folder = store.new_run_dir(tmp_path, "sample")
    found = records()[:4]
    store.write_manifest(folder, manifest(found))
    with store.Appender(folder) as out:
        for record in found:
            out.add(record)
    return folder


def test_mutated_run_folders(run_dir, tmp_path, monkeypatch, capsys):
    rng = random.Random("run folders")
    codes = set()
    for number in range(EXAMPLES):
        copy = shutil.copytree(run_dir, tmp_path / f"copy{number}")
        file = copy / rng.choice(("run.json", "records.jsonl"))
        file.write_bytes(mutated(file.read_bytes(), rng))
        code, out, err = run(monkeypatch, capsys, "show", copy, "--json")
        accept(code, out, err, file)
        codes.add(code)
        shutil.rmtree(copy)
    assert codes == {Exit.OK, Exit.USAGE}


def test_mutated_run_folders_reported(run_dir, tmp_path, monkeypatch, capsys):
    # Drawing takes seconds, so only the text of the report is made here; the plots have tests of their own.
    monkeypatch.setattr("bench.reporting.report.draw_pictures", lambda *_: [])
    rng = random.Random("reports")
    for number in range(EXAMPLES):
        copy = shutil.copytree(run_dir, tmp_path / f"copy{number}")
        file = copy / rng.choice(("run.json", "records.jsonl"))
        file.write_bytes(mutated(file.read_bytes(), rng))
        code, out, err = run(monkeypatch, capsys, "report", copy)
        accept(code, out, err, file)
        shutil.rmtree(copy)
