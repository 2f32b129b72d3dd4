"""Hostile command lines and files: an answer or one clear error, never a traceback or a hang.

A few here; `python -m tools.hostile_inputs RUN` tries ten thousand.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench import store
from bench.errors import Exit
from tests.sample_records import manifest, records
from tests.sample_trials import CONTROL, PLANTED, trials
from tools.hostile_inputs import MAKERS, examples, judged, run

EXAMPLES_OF_EACH = 40
FILES = (store.MANIFEST, store.RECORDS, store.REMEASURED, store.TRIALS, "sweep.toml")


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    found = records()[:4]
    store.write_manifest(folder, manifest(found))
    with store.Appender(folder) as out:
        for record in found:
            out.add(record)
    with store.Appender(folder, store.REMEASURED) as out:
        for record in found[:3]:
            out.add(record)
    with store.Appender(folder, store.TRIALS) as out:
        for trial in trials(PLANTED, CONTROL)[:4]:
            out.add(trial)
    return folder


def test_every_kind_ends_well_and_both_ways(run_dir: Path, tmp_path: Path) -> None:
    codes: dict[str, set[int]] = {}
    for example in examples(tmp_path, run_dir, EXAMPLES_OF_EACH * len(MAKERS), seed=1):
        ended = run(example.words)
        assert ended.trouble is None, (example, ended)
        codes.setdefault(example.kind, set()).add(ended.code)
    assert len(codes) == len(MAKERS)
    assert all({Exit.OK, Exit.USAGE} <= found for found in codes.values()), codes


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.binary(max_size=300),
    name=st.sampled_from([store.MANIFEST, store.RECORDS, store.REMEASURED, store.TRIALS, "sweep.toml"]),
)
def test_any_bytes_at_all(run_dir: Path, tmp_path: Path, data: bytes, name: str) -> None:
    # The same bytes may be tried under several names, or again.
    home = Path(tempfile.mkdtemp(dir=tmp_path))
    (example,) = examples(home, run_dir, 1, seed=1)
    (home / "run" / name).write_bytes(data)
    words = ("sweep", str(home / "run" / name), "--plan") if name == "sweep.toml" else ("show", str(home / "run"))
    assert run(words).trouble is None, example


@settings(max_examples=60, deadline=None)
@given(words=st.lists(st.text(max_size=20), max_size=4))
def test_any_words_at_all(words: list[str]) -> None:
    ended = run(("list", *words))
    assert ended.trouble is None
    assert ended.code in (Exit.OK, Exit.USAGE)


def test_a_bad_ending_is_found() -> None:
    assert "not documented" in str(judged(77, "", "", as_json=False))
    assert "without a clear message" in str(judged(Exit.USAGE, "", "oops", as_json=False))
    assert "not one JSON" in str(judged(Exit.OK, "{}{}", "", as_json=True))
    assert "traceback" in str(judged(Exit.OK, "", "Traceback (most recent call last)", as_json=False))
