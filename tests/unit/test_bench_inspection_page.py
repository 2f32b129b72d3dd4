"""The inspection's page as text, its charts' geometry, and the packed timeline; tests/e2e has it in a browser."""

from __future__ import annotations

import base64
import gzip
import html
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from bench.commands.inspect_page import provenance
from bench.inspection import page_charts, page_words
from bench.inspection.lanes import COLUMNS, NO_DELAY, Timeline, make_lane, pack, rows, thin
from bench.inspection.page import PageModel, RoofPoint, render_page, write_page
from bench.plots.style import PALETTES, STAGE_ORDER
from tests import sample_page

ROOT = Path(__file__).parent.parent.parent
MODEL = sample_page.model()
PAGE = render_page(MODEL)


def unpacked(text: str) -> tuple[dict[str, Any], list[dict[str, np.ndarray[Any, Any]]]]:
    """Head and columns of a packed timeline, read by the words of lanes.py, not by its code."""
    content = gzip.decompress(base64.b64decode(text))
    size = int.from_bytes(content[:4], "little")
    head, at, lanes = json.loads(content[4 : 4 + size]), 4 + size, []
    for lane in head["lanes"]:
        columns = {}
        for name, width in zip(COLUMNS, lane["widths"], strict=True):
            values = np.zeros(lane["n"], np.int64)
            for plane in range(width):
                values += np.frombuffer(content, np.uint8, lane["n"], at).astype(np.int64) << (8 * plane)
                at += lane["n"]
            columns[name] = values
        columns["start_ns"] = np.cumsum(columns["start_ns"])
        coded = columns["delay_ns"] - 1
        columns["delay_ns"] = np.where(coded < 0, NO_DELAY, np.where(coded % 2, -(coded + 1) // 2, coded // 2))
        columns["launcher"] -= 1
        lanes.append(columns)
    assert at == len(content)
    return head, lanes


class Attributes(HTMLParser):
    """Every attribute of every element."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += attrs


def payload(page: str) -> str:
    found = re.search(r'<script type="text/plain" id="payload">([A-Za-z0-9+/=]*)</script>', page)
    assert found
    return found[1]


# The timeline


def test_page_holds_the_timeline() -> None:
    head, lanes = unpacked(payload(PAGE))
    assert (head["span"], tuple(head["names"])) == (20_000_000, sample_page.NAMES)
    assert [lane["title"] for lane in head["lanes"]] == ["stream 7", "stream 20", "thread 1", "idle"]
    assert [step[0] for step in head["steps"]] == ["ProfilerStep#1", "ProfilerStep#2"]
    assert lanes[0]["delay_ns"].tolist() == [400_000, 4_300_000, 400_000, NO_DELAY]
    assert lanes[0]["launcher"].tolist() == [2, 2, 2, -1]
    assert lanes[1]["launcher"].tolist() == [-1]
    assert lanes[2]["start_ns"].tolist() == [0, 500_000, 600_000, 10_000_000, 10_500_000, 12_000_000]
    assert lanes[2]["row"].tolist() == [0, 1, 1, 0, 1, 1]


@pytest.mark.parametrize("seed", range(8))
def test_packing_loses_nothing(seed: int) -> None:
    random = np.random.default_rng(seed)
    n = int(random.integers(0, 300))
    longest = int(random.choice([1, 255, 256, 2**32, 2**50]))
    lane = make_lane(
        "g",
        "t",
        "gpu",
        start_ns=random.integers(0, longest, n),
        dur_ns=random.integers(0, longest, n),
        name=random.integers(0, 400, n),
        part=random.integers(0, 3, n),
        delay_ns=np.where(random.random(n) < 0.2, NO_DELAY, random.integers(-longest, longest, n)),
        launcher=random.integers(-1, 1, n),
    )
    parts = sample_page.PARTS[:3]
    names = tuple(str(i) for i in range(400))
    _, (found,) = unpacked(pack(Timeline(span_ns=2**51, names=names, parts=parts, lanes=(lane,))))
    for name in COLUMNS:
        assert np.array_equal(found[name], getattr(lane, name)), name


def test_rows_are_depths_of_nested_events() -> None:
    starts, durations = np.array([0, 1, 2, 3, 6, 10]), np.array([10, 4, 1, 1, 2, 5])
    assert rows(starts, durations).tolist() == [0, 1, 2, 2, 1, 0]


def test_overlapping_events_lie_in_rows_of_their_own() -> None:
    random = np.random.default_rng(1)
    starts = np.sort(random.integers(0, 1000, 200))
    durations = random.integers(0, 60, 200)
    found = rows(starts, durations)
    for row in range(found.max() + 1):
        mine = found == row
        assert np.all(starts[mine][1:] >= starts[mine][:-1] + np.maximum(durations[mine][:-1], 1))


def test_longer_of_two_that_start_together_is_the_parent() -> None:
    lane = make_lane("g", "t", "cpu", start_ns=[5, 5], dur_ns=[1, 9], name=[1, 0], part=[0, 0])
    assert (lane.dur_ns.tolist(), lane.name.tolist(), lane.row.tolist()) == ([9, 1], [0, 1], [0, 1])


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"name": np.array([9])}, "not in the table"),
        ({"part": np.array([-1])}, "negative"),
        ({"start_ns": np.array([2**53])}, "2\\^53"),
        ({"dur_ns": np.array([1, 2])}, "differ in length"),
        ({"launcher": np.array([7])}, "no lane"),
    ],
)
def test_what_the_page_could_not_draw_is_refused(changes: dict[str, Any], what: str) -> None:
    lane = msgspec.structs.replace(sample_page.lanes()[1], **changes)
    with pytest.raises(ValueError, match=what):
        pack(sample_page.timeline(lanes=(lane,)))


def test_unsorted_lane_is_refused() -> None:
    lane = sample_page.lanes()[2]
    with pytest.raises(ValueError, match="not sorted"):
        pack(sample_page.timeline(lanes=(msgspec.structs.replace(lane, start_ns=lane.start_ns[::-1]),)))


def test_a_crowded_timeline_stays_small() -> None:
    crowded = sample_page.crowded()
    assert crowded.num_events == 240_001
    assert len(pack(crowded)) < 6 * crowded.num_events


def test_a_huge_timeline_loses_its_shortest_calls_and_says_so() -> None:
    crowded = sample_page.crowded()
    found = thin(crowded, 160_001)
    assert [len(lane) for lane in found.lanes] == [30_000, 30_000, 1, 90_000]
    assert set(found.lanes[3].dur_ns.tolist()) == {4_000}
    assert found.left_out == "90000 calls on threads shorter than 2.001 µs are left out"
    assert f"<b>{found.left_out}.</b>" in render_page(sample_page.model(timeline=found))
    assert thin(crowded, crowded.num_events) is crowded
    assert len(thin(crowded, 10).lanes[3]) == 0


# The page


def test_names_never_become_markup() -> None:
    hostile = sample_page.HOSTILE
    model = sample_page.model(
        title=hostile,
        subtitle=hostile,
        window=hostile,
        defects=(hostile,),
        reasons={"roofline": hostile, hostile: hostile},
        provenance=hostile,
    )
    verdict = msgspec.structs.replace(model.verdict, kind=hostile, advice=hostile, evidence={hostile: hostile})
    lane = msgspec.structs.replace(model.timeline.lanes[0], group=hostile, title=hostile)  # type: ignore[union-attr]
    parts = (*sample_page.PARTS[:5], sample_page.Part(hostile))
    line = sample_page.timeline(lanes=(lane, *sample_page.lanes()[1:]), parts=parts)
    page = render_page(msgspec.structs.replace(model, verdict=verdict, timeline=line))
    assert "<img" not in page
    assert page.count("<script") == page.count("</script>") == 2
    assert html.escape(hostile, quote=False)[:20] in page


def test_policy_allows_the_page_itself_and_nothing_else() -> None:
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', PAGE)
    assert policy
    assert "default-src 'none'" in policy[1]
    assert "unsafe" not in policy[1]
    attributes = Attributes()
    attributes.feed(PAGE)
    # Neither handlers nor styles of an element's own would work under that policy.
    assert {name for name, _ in attributes.found if name.startswith("on") or name == "style"} == set()
    assert {value for name, value in attributes.found if name in ("src", "href", "srcset")} == {"data:,"}


def test_every_section_is_there() -> None:
    found = re.findall(r'<h2 id="([\w-]+)"', PAGE)
    every = [
        "verdict",
        "gpu-time",
        "timeline-title",
        "components",
        "kernels",
        "roofline",
        "memory",
        "launches",
        "ranks",
    ]
    assert found == every
    assert "1 kernel without a launch" in PAGE
    assert "Capture the step in a CUDA graph" in PAGE


def test_sections_without_data_are_absent_with_a_reason() -> None:
    empty = PageModel(title="t", subtitle="s", window="w", verdict=MODEL.verdict)
    page = render_page(empty)
    assert re.findall(r'<h2 id="([\w-]+)"', page) == ["verdict", "missing"]
    assert "no shapes recorded" in page
    assert "no GPU event in this trace" in page
    assert "No defect found" in page
    said = page_words.missing(msgspec.structs.replace(empty, reasons={"roofline": "Roofline: because.", "x": "X."}))
    assert "Roofline: because." in said
    assert said[-1] == "X."


def test_one_rank_has_no_comparison() -> None:
    assert 'id="ranks"' not in render_page(sample_page.model(ranks=MODEL.ranks[:1]))


def test_many_devices_share_one_legend() -> None:
    page = render_page(sample_page.model(devices=tuple(sample_page.device(f"GPU {i}") for i in range(8))))
    assert page.count("idle, cause unknown</li>") == 1
    assert page.count('aria-label="GPU ') == 8


def test_kernels_come_longest_first() -> None:
    table = PAGE[PAGE.index('id="kernel-table"') :]
    assert table.index("embedding_bag_kernel") < table.index("sgemm_128x64") < table.index("onerror")


def test_page_is_written(tmp_path: Path) -> None:
    path = write_page(tmp_path / "new" / "page.html", MODEL)
    assert path.read_text(encoding="utf-8") == PAGE


def test_page_needs_no_torch() -> None:
    code = "import sys, bench.inspection.page; sys.exit('torch' in sys.modules or 'matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


# Words and charts


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("idle_frac", 0.62, ("idle", "62 %")),
        ("host_late_us", 5100.0, ("host late", "5.1 ms")),
        ("copied_bytes", 2**30, ("copied", "1 GiB")),
        ("hbm_bytes_per_s", 9e11, ("hbm", "900 GB/s")),
        ("launches_count", 9450, ("launches", "9.45k")),
        ("slowest_stream", "stream 7", ("slowest stream", "stream 7")),
        ("ratio", 1.5, ("ratio", "1.5")),
    ],
)
def test_evidence_is_written_in_its_unit(name: str, value: float | str, words: tuple[str, str]) -> None:
    assert page_words.evidence(name, value) == words


def test_facts_name_busy_idle_component_and_step() -> None:
    found = {fact.label: (fact.value, fact.note) for fact in page_words.facts(MODEL)}
    assert found["GPU busy"] == ("71 %", "12 ms of 17 ms, one device")
    assert found["GPU idle"] == ("29 %", "of it 80 % host late")
    assert found["Largest component: embedding"] == ("67 %", "GPU time")
    assert found["Step"] == ("10 ms", "median of 2 steps")
    assert found["GPU events"] == ("13", "3 names")


def test_device_bar_fills_its_width() -> None:
    (bar,) = page_charts.device_bars(MODEL.devices)
    assert [s.css for s in bar.segments] == ["compute", "comm", "host-late", "queued"]
    assert bar.segments[-1].left + bar.segments[-1].width == pytest.approx(100, abs=0.01)


def test_component_bars_are_in_order_with_the_backward_part_last() -> None:
    embedding, mlp, _ = page_charts.component_bars(MODEL.components)
    assert (embedding.name, embedding.segments[0].width) == ("embedding", 100)
    assert [(s.css, s.left, s.width) for s in mlp.segments] == [("forward", 0, 25), ("backward", 25, 25)]
    assert mlp.text == "4 ms · 33 %"


def test_colors_are_the_report_s_and_never_run_out() -> None:
    found = page_charts.colors(
        ["mine", "input_dist", "", "idle_host_late", "embedding", *(f"own {i}" for i in range(20))]
    )
    assert (found["embedding"], found["input_dist"], found["mine"], found[""]) == ("0", "9", "10", "x")
    assert (found["own 19"], found["idle_host_late"]) == ("x", "late")
    css = (ROOT / "bench" / "templates" / "inspection.css").read_text()
    for theme in PALETTES.values():
        for at in range(len(STAGE_ORDER)):
            assert f"--c{at}: {theme.series[at]};" in css
    assert page_charts.KNOWN[: len(STAGE_ORDER)] == STAGE_ORDER
    for at in [*map(str, range(page_charts.NUM_COLORS)), "x", *page_charts.IDLE.values()]:
        assert css.count(f"--c{at}: #") == 2
        assert f".c{at} {{ --k: var(--c{at}); }}" in css


def test_roof_chart_places_points_below_their_roof() -> None:
    chart = page_charts.roof_chart(MODEL.roofline)
    assert chart
    assert all(dot.numbered for dot in chart.dots)
    first, second = chart.dots
    assert (first.point.name, first.number, second.number) == ("embedding_bag", 1, 2)
    memory, compute = chart.lines
    # 900 GB/s at 0.25 FLOP/B is 225 GFLOP/s: the embedding's 150 GFLOP/s is below, that is, further down the page.
    slope = (memory.y2 - memory.y1) / (memory.x2 - memory.x1)
    assert first.y > memory.y1 + slope * (first.x - memory.x1)
    assert second.y > compute.y1 == compute.y2
    assert memory.x2 == pytest.approx(compute.x1, abs=0.02)
    for dot in chart.dots:
        assert 0 <= dot.x <= 100
        assert 0 <= dot.y <= 100


def test_numbers_in_the_roofline_do_not_cover_each_other() -> None:
    point = sample_page.roofline().points[0]
    many = tuple(msgspec.structs.replace(point, intensity=64 * 1.01**i) for i in range(30))
    chart = page_charts.roof_chart(msgspec.structs.replace(sample_page.roofline(), points=many))
    assert chart
    assert [dot.number for dot in chart.dots] == [*range(1, 10), *[0] * 21]
    assert sum(dot.numbered for dot in chart.dots) == 1


def test_roofline_of_nothing_is_absent() -> None:
    point = RoofPoint(name="view", component="", intensity=0, flops_per_s=0, sum_us=1)
    assert page_charts.roof_chart(msgspec.structs.replace(sample_page.roofline(), points=(point,))) is None
    assert page_charts.roof_chart(None) is None


def test_memory_chart_keeps_the_peak_of_many_points() -> None:
    times = tuple(float(i) for i in range(100_000))
    held = tuple(1e6 + 5e6 * (i == 70_123) for i in range(100_000))
    curve = msgspec.structs.replace(MODEL.memory[0], time_us=times, held_bytes=held)
    chart = page_charts.memory_chart((curve,))
    assert chart
    points = [tuple(map(float, p.split(","))) for p in chart.curves[0].points.split()]
    assert len(points) < 2500
    top = min(points, key=lambda p: p[1])
    assert top == (pytest.approx(701, abs=2), pytest.approx(1000 - 6e6 / (6 * 2**20) * 1000, abs=1))
    assert [t.text for t in chart.y_ticks] == ["0", "1.5 MiB", "3 MiB", "4.5 MiB", "6 MiB"]
    assert [t.text for t in chart.x_ticks] == ["0", "50 ms"]


def test_a_page_can_be_made_where_the_program_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    assert provenance() == "dlrm-bench not installed"
