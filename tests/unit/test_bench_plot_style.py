"""Ticks that can be read, and numbers in pictures as they were written."""

import pytest

from bench.plots import style


@pytest.mark.parametrize(
    ("low", "high", "most", "expected"),
    [
        (1, 1000, 6, [1, 10, 100, 1000]),
        (1, 100, 6, [1, 3, 10, 30, 100]),
        (0.24, 0.9, 6, [0.3, 0.5, 0.7]),
        (1, 20, 6, [1, 2, 5, 10, 20]),
        (1.02, 1.31, 6, [1.1, 1.2, 1.3]),
        (1, 1e12, 4, [1, 1e4, 1e8, 1e12]),
    ],
)
def test_log_ticks_are_round_and_few(low, high, most, expected):
    assert style.round_numbers(low, high, most) == pytest.approx(expected)


def test_spaced_values_do_not_touch():
    assert style.spaced([4, 8, 12, 16, 24, 32, 33], 2) == [4, 8, 16, 32]


def test_text_in_a_picture_keeps_its_digits():
    with style.using("light", "wide"):
        made, (ax,) = style.panels(1, 2.0)
        ax.plot([0, 1], [0.0, 0.0015])
        ax.set_title("0.43214")
        svg = style.to_svg(made)
    assert "0.43214" in svg
    assert "0.0005" in svg
