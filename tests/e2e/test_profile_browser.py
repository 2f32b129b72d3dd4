"""The page of a real capture in a real browser: quiet, its timeline drawn, its lanes those of the trace."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.devtools import Page, browser_path, chromium_page
from tests.e2e.conftest import Cli
from tests.e2e.test_inspection_browser import TOO_WIDE, Timeline

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(browser_path() is None, reason="no Chromium on the PATH"),
    pytest.mark.skipif(importlib.util.find_spec("websocket") is None, reason="websocket-client is not installed"),
]
FAST = ("--set", "budget_s=0.05", "--set", "min_repeat_s=0.005", "--set", "min_repeats=3")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with chromium_page(str(browser_path()), tmp_path_factory.mktemp("chromium") / "profile") as found:
        yield found


@pytest.fixture(scope="module")
def captured(tmp_path_factory: pytest.TempPathFactory, cli_environment: dict[str, str]) -> Path:
    cli = Cli(tmp_path_factory.mktemp("captured"), cli_environment)
    done = cli("profile", "tiny", "--axis", "phase=train_step", *FAST, "--json")
    assert done.returncode == 0, done.stderr
    found: Path = cli.folder / json.loads(done.stdout)["page"]
    return found


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (390, False), (390, True)])
def test_the_page_of_a_capture_is_quiet_and_draws_its_lanes(page: Page, captured: Path, width: int, dark: bool) -> None:
    page.open(captured.as_uri(), width=width, dark=dark)
    timeline = Timeline(page)
    assert page.named("Log.entryAdded") == []
    assert page.named("Runtime.exceptionThrown") == []
    assert page.named("Runtime.consoleAPICalled") == []
    assert page.evaluate(TOO_WIDE) == []
    assert page.evaluate("document.querySelector('#timeline').view.places.length") >= 1
    assert "embedding backward" in timeline.text("#legend")
    assert "ProfilerStep" not in timeline.text("#legend")
    assert "of the CPU time has a component" in timeline.text("main")
    first, last = timeline.range
    assert last > first
