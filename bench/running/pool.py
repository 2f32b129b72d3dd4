"""Isolated worker processes, forked from a server per environment: run a job, watch it, say how it ended."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from bench.running.forkserver import Ended, Forked, Reply

EventHandler = Callable[[str, dict[str, Any]], None]
LOG_TAIL_BYTES = 4000
START_TIMEOUT_S = 120.0
REAP_TIMEOUT_S = 30.0


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """How a job ended. `kind` is ok, error, crash, timeout or out_of_memory; `log` the last lines it wrote.

    lost: the server ended, twice, before it could tell how the job did.
    """

    kind: str
    reason: str | None = None
    signal: str | None = None
    log: str = ""
    peak_rss_bytes: int = 0
    lost: bool = False


class ServerLostError(Exception):
    """The fork server is gone."""


class ForkServer:
    """One fork server with its own environment. Started on first use, started again when it dies."""

    def __init__(self, environment: Mapping[str, str | None]) -> None:
        self._environment = dict(environment)
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def run(self, entry: str, payload: Any, on_event: EventHandler, timeout_s: float) -> Ending:
        """Run `module:function` in a fresh process. Events it emits reach `on_event` as they come.

        A server that is lost meanwhile says nothing about the job, so the job is run once more by another. Raises
        OSError where this machine has no room for the job.
        """
        ending = self._attempt(entry, payload, on_event, timeout_s)
        if ending.lost and self._process is not None:
            self.close()
            ending = self._attempt(entry, payload, on_event, timeout_s)
        if ending.lost:
            self.close()
        return ending

    def _attempt(self, entry: str, payload: Any, on_event: EventHandler, timeout_s: float) -> Ending:
        control = self._started()
        with tempfile.TemporaryFile() as log, tempfile.TemporaryFile() as job:
            job.write(msgspec.json.encode(payload))
            job.flush()
            read_end, write_end = os.pipe()
            with os.fdopen(read_end, "rb", buffering=0) as results:
                try:
                    _send(control, entry, [job.fileno(), write_end, log.fileno()])
                    return self._watch(control, results, log, on_event, timeout_s)
                except ServerLostError as error:
                    reason = f"the fork server ended ({error}), twice"
                    return Ending(kind="crash", reason=reason, log=_tail(log), lost=True)

    def _watch(
        self, control: socket.socket, results: BinaryIO, log: BinaryIO, on_event: EventHandler, timeout_s: float
    ) -> Ending:
        oom_before = oom_kills()
        pid = _receive(control, Forked, START_TIMEOUT_S).pid
        try:
            overdue = _pump(results, control, on_event, timeout_s)
        except BaseException:
            self._kill(control, pid)
            raise
        if overdue:
            _kill_group(pid)
        ended = _receive(control, Ended, REAP_TIMEOUT_S)
        return _ending(ended, overdue, oom_kills() > oom_before, _tail(log))

    def _kill(self, control: socket.socket, pid: int) -> None:
        _kill_group(pid)
        try:
            _receive(control, Ended, REAP_TIMEOUT_S)
        except ServerLostError:
            self.close()

    def _started(self) -> socket.socket:
        if self._control is None or self._process is None or self._process.poll() is not None:
            self.close()
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self._process = subprocess.Popen(
                [sys.executable, "-m", "bench.running.forkserver", str(theirs.fileno())],
                env=_merged(self._environment),
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                # What a terminal or a service manager sends to the group is for this process to answer.
                start_new_session=True,
            )
            theirs.close()
            self._control = ours
        return self._control

    def close(self) -> None:
        """End the server and whatever it runs."""
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._control = self._process = None


class Pool:
    """Fork servers by environment, each started once and kept."""

    def __init__(self) -> None:
        self._servers: dict[tuple[tuple[str, str | None], ...], ForkServer] = {}

    def server(self, environment: Mapping[str, str | None]) -> ForkServer:
        """The server that runs with these variables set (None: removed)."""
        key = tuple(sorted(environment.items(), key=lambda item: item[0]))
        return self._servers.setdefault(key, ForkServer(environment))

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers.values():
            server.close()


def _merged(changes: Mapping[str, str | None]) -> dict[str, str]:
    """This process's environment with the changes."""
    merged = {**os.environ, **changes}
    return {name: value for name, value in merged.items() if value is not None}


def _send(control: socket.socket, entry: str, fds: list[int]) -> None:
    """Hand a job over; the second file, the results' end, is the worker's alone afterwards."""
    try:
        socket.send_fds(control, [entry.encode()], fds)
    except OSError as error:
        raise ServerLostError(error.strerror) from None
    finally:
        os.close(fds[1])


def _receive(control: socket.socket, kind: Any, timeout_s: float) -> Any:
    try:
        if not select.select([control], [], [], timeout_s)[0]:
            raise ServerLostError(f"no answer for {timeout_s:g} s")
        message = control.recv(65536)
    except (OSError, ValueError):  # reset by the other end, or closed by this one
        message = b""
    if not message:
        raise ServerLostError("connection closed")
    reply: Reply = msgspec.json.decode(message, type=Reply)
    if not isinstance(reply, kind):
        raise ServerLostError(f"unexpected answer {reply}")
    return reply


def _pump(results: BinaryIO, control: socket.socket, on_event: EventHandler, timeout_s: float) -> str | None:
    """Hand events on until the server has something to say; why the worker must be killed where it has not in time.

    The end of the results is not the worker's: what it started may hold them open, and it may close them and stay.
    """
    buffer, sources = b"", list[BinaryIO | socket.socket]((results, control))
    deadline, reason = time.monotonic() + timeout_s, f"no end after {timeout_s:g} s"
    while control.fileno() >= 0:
        left = deadline - time.monotonic()
        ready = select.select(sources, [], [], max(left, 0))[0]
        if left <= 0 or not ready:
            return reason
        if results not in ready:
            return None
        data = results.read(1 << 20)
        if not data:
            sources, reason = [control], f"it closed its results and did not end within {REAP_TIMEOUT_S:g} s"
            deadline = min(deadline, time.monotonic() + REAP_TIMEOUT_S)
        *lines, buffer = (buffer + data).split(b"\n")
        for line in lines:
            event = msgspec.json.decode(line)
            on_event(event["kind"], event["body"])
    return None


def _kill_group(pid: int) -> None:
    """The worker and what it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def _tail(log: BinaryIO) -> str:
    size = log.seek(0, os.SEEK_END)
    log.seek(max(0, size - LOG_TAIL_BYTES))
    return log.read().decode(errors="replace").strip()


def _ending(ended: Ended, overdue: str | None, oom: bool, log: str) -> Ending:
    name = signal.Signals(ended.signal).name if ended.signal else None
    kind, reason = _kind(ended, name, oom, log)
    if overdue:
        kind, reason = "timeout", f"{overdue}; killed"
    return Ending(kind=kind, reason=reason, signal=name, log=log, peak_rss_bytes=ended.peak_rss_bytes)


def _kind(ended: Ended, signal_name: str | None, oom: bool, log: str) -> tuple[str, str | None]:
    if ended.signal == signal.SIGKILL:
        killed_for_memory = "out_of_memory", "killed by the kernel for want of memory"
        return killed_for_memory if oom else ("crash", "killed by SIGKILL from outside")
    if signal_name:
        return "crash", f"ended by {signal_name}"
    if ended.exit_code:
        return "error", log.rsplit("\n", 1)[-1] or f"exit code {ended.exit_code}"
    return "ok", None


def oom_kills() -> int:
    """How many processes the kernel has killed for want of memory since boot; 0 where it does not say."""
    try:
        text = Path("/proc/vmstat").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in text.splitlines() if line.startswith("oom_kill ")), 0)
