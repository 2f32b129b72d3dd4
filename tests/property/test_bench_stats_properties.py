"""What holds for every sample, not only for the hand-computed ones."""

from __future__ import annotations

import math
from statistics import median

from hypothesis import given
from hypothesis import strategies as st

from bench import stats

positive = st.floats(min_value=1e-9, max_value=1e6, allow_nan=False)
samples = st.lists(positive, min_size=1, max_size=60)


@given(samples)
def test_interval_holds_the_median_and_stays_positive(values: list[float]) -> None:
    low, high = stats.median_interval(values)
    assert 0 <= low <= median(values) <= high


@given(samples)
def test_values_that_tell_of_no_drift_keep_the_interval_within_the_sample(values: list[float]) -> None:
    low, high = stats.median_interval(values)
    if stats.effective_size(values) == len(values):
        assert min(values) <= low
        assert high <= max(values)


@given(samples)
def test_more_confidence_is_never_narrower(values: list[float]) -> None:
    low, high = stats.median_interval(values, 0.9)
    wider_low, wider_high = stats.median_interval(values, 0.99)
    assert wider_low <= low <= high <= wider_high


@given(samples)
def test_a_sample_never_differs_from_itself(values: list[float]) -> None:
    ratio = stats.ratio_of_medians(values, values)
    assert math.isclose(ratio.value, 1.0)
    assert not ratio.excludes_one


@given(samples, samples)
def test_swapping_sides_inverts_the_ratio(a: list[float], b: list[float]) -> None:
    forth, back = stats.ratio_of_medians(a, b), stats.ratio_of_medians(b, a)
    assert math.isclose(forth.value * back.value, 1.0, rel_tol=1e-9)
    assert math.isclose(forth.low * back.high, 1.0, rel_tol=1e-9)
    assert forth.excludes_one == back.excludes_one


@given(samples, st.floats(min_value=0, max_value=1))
def test_quantiles_stay_within_the_sample(values: list[float], fraction: float) -> None:
    found = stats.quantile(values, fraction)
    assert min(values) * (1 - 1e-9) <= found <= max(values) * (1 + 1e-9)


@given(samples)
def test_effective_size_is_between_one_and_the_count(values: list[float]) -> None:
    assert 1 <= stats.effective_size(values) <= len(values)


@given(positive, st.floats(min_value=1e-6, max_value=2.0))
def test_significant_text_stays_within_the_interval_of_the_value(value: float, half_frac: float) -> None:
    half = value * half_frac
    text = stats.significant(value, value - half, value + half)
    assert abs(float(text) - value) <= max(half, value * 1e-3) * 1.0001
