"""Captured lookups through the real command line: replayed in order, stated in the output, refused when faulty."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet

from tests.e2e.conftest import Cli
from workloads import presets

SWEEP = (
    "[limits]\nbudget_s = 0.05\nmin_repeat_s = 0.005\nmin_repeats = 3\ntrace = false\n"
    '[[grid]]\npreset = "tiny"\n[grid.set]\nbatch_size = 8\n'
)
ROWS = [t.num_rows for t in presets.load_preset("tiny").spec.tables]
SAMPLES = 20


def bags(rows: list[int] = ROWS) -> list[list[list[int]]]:
    """Per table and sample a bag of 0 to 3 rows."""
    random = np.random.default_rng(3)
    return [[random.integers(0, n, random.integers(0, 4)).tolist() for _ in range(SAMPLES)] for n in rows]


def write_tensors(path: Path, found: list[list[list[int]]], dtype: torch.dtype = torch.int64) -> None:
    lengths = torch.tensor([[len(bag) for bag in table] for table in found])
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.view(-1).cumsum(0)])
    flat = [row for table in found for bag in table for row in bag]
    torch.save((torch.tensor(flat, dtype=dtype), offsets, lengths), path)


def criteo(lines: int, values: int = 26) -> str:
    line = "\t".join(["1", *["2"] * 13, *(f"{0xABC0000 + i:08x}" for i in range(values))]) + "\n"
    return line * lines


def records(cli: Cli) -> list[dict[str, Any]]:
    (run,) = (cli.folder / "results" / "local").iterdir()
    return [json.loads(line) for line in (run / "records.jsonl").read_text().splitlines()]


def test_a_sweep_replays_a_file_and_says_so(cli: Cli) -> None:
    found = bags()
    write_tensors(cli.folder / "day.pt", found)
    (cli.folder / "mine.toml").write_text(SWEEP)
    flags = ("--axis", "replay=day.pt", "--axis", "backend=bag,tbe", "--set", "batch_size=8")
    done = cli("sweep", "mine.toml", "--json", *flags)
    assert done.returncode == 0, done.stderr
    run = json.loads(done.stdout)["run"]
    shown = json.loads(cli("show", run, "--json").stdout)
    assert [row["outcome"]["status"] for row in shown] == ["ok", "ok"]
    first_two = [bag for table in found for bag in table[:16]]
    for row in shown:
        told = row["inputs"]
        # 20 samples are two full batches of 8.
        assert (told["num_batches"], told["replay"]["samples"], told["replay"]["tables"]) == (2, SAMPLES, 4)
        assert (told["replay"]["file"], told["replay"]["remapped_frac"]) == ("day.pt", 0.0)
        assert told["replay"]["wrapped"]
        assert told["lookups_per_step"] == sum(map(len, first_two)) / 2
        assert told["index_ks"] is None
        assert {t["indices"] for t in row["case"]["model"]["tables"]} == {"replay"}
    described = json.loads(
        cli("describe", "tiny", "--axis", "replay=day.pt", "--axis", "batch_size=8", "--json").stdout
    )
    assert described["replay"]["digest"] == shown[0]["inputs"]["replay"]["digest"]
    lookups = sum(len(bag) for table in found for bag in table)
    assert described["lookups_per_sample"] == pytest.approx(lookups / SAMPLES)


def test_the_content_is_the_identity_not_the_place(cli: Cli) -> None:
    def key(name: str) -> str:
        (cli.folder / "mine.toml").write_text(SWEEP)
        done = cli("sweep", "mine.toml", "--plan", "--json", "--axis", f"replay={name}")
        return str(json.loads(done.stdout)["cases"][0]["key"])

    found = bags()
    write_tensors(cli.folder / "a.pt", found)
    (cli.folder / "elsewhere").mkdir()
    shutil.copy(cli.folder / "a.pt", cli.folder / "elsewhere" / "b.pt")
    first = key("a.pt")
    assert key("elsewhere/b.pt") == first
    found[0][0] = [*found[0][0], 5]
    write_tensors(cli.folder / "a.pt", found)
    assert key("a.pt") != first


def test_a_run_is_not_resumed_with_another_file(cli: Cli) -> None:
    write_tensors(cli.folder / "day.pt", bags())
    (cli.folder / "mine.toml").write_text(SWEEP)
    assert cli("sweep", "mine.toml", "--axis", "replay=day.pt").returncode == 0
    (run,) = (cli.folder / "results" / "local").iterdir()
    write_tensors(cli.folder / "day.pt", bags([2, 2, 2, 2]))
    done = cli("sweep", "--resume", str(run))
    assert done.returncode == 2
    assert "content has changed" in done.stderr


def test_smaller_tables_take_folded_rows_only_when_asked(cli: Cli) -> None:
    write_tensors(cli.folder / "day.pt", bags())
    (cli.folder / "mine.toml").write_text(SWEEP)
    flags = ("--axis", "replay=day.pt", "--axis", "rows_scale=0.1")
    done = cli("sweep", "mine.toml", *flags)
    assert done.returncode == 2
    assert "remap=true" in done.stderr
    done = cli("sweep", "mine.toml", *flags, "--axis", "remap=true")
    assert done.returncode == 0, done.stderr
    assert 0 < records(cli)[0]["inputs"]["replay"]["remapped_frac"] < 1


def test_a_criteo_log_is_always_folded(cli: Cli) -> None:
    (cli.folder / "day_0.tsv").write_text(criteo(16))
    done = cli("describe", "kaggle", "--axis", "replay=day_0.tsv", "--axis", "batch_size=8", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["replay"]["remapped_frac"] == 1.0


class Malicious:
    def __init__(self, target: str) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (self.target, "w"))


def out_of_range(folder: Path) -> None:
    found = bags()
    found[2][7] = [10]
    write_tensors(folder / "day.pt", found)


def negative(folder: Path) -> None:
    found = bags()
    found[0][0] = [-3]
    write_tensors(folder / "day.pt", found)


def truncated(folder: Path) -> None:
    write_tensors(folder / "day.pt", bags())
    whole = (folder / "day.pt").read_bytes()
    (folder / "day.pt").write_bytes(whole[: len(whole) // 2])


def malicious(folder: Path) -> None:
    torch.save((torch.arange(3), Malicious(str(folder / "executed"))), folder / "day.pt")


def plain_pickle(folder: Path) -> None:
    (folder / "day.pt").write_bytes(pickle.dumps(Malicious(str(folder / "executed"))))


def too_few_tables(folder: Path) -> None:
    write_tensors(folder / "day.pt", bags()[:3])


def too_few_samples(folder: Path) -> None:
    write_tensors(folder / "day.pt", [table[:5] for table in bags()])


def short_line(folder: Path) -> None:
    (folder / "day.tsv").write_text(criteo(11) + criteo(1, values=20) + criteo(3))


def not_hexadecimal(folder: Path) -> None:
    (folder / "day.tsv").write_text(criteo(2) + criteo(1).replace("abc0003", "oops"))


def parquet_out_of_range(folder: Path) -> None:
    columns = {f"c{t}": table for t, table in enumerate(bags())} | {"c3": [[500]] * SAMPLES}
    parquet.write_table(pa.table(columns), folder / "day.parquet")


def empty(folder: Path) -> None:
    (folder / "day.pt").touch()


def empty_log(folder: Path) -> None:
    (folder / "day.tsv").touch()


FAULTS = {
    "out of range": (out_of_range, "day.pt", [": row ", "of indices", "index = 10", "'t2' of 10 rows", "remap=true"]),
    "negative": (negative, "day.pt", ["row 0 of indices", "index = -3", "at least 0"]),
    "truncated": (truncated, "day.pt", ["day.pt", "truncated"]),
    "malicious": (malicious, "day.pt", ["day.pt", "refused unopened"]),
    "plain pickle": (plain_pickle, "day.pt", ["day.pt", "refused unopened"]),
    "too few tables": (too_few_tables, "day.pt", ["tables = 4", "at most the 3 tables of the file"]),
    "too few samples": (too_few_samples, "day.pt", ["batch_size = 8", "at most 5, the samples in the file"]),
    "short line": (short_line, "day.tsv", ["day.tsv: line 12", "fields = 34", "40"]),
    "not hexadecimal": (not_hexadecimal, "day.tsv", ["day.tsv: line 3", "oops", "hexadecimal"]),
    "Parquet": (parquet_out_of_range, "day.parquet", ["day.parquet: row 0, column 'c3'", "index = 500", "500 rows"]),
    "empty": (empty, "day.pt", ["day.pt", "this one is empty"]),
    "empty log": (empty_log, "day.tsv", ["day.tsv", "this one is empty"]),
    "missing": (lambda folder: None, "day.pt", ["day.pt", "No such file"]),
    "unknown format": (lambda folder: (folder / "day.csv").touch(), "day.csv", [".pt", ".parquet", ".tsv"]),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_faulty_file_is_one_clear_message_and_exit_2_before_anything_is_built(cli: Cli, name: str) -> None:
    write, file, expected = FAULTS[name]
    write(cli.folder)
    (cli.folder / "mine.toml").write_text(SWEEP)
    # Criteo logs have 13 dense features, or none are asked for.
    preset = ("--axis", "preset=kaggle") if file.endswith(".tsv") else ()
    done = cli("sweep", "mine.toml", "--axis", f"replay={file}", *preset)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    (message,) = done.stderr.strip().splitlines()
    for words in expected:
        assert words in message
    assert not (cli.folder / "results").exists()
    assert not (cli.folder / "executed").exists()


@pytest.mark.parametrize("verb", ["describe", "sweep"])
@pytest.mark.parametrize(
    ("axis", "expected"),
    [
        ("exponent=9", ["exponent = 9", "from 0 to 8"]),
        ("hot_share=1.5", ["hot_share = 1.5", "from 0 to 1"]),
        ("reuse=1", ["reuse = 1", "0.999"]),
        ("length_spread=-1", ["length_spread = -1", "from 0 to 3"]),
        ("pooling_factor=0", ["pooling_factor = 0", "above 0"]),
        ("indices=replay", ["indices = 'replay'", "--axis replay=FILE"]),
        ("remap=true", ["remap = True", "--axis replay=FILE"]),
    ],
)
def test_a_parameter_out_of_its_domain_is_exit_2(cli: Cli, verb: str, axis: str, expected: list[str]) -> None:
    (cli.folder / "mine.toml").write_text(SWEEP)
    done = cli(verb, "mine.toml" if verb == "sweep" else "tiny", "--axis", axis)
    assert done.returncode == 2, done.stderr
    (message,) = done.stderr.strip().splitlines()
    for words in expected:
        assert words in message
