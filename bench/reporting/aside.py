"""Work done in a copy of this process meanwhile: drawing keeps one core busy, and most machines have more."""

from __future__ import annotations

import os
from collections.abc import Callable

from bench.interrupts import held_back
from bench.running.forkserver import die_with_parent


class AsideError(Exception):
    """The copy ended without a result."""


def aside(make: Callable[[], bytes]) -> Callable[[], bytes]:
    """Begin `make` in a fork of this process; the function that waits for its result. It raises AsideError.

    The fork sees everything as it is now, changes nothing here, hears no signals and ends with this process. Only
    where no other thread holds locks that `make` takes. Without fork (Windows) it is made when it is asked for.
    """
    if not hasattr(os, "fork"):
        return make
    read_end, write_end = os.pipe()
    with held_back():
        pid = os.fork()
        if pid == 0:
            os.close(read_end)
            _make_and_leave(make, write_end)
    os.close(write_end)
    return lambda: _result(pid, read_end)


def _make_and_leave(make: Callable[[], bytes], write_end: int) -> None:
    code = 1
    try:
        die_with_parent()
        with os.fdopen(write_end, "wb") as file:
            file.write(make())
        code = 0
    except BrokenPipeError:  # nobody waits for it any more
        pass
    except Exception:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)


def _result(pid: int, read_end: int) -> bytes:
    with os.fdopen(read_end, "rb") as file:
        data = file.read()
    _, status = os.waitpid(pid, 0)
    if status:
        raise AsideError(f"drawing in a second process failed ({os.waitstatus_to_exitcode(status)})")
    return data
