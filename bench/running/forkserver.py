"""The fork server: imports torch and fbgemm once, touches nothing else, and forks a worker for every job.

Started as `python -m bench.running.forkserver FD` with the allocator's environment set. It must never run a parallel
region or make a CUDA context, since threads and contexts do not survive a fork. A job is the name of an entry
(`module:function`), sent over a Unix socket with three file descriptors (payload, results, log); the answer is the
worker's pid, then how it ended. The server is told to die with its parent, and workers with the server, so a kill
leaves nothing behind. A worker leads a process group of its own: what it started ends with it.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

PRELOAD = (
    "torch",
    "torch.profiler",
    "torch._dynamo",
    "fbgemm_gpu.split_table_batched_embeddings_ops_training",
    "bench.running.harness",
    "bench.study.quality",
    "workloads.reference",
    "workloads.models.dlrm",
    "workloads.tbe_module",
    "workloads.executions.eager",
    "profiles.capture",
    "profiles.trace.stages",
    "profiles.trace.reader",
)
NVML_CHECK = "PYTORCH_NVML_BASED_CUDA_CHECK"
"""Makes torch.cuda.is_available ask NVML: otherwise a library that asks while it is imported starts the CUDA driver
here, and no worker could use CUDA after the fork."""
MAX_MESSAGE_BYTES = 65_536
PR_SET_PDEATHSIG = 1

Emit = Callable[[str, dict[str, Any]], None]


class Forked(msgspec.Struct, frozen=True, tag=True):
    """A worker runs as `pid`."""

    pid: int


class Ended(msgspec.Struct, frozen=True, tag=True):
    """The worker ended: exit code or signal number, and the most memory it held."""

    exit_code: int | None
    signal: int | None
    peak_rss_bytes: int


Reply = Forked | Ended


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent dies (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def main(fd: int) -> None:
    """Serve jobs until the other end closes."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ[NVML_CHECK] = "1"
    for name in PRELOAD:
        _import_quietly(name)
    gc.freeze()
    # Nobody is told any more once the other end is gone: end, and the worker with it.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError), socket.socket(fileno=fd) as control:
        while True:
            message, fds, _, _ = socket.recv_fds(control, MAX_MESSAGE_BYTES, 3)
            if not message:
                return
            _serve(control, message.decode(), fds)


def _import_quietly(name: str) -> None:
    try:
        importlib.import_module(name)
    except Exception as error:  # a broken optional package must not take torch down with it
        print(f"preloading {name} failed: {error}", file=sys.stderr)


def _serve(control: socket.socket, entry: str, fds: list[int]) -> None:
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        os.setpgid(0, 0)
        control.close()
        _worker(entry, *fds, parent=parent)
    for fd in fds:
        os.close(fd)
    with contextlib.suppress(OSError):
        os.setpgid(pid, pid)
    _reply(control, Forked(pid))
    # Its pid, and so its group's, stays taken until wait4.
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    with contextlib.suppress(OSError):
        os.killpg(pid, signal.SIGKILL)
    _, status, rusage = os.wait4(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    ended = Ended(code if code >= 0 else None, -code if code < 0 else None, rusage.ru_maxrss * 1024)
    _reply(control, ended)


def _reply(control: socket.socket, reply: Reply) -> None:
    control.sendall(msgspec.json.encode(reply))


def _worker(entry: str, payload: int, results: int, log: int, *, parent: int) -> None:
    """Run the job and leave; never returns. An uncaught error ends with exit code 1 and its traceback in the log."""
    code = 1
    try:
        die_with_parent()
        if os.getppid() != parent:
            os._exit(1)
        os.dup2(log, 1)
        os.dup2(log, 2)
        _be_the_first_to_go()
        run_entry(entry, os.pread(payload, os.fstat(payload).st_size, 0), _emitter(results))
        code = 0
    except Exception:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _be_the_first_to_go() -> None:
    """When memory runs out, the kernel should end the worker, not the program that records what happened."""
    try:
        Path("/proc/self/oom_score_adj").write_text("1000")
    except OSError:
        return


def _emitter(fd: int) -> Emit:
    def emit(kind: str, body: dict[str, Any]) -> None:
        data = msgspec.json.encode({"kind": kind, "body": body}) + b"\n"
        while data:
            data = data[os.write(fd, data) :]

    return emit


def run_entry(entry: str, payload: bytes, emit: Emit) -> None:
    """Call `module:function` with the payload."""
    module, _, function = entry.partition(":")
    getattr(importlib.import_module(module), function)(payload, emit)


if __name__ == "__main__":
    main(int(sys.argv[1]))
