"""Results whose every text tries to get out: of its element, of its attribute, of the folder, of the terminal."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from bench import store
from tests import sample_records
from tests.traces import call, event, mark, work

MARKUP = "\"'></script></style><script>window.hacked=1</script><img src=x onerror=window.hacked=1>"
HOSTILE = MARKUP + "<a href=javascript:window.hacked=1>{{7*7}}</a>[/red]\x1b]0;owned\x07"
SCRIPT_PATH = "javascript:window.hacked=1"

_Kind = TypeVar("_Kind")


def poisoned(value: _Kind) -> tuple[_Kind, int]:
    """The struct with HOSTILE in every text that its type lets it have, map keys included; and in how many."""
    plain, number = msgspec.to_builtins(value), 0
    for holder, key in list(_places(plain)):
        kept = holder[key]
        holder[key] = f"{HOSTILE}{number}" if isinstance(kept, str) else {**kept, HOSTILE: next(iter(kept.values()))}
        try:
            msgspec.convert(plain, type(value))
            number += 1
        except msgspec.ValidationError:
            holder[key] = kept
    return msgspec.convert(plain, type(value)), number


def _places(plain: Any) -> Iterator[tuple[Any, Any]]:
    """Where texts stand, and maps that could have one more key."""
    if isinstance(plain, dict | list):
        for key in range(len(plain)) if isinstance(plain, list) else list(plain):
            yield from _places(plain[key])
            if isinstance(plain[key], str) or (isinstance(plain[key], dict) and plain[key]):
                yield plain, key


def trace_text() -> bytes:
    """A trace of steps on a GPU whose every name and argument is hostile, but for the marks of the steps."""
    steps = [mark(name, n * 10_000, 9_000) for n in range(2) for name in (f"ProfilerStep#{n}", "step")]
    events = [
        *steps,
        event(HOSTILE, 100, 800, **{"dims": [[8, 8]], HOSTILE: HOSTILE}),
        event(f"aten::mm{HOSTILE}", 1000, 3000, tid=HOSTILE),
        call(1200, 100, 1, name=f"cudaLaunchKernel{HOSTILE}"),
        work(HOSTILE, 2000, 900, correlation=1),
        work(f"Memcpy HtoD {HOSTILE}", 3000, 900, cat="gpu_memcpy", correlation=2, bytes=4096),
        work(f"ncclDevKernel_{HOSTILE}", 4000, 900, **{"Collective name": HOSTILE, "dtype": HOSTILE}),
    ]
    names = [
        {"ph": "M", "name": f"{what}_name", "pid": 1, "tid": 1, "ts": 0, "args": {"name": HOSTILE, "labels": HOSTILE}}
        for what in ("process", "thread")
    ]
    head = {"deviceProperties": [{"id": 0, "name": HOSTILE}], "traceName": HOSTILE, "distributedInfo": {"x": HOSTILE}}
    return json.dumps(head | {"traceEvents": events + names}).encode()


def hostile_run(folder: Path) -> int:
    """A run folder of hostile records, manifest and one trace; in how many places there is something hostile."""
    folder.mkdir()
    (folder / store.TRACES).mkdir()
    found = [*sample_records.records()[:4], sample_records.records()[-1]]
    manifest, number = poisoned(sample_records.manifest(found))
    store.write_manifest(folder, manifest)
    with store.Appender(folder) as out:
        for place, record in enumerate(found):
            bad, texts = poisoned(record)
            if bad.trace is not None:
                paths = (record.trace.path, SCRIPT_PATH)  # type: ignore[union-attr]
                path = paths[place] if place < len(paths) else f"../outside{place}.pt.trace.json.gz"
                bad = msgspec.structs.replace(bad, trace=msgspec.structs.replace(bad.trace, path=path))
            out.add(msgspec.structs.replace(bad, key=f"{bad.key} {place}"))
            number += texts
    (folder / SCRIPT_PATH).write_text("no trace")
    (folder / found[0].trace.path).write_bytes(gzip.compress(trace_text()))  # type: ignore[union-attr]
    return number
