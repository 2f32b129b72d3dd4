"""Memory-controller counters: parsers on the files of an Intel server and an AMD one, as recorded."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from profiles.probes import uncore
from profiles.samplers.memory_traffic import ATTR_SIZE, MemoryTrafficSampler, attribute

INTEL = {
    "type": "24\n",
    "cpumask": "0,28\n",
    "format/event": "config:0-7\n",
    "format/umask": "config:8-15\n",
    "format/edge": "config:18\n",
    "events/cas_count_read": "event=0x04,umask=0x03\n",
    "events/cas_count_read.scale": "6.103515625e-5\n",
    "events/cas_count_read.unit": "MiB\n",
    "events/cas_count_write": "event=0x04,umask=0x0c\n",
    "events/cas_count_write.scale": "6.103515625e-5\n",
    "events/cas_count_write.unit": "MiB\n",
}


def made(root: Path, name: str, files: dict[str, str]) -> Path:
    for path, text in files.items():
        (root / name / path).parent.mkdir(parents=True, exist_ok=True)
        (root / name / path).write_text(text)
    return root


def test_events_of_an_intel_memory_controller(tmp_path: Path) -> None:
    for channel in (0, 1):
        made(tmp_path, f"uncore_imc_{channel}", INTEL)
    made(tmp_path, "cpu", INTEL)
    found = uncore.memory_events(tmp_path)
    assert [e.pmu for e in found] == ["uncore_imc_0"] * 2 + ["uncore_imc_1"] * 2
    read, write = found[:2]
    assert (read.kind, read.pmu_type, read.config, read.cpus) == ("memory_read_bytes", 24, 0x0304, (0, 28))
    assert (write.kind, write.config) == ("memory_write_bytes", 0x0C04)
    # 6.103515625e-5 MiB is a cache line.
    assert read.bytes_per_count == pytest.approx(64)


def test_an_event_that_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    scattered = INTEL | {"format/umask": "config:8-15,32-35\n"}
    assert uncore.memory_events(made(tmp_path, "uncore_imc_0", scattered)) == ()
    made(tmp_path / "other", "amd_umc_0", INTEL | {"events/cas_count_read.unit": "furlongs\n"})
    assert [e.kind for e in uncore.memory_events(tmp_path / "other")] == ["memory_write_bytes"]


@pytest.mark.parametrize(("text", "cpus"), [("0\n", (0,)), ("0,16", (0, 16)), ("0-2,8", (0, 1, 2, 8)), ("", ())])
def test_masks_of_cpus(text: str, cpus: tuple[int, ...]) -> None:
    assert uncore.parse_cpus(text) == cpus


def test_a_field_that_the_pmu_does_not_have_is_named() -> None:
    with pytest.raises(ValueError, match="no field 'filter'"):
        uncore.parse_config("event=1,filter=2", {"event": "config:0-7"})
    with pytest.raises(ValueError, match="config1"):
        uncore.parse_config("filter=2", {"filter": "config1:0-7"})


def test_counts_without_a_unit_are_cache_lines() -> None:
    assert uncore.bytes_per_count(None, None) == 64
    assert uncore.bytes_per_count("64", "Bytes") == 64


def test_the_attribute_is_type_size_config_and_zeros() -> None:
    raw = attribute(24, 0x0304)
    assert len(raw) == ATTR_SIZE
    assert struct.unpack("=IIQ", raw[:16]) == (24, ATTR_SIZE, 0x0304)
    assert not any(raw[16:])


def test_no_counters_is_a_reason_and_a_pmu_that_does_not_exist_another(tmp_path: Path) -> None:
    none = MemoryTrafficSampler(tmp_path)
    assert "modelled" in str(none.available())
    assert none.channels() == ()
    refused = MemoryTrafficSampler(made(tmp_path, "uncore_imc_0", INTEL | {"type": "987654\n"}))
    assert refused.available() is not None
    assert refused.channels() == ()
