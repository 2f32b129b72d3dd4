"""Numbers as an engineer reads them: 12.3 GB/s, 4.1 ms, 1.5 GiB. Rates are decimal, capacities binary."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from bench.stats import significant, supported_decimals

DECIMAL = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
BINARY = ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))
SECONDS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
MISSING = "–"


def short(value: float, digits: int = 3) -> str:
    """`value` with `digits` significant digits, no exponent, no trailing zeros: 12.3, 0.05, 1200."""
    if not math.isfinite(value):
        return MISSING
    if value == 0:
        return "0"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    text = f"{value:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def scale_of(value: float, steps: tuple[tuple[float, str], ...]) -> tuple[float, str]:
    """The (factor, prefix) in which `value` reads as 1 to 999, as far as `steps` go."""
    size = abs(value) * (1 + 5e-4)
    return next(((factor, prefix) for factor, prefix in steps if size >= factor), steps[-1])


def scaled(
    value: float, unit: str, steps: tuple[tuple[float, str], ...], interval: tuple[float, float] | None = None
) -> str:
    """`value` in the fitting step of a unit, with the digits that the interval supports (3 without one)."""
    factor, prefix = scale_of(value, steps)
    number = value / factor
    text = significant(number, interval[0] / factor, interval[1] / factor) if interval else short(number)
    return f"{text} {prefix}{unit}".rstrip()


def seconds(value: float, interval: tuple[float, float] | None = None) -> str:
    """4.12 ms."""
    return scaled(value, "", SECONDS, interval)


def rate(value: float, unit: str, interval: tuple[float, float] | None = None) -> str:
    """12.3 GB/s, 183 ksamples/s: decimal prefixes."""
    return scaled(value, unit, DECIMAL, interval)


def count(value: float, interval: tuple[float, float] | None = None) -> str:
    """183k, 1M, 20k: a bare number, prefix attached."""
    return scaled(value, "", DECIMAL, interval).replace(" ", "")


def capacity(value: float) -> str:
    """1.5 GiB: binary."""
    for factor, unit in BINARY:
        if abs(value) >= factor:
            return f"{short(value / factor)} {unit}"
    return f"{short(value)} B"


def percent(fraction: float) -> str:
    """71 %; below one percent with a digit more."""
    points = 100 * fraction
    return f"{points:.0f} %" if abs(points) >= 9.95 else f"{points:.1f} %" if abs(points) >= 0.05 else "0 %"


TELLING = 10.0


def times(ratio: float, low: float, high: float) -> str:
    """1.42x [1.38, 1.47]; of an interval over more than a factor of ten only that it is too wide."""
    if not 0 < high <= TELLING * low:
        return f"{short(ratio)}× (too noisy to tell)"
    decimals = 1 if ratio >= 10 else 2
    return f"{ratio:.{decimals}f}× [{low:.{decimals}f}, {high:.{decimals}f}]"


def words(names: list[str]) -> str:
    """a, b and c."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else ""


def ends_text(value: float, interval: tuple[float, float], unit: str) -> str:
    """'7.26 to 7.57': both ends in the step of the unit in which `value` is written, with one digit more."""
    factor, _ = scale_of(value, SECONDS if unit == "s" else DECIMAL)
    low, high = interval[0] / factor, interval[1] / factor
    decimals = max(0, supported_decimals(value / factor, low, high) + 1)
    return f"{low:.{decimals}f} to {high:.{decimals}f}"


def by_unit(value: float, unit: str, interval: tuple[float, float] | None = None) -> str:
    """A metric's value in words, by its unit as bench/metrics.py names it."""
    if unit == "s":
        return seconds(value, interval)
    if unit == "B":
        return capacity(value)
    if unit == "fraction":
        return percent(value)
    if unit in ("B/s", "FLOP/s"):
        return rate(value, unit, interval)
    if unit in ("samples/s", "lookups/s"):
        return f"{count(value, interval)}/s"
    return f"{short(value)} {unit}".rstrip()


def span(numbers: Sequence[float], text: Callable[[float], str]) -> str:
    """'33 to 71 %' or one value where both ends read alike."""
    low, high = text(min(numbers)), text(max(numbers))
    if low == high:
        return low
    unit = low.rpartition(" ")[2] if " " in low else ""
    return f"{low.removesuffix(unit).rstrip()} to {high}" if unit and high.endswith(unit) else f"{low} to {high}"
