"""What Ctrl-C, SIGTERM and SIGHUP do: the first asks for an orderly end, the second ends at once."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

from bench.errors import Exit

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SHOW_CURSOR = b"\x1b[?25h"
AGAIN_S = 0.02
"""How long after Python dropped an interrupt it is raised again."""


class _Stopper:
    """The handler. Ending at once is safe: records are on disk when they are made, workers die with this process."""

    def __init__(self) -> None:
        self.asked = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            _end_at_once()
        self.asked = True
        raise KeyboardInterrupt


_stopper = _Stopper()


def _end_at_once() -> NoReturn:
    with contextlib.suppress(OSError):  # the terminal may have gone
        os.write(2, (SHOW_CURSOR if os.isatty(2) else b"") + b"\nended at once; what was recorded is kept\n")
    os._exit(Exit.INTERRUPTED)


def install() -> None:
    """Handle the signals, except those that whoever started this process has it ignore (nohup, a background job)."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _stopper)
    signal.signal(signal.SIGALRM, _raise_again)
    sys.unraisablehook = _raise_later


def _raise_later(dropped: sys.UnraisableHookArgs) -> None:
    """Destructors and callbacks cannot raise: an interrupt that arrives in one comes again once it has returned."""
    if _stopper.asked and dropped.exc_type is KeyboardInterrupt:
        signal.setitimer(signal.ITIMER_REAL, AGAIN_S)
    else:
        sys.__unraisablehook__(dropped)


def _raise_again(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def stop_if_asked() -> None:
    """Raise KeyboardInterrupt where one was asked for and Python has dropped it."""
    if _stopper.asked:
        raise KeyboardInterrupt


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Signals wait until the block is left: around what must not be interrupted halfway."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
