"""A page in headless Chromium, driven over the DevTools protocol; enough for what the report's tests ask."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
    "--remote-allow-origins=*",
)
START_S = 30.0


def browser_path() -> str | None:
    """Where a Chromium is, or None."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


class Page:
    """One tab: commands answered in order, events kept by name."""

    def __init__(self, socket: Any) -> None:
        self._socket, self._last_id = socket, 0
        self.events: list[tuple[str, dict[str, Any]]] = []

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """One command and its result."""
        self._last_id += 1
        self._socket.send(json.dumps({"id": self._last_id, "method": method, "params": params}))
        while True:
            message = json.loads(self._socket.recv())
            if message.get("id") == self._last_id:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                return message["result"]  # type: ignore[no-any-return]
            self.events.append((message.get("method", ""), message.get("params", {})))

    def wait_for(self, event: str, timeout_s: float = 30.0) -> None:
        """Until an event has come."""
        end = time.monotonic() + timeout_s
        while not any(name == event for name, _ in self.events):
            if time.monotonic() > end:
                raise TimeoutError(f"{event} did not come within {timeout_s} s")
            self.send("Runtime.evaluate", expression="0")
            time.sleep(0.02)

    def open(self, url: str, *, width: int, height: int = 900, dark: bool = False) -> None:
        """Load a page at this size and colour scheme; its events are kept."""
        self.events.clear()
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable")
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])
        self.send("Page.navigate", url=url)
        self.wait_for("Page.loadEventFired")
        self.evaluate("Promise.all([...document.images].map(i => i.decode().catch(() => 0))).then(() => 1)")

    def evaluate(self, expression: str) -> Any:
        """The value of an expression on the page, awaited."""
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(str(answer["exceptionDetails"]))
        return answer["result"].get("value")

    def screenshot(self, path: Path) -> None:
        """The whole page as PNG."""
        found = self.send("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(found["data"]))

    def named(self, name: str) -> list[dict[str, Any]]:
        """Parameters of every event of this name."""
        return [params for event, params in self.events if event == name]


@contextmanager
def chromium_page(executable: str, profile: Path) -> Iterator[Page]:
    """A tab of a fresh browser, ended afterwards."""
    import websocket

    log = (profile.parent / "chromium.log").open("w+", encoding="utf-8")
    process = subprocess.Popen(
        [executable, *FLAGS, f"--user-data-dir={profile}", "about:blank"], stderr=log, stdout=log
    )
    try:
        port = _port(profile.parent / "chromium.log", process)
        socket = websocket.create_connection(_tab(port), timeout=60)
        try:
            yield Page(socket)
        finally:
            socket.close()
    finally:
        process.terminate()
        process.wait(timeout=20)
        log.close()


def _port(log: Path, process: subprocess.Popen[bytes]) -> int:
    end = time.monotonic() + START_S
    while time.monotonic() < end and process.poll() is None:
        if found := re.search(r"DevTools listening on ws://[^:]+:(\d+)/", log.read_text(encoding="utf-8")):
            return int(found[1])
        time.sleep(0.05)
    raise RuntimeError(f"Chromium did not start: {log.read_text(encoding='utf-8')[-500:]}")


def _tab(port: int) -> str:
    from urllib.request import ProxyHandler, build_opener

    opener = build_opener(ProxyHandler({}))
    with opener.open(f"http://127.0.0.1:{port}/json/list", timeout=10) as answer:
        tabs = json.load(answer)
    return str(next(tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page"))
