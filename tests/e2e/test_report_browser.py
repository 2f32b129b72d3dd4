"""The report in a real browser: at both widths and both themes it is whole, quiet, self-contained and sortable."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from bench import plots
from bench.reporting.report import write_report
from tests import sample_records, sample_structure, sample_trials
from tests.devtools import Page, browser_path, chromium_page

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(browser_path() is None, reason="no Chromium on the PATH"),
    pytest.mark.skipif(importlib.util.find_spec("websocket") is None, reason="websocket-client is not installed"),
]

HOSTILE = '<img src=x onerror="document.title=1">&"'
VIEWS = [(1280, False), (1280, True), (390, False), (390, True)]
IMAGES = """[...document.images].map(i => ({
  alt: i.alt, natural: i.naturalWidth, width: i.getBoundingClientRect().width, src: i.currentSrc.slice(0, 20)
}))"""
TOO_WIDE = """[...document.querySelectorAll('body *')]
  .filter(e => !e.closest('.scroll, pre') && e.getBoundingClientRect().right > innerWidth + 0.5)
  .map(e => e.tagName + '.' + e.className)"""
COLUMN = """[...document.querySelectorAll('table.sortable tbody tr')]
  .map(r => r.cells[INDEX].dataset.sort ?? null).map(t => t === null ? null : Number(t))"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    found = sample_records.records()
    model = msgspec.structs.replace(found[0].case.model, name=HOSTILE)
    case = msgspec.structs.replace(found[0].case, model=model)
    found[0] = msgspec.structs.replace(found[0], case=case, key=case.key())
    (folder / "traces").mkdir()
    (folder / found[1].trace.path).touch()  # type: ignore[union-attr]
    return write_report(folder / "report.html", sample_records.manifest(found), found)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with chromium_page(str(browser_path()), tmp_path_factory.mktemp("chromium") / "profile") as found:
        yield found


@pytest.fixture(params=VIEWS, ids=lambda v: f"{v[0]}-{'dark' if v[1] else 'light'}")
def opened(request: pytest.FixtureRequest, page: Page, report: Path) -> Page:
    width, dark = request.param
    page.open(report.as_uri(), width=width, dark=dark)
    return page


def test_no_errors_and_no_requests(opened: Page, report: Path) -> None:
    assert opened.named("Runtime.exceptionThrown") == []
    assert opened.named("Runtime.consoleAPICalled") == []
    assert [e["entry"]["text"] for e in opened.named("Log.entryAdded")] == []
    urls = [e["request"]["url"] for e in opened.named("Network.requestWillBeSent")]
    assert [u for u in urls if not u.startswith("data:")] == [report.as_uri()]


def test_nothing_overflows(opened: Page) -> None:
    assert opened.evaluate(TOO_WIDE) == []
    assert opened.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_every_image_is_there_and_described(opened: Page) -> None:
    images = opened.evaluate(IMAGES)
    assert len(images) == len(plots.names())
    for image in images:
        assert image["natural"] > 0
        assert image["width"] > 200
        assert len(image["alt"]) > 30


def test_sections_fit_every_view(page: Page, tmp_path: Path) -> None:
    found = sample_structure.records()
    trials = sample_trials.trials(sample_trials.PLANTED, sample_trials.CONTROL)
    path = write_report(tmp_path / "report.html", sample_records.manifest(found), found, trials=trials)
    for width, dark in VIEWS:
        page.open(path.as_uri(), width=width, dark=dark)
        assert page.evaluate(TOO_WIDE) == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        titles = page.evaluate("[...document.querySelectorAll('h2')].map(h => h.textContent)")
        assert titles[1:4] == ["The claims", "Cost against the number of features", "Quality against cost"]
        assert page.evaluate("[...document.images].every(i => i.naturalWidth > 0 && i.alt.length > 30)")
        assert page.named("Runtime.exceptionThrown") == []


def test_names_stay_text(opened: Page) -> None:
    assert "onerror" in opened.evaluate("document.querySelector('h1').textContent")
    assert opened.evaluate("document.querySelectorAll('[onerror], img[src=x]').length") == 0
    assert opened.evaluate("document.title") != "1"


def test_pictures_follow_theme_and_width(page: Page, report: Path) -> None:
    shown = set()
    for width, dark in VIEWS:
        page.open(report.as_uri(), width=width, dark=dark)
        shown.add(page.evaluate("document.images[0].currentSrc"))
    assert len(shown) == len(VIEWS)


def test_headings_sort_both_ways(page: Page, report: Path) -> None:
    page.open(report.as_uri(), width=1280)
    column = COLUMN.replace("INDEX", "2")
    click = "document.querySelectorAll('table.sortable thead button')[2].click()"
    before = page.evaluate(column)
    page.evaluate(click)
    down = page.evaluate(column)
    page.evaluate(click)
    up = page.evaluate(column)
    assert down == sorted(before, reverse=True)
    assert up == sorted(before)
    assert up != before
    head = "document.querySelectorAll('table.sortable thead th')[2].getAttribute('aria-sort')"
    assert page.evaluate(head) == "ascending"


def test_traces_are_linked_where_they_are(page: Page, report: Path) -> None:
    page.open(report.as_uri(), width=1280)
    links = page.evaluate("[...document.querySelectorAll('table.sortable a')].map(a => a.getAttribute('href'))")
    assert len(links) == 1
    assert (report.parent / links[0]).is_file()
