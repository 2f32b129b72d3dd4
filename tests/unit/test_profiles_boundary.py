"""Where the cache ends, on curves made for it."""

from __future__ import annotations

import pytest

from bench.running.case_inputs import residency
from profiles.boundary import cache_boundary_bytes
from profiles.machine import Ceiling

MIB = 2**20


def curve(by_mib: dict[int, float]) -> list[Ceiling]:
    return [
        Ceiling(kernel="sum", source="measured", spread_frac=0.0, bytes_per_s=rate, working_set_bytes=size * MIB)
        for size, rate in by_mib.items()
    ]


def test_the_edge_lies_where_reads_fall_to_the_geometric_middle() -> None:
    # From 160 to 40 the middle is 80: half way on logarithmic scales between 32 and 128 MiB.
    assert cache_boundary_bytes(curve({1: 100, 8: 160, 32: 160, 128: 40, 512: 40})) == 64 * MIB


def test_the_last_edge_counts() -> None:
    assert cache_boundary_bytes(curve({1: 160, 2: 70, 8: 160, 32: 160, 128: 40})) == 64 * MIB


@pytest.mark.parametrize("points", [{}, {1: 100, 512: 20}, {1: 100, 8: 101, 32: 99, 128: 98}])
def test_a_curve_without_an_edge_says_nothing(points: dict[int, float]) -> None:
    assert cache_boundary_bytes(curve(points)) is None


def test_residency_counts_what_was_measured_beside_what_is_reported() -> None:
    # 32 MiB are reported; a neighbour leaves 12.
    assert residency(8 * MIB, 32 * MIB) == "cache"
    assert residency(8 * MIB, 32 * MIB, 12 * MIB) == "mixed"
    assert residency(5 * MIB, 32 * MIB, 12 * MIB) == "cache"
    assert residency(80 * MIB, 32 * MIB) == "dram"
    assert residency(80 * MIB, 32 * MIB, 100 * MIB) == "mixed"
    assert residency(1 * MIB, 32 * MIB, cold=True) == "mixed"
    assert residency(80 * MIB, 32 * MIB, cold=True) == "dram"
