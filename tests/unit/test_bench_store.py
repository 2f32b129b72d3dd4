"""Run folders: what is on disk after every step, what a torn or edited file does."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from bench import store
from bench.errors import SchemaError, UsageError
from bench.records import SCHEMA_VERSION, Case, Outcome, Record


def record(number: int) -> Record:
    case = Case(code=f"/x/steps.py:step{number}", seed=number)
    outcome = Outcome(status="skipped", reason="for the test")
    return Record(
        schema_version=SCHEMA_VERSION, key=case.key(), case=case, outcome=outcome, machine="m", started_at="now"
    )


def append(run_dir: Path, *numbers: int) -> None:
    with store.Appender(run_dir) as out:
        for number in numbers:
            out.add(record(number))


def seeds(run_dir: Path) -> list[int]:
    return [r.case.seed for r in store.read_records(run_dir)]


def test_records_come_back_as_they_were(tmp_path: Path) -> None:
    append(tmp_path, 1, 2)
    assert store.read_records(tmp_path) == [record(1), record(2)]


@pytest.mark.parametrize("tail", [b'{"schema_version":1,"key":"x', b"{", b'{"a":1}garbage\n', b"\0\0\0\n"])
def test_a_torn_line_is_never_accepted_and_cut_before_the_next(tmp_path: Path, tail: bytes) -> None:
    append(tmp_path, 1)
    with (tmp_path / store.RECORDS).open("ab") as file:
        file.write(tail)
    assert seeds(tmp_path) == [1]
    append(tmp_path, 2)
    assert seeds(tmp_path) == [1, 2]
    assert len((tmp_path / store.RECORDS).read_bytes().splitlines()) == 2


def test_a_damaged_line_before_the_end_is_an_error_with_its_number(tmp_path: Path) -> None:
    append(tmp_path, 1, 2)
    path = tmp_path / store.RECORDS
    path.write_bytes(path.read_bytes().replace(b'"skipped"', b'"skapped"', 1))
    with pytest.raises(SchemaError, match=r"records\.jsonl, line 1: not a record .*skapped"):
        store.read_records(tmp_path)


def test_a_newer_schema_asks_for_a_newer_program(tmp_path: Path) -> None:
    newer = msgspec.structs.replace(record(1), schema_version=SCHEMA_VERSION + 1)
    (tmp_path / store.RECORDS).write_bytes(msgspec.json.encode(newer) + b"\n")
    with pytest.raises(SchemaError, match="newer dlrm-bench"):
        store.read_records(tmp_path)


def test_an_older_schema_is_lifted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    older = msgspec.to_builtins(record(1)) | {"schema_version": SCHEMA_VERSION - 1, "host": "m"}
    del older["machine"]

    def lift(plain: dict[str, object]) -> dict[str, object]:
        return plain | {"machine": plain["host"], "schema_version": SCHEMA_VERSION}

    (tmp_path / store.RECORDS).write_bytes(msgspec.json.encode(older) + b"\n")
    monkeypatch.setitem(store.LIFTS, SCHEMA_VERSION - 1, lift)
    assert store.read_records(tmp_path) == [record(1)]


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    with store.Appender(tmp_path), pytest.raises(UsageError, match="another dlrm-bench"):
        append(tmp_path, 1)


def test_a_folder_without_a_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no run\.json here"):
        store.read_manifest(tmp_path)


def test_a_manifest_that_is_none_names_the_file(tmp_path: Path) -> None:
    (tmp_path / store.MANIFEST).write_text('{"schema_version": "one"}')
    with pytest.raises(SchemaError, match=r"run\.json: not a manifest"):
        store.read_manifest(tmp_path)


def test_the_machine_lock_names_its_holder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DLRM_BENCH_LOCK", str(tmp_path / "bench.lock"))
    with store.machine_lock(), pytest.raises(UsageError, match=r"pid \d+"), store.machine_lock():
        pass


def test_an_unwritable_place_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="--out DIR"):
        store.new_run_dir(tmp_path / "file", "quick")
