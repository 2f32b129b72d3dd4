"""The inspection's page in a real browser: quiet, self-contained, and its timeline answers mouse, fingers and keys."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.inspection.page import write_page
from tests import sample_page
from tests.devtools import Page, browser_path, chromium_page

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(browser_path() is None, reason="no Chromium on the PATH"),
    pytest.mark.skipif(importlib.util.find_spec("websocket") is None, reason="websocket-client is not installed"),
]

MS = sample_page.MS
VIEWS = [(1280, False), (1280, True), (390, False), (390, True)]
READY = """new Promise((resolve, reject) => {
  const end = performance.now() + 60000, look = () => {
    if (document.querySelector('#timeline').dataset.ready) resolve(1);
    else if (performance.now() > end) reject(document.querySelector('#status').textContent);
    else setTimeout(look, 20);
  };
  look();
})"""
# Wheels are for the page while it scrolls, and what was asked for is drawn at the next frame.
SETTLED = "new Promise(r => setTimeout(() => requestAnimationFrame(() => requestAnimationFrame(() => r(1))), PAUSE))"
TOO_WIDE = """[...document.querySelectorAll('body *')]
  .filter(e => !e.closest('.scroll, pre, .sr, svg') && e.getBoundingClientRect().right > innerWidth + 0.5)
  .map(e => e.tagName + '.' + e.className)"""
PLACE = """(() => {
  const v = document.querySelector('#timeline').view, box = v.canvas.getBoundingClientRect(), p = v.places[LANE];
  return [box.left + v.xOf(TIME), box.top + p.top + (ROW + 0.5) * p.step - v.lanes.scrollTop];
})()"""
PIXEL = """(() => {
  const v = document.querySelector('#timeline').view, p = v.places[LANE], scale = devicePixelRatio;
  const x = v.xOf(TIME), y = p.top + (ROW + 0.5) * p.step - v.lanes.scrollTop;
  const found = v.canvas.getContext('2d').getImageData(Math.floor(x * scale), Math.floor(y * scale), 1, 1);
  return [...found.data].slice(0, 3);
})()"""


class Timeline:
    """The timeline of the open page: where things are on the screen, and input at these places."""

    def __init__(self, page: Page) -> None:
        self.page = page
        page.evaluate(READY)
        page.evaluate("document.querySelector('#timeline').scrollIntoView()")
        self.settle(350)

    def settle(self, pause_ms: int = 0) -> None:
        self.page.evaluate(SETTLED.replace("PAUSE", str(pause_ms)))

    def run(self, expression: str) -> Any:
        found = self.page.evaluate(f"(() => {{ const v = document.querySelector('#timeline').view; {expression} }})()")
        self.settle()
        return found

    @property
    def range(self) -> tuple[float, float]:
        first, last = self.run("return [v.t0, v.t1];")
        return first, last

    def at(self, lane: int, time_ns: float, row: int = 0) -> tuple[float, float]:
        x, y = self.page.evaluate(_filled(PLACE, lane, time_ns, row))
        return x, y

    def pixel(self, lane: int, time_ns: float, row: int = 0) -> list[int]:
        found: list[int] = self.page.evaluate(_filled(PIXEL, lane, time_ns, row))
        return found

    def mouse(self, kind: str, at: tuple[float, float], **more: Any) -> None:
        self.page.send("Input.dispatchMouseEvent", type=kind, x=at[0], y=at[1], pointerType="mouse", **more)
        self.settle()

    def drag(self, start: tuple[float, float], by: tuple[float, float], **more: Any) -> None:
        self.mouse("mousePressed", start, button="left", clickCount=1, **more)
        for part in (0.5, 1.0):
            to = (start[0] + part * by[0], start[1] + part * by[1])
            self.mouse("mouseMoved", to, button="left", buttons=1, **more)
        self.mouse("mouseReleased", to, button="left", clickCount=1, **more)

    def click(self, at: tuple[float, float]) -> None:
        self.mouse("mousePressed", at, button="left", clickCount=1)
        self.mouse("mouseReleased", at, button="left", clickCount=1)

    def wheel(self, at: tuple[float, float], down: float) -> None:
        self.mouse("mouseWheel", at, deltaX=0, deltaY=down)
        self.settle(60)

    def key(self, key: str) -> None:
        for kind in ("keyDown", "keyUp"):
            self.page.send("Input.dispatchKeyEvent", type=kind, key=key)
        self.settle()

    def touch(self, kind: str, *points: tuple[float, float]) -> None:
        found = [{"x": x, "y": y, "id": i} for i, (x, y) in enumerate(points)]
        self.page.send("Input.dispatchTouchEvent", type=kind, touchPoints=found)
        self.settle()

    def text(self, selector: str) -> str:
        return str(self.page.evaluate(f"document.querySelector('{selector}').innerText"))

    def hidden(self, selector: str) -> bool:
        return bool(self.page.evaluate(f"document.querySelector('{selector}').hidden"))


def _filled(script: str, lane: int, time_ns: float, row: int) -> str:
    return script.replace("LANE", str(lane)).replace("TIME", str(time_ns)).replace("ROW", str(row))


Opener = Callable[..., Timeline]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    crowded = sample_page.model(timeline=sample_page.crowded())
    return {
        "small": write_page(folder / "small.html", sample_page.model()),
        "crowded": write_page(folder / "crowded.html", crowded),
    }


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with chromium_page(str(browser_path()), tmp_path_factory.mktemp("chromium") / "profile") as found:
        yield found


@pytest.fixture
def opened(page: Page, pages: dict[str, Path]) -> Opener:
    def open_(name: str = "small", width: int = 1280, dark: bool = False) -> Timeline:
        page.open(pages[name].as_uri(), width=width, dark=dark)
        return Timeline(page)

    return open_


@pytest.mark.parametrize("view", VIEWS, ids=lambda v: f"{v[0]}-{'dark' if v[1] else 'light'}")
def test_quiet_self_contained_and_not_too_wide(opened: Opener, pages: dict[str, Path], view: tuple[int, bool]) -> None:
    page = opened("small", *view).page
    assert page.named("Runtime.exceptionThrown") == []
    assert page.named("Runtime.consoleAPICalled") == []
    assert [e["entry"]["text"] for e in page.named("Log.entryAdded")] == []
    urls = [e["request"]["url"] for e in page.named("Network.requestWillBeSent")]
    assert [u for u in urls if not u.startswith("data:")] == [pages["small"].as_uri()]
    assert page.evaluate(TOO_WIDE) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("dark", [False, True])
def test_events_have_the_colour_of_their_component(opened: Opener, dark: bool) -> None:
    found = opened(dark=dark)
    embedding = [0x5A, 0xB2, 0xF2] if dark else [0x0B, 0x6F, 0xB8]
    assert found.pixel(0, 4.9 * MS) == embedding
    empty = found.pixel(0, 8 * MS)
    assert empty == ([0x1D, 0x24, 0x30] if dark else [0xEE, 0xF1, 0xF5])
    forward, backward = found.pixel(0, 6.9 * MS), found.pixel(0, 16.9 * MS)
    assert len({tuple(c) for c in (embedding, empty, forward, backward)}) == 4


def test_idle_lane_shows_the_cause(opened: Opener) -> None:
    found = opened()
    assert found.pixel(3, 9 * MS) == [0xD6, 0x45, 0x45]
    found.mouse("mouseMoved", found.at(3, 9 * MS))
    assert "host late" in found.text("#tip")
    assert "4 ms" in found.text("#tip")
    # The overview is of work: nothing runs at 9 ms.
    overview = """(() => { const c = document.querySelector('#overview'), x = SHARE * c.width;
      return [...c.getContext('2d').getImageData(x, c.height / 2, 1, 1).data].slice(0, 3); })()"""
    idle, busy = (found.page.evaluate(overview.replace("SHARE", str(share))) for share in (0.45, 0.15))
    assert idle == [0xEE, 0xF1, 0xF5]
    assert busy == [0x5D, 0x68, 0x78]


def test_wheel_zooms_about_the_mouse(opened: Opener) -> None:
    found = opened()
    before = found.range
    at = found.at(0, 3 * MS)
    found.wheel(at, -240)
    first, last = found.range
    assert last - first < 0.8 * (before[1] - before[0])
    assert found.at(0, 3 * MS)[0] == pytest.approx(at[0], abs=1.5)
    found.wheel(at, 240)
    assert found.range == pytest.approx(before, rel=1e-6, abs=1)


def test_wheel_scrolls_the_page_where_there_is_nothing_to_zoom_out(opened: Opener) -> None:
    found = opened()
    top = found.page.evaluate("scrollY")
    found.wheel(found.at(0, 3 * MS), 200)
    found.settle(400)
    assert found.page.evaluate("scrollY") > top


def test_drag_moves(opened: Opener) -> None:
    found = opened()
    found.run("v.show(4e6, 8e6);")
    width = found.run("return v.width;")
    found.drag(found.at(0, 6 * MS), (-0.25 * width, 0))
    assert found.range == pytest.approx((5 * MS, 9 * MS), abs=0.01 * MS)


def test_shift_drag_zooms_into_the_range(opened: Opener) -> None:
    found = opened()
    start, end = found.at(0, 5 * MS), found.at(0, 7 * MS)
    found.drag(start, (end[0] - start[0], 0), modifiers=8)
    assert found.range == pytest.approx((5 * MS, 7 * MS), abs=0.05 * MS)


def test_hover_tells_name_component_times_and_delay(opened: Opener) -> None:
    found = opened()
    found.mouse("mouseMoved", found.at(0, 6 * MS))
    tip = found.text("#tip")
    for words in ("sgemm_128x64", "top MLP", "5 ms", "2 ms", "stream 7, GPU 0", "Launch delay", "4.3 ms"):
        assert words in tip
    found.mouse("mouseMoved", found.at(0, 16 * MS))
    assert "top MLP backward" in found.text("#tip")
    assert "Launch delay" not in found.text("#tip")
    found.mouse("mouseMoved", found.at(0, 8.5 * MS))
    assert found.hidden("#tip")


def test_self_time_is_without_what_was_called(opened: Opener) -> None:
    found = opened()
    found.mouse("mouseMoved", found.at(2, 5 * MS))
    tip = found.text("#tip")
    assert "step" in tip
    assert "9.8 ms" in tip


def test_click_pins_and_shows_the_launch(opened: Opener) -> None:
    found = opened()
    found.click(found.at(0, 6 * MS))
    assert "sgemm_128x64" in found.text("#picked")
    assert "2, sum 4 ms, mean 2 ms, longest 2 ms" in " ".join(found.text("#picked").split())
    found.page.evaluate(
        "[...document.querySelectorAll('#picked button')].find(b => /launch/.test(b.innerText)).click()"
    )
    assert found.text("#picked b") == "cudaLaunchKernel"
    assert found.run("return v.pickedEvent.row.start[v.pickedEvent.i];") == 600_000
    found.key("Escape")
    assert found.hidden("#picked")


def test_search_highlights_counts_and_goes_from_match_to_match(opened: Opener) -> None:
    found = opened()
    before = found.pixel(0, 2 * MS), found.pixel(0, 6.9 * MS)
    found.page.evaluate("document.querySelector('#find').focus()")
    found.page.send("Input.insertText", text="sgemm")
    found.settle()
    after = found.pixel(0, 2 * MS), found.pixel(0, 6.9 * MS)
    assert after[0] != before[0]
    assert after[1] == before[1]
    assert "Found 2, sum 4 ms" in found.text("#status")
    found.key("Enter")
    assert found.run("return v.pickedEvent.row.start[v.pickedEvent.i];") == 5 * MS
    found.key("Enter")
    assert found.run("return v.pickedEvent.row.start[v.pickedEvent.i];") == 15 * MS
    found.key("Escape")
    assert found.pixel(0, 2 * MS) == before[0]


def test_legend_finds_a_component(opened: Opener) -> None:
    found = opened()
    click = "[...document.querySelectorAll('#legend button')].find(b => b.innerText === 'comms').click()"
    found.page.evaluate(click)
    found.settle()
    assert "Found 1," in found.text("#status")


def test_keys_zoom_move_step_and_show_all(opened: Opener) -> None:
    found = opened()
    whole = found.range
    found.page.evaluate("document.querySelector('#canvas').focus({preventScroll: true})")
    found.key("w")
    first, last = found.range
    assert last - first == pytest.approx(0.7 * (whole[1] - whole[0]))
    found.key("ArrowRight")
    assert found.range[0] > first
    found.key("0")
    assert found.range == pytest.approx(whole)
    found.key("]")
    first_step = found.range
    found.key("]")
    assert found.range == pytest.approx((9.8 * MS, 20.2 * MS), abs=0.01 * MS)
    found.key("[")
    assert found.range in (pytest.approx(first_step), pytest.approx((-0.2 * MS, 10.2 * MS), abs=0.01 * MS))


def test_buttons_zoom_to_step_and_back(opened: Opener) -> None:
    found = opened()
    whole = found.range
    found.page.evaluate("document.querySelector('#zoom-step').click()")
    first, last = found.range
    assert last - first == pytest.approx(10.4 * MS, abs=0.01 * MS)
    found.page.evaluate("document.querySelector('#zoom-fit').click()")
    assert found.range == pytest.approx(whole)


def test_overview_moves_the_view(opened: Opener) -> None:
    found = opened()
    found.run("v.show(1e6, 2e6);")
    left, top, width, height = found.page.evaluate(
        "(() => { const b = document.querySelector('#overview').getBoundingClientRect();"
        " return [b.left, b.top, b.width, b.height]; })()"
    )
    found.click((left + 0.75 * width, top + height / 2))
    assert found.range == pytest.approx((14.5 * MS, 15.5 * MS), abs=0.05 * MS)


def test_fingers_pinch_and_move(opened: Opener) -> None:
    found = opened(width=390)
    whole = found.range
    x, y = found.at(0, 10 * MS)
    found.touch("touchStart", (x - 20, y), (x + 20, y))
    found.touch("touchMove", (x - 60, y), (x + 60, y))
    found.touch("touchEnd")
    first, last = found.range
    assert last - first == pytest.approx((whole[1] - whole[0]) / 3, rel=0.1)
    found.touch("touchStart", (x, y))
    for step in (20, 40, 60):
        found.touch("touchMove", (x - step, y))
    found.touch("touchEnd")
    assert found.range[0] > first


def test_touch_pins_and_tells(opened: Opener) -> None:
    found = opened(width=390)
    at = found.at(0, 3 * MS)
    found.touch("touchStart", at)
    found.touch("touchEnd")
    assert "embedding_bag_kernel" in found.text("#picked")


def test_depth_can_be_chosen(opened: Opener) -> None:
    found = opened()
    tall = found.run("return v.total;")
    found.page.evaluate(
        "(() => { const d = document.querySelector('#depth'); d.value = '1'; d.dispatchEvent(new Event('change')); })()"
    )
    assert found.run("return v.total;") < tall


def test_names_stay_text_wherever_they_are_shown(opened: Opener) -> None:
    found = opened()
    found.run("v.show(12e6, 14e6);")
    found.mouse("mouseMoved", found.at(2, 13 * MS, 1))
    assert sample_page.HOSTILE in found.text("#tip")
    found.click(found.at(2, 13 * MS, 1))
    assert sample_page.HOSTILE in found.text("#picked b")
    page = found.page
    page.evaluate("[...document.querySelectorAll('button.name')].find(b => b.innerText.includes('onerror')).click()")
    found.settle(100)
    assert "Found 1," in found.text("#status")
    assert page.evaluate("document.querySelectorAll('[onerror], img').length") == 0
    assert page.evaluate("document.title") == "dlrm on a made-up GPU"
    assert page.named("Runtime.exceptionThrown") == []


def test_kernel_table_sorts_filters_and_finds(opened: Opener) -> None:
    found = opened()
    rows = "[...document.querySelectorAll('#kernel-table tbody tr')].filter(r => !r.hidden)"
    column = f"{rows}.map(r => Number(r.cells[4].dataset.sort))"
    page = found.page
    assert page.evaluate(column) == [2, 2, 9]
    page.evaluate("document.querySelectorAll('#kernel-table thead button')[3].click()")
    assert page.evaluate(column) == [9, 2, 2]
    page.evaluate("document.querySelector('#filter').focus()")
    page.send("Input.insertText", text="SGEMM")
    assert page.evaluate(column) == [2]
    assert found.text("#filtered") == "1 of 3 names"
    page.evaluate("document.querySelector('#kernel-table tbody tr:not([hidden]) button.name').click()")
    found.settle(100)
    assert "Found 2, sum 4 ms" in found.text("#status")


def test_many_events_load_and_answer(opened: Opener, record_property: Callable[[str, object], None]) -> None:
    found = opened("crowded")
    assert found.run("return v.data.lanes.reduce((n, lane) => n + lane.n, 0);") == 240_001
    whole = found.range
    at = found.at(0, found.run("return v.span / 3;"))
    for _ in range(12):
        found.wheel(at, -240)
    first, last = found.range
    assert last - first < (whole[1] - whole[0]) / 100
    event = found.run(
        "const row = v.data.lanes[0].rows[0], i = firstAbove(row.start, (v.t0 + v.t1) / 2, 0, true);"
        "return [row.start[i], row.end[i], v.data.names[row.name[i]]];"
    )
    found.mouse("mouseMoved", found.at(0, (event[0] + event[1]) / 2))
    assert event[2] in found.text("#tip")
    frames = sorted(found.run("return v.frames;"))
    record_property("frame_ms_median_and_longest", (frames[len(frames) // 2], frames[-1]))
    print(f"frames: {len(frames)}, median {frames[len(frames) // 2]:.1f} ms, longest {frames[-1]:.1f} ms")


def test_no_event_vanishes_among_many(opened: Opener) -> None:
    found = opened("crowded")
    lonely = found.run("return v.data.lanes[2].rows[0].start[0];")
    empty = found.pixel(2, lonely * 1.2)
    assert found.pixel(2, lonely) != empty
    busy = [found.pixel(0, found.run("return v.data.lanes[0].rows[0].end.at(-1);") * i / 20) for i in range(1, 20)]
    assert empty not in busy
    found.run("v.find('nccl');")
    assert found.pixel(2, lonely) != empty


def test_a_pixel_of_many_says_so(opened: Opener) -> None:
    found = opened("crowded")
    found.mouse("mouseMoved", found.at(0, found.run("return v.span / 4;")))
    assert "more; zoom in" in found.text("#tip")


def test_time_covered_by_part_of_an_event(opened: Opener) -> None:
    found = opened()
    row = "v.data.lanes[0].rows[0]"
    # Embedding from 1 to 5 ms, sgemm from 5 to 7 ms, then nothing until 11 ms.
    for start, end, covered in ((2, 3, 1), (0, 2, 1), (4, 6, 2), (6, 9, 1), (8, 10, 0), (0, 20, 12)):
        assert found.run(f"return covered({row}, {start * MS}, {end * MS});") == covered * MS


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("void at::native::reduce_kernel<128, 4, at::native::ReduceOp<float>>(int)", "ReduceOp reduce_kernel"),
        (
            "void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add<float>>(int)",
            "CUDAFunctor_add vectorized_elementwise_kernel",
        ),
        ("void cutlass::Kernel<cutlass_80_tensorop_s1688gemm>(cutlass_80_tensorop)", "cutlass_80_tensorop_s1688gemm"),
        ("void (anonymous namespace)::softmax<float, 2>(float*, int)", "softmax"),
        ("autograd::engine::evaluate_function: AddmmBackward0", "AddmmBackward0"),
        ("aten::addmm", "aten::addmm"),
        ("ncclKernel_AllReduce_RING_LL_Sum_float(ncclWorkElem)", "ncclKernel_AllReduce_RING_LL_Sum_float"),
        ("Memcpy HtoD (Pinned -> Device)", "Memcpy HtoD (Pinned -> Device)"),
        ("## forward ##", "## forward ##"),
        ("a<b", "a<b"),
    ],
)
def test_names_are_shortened_to_what_tells_them_apart(opened: Opener, name: str, shown: str) -> None:
    found = opened()
    got = found.run(f"return shortName({json.dumps(name)});")
    assert got == shown or got.startswith(f"{shown} ")


def test_page_without_a_timeline_is_quiet(page: Page, tmp_path: Path) -> None:
    path = write_page(tmp_path / "page.html", sample_page.model(timeline=None))
    page.open(path.as_uri(), width=390)
    page.evaluate("document.querySelector('button.name').click()")
    assert page.named("Runtime.exceptionThrown") == []
    assert page.evaluate("document.querySelector('#kernel-table') !== null && !document.querySelector('canvas')")


def test_a_damaged_payload_is_said(page: Page, pages: dict[str, Path], tmp_path: Path) -> None:
    text = pages["small"].read_text(encoding="utf-8")
    start = text.index('id="payload">') + 13
    broken = tmp_path / "broken.html"
    broken.write_text(text[: start + 40] + text[text.index("</script>", start) :], encoding="utf-8")
    page.open(broken.as_uri(), width=1280)
    wait = (
        "new Promise(r => { const f = () => document.querySelector('.status.bad') ? r(1) : setTimeout(f, 20); f(); })"
    )
    page.evaluate(wait)
    assert "could not be drawn" in page.evaluate("document.querySelector('#status').textContent")
