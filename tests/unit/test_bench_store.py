"""Run folders: what is on disk after every step, what a torn, edited, older or newer file does."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import msgspec
import pytest

from bench import schemas, store
from bench.errors import SchemaError, UsageError
from bench.records import SCHEMA_VERSION, Case, Outcome, Record
from bench.sealing import seal, unseal, unseal_document

SCHEMAS = Path(__file__).parent.parent / "data" / "schemas"


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
    assert store.recorded_keys(tmp_path) == {record(1).key, record(2).key}


def test_a_line_is_plain_json_with_its_seal(tmp_path: Path) -> None:
    append(tmp_path, 1)
    line = (tmp_path / store.RECORDS).read_bytes().rstrip(b"\n")
    assert len(json.loads(line)["sha256"]) == 16
    assert unseal(line) == msgspec.json.encode(record(1))


@pytest.mark.parametrize("tail", [b'{"schema_version":2,"key":"x', b"{", b'{"a":1}garbage', b"\0\0\0"])
def test_a_torn_line_is_never_accepted_and_set_aside_before_the_next(tmp_path: Path, tail: bytes) -> None:
    append(tmp_path, 1)
    with (tmp_path / store.RECORDS).open("ab") as file:
        file.write(tail)
    assert seeds(tmp_path) == [1]
    append(tmp_path, 2)
    assert seeds(tmp_path) == [1, 2]
    assert len((tmp_path / store.RECORDS).read_bytes().splitlines()) == 2
    assert (tmp_path / (store.RECORDS + store.TORN)).read_bytes() == tail + b"\n"


def test_wherever_a_kill_tears_a_line_no_record_before_it_is_lost_and_a_whole_one_is_kept(tmp_path: Path) -> None:
    append(tmp_path, 1, 2)
    path = tmp_path / store.RECORDS
    data = path.read_bytes()
    first = data.index(b"\n") + 1
    for end in range(first, len(data) + 1):
        path.write_bytes(data[:end])
        expected = [1, 2] if end >= len(data) - 1 else [1]
        assert seeds(tmp_path) == expected
        append(tmp_path)
        assert seeds(tmp_path) == expected
        assert path.read_bytes().endswith(b"\n")


def test_any_changed_byte_is_noticed_and_its_line_named(tmp_path: Path) -> None:
    append(tmp_path, 1, 2)
    path = tmp_path / store.RECORDS
    data = path.read_bytes()
    for at in range(data.index(b"\n")):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        with pytest.raises(SchemaError, match=r"records\.jsonl, line 1: .*(Restore the file|newer dlrm-bench)"):
            store.read_records(tmp_path)
        with pytest.raises(SchemaError):
            store.recorded_keys(tmp_path)


def test_a_damaged_line_says_what_to_do(tmp_path: Path) -> None:
    append(tmp_path, 1, 2)
    path = tmp_path / store.RECORDS
    path.write_bytes(path.read_bytes().replace(b"for the test", b"for the rest", 1))
    with pytest.raises(SchemaError, match=r"line 1: .* checksum does not match; .*delete the line, .*--resume"):
        store.read_records(tmp_path)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[1:]))
    assert seeds(tmp_path) == [2]


def test_a_line_without_its_checksum_was_edited(tmp_path: Path) -> None:
    (tmp_path / store.RECORDS).write_bytes(msgspec.json.encode(record(1)) + b"\n")
    with pytest.raises(SchemaError, match="line 1: its checksum is gone"):
        store.read_records(tmp_path)


def test_a_line_that_stands_there_twice_is_named(tmp_path: Path) -> None:
    append(tmp_path, 1, 2)
    path = tmp_path / store.RECORDS
    path.write_bytes(path.read_bytes() + path.read_bytes().splitlines(keepends=True)[0])
    with pytest.raises(SchemaError, match="line 3: the same case as line 1"):
        store.read_records(tmp_path)


def test_a_newer_schema_asks_for_a_newer_program(tmp_path: Path) -> None:
    newer = msgspec.structs.replace(record(1), schema_version=SCHEMA_VERSION + 1)
    (tmp_path / store.RECORDS).write_bytes(seal(msgspec.json.encode(newer)) + b"\n")
    with pytest.raises(SchemaError, match="newer dlrm-bench"):
        store.read_records(tmp_path)


@pytest.mark.parametrize("version", sorted(schemas.RECORD.lifts))
def test_every_older_schema_has_an_example_that_is_read(tmp_path: Path, version: int) -> None:
    run_dir = shutil.copytree(SCHEMAS / str(version), tmp_path / "run")
    manifest, records = store.read_manifest(run_dir), store.read_records(run_dir)
    assert [case.key() for case in manifest.cases] == [r.key for r in records]
    assert {r.schema_version for r in records} == {manifest.schema_version} == {SCHEMA_VERSION}
    assert all(r.measurement and r.measurement.times_s for r in records)
    assert store.read_trials(run_dir)[0].curve


def test_an_older_schema_is_lifted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    older = msgspec.to_builtins(record(1)) | {"schema_version": SCHEMA_VERSION - 1, "host": "m"}
    del older["machine"]

    def lift(plain: dict[str, object]) -> dict[str, object]:
        return plain | {"machine": plain["host"], "schema_version": SCHEMA_VERSION}

    (tmp_path / store.RECORDS).write_bytes(seal(msgspec.json.encode(older)) + b"\n")
    monkeypatch.setitem(schemas.RECORD.lifts, SCHEMA_VERSION - 1, lift)
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


def test_an_edited_manifest_is_noticed_and_only_its_spaces_may_change(tmp_path: Path) -> None:
    run_dir = shutil.copytree(SCHEMAS / "1", tmp_path / "run")
    store.write_manifest(run_dir, store.read_manifest(run_dir))
    path = run_dir / store.MANIFEST
    data = path.read_bytes()
    path.write_bytes(msgspec.json.format(data, indent=4) + b"\n")
    assert unseal_document(path.read_bytes())
    assert store.read_manifest(run_dir).name
    path.write_bytes(data.replace(b'"logical_cpus": ', b'"logical_cpus": 1', 1))
    with pytest.raises(SchemaError, match=r"run\.json: .*checksum does not match; .*restore it from a copy"):
        store.read_manifest(run_dir)


def test_an_unwritable_place_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="--out DIR"):
        store.new_run_dir(tmp_path / "file", "quick")
