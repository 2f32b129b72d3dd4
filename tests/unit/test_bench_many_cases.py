"""Thousands of cases: plots stay bounded, what is chosen is spread evenly, and both widths are drawn at once."""

from __future__ import annotations

import os

import msgspec
import pytest

from bench import plots
from bench.plots import style
from bench.records import Costs, Record
from bench.reporting.aside import AsideError, aside
from bench.reporting.pictures import draw_pictures
from tests import sample_records
from tools.many_cases import Memory, facts

MOST_SVG_BYTES = 250_000


def many(number: int) -> list[Record]:
    """That many records: the sample's, with other seeds and dims."""
    base = [r for r in sample_records.records() if r.outcome.status == "ok"]
    made = []
    for i in range(number):
        record = base[i % len(base)]
        case = msgspec.structs.replace(record.case, seed=i // len(base))
        made.append(msgspec.structs.replace(record, case=case, key=case.key()))
    return made


@pytest.fixture(scope="module")
def records() -> list[Record]:
    return many(700)


@pytest.mark.parametrize("name", plots.names())
def test_a_plot_of_many_cases_is_bounded(name: str, records: list[Record]) -> None:
    with style.using("light", "wide"):
        made = plots.load(name).draw(records, sample_records.machine())
        assert made is None or len(style.to_svg(made)) < MOST_SVG_BYTES
        assert made is None or made.get_size_inches()[1] < 20


def test_evenly_keeps_both_ends_and_all_where_they_are_few() -> None:
    assert style.evenly(range(10), 4) == [0, 3, 6, 9]
    assert style.evenly(range(3), 4) == [0, 1, 2]
    assert style.evenly([], 4) == []


def test_what_is_made_aside_comes_back_and_changes_nothing_here() -> None:
    here: list[int] = []

    def make() -> bytes:
        here.append(1)
        return str(os.getpid()).encode()

    wait = aside(make)
    assert int(wait()) != os.getpid()
    assert here == []


def test_what_fails_aside_says_so(capfd: pytest.CaptureFixture[str]) -> None:
    def fails() -> bytes:
        raise ValueError("this plot is broken")

    with pytest.raises(AsideError, match="second process failed"):
        aside(fails)()
    assert "this plot is broken" in capfd.readouterr().err


def test_pictures_have_all_variants_in_order() -> None:
    few = sample_records.records()[:2]
    found = draw_pictures(few, sample_records.machine())
    assert found
    for picture in found:
        assert [s.media for s in picture.sources] == [
            "(max-width: 600px) and (prefers-color-scheme: dark)",
            "(max-width: 600px)",
            "(prefers-color-scheme: dark)",
            "",
        ]
        assert picture.sources[0].width < picture.sources[2].width
        assert len({s.uri for s in picture.sources}) == 4


def test_the_command_tells_memory_and_cost_beside_measuring() -> None:
    costs = Costs(total_s=3.0, measure_s=2.0, build_s=0.5)
    found = [msgspec.structs.replace(r, costs=costs) for r in many(20)]
    told = facts(found, [Memory(3, 100), Memory(19, 110), Memory(20, 300)], 70.0)
    assert told["fixed_s_p50"] == told["fixed_s_p99"] == pytest.approx(0.5)
    assert told["beside_measuring_s_p50"] == pytest.approx(1.0)
    assert told["sweep_s_per_case"] == pytest.approx(3.5)
    assert (told["parent_rss_bytes_at_10_percent"], told["parent_rss_bytes_before_the_last"]) == (100, 110)
