"""The machine's lock: its holder is named, and it is free when the holder is gone, however it went."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bench.errors import UsageError
from bench.machine_lock import machine_lock

HOLDS = "from bench.machine_lock import machine_lock\nwith machine_lock():\n    print('held', flush=True); input()"


@pytest.fixture
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "bench.lock"
    monkeypatch.setenv("DLRM_BENCH_LOCK", str(path))
    return path


def held_elsewhere() -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLDS, "sweep", "quick"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_the_holder_is_named_and_a_kill_frees_the_machine(lock: Path) -> None:
    process = held_elsewhere()
    with pytest.raises(UsageError, match=rf"pid {process.pid}: .*sweep quick\)"), machine_lock():
        pass
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with machine_lock():
        assert str(os.getpid()) in lock.read_text()


def test_a_holder_that_cannot_be_told_is_not_made_up(lock: Path) -> None:
    process = held_elsewhere()
    lock.write_text('{"pid": 4194304, "command": "long gone"}')
    with pytest.raises(UsageError, match="pid is unknown here"), machine_lock():
        pass
    process.communicate("\n")


def test_a_lock_that_cannot_be_made_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DLRM_BENCH_LOCK", str(tmp_path / "nowhere" / "lock"))
    with pytest.raises(UsageError, match="DLRM_BENCH_LOCK"), machine_lock():
        pass


def test_everyone_may_use_the_lock(lock: Path) -> None:
    with machine_lock():
        assert lock.stat().st_mode & 0o777 == 0o666
