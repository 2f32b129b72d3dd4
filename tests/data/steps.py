"""A user's own steps, as `code = "steps.py:name"` runs them; some end badly, for real."""

import ctypes
import os
import signal
import time
from pathlib import Path


def quick():
    return lambda: time.sleep(0.001)


def crash():
    return lambda: ctypes.string_at(0)


def hang():
    return lambda: time.sleep(1000)


def killed():
    return lambda: os.kill(os.getpid(), 9)


def wrong():
    raise RuntimeError("a table of mine is missing")


def eats_memory():
    """Allocates and touches memory until somebody stops it."""
    kept = []

    def step():
        while True:
            kept.append(b"x" * (64 * 2**20))

    return step


def multiplies():
    import torch

    a, b = torch.ones(64, 64), torch.ones(64, 64)
    return lambda: a @ b


def stopped():
    """Answers nothing more, and does not end."""
    return lambda: os.kill(os.getpid(), signal.SIGSTOP)


def leaves_child():
    """What it started lives on and holds the worker's files open."""
    if os.fork() == 0:
        Path("child.pid").write_text(str(os.getpid()))
        time.sleep(1000)
    return lambda: time.sleep(0.001)


def kills_server_once():
    """The first time it runs, its fork server is killed from outside."""
    if not Path("killed").exists():
        Path("killed").touch()
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(1000)
    return lambda: time.sleep(0.001)
