"""One side of the gate from outside: its process, its pipes, parked or awake."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from profiles.allocator import pinned_environment

WORKER = Path(__file__).with_name("worker.py")
OURS = Path(__file__).parent.parent.parent
LOG_TAIL_BYTES = 4000
Answer = dict[str, Any]


class Checkout(msgspec.Struct, frozen=True, kw_only=True):
    """Where a side's code lies and what runs it. `working_tree`: the repository that the checkouts were made from."""

    side: str
    python: str
    root: Path
    folder: Path
    working_tree: Path

    @property
    def roots(self) -> tuple[str, ...]:
        """What comes first on the side's sys.path."""
        wanted = (self.folder, self.root, self.root / "src")
        return tuple(dict.fromkeys(str(p) for p in wanted if p.is_dir()))


class SideLostError(Exception):
    """The side's process ended or did not answer in time; says how, with the last lines it wrote."""

    def __init__(self, message: str, log: str) -> None:
        super().__init__(message)
        self.log = log


class Side:
    """A fresh interpreter on one side, to be closed. `padding_bytes` lengthen its environment.

    preload: modules that it imports before it answers, while the other side does too.
    """

    def __init__(
        self,
        checkout: Checkout,
        log: Path,
        padding_bytes: int = 0,
        hash_seed: int = 0,
        preload: Sequence[str] = (),
    ) -> None:
        self.name = checkout.side
        self._log_path = log
        self._log = log.open("ab")
        requests, self._to = os.pipe()
        self._from, answers = os.pipe()
        self._buffer = b""
        config = {
            "roots": checkout.roots,
            "fallback": str(OURS),
            "checkout": str(checkout.root),
            "working_tree": str(checkout.working_tree),
            "preload": list(preload),
            "requests": requests,
            "answers": answers,
        }
        self._process = subprocess.Popen(
            [checkout.python, str(WORKER), json.dumps(config)],
            cwd=checkout.folder,
            env=_environment(padding_bytes, hash_seed),
            pass_fds=(requests, answers),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )
        os.close(requests)
        os.close(answers)

    def ask(self, do: str, timeout_s: float, **request: Any) -> Answer:
        """Send a request and wait for its answer. Raises SideLostError; the process is then gone."""
        line = json.dumps({"do": do, **request}).encode() + b"\n"
        try:
            while line:
                line = line[os.write(self._to, line) :]
        except BrokenPipeError:
            raise self._lost("it had ended") from None
        return self._answer(do, timeout_s)

    def _answer(self, do: str, timeout_s: float) -> Answer:
        deadline = time.monotonic() + timeout_s
        while b"\n" not in self._buffer:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._from], [], [], left)[0]:
                raise self._lost(f"no answer to {do} within {timeout_s:g} s; killed", kill=True)
            data = os.read(self._from, 1 << 16)
            if not data:
                raise self._lost(f"it ended during {do}")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        answer: Answer = json.loads(line)
        return answer

    def _lost(self, what: str, *, kill: bool = False) -> SideLostError:
        if kill:
            self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=10)
        code = self._process.returncode
        how = f" by {signal.Signals(-code).name}" if code is not None and code < 0 else f" with exit code {code}"
        return SideLostError(f"the {self.name} side's process: {what}{'' if kill else how}", self.log_tail())

    def log_tail(self) -> str:
        """The last lines that the side wrote."""
        data = self._log_path.read_bytes()[-LOG_TAIL_BYTES:]
        lines = data.decode(errors="replace").splitlines()
        return "\n".join(line for line in lines if not line.startswith("USDT:")).strip()

    def park(self) -> None:
        """Stop it, so that idle threads of its pools do not spin on the other side's CPUs."""
        self._signal(signal.SIGSTOP)

    def wake(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        for fd in (self._to, self._from):
            with contextlib.suppress(OSError):
                os.close(fd)
        self._log.close()


def _environment(padding_bytes: int, hash_seed: int) -> Mapping[str, str]:
    """The allocator pinned on both sides alike; the padding moves the stack, as the environment's size does."""
    own = {"PYTHONHASHSEED": str(hash_seed), "DLRM_BENCH_PADDING": "x" * padding_bytes, "KINETO_LOG_LEVEL": "5"}
    return pinned_environment() | own
