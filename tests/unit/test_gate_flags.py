"""Flags of the gate verb that mean nothing, alone or together, and runs that only save counters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from bench.cli import app
from bench.commands import gate
from bench.commands.gate_pytest import pytest_arguments
from bench.errors import Exit, UsageError
from tests.sample_gate import sample_manifest

REFUSED = {
    "open quotes": (["t.py", "--base", "HEAD", "--runner", "pytest", "--pytest-args", "-k 'a"], "No closing quotation"),
    "save and against": (["t.py:f", "--counters-only", "--save", "a.json", "--against", "b.json"], "give one of them"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_flags_that_mean_nothing_are_refused_before_anything_is_done(name: str) -> None:
    flags, words = REFUSED[name]
    with pytest.raises(UsageError, match=words):
        app(["gate", *flags], standalone_mode=False)


def test_pytest_args_are_words_of_a_shell() -> None:
    assert pytest_arguments(["a.py"], "-k 'b c' -x") == ("a.py", "-k", "b c", "-x")


class Interrupted:
    def __init__(self, *_: object) -> None: ...

    def run(self) -> None:
        raise KeyboardInterrupt


@pytest.mark.parametrize("save", [True, False])
def test_only_a_run_that_compares_can_be_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], save: bool
) -> None:
    monkeypatch.setattr(gate, "GateRun", Interrupted)
    unread: Any = None
    assert gate._run(unread, tmp_path, sample_manifest(save=save), {}, {}) == Exit.INTERRUPTED
    said = capsys.readouterr().err
    assert ("gate --resume" in said) is not save
    assert ("give its command again" in said) is save


def test_a_resumed_run_that_saves_is_refused_and_never_green(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_bytes(msgspec.json.encode(sample_manifest(save=True)))
    with pytest.raises(UsageError, match="compares nothing and cannot be resumed"):
        app(["gate", "--resume", str(tmp_path)], standalone_mode=False)
