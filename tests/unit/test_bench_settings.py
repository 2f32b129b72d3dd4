"""Settings of a case: what cannot be had is skipped with its cure, what is asked is put in force and read back."""

from __future__ import annotations

import os
from typing import Any

import msgspec
import pytest

from bench.commands.sweep import unavailable
from bench.records import Case, Settings
from bench.running import environment as env
from bench.running.pool import Pool
from bench.running.reading_back import not_in_force, setting_flags
from bench.sweep_spec import make_case
from profiles.allocator import allocator_in_force, find_library, mapped_library, missing_library
from tests.sample_records import machine
from workloads.spec import SpecError

LATER = {
    "affinity": "0",
    "interop_threads": 2,
    "wait_policy": "active",
    "flush_denormal": True,
    "matmul_precision": "medium",
    "index_dtype": "int32",
    "bounds_check": "fatal",
    "inference_mode": True,
}


@pytest.mark.parametrize(("name", "value"), LATER.items())
def test_a_new_setting_is_part_of_the_key_only_where_it_is_not_the_default(name: str, value: Any) -> None:
    plain, other = make_case("tiny", None, {}), make_case("tiny", None, {name: value})
    assert name not in plain._identity()
    assert other._identity()[name] == value
    assert plain.key() != other.key()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"affinity": "4095"}, "CPU 4095 is not among those this process may use"),
        ({"bounds_check": "fatal", "backend": "bag"}, "only tbe, tbe_int have FBGEMM's check"),
        ({"inference_mode": True, "phase": "train_step"}, "a train step needs gradients"),
        ({"inference_mode": True, "backend": "tbe"}, "try 'tbe_int' or 'fused_bag'"),
        ({"index_dtype": "int32", "num_rows": 2_000_000_000}, "need int64 indices"),
    ],
)
def test_what_cannot_be_had_is_foreseen_with_its_reason(settings: dict[str, Any], words: str) -> None:
    assert words in str(unavailable(make_case("tiny", None, settings), machine()))


def test_an_absent_allocator_is_skipped_with_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("profiles.allocator._FOLDERS", ())
    monkeypatch.setattr("sys.prefix", "/nowhere")
    reason = unavailable(make_case("tiny", None, {"allocator": "jemalloc"}), machine())
    assert reason is not None
    assert "apt install libjemalloc2" in reason
    with pytest.raises(ValueError, match="no library of jemalloc"):
        env.environment("jemalloc", True)


@pytest.mark.parametrize("text", ["0-", "a", "0,,1", "3-1x"])
def test_a_list_of_cpus_is_checked(text: str) -> None:
    with pytest.raises(SpecError, match="a list of CPUs"):
        make_case("tiny", None, {"affinity": text})


def test_lists_of_cpus_are_read() -> None:
    assert env.cpus_of("0,2-4") == (0, 2, 3, 4)
    assert env.cpus_of("") == ()
    with pytest.raises(ValueError, match="no list of CPUs"):
        env.cpus_of("4-2")


def test_a_preloaded_allocator_stands_alone_in_ld_preload(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_PRELOAD", "/x/libtcmalloc.so:/x/libother.so")
    assert env.environment("pinned", True)["LD_PRELOAD"] == "/x/libother.so"
    monkeypatch.setattr("bench.running.environment.find_library", lambda _: "/y/libjemalloc.so.2")
    found = env.environment("jemalloc", True)
    assert found["LD_PRELOAD"] == "/y/libjemalloc.so.2:/x/libother.so"
    assert found["MALLOC_MMAP_THRESHOLD_"] is None
    assert "decay_ms:-1" in str(found["MALLOC_CONF"])


def test_tunables_of_the_allocator_are_overruled_and_others_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1:glibc.pthread.rseq=0")
    assert env.environment("pinned", True)["GLIBC_TUNABLES"] == "glibc.pthread.rseq=0"
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")
    assert env.environment("pinned", True)["GLIBC_TUNABLES"] is None


def settings(**changes: Any) -> Settings:
    plain = Settings(
        num_threads=len(os.sched_getaffinity(0)),
        interop_threads=1,
        affinity=tuple(sorted(os.sched_getaffinity(0))),
        allocator_env={},
        transparent_huge_pages="",
        anon_huge_bytes=0,
        matmul_precision="highest",
        tf32=False,
        flush_denormal=False,
        inference_mode=False,
        grad_mode=False,
        allocator="pinned",
    )
    return msgspec.structs.replace(plain, **changes)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"allocator": "jemalloc"}, {}),
        ({}, {"allocator": "default"}),
        ({"flush_denormal": True}, {}),
        ({"matmul_precision": "medium"}, {}),
        ({"num_threads": 7}, {}),
        ({"interop_threads": 3}, {}),
        ({"affinity": "0"}, {"affinity": (0, 1), "num_threads": 2}),
        ({"index_dtype": "int32"}, {}),
        ({"bounds_check": "fatal", "backend": "tbe"}, {"bounds_check": "none"}),
        ({"inference_mode": True}, {}),
        ({"wait_policy": "active"}, {"openmp_spin_frac": 0.02}),
        ({"wait_policy": "passive"}, {"openmp_spin_frac": 0.9}),
    ],
)
def test_what_is_not_in_force_is_named(asked: dict[str, Any], found: dict[str, Any]) -> None:
    case = make_case("tiny", None, asked)
    told = not_in_force(case, settings(**found))
    assert told
    assert all("was asked" in text for text in told)
    assert not_in_force(make_case("tiny", None, {}), settings()) == []


def test_pages_that_are_not_as_asked_are_flagged() -> None:
    big = make_case("tbe_default", None, {})
    assert big.model is not None
    size = big.model.table_bytes
    assert setting_flags(big, settings(anon_huge_bytes=0)) == ("small_pages",)
    assert setting_flags(big, settings(anon_huge_bytes=size)) == ()
    small = msgspec.structs.replace(big, huge_pages=False)
    assert setting_flags(small, settings(anon_huge_bytes=size)) == ("huge_pages",)
    assert setting_flags(small, settings()) == ()
    assert setting_flags(make_case("tiny", None, {}), settings()) == ()


def test_the_mapped_library_is_what_counts() -> None:
    assert mapped_library("7f /usr/lib/libjemalloc.so.2") == "jemalloc"
    assert mapped_library("7f /usr/lib/libc.so.6") == "glibc"
    assert missing_library("pinned") is None


def probe(payload: bytes, emit: Any) -> None:
    """Entry of a worker: settings put in force and read back there."""
    from bench.running.reading_back import read_settings
    from bench.running.settings import apply_settings

    case = msgspec.json.decode(payload, type=Case)
    apply_settings(case)
    emit("settings", msgspec.to_builtins(read_settings(case, False)))


@pytest.mark.parametrize(
    "asked",
    [
        {"allocator": "default", "flush_denormal": True, "wait_policy": "active", "huge_pages": False},
        {"wait_policy": "passive", "affinity": "0", "matmul_precision": "medium", "interop_threads": 2},
        {"allocator": "jemalloc"},
        {"allocator": "tcmalloc"},
    ],
)
def test_settings_reach_a_worker_and_are_read_back_there(asked: dict[str, Any]) -> None:
    pytest.importorskip("torch")
    case = Case(**asked)
    if missing_library(case.allocator):
        pytest.skip(str(missing_library(case.allocator)))
    seen: list[dict[str, Any]] = []
    with Pool() as pool:
        server = pool.server(env.environment_of(case))
        ending = server.run("tests.unit.test_bench_settings:probe", case, lambda _, body: seen.append(body), 120)
    assert ending.kind == "ok", ending.log
    assert not_in_force(case, msgspec.convert(seen[0], Settings)) == []


def test_this_process_tells_its_own_allocator() -> None:
    assert allocator_in_force() in ("pinned", "default", "jemalloc", "tcmalloc", "mimalloc")
    assert find_library("jemalloc", ["/nowhere"]) is None
