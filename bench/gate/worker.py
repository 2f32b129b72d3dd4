"""One side's process of the gate, run as a script by that side's interpreter. Nothing of `bench` is imported here.

The measuring is ours and the same on both sides; what is measured is the side's own: its checkout comes first on
sys.path, its `workloads` wins over ours where it has one, and a user's file is loaded from its checkout. Requests are
JSON lines on one pipe, answers on another. User code may print: stdout and stderr go to the side's log.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import importlib.util
import json
import os
import resource
import signal
import sys
import traceback
from itertools import islice
from pathlib import Path
from typing import Any

PREFIX = "_gate_"
OUTSIDE = ("site-packages", "dist-packages")

Request = dict[str, Any]
Answer = dict[str, Any]


def main(config: dict[str, Any]) -> None:
    """Serve requests until the pipe closes."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    set_up_path(config["roots"], config["fallback"])
    for name in config["preload"]:
        with contextlib.suppress(BaseException):  # a build that needs it says why it cannot be imported
            importlib.import_module(name)
    worker = Worker(config)
    with os.fdopen(config["requests"], "rb") as requests:
        for line in requests:
            answer = worker.answer(json.loads(line))
            data = json.dumps(answer, allow_nan=True).encode() + b"\n"
            while data:
                data = data[os.write(config["answers"], data) :]


def set_up_path(roots: list[str], fallback: str) -> None:
    """The side's code first, this script's own folder nowhere, our packages last."""
    here = str(Path(__file__).parent)
    kept = [p for p in sys.path if p != here and p not in roots and p != fallback]
    sys.path[:] = [*roots, *kept, fallback]


def _told(error: BaseException) -> str:
    """The traceback from where our own frames end."""
    frame, ours = error.__traceback__, Path(__file__).parent
    while frame is not None and frame.tb_next and Path(frame.tb_frame.f_code.co_filename).parent == ours:
        frame = frame.tb_next
    return "".join(traceback.format_exception(type(error), error, frame))


def beside(name: str) -> Any:
    """A module that lies beside this script, which is on no path."""
    spec = importlib.util.spec_from_file_location(PREFIX + name, Path(__file__).with_name(f"{name}.py"))
    if spec is None or spec.loader is None:
        raise ImportError(f"{name}.py is not beside {__file__}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Worker:
    """Answers requests, one case at a time."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._config = config
        self._cases = beside("loading")
        self._loaded: Any = None

    def answer(self, request: Request) -> Answer:
        """What a request's function returns; `absent` or `error` with its traceback where it raised."""
        try:
            found: Answer = getattr(self, "do_" + request["do"])(request)
        except self._cases.AbsentError as error:
            return {"absent": str(error)}
        except BaseException as error:  # a user's step may raise anything, SystemExit included
            return {"error": f"{type(error).__name__}: {error}", "traceback": _told(error)}
        return found

    def do_hello(self, _: Request) -> Answer:
        """Say that this side is there."""
        return {"pid": os.getpid(), "python": sys.version.split()[0]}

    def do_build(self, request: Request) -> Answer:
        """Build and warm a case; answers the typical step's seconds."""
        self._loaded = None
        gc.collect()
        loaded = self._cases.load_case(request)
        self._refuse_foreign()
        first = loaded.step(loaded.inputs[0])
        nan = self._cases.not_finite(first)
        del first
        step_s = self._cases.warm(loaded)
        # Again: a step may import what it needs when it first runs.
        self._refuse_foreign()
        self._loaded = loaded
        return {"step_s": step_s, "nan": nan}

    def _refuse_foreign(self) -> None:
        foreign = self._foreign()
        if foreign:
            raise ImportError(
                f"{foreign} was imported from the working tree, not from this side's checkout: both sides would "
                "measure the same code; make it importable from the repository's root or src/, or install each side "
                "into an environment of its own and give --base-python and --head-python"
            )

    def _foreign(self) -> str | None:
        """A module that comes from the repository's working tree though this side has a checkout of its own."""
        tree, checkout = self._config.get("working_tree"), self._config["checkout"]
        if not tree or tree == checkout:
            return None
        for name, module in list(sys.modules.items()):
            path = str(getattr(module, "__file__", None) or "")
            inside = path.startswith(tree + os.sep) and not path.startswith(checkout + os.sep)
            ours = name.startswith(PREFIX) or path == __file__
            if inside and not ours and not any(part in path for part in OUTSIDE):
                return f"{name} ({path})"
        return None

    def do_counters(self, _: Request) -> Answer:
        """Count one step, twice; and check a model's output against its reference."""
        loaded = self._need()
        if loaded.check is not None:
            loaded.check()
        found: Answer = beside("counting").count(lambda: loaded.step(loaded.inputs[0]), loaded.work)
        return found

    def do_block(self, request: Request) -> Answer:
        """Time `steps` steps after `discard` discarded ones. `extra` steps more are run inside and not counted."""
        loaded = self._need()
        feed = loaded.feed(request["first"])
        for item in islice(feed, request.get("discard", 0)):
            loaded.step(item)
        batch = list(islice(feed, request["steps"] + request.get("extra", 0)))
        gc.disable()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        seconds = self._cases.clock(loaded.step, batch)
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
        gc.enable()
        return {"step_s": seconds / request["steps"], "faults": faults}

    def do_drop(self, _: Request) -> Answer:
        """Free the case. What the first one leaves are modules: a tenth of a second to collect, so once is enough."""
        self._loaded = None
        gc.collect()
        if not gc.get_freeze_count():
            gc.freeze()
        return {}

    def _need(self) -> Any:
        if self._loaded is None:
            raise RuntimeError("no case is built")
        return self._loaded


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
