"""Quantiles, intervals and shapes against hand-computed numbers."""

from __future__ import annotations

import random

import pytest

from bench import stats


def test_quantile_interpolates_between_neighbours() -> None:
    assert stats.quantile([4.0, 1.0, 3.0, 2.0], 0.5) == 2.5
    assert stats.quantile([1.0, 2.0, 3.0, 4.0, 5.0], 0.9) == pytest.approx(4.6)
    assert stats.quantile([7.0], 0.99) == 7.0


@pytest.mark.parametrize(("count", "rank"), [(5, 0), (6, 1), (8, 1), (9, 2), (20, 6), (40, 14)])
def test_rank_follows_the_binomial_table(count: int, rank: int) -> None:
    assert stats.median_rank(count) == rank


def test_interval_of_independent_values_is_the_binomial_one() -> None:
    alternating = [1.0 + (i * 7 % 20) / 100 for i in range(20)]
    assert stats.effective_size(alternating) == 20
    ordered = sorted(alternating)
    assert stats.median_interval(alternating) == (ordered[5], ordered[14])


def test_few_values_give_smallest_to_largest() -> None:
    assert stats.median_interval([3.0, 1.0, 2.0]) == (1.0, 3.0)
    assert stats.median_interval([2.0]) == (2.0, 2.0)


def test_drift_widens_the_interval() -> None:
    rising = [float(i) for i in range(30)]
    assert stats.effective_size(rising) < 5
    low, high = stats.median_interval(rising)
    shuffled = random.Random(3).sample(rising, 30)
    shuffled_low, shuffled_high = stats.median_interval(shuffled)
    assert low < 0.0
    assert high > 29.0
    assert 0.0 < shuffled_low < shuffled_high < 29.0


def test_effective_size_is_never_below_one_nor_above_the_count() -> None:
    assert stats.effective_size([1.0, 1.0, 1.0]) == 3
    assert stats.effective_size([1.0]) == 1
    assert stats.effective_size([1.0, 2.0] * 10) == 20


def test_lag1_autocorrelation_by_hand() -> None:
    # Deviations -1.5, -0.5, 0.5, 1.5: products 0.75 - 0.25 + 0.75 over squares 5.
    assert stats.lag1_autocorrelation([1.0, 2.0, 3.0, 4.0]) == pytest.approx(1.25 / 5)


def test_equal_values_share_their_mean_rank() -> None:
    assert stats.ranks([3.0, 1.0, 3.0, 2.0]) == [3.5, 1.0, 3.5, 2.0]


def test_one_burst_does_not_pass_for_a_sample_that_is_one_burst() -> None:
    # 20 repeats of 14 to 15 ms, then a neighbour took the core for four: seen on a shared machine.
    quiet = [14.0 + (i * 7 % 20) / 20 for i in range(20)]
    burst = [19.9, 24.4, 24.4, 22.5]
    low, high = stats.median_interval(quiet + burst)
    assert 14.0 < low < high < max(burst)
    assert stats.effective_size(quiet + burst) > 8
    # By how far off the values are, 24 would count for one, and the interval end beyond all of them.
    assert stats.lag1_autocorrelation(quiet + burst) > 0.7


def test_a_short_sample_hides_autocorrelation_which_is_put_back() -> None:
    values = [1.0, 1.1, 1.2, 1.1, 1.0, 0.9, 0.8, 0.9, 1.0, 1.1]
    raw = stats.lag1_autocorrelation(stats.ranks(values))
    corrected = (10 * raw + 1) / 6
    assert stats.effective_size(values) == pytest.approx(max(1.0, 10 * (1 - corrected) / (1 + corrected)))


@pytest.mark.parametrize(("size", "exact"), [(3, 4.3027), (4, 3.1824), (6, 2.5706), (11, 2.2281), (31, 2.0423)])
def test_t_is_within_four_percent_of_the_exact_quantile(size: int, exact: float) -> None:
    assert stats.t_over_normal(size) * 1.95996 == pytest.approx(exact, rel=0.04)


def test_ends_beyond_the_sample_stay_positive() -> None:
    low, high = stats.median_interval([1.0 + i / 10 for i in range(12)])
    assert 0 < low < 1.0
    assert high > 2.1


def test_half_width_is_relative_to_the_median() -> None:
    assert stats.half_width_frac([9.0, 10.0, 12.0]) == pytest.approx(0.15)


def test_ratio_divides_opposite_ends() -> None:
    ratio = stats.ratio_of_medians([20.0, 21.0, 22.0], [10.0, 10.5, 11.0])
    assert ratio.value == 2.0
    assert ratio.low == pytest.approx(20 / 11)
    assert ratio.high == pytest.approx(2.2)
    assert ratio.excludes_one


def test_ratio_of_a_sample_with_itself_says_nothing() -> None:
    values = [1.0, 1.1, 0.9, 1.05, 0.95, 1.02, 0.99]
    assert not stats.ratio_of_medians(values, values).excludes_one


def test_coverage_of_the_interval_is_at_least_what_is_asked() -> None:
    source = random.Random(11)
    for count in (6, 10, 25):
        samples = [[source.lognormvariate(0, 0.2) for _ in range(count)] for _ in range(600)]
        held = sum(low <= 1.0 <= high for low, high in map(stats.median_interval, samples))
        assert held / 600 > 0.94


def test_spread_and_outliers() -> None:
    assert stats.spread_frac([1.0, 2.0, 3.0, 4.0, 5.0]) == pytest.approx(2 / 3)
    assert stats.outlier_frac([1.0, 1.01, 1.02, 0.99, 1.0, 1.01, 0.98, 1.0, 1.0, 9.0]) == pytest.approx(0.1)


def test_two_speeds_are_bimodal_and_one_is_not() -> None:
    source = random.Random(5)
    two = [source.choice((5.0, 8.0)) * source.gauss(1, 0.01) for _ in range(24)]
    one = [source.gauss(5.0, 0.2) for _ in range(24)]
    assert stats.is_bimodal(two)
    assert not stats.is_bimodal(one)
    assert not stats.is_bimodal([1.0, 2.0] * 4)
    assert not stats.is_bimodal([1.0] * 30)


def test_one_slow_repeat_is_an_outlier_and_no_second_mode() -> None:
    one = [1.0 + i / 1000 for i in range(19)] + [3.0]
    assert not stats.is_bimodal(one)
    assert not stats.has_outliers(one)
    assert stats.has_outliers([*one, 3.0, 4.0])
    assert not stats.has_outliers([1.0] * 18 + [1.000001, 1.000002, 1.03])


@pytest.mark.parametrize(
    ("value", "low", "high", "text"),
    [
        (4.1234, 4.05, 4.21, "4.12"),
        (4.1234, 3.9, 4.4, "4.1"),
        (412.34, 380.0, 450.0, "410"),
        (1234.5, 1234.4, 1234.6, "1234"),
        (0.012345, 0.0122, 0.0125, "0.0123"),
        (5.0, 5.0, 5.0, "5.000"),
        (3.0, 0.1, 60.0, "3"),
        (0.0, 0.0, 0.0, "0.000"),
        (float("nan"), 1.0, 2.0, "-"),
    ],
)
def test_only_supported_digits(value: float, low: float, high: float, text: str) -> None:
    assert stats.significant(value, low, high) == text
