"""The streaming reader on hand-made files: formats, schemas, sizes of blocks, and every kind of damage."""

import gzip
import json
import random

import msgspec
import numpy as np
import pytest

from profiles.trace import reader, stream
from profiles.trace.columns import NONE, Category
from profiles.trace.errors import NoTraceError, TraceError
from profiles.trace.reader import read_trace
from profiles.trace.repair import mend
from profiles.trace.times import UNKNOWN, nanoseconds, parse
from tests.traces import event, mark, trace_of, work

TIMES = [
    (b"1694128200000123.456", 1694128200000123456),
    (b"5", 5000),
    (b"0.5", 500),
    (b"1.25", 1250),
    (b'"7.001"', 7001),
    (b"-1.5", -1500),
    (b"1e3", 1_000_000),
    (b"1.0004", 1000),
    (b"1.0006", 1001),
    (b"null", UNKNOWN),
    (b"NaN", UNKNOWN),
    (b'"soon"', UNKNOWN),
    (b"1e300", UNKNOWN),
    (b"1e999999999", UNKNOWN),
    (b"1e9999999999999999999", UNKNOWN),
    (b"1e-999999999", 0),
    (b"9" * 30, UNKNOWN),
]


@pytest.mark.parametrize(("text", "ns"), TIMES)
def test_microseconds_become_whole_nanoseconds(text, ns):
    assert nanoseconds(text) == ns
    assert parse([msgspec.Raw(text)]).tolist() == [ns]


@pytest.mark.parametrize("decimals", [(0,), (3,), (0, 1, 2, 3), (3, 6), (0, 4)])
def test_many_times_at_once_are_the_same_times(decimals):
    chance = random.Random(1)
    texts = [
        b"%d" % chance.randrange(10**16) + (b"." + b"%0*d" % (d, chance.randrange(10**d)) if d else b"")
        for d in chance.choices(decimals, k=500)
    ]
    exact = [nanoseconds(text) for text in texts]
    found = parse([msgspec.Raw(t) for t in texts])
    # Half a nanosecond goes up here and to the even side there.
    assert np.abs(found - np.array(exact)).max() <= (1 if max(decimals) > 3 else 0)


ADDMM = {
    "ph": "X",
    "cat": "cpu_op",
    "name": "aten::addmm",
    "pid": 7,
    "tid": 8,
    "ts": 1694128200000123.5,
    "dur": 2,
    "args": {"Sequence number": 3, "Fwd thread id": 0, "External id": 11, "Input Dims": [[2, 3]], "odd": {}},
}
NAME = {"ph": "M", "name": "process_name", "pid": "Spans", "args": {"name": "x"}}


def write(path, events, pack=False, **head):
    content = json.dumps({"schemaVersion": 1, "traceEvents": events} | head).encode()
    path.write_bytes(gzip.compress(content) if pack else content)
    return path


@pytest.mark.parametrize("pack", [False, True])
def test_events_become_columns(tmp_path, pack):
    trace = read_trace(write(tmp_path / "t", [ADDMM, NAME], pack, distributedInfo={"rank": 3}))
    assert (trace.base_ns, trace.ts_ns.tolist(), trace.dur_ns.tolist()) == (1694128200000123500, [0], [2000])
    assert (trace.text(0), trace.category[0], trace.lanes[trace.lane[0]]) == ("aten::addmm", Category.CPU_OP, (7, 8))
    assert (trace.sequence[0], trace.forward_thread[0], trace.external_id[0], trace.correlation[0]) == (3, 0, 11, NONE)
    assert trace.input_table[trace.inputs[0]].dims == [[2, 3]]
    assert (trace.metadata.rank, trace.metadata.process_names) == (3, {"Spans": "x"})
    assert trace.metadata.other == {"schemaVersion": 1}
    assert (trace.quality.events, trace.quality.kinds) == (2, {"M/None": 1, "X/cpu_op": 1})
    assert (trace.quality.truncated, trace.quality.events_lost, trace.quality.events_repaired) == (None, 0, 0)


def test_metadata_after_the_events_and_bare_arrays(tmp_path):
    after = tmp_path / "after.json"
    devices = [{"name": "x"}, {"name": "y"}]
    after.write_text(json.dumps({"traceEvents": [ADDMM, ADDMM], "deviceProperties": devices, "note": "}, {"}))
    trace = read_trace(after)
    assert (len(trace), trace.metadata.devices, trace.metadata.other) == (2, tuple(devices), {"note": "}, {"})
    bare = tmp_path / "bare.json"
    bare.write_text(json.dumps([ADDMM]))
    assert len(read_trace(bare)) == 1
    bare.write_text("[]")
    assert len(read_trace(bare)) == 0
    bare.write_text(json.dumps({"metadata": {"traceEvents": []}, "traceEvents": [ADDMM]}))
    assert len(read_trace(bare)) == 1


def test_odd_arguments(tmp_path):
    odd = {"ph": "X", "cat": "kernel", "name": "k", "ts": 1, "dur": "2.5", "tid": "stream 7", "pid": "0"}
    args = {"correlation": "12", "stream": None, "bytes": None, "Collective name": "all_to_all", "Group size": 8}
    trace = read_trace(write(tmp_path / "t.json", [odd | {"args": args}, odd | {"args": "none"}]))
    assert trace.dur_ns.tolist() == [2500, 2500]
    assert sorted(trace.correlation.tolist()) == [NONE, 12]
    assert (trace.stream.tolist(), trace.bytes.tolist(), trace.lanes) == ([7, 7], [NONE, NONE], ((0, "stream 7"),))
    (said,) = trace.collectives.values()
    assert (said.name, said.group_size, said.dtype) == ("all_to_all", 8, None)
    assert trace.quality.events_repaired == 1


def test_old_words_and_what_is_skipped(tmp_path):
    old = [
        event("a", 0, 1, cat=cat) for cat in ("Operator", "Runtime", "Kernel", "Memcpy", "Memset", "mtia_ccp_events")
    ]
    more = [event("f", 0, 1, cat="python_function"), {"ph": "s", "cat": "ac2g", "id": 5, "ts": 1, "name": "ac2g"}]
    trace = trace_of([*old, *more, event("odd", 0, 1, cat="something new")])
    assert sorted(trace.category.tolist()) == [0, 1, 3, 5, 5, 6, 7]
    assert trace.quality.kinds["X/python_function"] == 1
    everything = trace_of([*old, *more], skip=frozenset())
    flow = everything.rows(Category.FLOW)
    assert (everything.correlation[flow].tolist(), everything.phase[flow].tolist()) == ([5], [ord("s")])
    assert len(everything.rows(Category.PYTHON)) == 1


def test_memory_instants():
    instants = [
        {"ph": "i", "cat": "cpu_instant_event", "name": "[memory]", "ts": ts, "args": {"Bytes": size, "Device Type": 1}}
        for ts, size in ((5, -64), (3, 64))
    ]
    memory = trace_of([event("a", 1000, 10), *instants]).memory
    assert (memory.ts_ns.tolist(), memory.bytes.tolist()) == ([2000, 4000], [64, -64])
    assert (memory.device_type.tolist(), memory.total_reserved_bytes.tolist()) == ([1, 1], [NONE, NONE])


def test_order_in_the_file_does_not_matter():
    events = [mark("step", 0, 100), event("child", 0, 100, external_id=2), event("parent", 0, 100, external_id=1)]
    events += [event(f"op {n}", n % 7, n % 5) for n in range(50)] + [work("k", 3, 3), work("k", 3, 3, correlation=4)]
    said = {"Collective name": "x"}
    events.append(event("nccl", 60, 1, cat="kernel", **said))
    first = trace_of(events)
    for seed in range(5):
        random.Random(seed).shuffle(events)
        again = trace_of(events)
        for field in ("ts_ns", "dur_ns", "name", "lane", "category", "correlation", "external_id", "stream"):
            assert getattr(again, field).tolist() == getattr(first, field).tolist()
        assert again.collectives == first.collectives
    assert [first.text(row) for row in range(3)] == ["step", "parent", "child"]


def test_unusable_times_are_counted_and_left_out():
    good = event("good", 10**12, 5)
    bad = [good | change for change in ({"dur": -5}, {"dur": 7.44e15}, {"dur": None}, {"ts": None}, {"dur": "NaN"})]
    far = [event("far", 10**18, 5)]
    trace = trace_of([good, *bad, *far, good])
    assert [trace.text(row) for row in range(len(trace))] == ["good", "good"]
    quality = trace.quality
    assert (quality.events, quality.times_missing, quality.times_negative, quality.times_absurd) == (8, 3, 1, 2)
    assert quality.times_unusable == 6


def many(count):
    return [ADDMM | {"ts": n + 0.25, "name": f"op }}, {{ {n % 10}", "args": {"External id": n}} for n in range(count)]


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("pack", [False, True])
def test_blocks_of_any_size_give_the_same_columns(tmp_path, monkeypatch, indent, pack):
    path = tmp_path / "t"
    tail = {"deviceProperties": [{"id": n} for n in range(40)]}
    content = json.dumps({"x": 1, "traceEvents": many(200)} | tail, indent=indent).encode()
    path.write_bytes(gzip.compress(content[:7000]) + gzip.compress(content[7000:]) if pack else content)
    seen = []
    whole = read_trace(path, progress=seen.append)
    assert seen[-1] == 1.0
    for size in (50, 997, 5000):
        monkeypatch.setattr(stream, "PIECE_BYTES", size)
        monkeypatch.setattr(stream, "_PACKED_BYTES", 10)
        trace = read_trace(path)
        assert trace.external_id.tolist() == whole.external_id.tolist() == list(range(200))
        assert trace.quality == whole.quality
        assert len(trace.metadata.devices) == 40


DAMAGED = [
    (b'"name": "C:\\Users\\me\\x"', "C:\\Users\\me\\x"),
    (b'"name": "a\x01\x02b"', "a\x01\x02b"),
    (b'"name": "a\xffb"', "a�b"),
    (b'"name": "half a \\ud800pair"', "half a ?pair"),
    (b'"name": "ends with \\"', None),
    (b'"name": "open', None),
    (b'"name" "x"', None),
]


@pytest.mark.parametrize(("text", "name"), DAMAGED)
def test_a_damaged_event_leaves_its_neighbours_alone(tmp_path, text, name):
    path = tmp_path / "t.json"
    events = json.dumps({"traceEvents": [ADDMM] * 20}).encode()
    at = events.index(b'"name": "aten::addmm"', 1000)
    path.write_bytes(events[:at] + text + events[at + len(b'"name": "aten::addmm"') :])
    trace = read_trace(path)
    assert trace.quality.truncated is None
    assert trace.quality.events_repaired + trace.quality.events_lost == 1
    assert len(trace) == 20 - trace.quality.events_lost
    assert trace.quality.events_lost == 0 if name else trace.quality.events_lost <= 1
    assert name is None or name in trace.names


def test_an_event_without_end_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(stream, "PIECE_BYTES", 100)
    monkeypatch.setattr(reader, "_LONGEST_EVENT_BYTES", 1000)
    monkeypatch.setattr("profiles.trace.repair._LONGEST_EVENT", 500)
    endless = b'{"name": "' + b"x" * 5000
    path = tmp_path / "t.json"
    good = json.dumps(ADDMM).encode()
    path.write_bytes(b'{"traceEvents": [' + good + b", " + endless + b", " + good + b"]}")
    trace = read_trace(path)
    assert 1 <= len(trace) <= 2
    assert trace.quality.events_lost >= 1


def test_marks_and_bytes_around_the_text(tmp_path):
    path = tmp_path / "t.json"
    text = json.dumps({"schemaVersion": 1, "traceEvents": [ADDMM]}).encode()
    path.write_bytes(b"\xef\xbb\xbf" + text)
    assert read_trace(path).metadata.other == {"schemaVersion": 1}
    path.write_bytes(gzip.compress(text) + b"\0" * 100)
    assert read_trace(path).quality.file_damage is None
    path.write_bytes(gzip.compress(text) + b"garbage")
    quality = read_trace(path).quality
    assert "no gzip data" in (quality.file_damage or "")
    assert quality.truncated is None


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_no_numbers_cost_one_event(tmp_path, number):
    path = tmp_path / "t.json"
    text = json.dumps({"traceEvents": [ADDMM, ADDMM]}).replace('"dur": 2', f'"dur": {number}', 1)
    path.write_text(text)
    trace = read_trace(path)
    assert (len(trace), trace.quality.events, trace.quality.times_missing) == (1, 2, 1)


def test_a_trace_that_breaks_off(tmp_path):
    path = write(tmp_path / "t.json.gz", many(300), pack=True)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    trace = read_trace(path)
    assert 50 < len(trace) < 300
    assert "end mark" in (trace.quality.truncated or "")
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 0xFF
    path.write_bytes(flipped)
    assert len(read_trace(path)) > 50
    path.write_bytes(gzip.decompress(content)[:2000])
    trace = read_trace(path)
    assert "at byte 2000 inside the list" in (trace.quality.truncated or "")
    assert trace.quality.events_lost == 1


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b'{"traceEvents": [{"ph": "X"', "no event can be read"),
        (b"", "is empty"),
        (b'{"events": []}', 'no list "traceEvents"'),
        (b"PK\x03\x04zip", "no JSON"),
        (gzip.compress(b'{"schemaVersion": 1, "traceEvents": []}', mtime=0)[:25], "end mark"),
        (b"\x1f\x8bxx", "damaged"),
        (b'{"traceEvents": ' + b"[" * 100_000, "byte 17, is no event"),
        (b"[" + b"1," * 100, "byte 1, is no event"),
        (b'{"traceEvents": [{"a": ' + b"[" * 100_000, "no event can be read"),
    ],
)
def test_what_is_no_trace_is_named(tmp_path, content, what):
    path = tmp_path / "t.json"
    path.write_bytes(content)
    with pytest.raises(TraceError, match=what) as caught:
        read_trace(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("content", "other"),
    [
        (b'{"cases": [{"name": "a"}]}', True),
        (b"plain text", True),
        (b"[1, 2]", True),
        # These may have been traces: nobody may take them for something else.
        (b"", False),
        (b'{"schemaVersion": 1, "devi', False),
        (gzip.compress(b'{"schemaVersion": 1}', mtime=0)[:25], False),
        (b'{"traceEvents": [{"ph"', False),
    ],
)
def test_a_file_of_another_kind_is_told_from_a_damaged_trace(tmp_path, content, other):
    path = tmp_path / "t.json"
    path.write_bytes(content)
    with pytest.raises(TraceError) as caught:
        read_trace(path)
    assert isinstance(caught.value, NoTraceError) == other


@pytest.mark.parametrize("bare", [False, True])
def test_two_traces_in_one_file_are_told_and_the_first_is_read(tmp_path, bare):
    one = [event("aten::mm", 0, 10), event("aten::mm", 20, 10)]
    text = json.dumps(one if bare else {"traceEvents": one, "displayTimeUnit": "ms"})
    path = tmp_path / "two.json"
    path.write_text(text + "\n" + text)
    quality = read_trace(path).quality
    assert (quality.events, quality.truncated, quality.metadata_lost) == (2, None, False)
    assert (
        quality.file_damage == f"more events follow the end of the list at byte {text.rindex(']') + 1} and were not "
        "read; split the file there"
    )


def test_an_absent_file(tmp_path):
    with pytest.raises(TraceError, match="No such file"):
        read_trace(tmp_path / "none.json")
    with pytest.raises(TraceError, match="directory"):
        read_trace(tmp_path)


def test_mending_leaves_what_more_text_may_complete():
    text = b'{"name": "a"}, {"name": "b'
    found = mend(text, last=False)
    assert (len(found.events), found.lost, text[found.consumed :]) == (1, 0, b'{"name": "b')
    assert mend(text, last=True).lost == 1
    ended = mend(b'{"name": "a"} ], "x": 1}', last=True)
    assert (ended.ended, ended.lost, ended.consumed) == (True, 0, 14)


def test_the_collector_is_left_as_it_was(tmp_path):
    import gc

    read_trace(write(tmp_path / "t.json", [ADDMM]))
    assert gc.isenabled()
