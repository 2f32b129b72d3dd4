"""Trust in a case: what stands against it, and what its own numbers advise."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from bench.records import Channel, Record
from bench.reporting.advice import advice
from bench.reporting.case_trust import trust, trust_summary
from bench.reporting.quality_line import quality_line
from profiles.machine import Machine
from tests import sample_records
from tests.unit.test_bench_settings import settings


def bare_metal(**soft: Any) -> Machine:
    made = sample_records.machine()
    cpu = msgspec.structs.replace(made.cpu, hypervisor=None)
    return msgspec.structs.replace(made, cpu=cpu, fingerprint=msgspec.structs.replace(made.fingerprint, soft=soft))


def case(*flags: str, telemetry: tuple[Channel, ...] = (), **measured: Any) -> Record:
    record = sample_records.record(sample_records.scaling_cases()[0])
    measurement = msgspec.structs.replace(record.measurement, flags=flags, **measured)
    return msgspec.structs.replace(record, measurement=measurement, telemetry=telemetry)


def channel(name: str, *values: float) -> Channel:
    return Channel(name=name, source="host", times_s=tuple(0.01 * i for i in range(len(values))), values=values)


def test_nothing_against_a_case_is_high() -> None:
    found = trust(case(), bare_metal())
    assert found is not None
    assert (found.level, found.reasons) == ("high", ())


@pytest.mark.parametrize(
    ("record", "level", "words"),
    [
        (case("other_load"), "low", "something else used the CPUs"),
        (case("page_faults"), "low", "faulted in again"),
        (case("imprecise"), "medium", "wider than asked"),
        (case("outliers", "bimodal"), "low", "two groups"),
        (case(telemetry=(channel("steal_frac", 0.04, 0.04),)), "low", "4.0 % of the CPU time for others"),
        (case(telemetry=(channel("throttled_s", 1.0, 1.25),)), "low", "stopped the process for 0.250 s"),
        (case(telemetry=(channel("thermal_throttles", 7.0, 9.0),)), "low", "for heat 2 times"),
        (case(telemetry=(channel("freq_hz", 3.0e9, 2.0e9),)), "low", "the clock moved by 50 %"),
        (case(telemetry=(channel("gpu_throttle_reasons", 1.0, 68.0),)), "low", "GPU slowed down for heat"),
        (case(telemetry=(channel("gpu_throttle_reasons", 136.0),)), "low", "for its power brake, heat or power"),
        (case(telemetry=(channel("gpu_sm_clock_hz", 1.98e9, 1.8e9),)), "low", "the GPU's clock moved by 10 %"),
        (case(telemetry=(channel("gpu_processes", 1.0, 3.0),)), "low", "3 processes had the GPU open"),
        (case(times_s=(1.0, 1.0)), "low", "only 2 repeats"),
        (case(times_s=(1.0, 1.2, 1.4, 0.8, 0.9, 1.1)), "low", "the median is known to"),
    ],
)
def test_each_reason_has_its_level(record: Record, level: str, words: str) -> None:
    found = trust(record, bare_metal())
    assert found is not None
    assert found.level == level
    assert any(words in reason for reason in found.reasons), found.reasons


def test_an_idle_a_capped_and_a_private_gpu_disturb_nothing() -> None:
    # Idle, clocks that someone set, the power cap, a display's clocks: none slows a GPU against its will.
    harmless = float(0x1 | 0x2 | 0x4 | 0x10 | 0x100)
    seen = (
        channel("gpu_throttle_reasons", 0.0, harmless),
        channel("gpu_sm_clock_hz", 1.98e9, 1.95e9),
        channel("gpu_processes", 0.0, 1.0),
    )
    found = trust(case(telemetry=seen), bare_metal())
    assert found is not None
    assert (found.level, found.reasons) == ("high", ())


def test_machines_keep_cases_from_being_trusted_highly() -> None:
    for machine, words in (
        (sample_records.machine(), "virtual machine (KVM)"),
        (bare_metal(governors=["powersave"]), "governor is powersave"),
        (bare_metal(turbo=True), "turbo is on"),
    ):
        found = trust(case(), machine)
        assert found is not None
        assert found.level == "medium"
        assert words in found.reasons[0]


def test_what_was_not_measured_has_no_level_and_runs_are_summed_up() -> None:
    assert trust(sample_records.ended_badly()[0], bare_metal()) is None
    levels = [t for r in (case(), case(), case("bimodal")) if (t := trust(r, bare_metal()))]
    assert trust_summary(levels) == "2 high, 1 low"


def test_the_conditions_of_a_run_stand_in_one_line() -> None:
    records = [
        case("other_load", telemetry=(channel("steal_frac", 0.02, 0.04), channel("throttled_s", 1.0, 1.5))),
        case(),
    ]
    line = quality_line(records, bare_metal(governors=["performance"], turbo=False, thp="madvise"))
    assert line == (
        "governor performance; turbo off; SMT cannot be seen; huge pages madvise; NUMA nodes 1; CPU quota none; "
        "steal 3.0 %; other load in 1 of 2 cases; quota throttling 0.5 s; heat throttling cannot be seen; "
        "trust: 1 high, 1 low"
    )


def faulting(allocator: str, **more: Any) -> Record:
    record = case(minor_faults=100_000, user_s=0.62, system_s=0.38, **more)
    found = settings(allocator=allocator)
    asked = msgspec.structs.replace(record.case, allocator=allocator)
    return msgspec.structs.replace(record, case=asked, key=asked.key(), settings=found)


def test_page_faults_are_told_with_their_share_and_what_pinning_can_bring() -> None:
    (told,) = advice(faulting("default"), [])
    assert "38 % of the CPU time is the kernel's" in told
    assert told.endswith("pin the allocator: at most 1.6×")


def test_page_faults_are_told_with_what_pinning_did_bring() -> None:
    slow = faulting("default", times_s=(0.015,) * 12)
    fast = msgspec.structs.replace(
        case(times_s=(0.010,) * 12), case=msgspec.structs.replace(slow.case, allocator="pinned"), key="other"
    )
    (told,) = advice(slow, [slow, fast])
    assert "pin the allocator: 1.50× [1.50, 1.50] in this run" in told


@pytest.mark.parametrize("allocator", ["pinned", "jemalloc", "tcmalloc"])
def test_who_keeps_memory_already_is_not_told_to_pin_it(allocator: str) -> None:
    (told,) = advice(faulting(allocator), [])
    assert "pin the allocator" not in told
    assert "maps memory anew" in told


def test_small_pages_come_with_the_switch_that_cures_them() -> None:
    off = msgspec.structs.replace(
        case("small_pages"), settings=settings(transparent_huge_pages="always madvise [never]")
    )
    assert "transparent_hugepage/enabled" in advice(off, [])[0]
    short = msgspec.structs.replace(case("small_pages"), settings=settings(transparent_huge_pages="[madvise]"))
    assert "fragmented" in advice(short, [])[0]
    assert advice(case(), []) == []
