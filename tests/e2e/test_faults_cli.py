"""What a user meets when things go wrong from outside: signals, a machine that is taken, changed, full or read-only."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from bench import store
from tests.e2e.conftest import Cli
from tests.e2e.test_sweep_cli import FAST, STEPS, TINY_12, outcomes, records, run_folder, write_sweep
from tools.torture.full_disk import full_disk, unmountable
from tools.torture.kills import KILLS_PER_SWEEP, killed_sweep
from tools.torture.out_of_memory import EATERS, out_of_memory
from tools.torture.sweeps import children
from tools.torture.trial import Trial, totals

QUICK = FAST + '[[grid]]\ncode = "steps.py:quick"\n'
HANGS = FAST + '[[grid]]\ncode = "steps.py:hang"\n'


def wait_for(found: Callable[[], object], timeout_s: float = 90) -> None:
    deadline = time.monotonic() + timeout_s
    while not found() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert found()


def resumed(cli: Cli, run: Path) -> None:
    done = cli("sweep", "--resume", str(run))
    assert done.returncode == 0, done.stderr
    keys = [r["key"] for r in records(run)]
    assert len(keys) == len(set(keys)) == 12
    assert all(r["outcome"]["status"] == "ok" for r in records(run))
    assert (run / "report.html").exists()


@pytest.fixture
def own_machine(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """The torture starts sweeps of its own; they know this machine's ceilings as the others here do."""
    monkeypatch.setenv("DLRM_BENCH_CACHE", cli.environment["DLRM_BENCH_CACHE"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_sweep_says_how_to_go_on(cli: Cli, number: signal.Signals) -> None:
    write_sweep(cli.folder, TINY_12)
    process = cli.start("sweep", "mine.toml")
    wait_for(lambda: [p for p in cli.folder.glob("results/local/*/records.jsonl") if p.stat().st_size])
    os.killpg(process.pid, number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "sweep --resume" in said
    resumed(cli, run_folder(cli.folder))


def test_a_second_interrupt_ends_at_once_and_leaves_nothing_behind(cli: Cli) -> None:
    shutil.copy(STEPS, cli.folder)
    write_sweep(cli.folder, HANGS)
    process = cli.start("sweep", "mine.toml")
    wait_for(lambda: any(children(server) for server in children(process.pid)))
    (server,) = children(process.pid)
    (worker,) = children(server)
    # A server that does not answer is what the orderly end waits for.
    os.kill(server, signal.SIGSTOP)
    process.send_signal(signal.SIGINT)
    wait_for(lambda: Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[0] == "Z")
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 130, said
    assert "ended at once" in said
    wait_for(lambda: not Path(f"/proc/{server}").exists() and not Path(f"/proc/{worker}").exists())


def test_workers_that_stop_or_leave_something_and_a_lost_server(cli: Cli) -> None:
    shutil.copy(STEPS, cli.folder)
    names = ("stopped", "leaves_child", "kills_server_once", "quick")
    grids = "".join(f'[[grid]]\ncode = "steps.py:{name}"\n' for name in names)
    write_sweep(cli.folder, FAST + "timeout_s = 3\n" + grids)
    done = cli("sweep", "mine.toml")
    assert done.returncode == 3, done.stderr
    found = outcomes(run_folder(cli.folder))
    assert (found["stopped"]["kind"], found["stopped"]["signal"]) == ("timeout", "SIGKILL")
    assert [found[name]["status"] for name in names[1:]] == ["ok"] * 3
    assert (cli.folder / "killed").exists()
    child = (cli.folder / "child.pid").read_text()
    wait_for(lambda: not Path(f"/proc/{child}").exists(), 10)


def test_a_second_benchmark_is_told_who_holds_the_machine(cli: Cli) -> None:
    shutil.copy(STEPS, cli.folder)
    write_sweep(cli.folder, HANGS)
    process = cli.start("sweep", "mine.toml")
    wait_for(lambda: list(cli.folder.glob("results/local/*/run.json")))
    done = cli("sweep", "mine.toml")
    assert done.returncode == 2
    assert f"pid {process.pid}: " in done.stderr
    assert "sweep mine.toml" in done.stderr
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    write_sweep(cli.folder, QUICK)
    assert cli("sweep", "mine.toml").returncode == 0


def test_a_run_of_another_machine_is_not_resumed(cli: Cli) -> None:
    shutil.copy(STEPS, cli.folder)
    write_sweep(cli.folder, QUICK)
    cli("sweep", "mine.toml")
    run = run_folder(cli.folder)
    manifest = store.read_manifest(run)
    print_ = manifest.machine.fingerprint
    other = msgspec.structs.replace(print_, hash="0" * 16, hard=print_.hard | {"torch": "1.0"})
    machine = msgspec.structs.replace(manifest.machine, fingerprint=other)
    store.write_manifest(run, msgspec.structs.replace(manifest, machine=machine))
    done = cli("sweep", "--resume", str(run))
    assert done.returncode == 2
    assert "machine hard.torch: the run has '1.0'" in done.stderr


def test_an_edited_line_is_named_by_every_verb_and_its_case_measured_again_once_it_is_gone(cli: Cli) -> None:
    shutil.copy(STEPS, cli.folder)
    write_sweep(cli.folder, QUICK)
    assert cli("sweep", "mine.toml").returncode == 0
    run = run_folder(cli.folder)
    path = run / store.RECORDS
    path.write_bytes(path.read_bytes().replace(b'"minor_faults":', b'"minor_faults":1', 1))
    for verb in (["show"], ["report"], ["sweep", "--resume"], ["compare", str(run)]):
        done = cli(*verb, str(run))
        assert done.returncode == 2, verb
        assert "records.jsonl, line 1: it is not what was written" in done.stderr
        assert "Traceback" not in done.stderr
    path.write_bytes(b"")
    assert cli("sweep", "--resume", str(run)).returncode == 0
    assert outcomes(run)["quick"]["status"] == "ok"


def test_a_closed_pipe_stops_a_sweep_like_ctrl_c(cli: Cli) -> None:
    write_sweep(cli.folder, TINY_12)
    process = cli.start("sweep", "mine.toml")
    assert process.stderr is not None
    with process:
        process.stderr.readline()
        process.stderr.close()
    assert process.returncode == 130
    resumed(cli, run_folder(cli.folder))


def test_folders_of_killed_programs_are_removed_and_no_others(cli: Cli, tmp_path: Path) -> None:
    shutil.copy(STEPS, cli.folder)
    write_sweep(cli.folder, QUICK)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    ended = subprocess.Popen(["true"])
    ended.wait()
    for name in (f"dlrm-bench-{ended.pid}-ab", f"dlrm-bench-{os.getpid()}-ab", "dlrm-bench-ab", "mine"):
        (temporary / name / "deep").mkdir(parents=True)
    own = Cli(cli.folder, cli.environment | {"TMPDIR": str(temporary)})
    assert own("sweep", "mine.toml").returncode == 0
    left = {p.name for p in temporary.iterdir() if not p.name.startswith("torchinductor")}
    assert left == {f"dlrm-bench-{os.getpid()}-ab", "dlrm-bench-ab", "mine"}


JUMPS = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>
#include <sys/time.h>
#include <stdlib.h>
static long jump(void) { static __thread unsigned state = 1; return (long)(rand_r(&state) % 2000000) - 1000000; }
int clock_gettime(clockid_t id, struct timespec *t) {
  static int (*real)(clockid_t, struct timespec *);
  if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
  int code = real(id, t);
  if (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE) t->tv_sec += jump();
  return code;
}
int gettimeofday(struct timeval *t, void *zone) {
  struct timespec now; clock_gettime(CLOCK_REALTIME, &now);
  t->tv_sec = now.tv_sec; t->tv_usec = now.tv_nsec / 1000; return 0;
}
time_t time(time_t *out) {
  struct timespec now; clock_gettime(CLOCK_REALTIME, &now); if (out) *out = now.tv_sec; return now.tv_sec;
}
"""


@pytest.fixture
def jumping_clock(tmp_path: Path) -> str:
    """A library under which the wall clock jumps by up to eleven days whenever it is read."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    (tmp_path / "jumps.c").write_text(JUMPS)
    built = tmp_path / "jumps.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", built, tmp_path / "jumps.c", "-ldl"], check=True)
    return str(built)


def test_a_wall_clock_that_jumps_changes_no_measurement(cli: Cli, jumping_clock: str) -> None:
    shutil.copy(STEPS, cli.folder)
    write_sweep(cli.folder, QUICK + '[[grid]]\ncode = "steps.py:hang"\n[[grid]]\ncode = "steps.py:multiplies"\n')
    jumping = Cli(cli.folder, cli.environment | {"LD_PRELOAD": jumping_clock})
    done = jumping("sweep", "mine.toml", "--set", "timeout_s=3")
    assert done.returncode == 3, done.stderr
    found = {r["case"]["code"].rpartition(":")[2]: r for r in records(run_folder(cli.folder))}
    # It sleeps for a millisecond by a clock that does not jump.
    measured = found["quick"]["measurement"]
    assert 0.001 <= min(measured["times_s"]) <= max(measured["times_s"]) < 1
    assert 0 < found["quick"]["costs"]["total_s"] < 60
    assert measured["started_s"] == sorted(measured["started_s"])
    for channel in found["quick"]["telemetry"]:
        assert channel["times_s"] == sorted(channel["times_s"])
        assert max(map(abs, channel["times_s"])) < 60
    assert found["hang"]["outcome"]["kind"] == "timeout"
    assert found["multiplies"]["outcome"]["status"] == "ok"


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Callable[[], None]]:
    """Makes the results folder read-only, also for root."""
    if (reason := unmountable()) is not None:
        pytest.skip(reason)
    folder = tmp_path / "results"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", folder], check=True)
    yield lambda: subprocess.run(["mount", "-o", "remount,ro", folder], check=True) and None
    subprocess.run(["umount", folder], check=True)


def test_a_folder_that_became_read_only_is_read_and_everything_else_says_so(
    cli: Cli, read_only: Callable[[], None]
) -> None:
    shutil.copy(STEPS, cli.folder)
    write_sweep(cli.folder, QUICK)
    assert cli("sweep", "mine.toml").returncode == 0
    run = run_folder(cli.folder)
    read_only()
    assert cli("show", str(run)).returncode == 0
    assert cli("report", str(run), "--out", str(cli.folder / "mine.html")).returncode == 0
    for arguments, cure in (
        (["sweep", "--resume", str(run)], "--resume"),
        (["report", str(run)], "name another place"),
        (["sweep", "mine.toml"], "--out DIR"),
    ):
        done = cli(*arguments)
        assert done.returncode == 2, done.stderr
        assert "Read-only file system" in done.stderr or "--out DIR" in done.stderr
        assert cure in done.stderr
        assert "Traceback" not in done.stderr


def clean(trial: Trial) -> None:
    """Nothing lost, doubled or wrong."""
    assert (trial.lost, trial.duplicated, trial.wrong) == (0, 0, ()), trial


@pytest.mark.slow
@pytest.mark.usefixtures("own_machine")
def test_random_kills_lose_double_and_spoil_nothing() -> None:
    """One sweep of the torture; `python -m tools.torture` does as many as asked."""
    found = killed_sweep(0, random.Random(7).randrange(1000))
    clean(found)
    assert 0 < found.events <= KILLS_PER_SWEEP


@pytest.mark.usefixtures("own_machine")
def test_a_full_disk_stops_a_sweep_that_goes_on_when_there_is_room() -> None:
    if (reason := unmountable()) is not None:
        pytest.skip(reason)
    clean(full_disk(0, 1))


@pytest.mark.usefixtures("own_machine")
def test_kills_for_want_of_memory_are_recorded_and_the_sweep_ends() -> None:
    found = out_of_memory(0, 1)
    if found.skipped:
        pytest.skip(found.skipped)
    clean(found)
    assert found.events == EATERS


def test_the_torture_adds_up_what_went_wrong() -> None:
    found = totals(
        [Trial("kills", 0, 6), Trial("kills", 1, 5, lost=2, wrong=("a", "b")), Trial("x", 0, 0, skipped="y")]
    )
    assert [tuple(t) for t in found] == [("kills", 2, 11, 2, 0, 2, None), ("x", 0, 0, 0, 0, 0, "y")]
