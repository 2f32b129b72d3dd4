"""Which learning rates are trained with, by hand."""

from __future__ import annotations

import pytest

from bench.study.rates import next_rate

GRID = (0.005, 0.01, 0.02, 0.04)


def climbed(losses: dict[float, float | None]) -> list[float]:
    tried: dict[float, float | None] = {}
    while (rate := next_rate(GRID, tried)) is not None:
        assert rate not in tried
        tried[rate] = losses[rate]
    return list(tried)


@pytest.mark.parametrize(
    ("losses", "order"),
    [
        ((0.50, 0.40, 0.45, 0.60), [0.01, 0.02, 0.005]),
        ((0.60, 0.50, 0.40, 0.45), [0.01, 0.02, 0.04]),
        ((0.60, 0.50, 0.40, 0.30), [0.01, 0.02, 0.04]),
        ((0.30, 0.40, 0.50, 0.60), [0.01, 0.02, 0.005]),
        ((0.50, 0.40, None, None), [0.01, 0.02, 0.005]),
        ((0.50, None, None, None), [0.01, 0.005]),
        ((None, None, 0.40, 0.30), [0.01, 0.005, 0.02, 0.04]),
        ((None, None, None, None), [0.01, 0.005, 0.02, 0.04]),
    ],
)
def test_rates_are_tried_from_the_middle_until_either_side_is_worse(
    losses: tuple[float | None, ...], order: list[float]
) -> None:
    assert climbed(dict(zip(GRID, losses, strict=True))) == order


def test_one_rate_is_tried_once() -> None:
    assert next_rate((0.02,), {}) == 0.02
    assert next_rate((0.02,), {0.02: 0.5}) is None
