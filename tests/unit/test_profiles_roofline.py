"""Roofs by hand-computed numbers."""

import math

import msgspec
import pytest

from profiles import roofline
from profiles.machine import Ceiling, Ceilings


def rate(value, size=None, row=None):
    return Ceiling(
        kernel="k", source="measured", spread_frac=0.0, bytes_per_s=value, working_set_bytes=size, row_bytes=row
    )


CEILINGS = Ceilings(
    device="cpu",
    measured_at="now",
    duration_s=1.0,
    stream_read=rate(30e9),
    stream_write=rate(20e9),
    stream_copy=rate(40e9),
    stream_triad=rate(30e9),
    stream_read_curve=(rate(100e9, 1 << 20), rate(25e9, 1 << 24)),
    gather=(
        rate(16e9, 1 << 20, 64),
        rate(4e9, 1 << 24, 64),
        rate(64e9, 1 << 20, 256),
        rate(16e9, 1 << 24, 256),
    ),
    gemm={"float32": Ceiling(kernel="mm", source="measured", spread_frac=0.0, flops_per_s=350e9)},
)


def test_interpolation_refuses_nonsense():
    with pytest.raises(ValueError, match="positive"):
        roofline.interpolate_log([], 1)
    with pytest.raises(ValueError, match="positive"):
        roofline.interpolate_log([(1.0, 0.0)], 1)


def test_stream_roof_is_straight_in_log_log_and_clamped():
    # Half way from 2^20 to 2^24 in the logarithm: the geometric mean of 100 and 25.
    assert math.isclose(roofline.stream_roof(CEILINGS, 1 << 22), 50e9)
    assert roofline.stream_roof(CEILINGS, 1 << 10) == 100e9
    assert roofline.stream_roof(CEILINGS, 1 << 30) == 25e9


def test_stream_roof_without_a_curve():
    assert roofline.stream_roof(msgspec.structs.replace(CEILINGS, stream_read_curve=()), 1) == 30e9


def test_gather_roof_interpolates_in_both_directions():
    assert math.isclose(roofline.gather_roof(CEILINGS, 64, 1 << 22), 8e9)
    assert math.isclose(roofline.gather_roof(CEILINGS, 128, 1 << 20), 32e9)
    assert math.isclose(roofline.gather_roof(CEILINGS, 128, 1 << 22), 16e9)
    assert roofline.gather_roof(CEILINGS, 4096, 1 << 40) == 16e9
    assert roofline.gather_roof(CEILINGS, 4, 0) == 16e9


def test_a_dip_in_a_curve_is_no_roof():
    curve = (rate(40e9, 1 << 20, 64), rate(10e9, 1 << 22, 64), rate(20e9, 1 << 24, 64))
    dipped = msgspec.structs.replace(CEILINGS, gather=curve)
    assert math.isclose(roofline.gather_roof(dipped, 64, 1 << 22), 20e9)


def test_gather_roof_needs_a_measurement():
    with pytest.raises(ValueError, match="measure"):
        roofline.gather_roof(msgspec.structs.replace(CEILINGS, gather=()), 64, 1)


def test_gemm_roof_names_the_known_dtypes():
    assert roofline.gemm_roof(CEILINGS, "float32") == 350e9
    with pytest.raises(ValueError, match=r"int8.*float32"):
        roofline.gemm_roof(CEILINGS, "int8")
