"""What Ctrl-C, SIGTERM and SIGHUP do: the first asks for an orderly end, the second ends at once."""

from __future__ import annotations

import contextlib
import os
import signal
from types import FrameType
from typing import NoReturn

from bench.errors import Exit

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SHOW_CURSOR = b"\x1b[?25h"


class _Stopper:
    """The handler. Ending at once is safe: records are on disk when they are made, workers die with this process."""

    def __init__(self) -> None:
        self._asked = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self._asked:
            _end_at_once()
        self._asked = True
        raise KeyboardInterrupt


def _end_at_once() -> NoReturn:
    with contextlib.suppress(OSError):  # the terminal may have gone
        os.write(2, (SHOW_CURSOR if os.isatty(2) else b"") + b"\nended at once; what was recorded is kept\n")
    os._exit(Exit.INTERRUPTED)


def install() -> None:
    """Handle the signals, except those that whoever started this process has it ignore (nohup, a background job)."""
    stopper = _Stopper()
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, stopper)
