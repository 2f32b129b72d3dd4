"""Replay of captured lookups: the three formats, and files that are not what they say."""

import pickle

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet

from workloads.describe import describe
from workloads.reference import check
from workloads.replay import read_batches
from workloads.spec import ModelSpec, SpecError, TableSpec
from workloads.steps import build_model


def spec_of(*num_rows, **fields):
    tables = tuple(TableSpec(name=f"t{i}", num_rows=n, dim=4) for i, n in enumerate(num_rows))
    return ModelSpec(**({"name": "m", "variant": "embedding", "tables": tables} | fields))


# Two tables, five samples: lengths 2 0 1 1 1 and 1 1 2 0 1.
ROWS = [[3, 9], [], [1], [0], [2], [7], [7], [5, 4], [], [6]]
INDICES = np.concatenate([np.array(r, dtype=np.int64) for r in ROWS])
LENGTHS = np.array([len(r) for r in ROWS])


def write_tensors(path, indices=INDICES, lengths=LENGTHS, dtype=torch.int32):
    offsets = torch.from_numpy(np.concatenate([[0], np.cumsum(lengths)])).to(dtype)
    torch.save((torch.from_numpy(indices).to(dtype), offsets, torch.from_numpy(lengths).view(2, -1)), path)
    return path


def write_parquet(path):
    parquet.write_table(pa.table({"a": ROWS[:5], "b": ROWS[5:]}), path)
    return path


def criteo_line(label, values, counts=13):
    return "\t".join([str(label), *(["3"] * (counts - 1) + [""]), *(f"{v:x}" for v in values)]) + "\n"


def write_criteo(path, lines):
    path.write_text("".join(lines))
    return path


@pytest.mark.parametrize(("write", "name"), [(write_tensors, "a.pt"), (write_parquet, "a.parquet")])
def test_lookups_come_back_in_batches(tmp_path, write, name):
    batches = list(read_batches(write(tmp_path / name), spec_of(10, 8), 2))
    assert len(batches) == 2
    first, second = batches
    np.testing.assert_array_equal(first.indices, [3, 9, 7, 7])
    np.testing.assert_array_equal(first.offsets, [0, 2, 2, 3, 4])
    np.testing.assert_array_equal(second.indices, [1, 0, 5, 4])
    assert (second.number, second.batch_size, second.dense.shape) == (1, 2, (2, 0))


def test_a_replayed_batch_runs_and_agrees_with_the_reference(tmp_path):
    tables = tuple(TableSpec(name=f"t{i}", num_rows=10, dim=4, weighted=i == 0) for i in range(2))
    spec = spec_of(tables=tables, variant="dlrm", num_dense=3, bottom_mlp=(4,), top_mlp=(1,))
    (batch,) = read_batches(write_tensors(tmp_path / "a.pt"), spec, 5)
    assert batch.weights is not None
    assert check(build_model(spec, phase="train_step"), batch).ok


def test_smaller_tables_take_folded_rows_only_when_asked(tmp_path):
    path = write_tensors(tmp_path / "a.pt", dtype=torch.int64)
    (batch,) = read_batches(path, spec_of(4, 8), 5, remap=True)
    np.testing.assert_array_equal(batch.table(0).indices, np.array([3, 9, 1, 0, 2]) % 4)
    with pytest.raises(SpecError, match=r"a.pt: row 1 of indices: index = 9 .*table 't0' of 4 rows"):
        list(read_batches(path, spec_of(4, 8), 5))
    parquet.write_table(pa.table({"a": [1, 2, 3], "b": [[1], [4], [4, 5]]}), tmp_path / "a.parquet")
    with pytest.raises(SpecError, match=r"a.parquet: row 2, column 'b': index = 5 .*table 't1' of 5 rows"):
        list(read_batches(tmp_path / "a.parquet", spec_of(4, 5), 3))


def test_a_negative_row_is_never_folded(tmp_path):
    path = write_tensors(tmp_path / "a.pt", np.where(INDICES == 9, -1, INDICES))
    with pytest.raises(SpecError, match=r"row 1 of indices: index = -1"):
        list(read_batches(path, spec_of(10, 8), 5, remap=True))


def test_criteo_lines_are_hashes_counts_and_labels(tmp_path):
    lines = [criteo_line(1, range(100, 126)), criteo_line(0, [0xFFFFFFFF] * 26)]
    (batch,) = read_batches(write_criteo(tmp_path / "day_0.tsv", lines), spec_of(*[50] * 26, num_dense=0), 2)
    np.testing.assert_array_equal(batch.labels, [1, 0])
    np.testing.assert_array_equal(batch.table(3).indices, [103 % 50, 0xFFFFFFFF % 50])
    dense = spec_of(50, variant="mlp", num_dense=13, top_mlp=(1,))
    (batch,) = read_batches(tmp_path / "day_0.tsv", dense, 2)
    np.testing.assert_allclose(batch.dense[0], [np.log(4)] * 12 + [0], rtol=1e-6)


def test_a_short_or_odd_line_is_named(tmp_path):
    good = criteo_line(1, range(26))
    path = write_criteo(tmp_path / "a.tsv", [good, good[:40] + "\n"])
    with pytest.raises(SpecError, match=r"a.tsv: line 2: fields = \d+ .*40: label"):
        list(read_batches(path, spec_of(5), 2))
    write_criteo(path, [good, good.replace("\t19\n", "\txyz\n")])
    with pytest.raises(SpecError, match=r"line 2: field = \"'xyz'\".*hexadecimal"):
        list(read_batches(path, spec_of(5), 2))


def test_a_truncated_file_is_told_from_a_wrong_one(tmp_path):
    path = write_tensors(tmp_path / "a.pt")
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(SpecError, match=r"a.pt.*truncated"):
        list(read_batches(path, spec_of(10, 8), 2))
    path = write_parquet(tmp_path / "a.parquet")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(SpecError, match=r"a.parquet.*whole Parquet file"):
        list(read_batches(path, spec_of(10, 8), 2))
    (tmp_path / "empty.pt").write_bytes(b"")
    with pytest.raises(SpecError, match=r"empty.pt.*this one is empty"):
        list(read_batches(tmp_path / "empty.pt", spec_of(10, 8), 2))


class Malicious:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (open, (self.target, "w"))


@pytest.mark.parametrize("by_torch", [True, False])
def test_a_pickle_that_is_not_plain_tensors_is_refused_and_never_executed(tmp_path, by_torch):
    path, target = tmp_path / "a.pt", tmp_path / "executed"
    evil = (torch.arange(3), Malicious(str(target)))
    if by_torch:
        torch.save(evil, path)
    else:
        path.write_bytes(pickle.dumps(evil[1]))
    with pytest.raises(SpecError, match=r"a.pt.*refused"):
        list(read_batches(path, spec_of(10, 8), 2))
    assert not target.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"indices": torch.arange(3)}, "a tuple"),
        ((torch.arange(3), torch.tensor([0.0, 3.0])), "whole-number tensors"),
        ((torch.arange(3), torch.tensor([0, 2, 1, 2, 3])), r"row 2 of offsets: offsets = 1 .*never falling"),
        ((torch.arange(3), torch.tensor([0, 1, 2, 3, 4])), r"offsets = \[0, 4\] .*number of indices \(3\)"),
        ((torch.arange(3), torch.tensor([0, 1, 2, 3])), r"T\*B \+ 1"),
    ],
    ids=range(5),
)
def test_tensors_that_are_no_lookups_say_why(tmp_path, content, message):
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(SpecError, match=message):
        list(read_batches(tmp_path / "a.pt", spec_of(10, 8), 2))


OFFSETS = torch.from_numpy(np.concatenate([[0], np.cumsum(LENGTHS)]))


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        (torch.from_numpy(LENGTHS), r"lengths = 'shape \(10,\)' .*lengths \(T, B\), whose shape says"),
        (torch.zeros(0, 5, dtype=torch.int64), r"lengths = 'shape \(0, 5\)'"),
        (torch.ones(4, 5, dtype=torch.int64), r"offsets = 11 .*T\*B \+ 1 = 21 numbers, as lengths \(4, 5\) say"),
        (
            torch.tensor([[2, 0, 1, 1, 1], [1, 2, 1, 0, 1]]),
            r"a.pt: table 1, sample 1: lengths = 2 .*1, the distance of its offsets",
        ),
    ],
    ids=["one dimension", "no table", "other tables", "other lengths"],
)
def test_lengths_say_the_tables_and_must_fit_the_offsets(tmp_path, lengths, message):
    torch.save((torch.from_numpy(INDICES), OFFSETS, lengths), tmp_path / "a.pt")
    with pytest.raises(SpecError, match=message):
        list(read_batches(tmp_path / "a.pt", spec_of(10, 8), 2))


def test_where_the_number_of_tables_was_taken_from_is_described(tmp_path):
    write_tensors(tmp_path / "with.pt")
    torch.save((torch.from_numpy(INDICES), OFFSETS), tmp_path / "without.pt")
    write_parquet(tmp_path / "a.parquet")

    def described(name, *rows):
        return describe(spec_of(*rows, replay=str(tmp_path / name)), 2)["replay"]

    assert described("with.pt", 10, 8)["tables_from"] == "the file"
    assert described("a.parquet", 10, 8)["tables_from"] == "the file"
    assert described("without.pt", 10, 8)["tables_from"].startswith("the model")
    # One table of the ten bags: nothing in the file contradicts it.
    alone = described("without.pt", 10)
    assert (alone["samples"], alone["tables"]) == (10, 1)
    assert alone["tables_from"].startswith("the model")


def test_what_cannot_be_replayed_says_why(tmp_path):
    path = write_tensors(tmp_path / "a.pt")
    with pytest.raises(SpecError, match=r"batch_size = 6 .*samples in the file"):
        list(read_batches(path, spec_of(10, 8), 6))
    with pytest.raises(SpecError, match="at most the 2 tables"):
        list(read_batches(path, spec_of(10, 8, 3), 2))
    with pytest.raises(SpecError, match="No such file"):
        list(read_batches(tmp_path / "b.pt", spec_of(10), 2))
    with pytest.raises(SpecError, match=r"\.pt, \.parquet"):
        list(read_batches(tmp_path / "b.csv", spec_of(10), 2))
    parquet.write_table(pa.table({"a": ["x"]}), tmp_path / "a.parquet")
    with pytest.raises(SpecError, match="column 'a' = 'string'"):
        list(read_batches(tmp_path / "a.parquet", spec_of(10), 1))
