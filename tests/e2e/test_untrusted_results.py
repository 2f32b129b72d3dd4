"""A results folder or a trace of a stranger: nothing in it runs in a page or a terminal, no path leaves the folder."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from bench import store
from tests import sample_records
from tests.devtools import Page, browser_path, chromium_page
from tests.e2e.conftest import Cli
from tests.e2e.test_inspection_browser import READY
from tests.hostile import hostile_run, trace_text

browser = [
    pytest.mark.browser,
    pytest.mark.skipif(browser_path() is None, reason="no Chromium on the PATH"),
    pytest.mark.skipif(importlib.util.find_spec("websocket") is None, reason="websocket-client is not installed"),
]
RAN = """JSON.stringify({
  hacked: window.hacked ?? null,
  scripts: document.querySelectorAll('script:not([type])').length,
  handlers: [...document.querySelectorAll('*')].filter(e => [...e.attributes].some(a => /^on/.test(a.name))).length,
  images: document.querySelectorAll('img[src=x]').length,
  links: [...document.querySelectorAll('a, use, image')].map(a => a.getAttribute('href') ?? '')
})"""
HOVER = """document.querySelectorAll('*').forEach(e => { for (const kind of ['mouseover', 'focus', 'error', 'click'])
  if (e.tagName !== 'A') e.dispatchEvent(new Event(kind, {bubbles: true})); })"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with chromium_page(str(browser_path()), tmp_path_factory.mktemp("chromium") / "profile") as found:
        yield found


def require_quiet(page: Page, path: Path) -> None:
    """Nothing of the file's texts ran, became an element that could, or asked for anything outside the page."""
    for script in (HOVER, "1"):
        page.evaluate(script)
        found = json.loads(page.evaluate(RAN))
        assert (found["hacked"], found["scripts"], found["handlers"], found["images"]) == (None, 1, 0, 0)
        assert [link for link in found["links"] if ":" in link or link.startswith(("/", "."))] == []
    urls = [e["request"]["url"] for e in page.named("Network.requestWillBeSent")]
    assert [u for u in urls if not u.startswith("data:")] == [path.as_uri()]
    assert page.named("Runtime.exceptionThrown") == []
    assert [e["entry"]["text"] for e in page.named("Log.entryAdded")] == []


@pytest.mark.usefixtures("page")
class TestInABrowser:
    pytestmark = browser

    def test_a_hostile_run_stays_text_in_its_report_and_its_trace_in_its_page(self, cli: Cli, page: Page) -> None:
        run = cli.folder / "run"
        assert hostile_run(run) > 150
        before = {path for path in cli.folder.rglob("*") if not path.is_relative_to(run)}
        done = cli("report", str(run))
        assert done.returncode == 0, done.stderr
        assert {path for path in cli.folder.rglob("*") if not path.is_relative_to(run)} == before
        page.open((run / "report.html").as_uri(), width=1280)
        assert "window.hacked" in page.evaluate("document.body.textContent")
        require_quiet(page, run / "report.html")
        (made,) = (run / "traces").glob("*.html")
        page.open(made.as_uri(), width=1280)
        page.evaluate(READY)
        assert "window.hacked" in page.evaluate("document.body.textContent")
        require_quiet(page, made)

    def test_a_hostile_trace_stays_text(self, cli: Cli, page: Page) -> None:
        (cli.folder / "<b>bad.pt.trace.json").write_bytes(trace_text())
        done = cli("inspect", "<b>bad.pt.trace.json", "--html", "page.html")
        assert done.returncode == 0, done.stderr
        path = cli.folder / "page.html"
        page.open(path.as_uri(), width=1280)
        page.evaluate(READY)
        page.evaluate("document.querySelectorAll('button.name').forEach(b => b.click())")
        require_quiet(page, path)


@pytest.mark.parametrize("verb", [["show"], ["show", "--json"], ["show", "--csv"], ["compare", "run"], ["report"]])
def test_a_hostile_run_is_answered_and_moves_no_cursor(cli: Cli, verb: list[str]) -> None:
    hostile_run(cli.folder / "run")
    done = cli(*verb, "run")
    assert done.returncode in (0, 4), done.stderr
    for text in (done.stdout, done.stderr):
        assert "\x1b]" not in text
        assert "\x07" not in text


def small_run(folder: Path, trace: str) -> Path:
    """A run of one record whose trace lies at this path."""
    folder.mkdir()
    (folder / store.TRACES).mkdir()
    found = sample_records.records()[0]
    assert found.trace is not None
    record = msgspec.structs.replace(found, trace=msgspec.structs.replace(found.trace, path=trace))
    store.write_manifest(folder, sample_records.manifest([record]))
    with store.Appender(folder) as out:
        out.add(record)
    return folder


@pytest.mark.parametrize("where", ["above", "absolute", "link", "linked folder", "dots inside"])
def test_a_trace_outside_the_folder_is_neither_read_nor_linked(cli: Cli, where: str) -> None:
    outside = cli.folder / "secret"
    outside.mkdir()
    (outside / "x.pt.trace.json").write_bytes(trace_text())
    path = {
        "above": "../secret/x.pt.trace.json",
        "absolute": str(outside / "x.pt.trace.json"),
        "link": "traces/x.pt.trace.json",
        "linked folder": "traces/there/x.pt.trace.json",
        "dots inside": "traces/../../secret/x.pt.trace.json",
    }[where]
    run = small_run(cli.folder / "run", path)
    if where == "link":
        (run / path).symlink_to(outside / "x.pt.trace.json")
    if where == "linked folder":
        (run / "traces" / "there").symlink_to(outside)
    done = cli("report", "run")
    assert done.returncode == 0, done.stderr
    assert [p.name for p in outside.iterdir()] == ["x.pt.trace.json"]
    assert not list(run.rglob("x*.html"))
    assert "secret" not in (run / "report.html").read_text()
    assert "x.pt.trace" not in (run / "report.html").read_text()


@pytest.mark.parametrize("name", [store.MANIFEST, store.RECORDS, store.TRIALS])
@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_a_results_file_that_is_no_plain_file_is_refused(cli: Cli, name: str, kind: str) -> None:
    run, secret = small_run(cli.folder / "run", "traces/none"), cli.folder / "secret"
    secret.write_text("my password\n")
    (run / name).unlink(missing_ok=True)
    if kind == "link":
        (run / name).symlink_to(secret)
    elif kind == "pipe":
        os.mkfifo(run / name)
    else:
        (run / name).mkdir()
    done = cli("report", "run", timeout=60)
    assert done.returncode == 2, done.stderr
    assert str(name) in done.stderr
    assert "password" not in done.stderr
    assert "Traceback" not in done.stderr


def test_what_is_written_goes_through_no_link(cli: Cli) -> None:
    run, mine = small_run(cli.folder / "run", "traces/none"), cli.folder / "mine"
    mine.write_text("keep me")
    for name in ("report.html", "report.md"):
        (run / name).symlink_to(mine)
    assert cli("report", "run").returncode == 0
    assert mine.read_text() == "keep me"
    assert (run / "report.html").stat().st_size > 10_000
