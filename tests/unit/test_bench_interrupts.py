"""An interrupt that arrives where Python cannot raise it is neither lost nor printed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
DROPPED = """
import os, signal, time, weakref
from bench import interrupts

interrupts.install()

class Thing:
    def __del__(self):
        if {where!r} == "destructor":
            os.kill(os.getpid(), signal.{name})
            sum(range(100))

def callback(_):
    os.kill(os.getpid(), signal.{name})
    sum(range(100))

thing = Thing()
seen = weakref.ref(thing, callback) if {where!r} == "callback" else None
try:
    del thing
    print("went on")
    time.sleep(20)
    print("was not stopped")
except KeyboardInterrupt:
    print("stopped")
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("where", ["destructor", "callback"])
def test_an_interrupt_that_python_drops_comes_again(where: str, name: str) -> None:
    code = DROPPED.format(where=where, name=name)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.split("\n")[:2] == ["went on", "stopped"]
    assert done.stderr == ""


def test_other_errors_that_cannot_be_raised_are_still_told() -> None:
    code = "from bench import interrupts\ninterrupts.install()\n" + (
        "class Thing:\n    def __del__(self):\n        raise ValueError('odd')\ndel_me = Thing()\ndel del_me\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert "ValueError: odd" in done.stderr
