"""Real worker processes that end in every way they can: the Ending says how, and the next job still runs."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.running import pool as pool_module
from bench.running.forkserver import Emit
from bench.running.pool import ForkServer, Pool

HERE = "tests.unit.test_bench_pool"


def job_answer(payload: bytes, emit: Emit) -> None:
    emit("result", {"payload": payload.decode(), "pid": os.getpid(), "variable": os.environ.get("POOL_TEST")})


def job_raise(payload: bytes, emit: Emit) -> None:
    raise ValueError("this went wrong")


def job_segfault(payload: bytes, emit: Emit) -> None:
    print("last words", flush=True)
    os.kill(os.getpid(), signal.SIGSEGV)


def job_hang(payload: bytes, emit: Emit) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    emit("phase", {"phase": "hanging", "pid": os.getpid()})
    time.sleep(600)


def job_exit(payload: bytes, emit: Emit) -> None:
    os._exit(7)


def job_eat_memory(payload: bytes, emit: Emit) -> None:
    """More memory than its limit allows; a limit on the address space stands in for a small machine."""
    import torch

    resource.setrlimit(resource.RLIMIT_AS, (8 * 2**30, 8 * 2**30))
    torch.empty(64 * 2**30, dtype=torch.uint8)


def job_kill_server(payload: bytes, emit: Emit) -> None:
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(60)


def job_kill_server_once(payload: bytes, emit: Emit) -> None:
    marker = Path(os.environ["POOL_MARKER"])
    if marker.exists():
        emit("result", {"again": True})
        return
    marker.touch()
    job_kill_server(payload, emit)


def job_stop_server(payload: bytes, emit: Emit) -> None:
    """Its server answers nothing more; the job itself ends well."""
    os.kill(os.getppid(), signal.SIGSTOP)


def job_stop(payload: bytes, emit: Emit) -> None:
    emit("phase", {"phase": "stopping", "pid": os.getpid()})
    os.kill(os.getpid(), signal.SIGSTOP)


def job_leave_child(payload: bytes, emit: Emit) -> None:
    child = os.fork()
    if child == 0:
        time.sleep(600)
    emit("result", {"child": child})


def job_close_results(payload: bytes, emit: Emit) -> None:
    """Closes all it has and hangs: the end of what it says is not its own end."""
    emit("phase", {"phase": "closing", "pid": os.getpid()})
    os.closerange(3, 64)
    time.sleep(600)


def job_interrupted(payload: bytes, emit: Emit) -> None:
    emit("result", {"sigint_ignored": signal.getsignal(signal.SIGINT) == signal.SIG_IGN})


@pytest.fixture(scope="module")
def server() -> Iterator[ForkServer]:
    with Pool() as pool:
        yield pool.server({"POOL_TEST": "yes"})


def run(server: ForkServer, job: str, timeout_s: float = 60) -> tuple[Any, dict[str, Any]]:
    events: dict[str, Any] = {}
    ending = server.run(f"{HERE}:{job}", {"x": 1}, lambda kind, body: events.update({kind: body}), timeout_s)
    return ending, events


def test_a_job_gets_its_payload_and_environment_and_answers(server: ForkServer) -> None:
    ending, events = run(server, "job_answer")
    assert ending.kind == "ok"
    assert events["result"]["payload"] == '{"x":1}'
    assert events["result"]["variable"] == "yes"
    assert events["result"]["pid"] != os.getpid()


def test_every_job_has_a_process_of_its_own(server: ForkServer) -> None:
    assert run(server, "job_answer")[1]["result"]["pid"] != run(server, "job_answer")[1]["result"]["pid"]


def test_an_error_brings_its_message_and_traceback(server: ForkServer) -> None:
    ending, _ = run(server, "job_raise")
    assert (ending.kind, ending.reason) == ("error", "ValueError: this went wrong")
    assert "job_raise" in ending.log


def test_a_crash_brings_its_signal_and_last_words(server: ForkServer) -> None:
    ending, _ = run(server, "job_segfault")
    assert (ending.kind, ending.signal, ending.log) == ("crash", "SIGSEGV", "last words")


def test_a_hang_is_killed_at_its_timeout(server: ForkServer) -> None:
    began = time.monotonic()
    ending, events = run(server, "job_hang", timeout_s=0.5)
    assert ending.kind == "timeout"
    assert events["phase"]["phase"] == "hanging"
    assert time.monotonic() - began < 20


def test_an_exit_code_is_told(server: ForkServer) -> None:
    ending, _ = run(server, "job_exit")
    assert (ending.kind, ending.reason) == ("error", "exit code 7")


def test_a_refused_allocation_is_an_error_that_says_so(server: ForkServer) -> None:
    ending, _ = run(server, "job_eat_memory")
    assert ending.kind == "error"
    assert "not enough memory" in ending.reason or "can't allocate" in ending.reason


def test_a_killed_server_is_started_again(server: ForkServer) -> None:
    ending, _ = run(server, "job_kill_server")
    assert (ending.kind, ending.lost) == ("crash", True)
    assert "the fork server ended (connection closed), twice" in ending.reason
    assert run(server, "job_answer")[0].kind == "ok"


def test_a_server_that_is_lost_costs_no_job(tmp_path: Path) -> None:
    with Pool() as pool:
        ending, events = run(pool.server({"POOL_MARKER": str(tmp_path / "marker")}), "job_kill_server_once")
    assert (ending.kind, ending.lost) == ("ok", False)
    assert events["result"] == {"again": True}


def test_a_server_that_answers_nothing_more_is_replaced(server: ForkServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "REAP_TIMEOUT_S", 0.5)
    ending, _ = run(server, "job_stop_server")
    assert "no answer for 0.5 s" in ending.reason
    monkeypatch.undo()
    assert run(server, "job_answer")[0].kind == "ok"


@pytest.mark.parametrize("job", ["job_stop", "job_close_results"])
def test_a_worker_that_neither_answers_nor_ends_is_killed_at_its_timeout(server: ForkServer, job: str) -> None:
    ending, events = run(server, job, timeout_s=0.5)
    assert (ending.kind, ending.signal) == ("timeout", "SIGKILL")
    assert not _alive(events["phase"]["pid"])


def test_what_a_worker_started_neither_holds_up_nor_outlives_it(server: ForkServer) -> None:
    ending, events = run(server, "job_leave_child", timeout_s=30)
    assert ending.kind == "ok"
    child = events["result"]["child"]
    deadline = time.monotonic() + 10
    while _alive(child) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not _alive(child)


def test_workers_leave_an_interrupt_to_their_parent(server: ForkServer) -> None:
    assert run(server, "job_interrupted")[1]["result"] == {"sigint_ignored": True}


def test_an_error_in_the_watcher_ends_the_worker_and_keeps_the_server(server: ForkServer) -> None:
    pids: list[int] = []

    def on_event(kind: str, body: dict[str, Any]) -> None:
        pids.append(body.get("pid", 0))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        server.run(f"{HERE}:job_answer", {}, on_event, 60)
    assert run(server, "job_answer")[0].kind == "ok"


def test_no_worker_outlives_the_server() -> None:
    pids: list[int] = []
    with Pool() as pool:
        server = pool.server({})

        def on_event(kind: str, body: dict[str, Any]) -> None:
            pids.append(body["pid"])
            server.close()

        server.run(f"{HERE}:job_hang", {}, on_event, 60)
    assert len(pids) == 1
    deadline = time.monotonic() + 10
    while _alive(pids[0]) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _alive(pids[0])


def _alive(pid: int) -> bool:
    try:
        return "zombie" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


ASKS_FOR_CUDA = """
import os, sys, warnings
warnings.simplefilter("ignore")
import torch
from bench.running import forkserver
driver = []
torch._C._cuda_getDeviceCount = lambda: driver.append(1) or 1
torch.cuda._device_count_nvml = lambda: 1
os.environ[forkserver.NVML_CHECK] = sys.argv[1]
for name in forkserver.PRELOAD:
    forkserver._import_quietly(name)
assert torch.cuda.is_available()
sys.exit(len(driver))
"""


@pytest.mark.parametrize(("check", "starts"), [("1", False), ("0", True)])
def test_preloading_starts_no_cuda_driver(check: str, starts: bool) -> None:
    """A forked worker cannot use CUDA once its server has counted devices through the driver instead of NVML."""
    pytest.importorskip("torch")
    done = subprocess.run([sys.executable, "-c", ASKS_FOR_CUDA, check], capture_output=True, timeout=120, check=False)
    assert (done.returncode > 0) == starts, done.stderr.decode()


def job_nvml_check(payload: bytes, emit: Emit) -> None:
    emit("result", {"variable": os.environ.get("PYTORCH_NVML_BASED_CUDA_CHECK")})


def test_the_server_asks_nvml_for_devices(server: ForkServer) -> None:
    assert run(server, "job_nvml_check")[1]["result"] == {"variable": "1"}
