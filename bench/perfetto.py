"""One trace for ui.perfetto.dev, which fetches it from this machine: nothing leaves it, nothing else is served."""

from __future__ import annotations

import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

from bench.errors import UsageError

ORIGIN = "https://ui.perfetto.dev"
HOST = "127.0.0.1"
PORT = 9001
"""The one port of a user's own machine that the content policy of ui.perfetto.dev lets it fetch from."""
POLL_S = 0.1
IDLE_S = 30.0
"""A connection that says nothing for so long is closed."""


class TraceServer(ThreadingHTTPServer):
    """Serves one file at one address, to this machine's browser, until it was fetched whole. A context manager.

    UsageError where the file cannot be read or the port is taken. Port 0 is any free one.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, path: Path, port: int = PORT) -> None:
        try:
            self.file: BinaryIO = path.open("rb")
        except OSError as error:
            raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
        self.fetched = threading.Event()
        self.address_path = f"/{quote(path.name)}"
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            self.file.close()
            told = f"port {port} of {HOST} cannot be used ({error.strerror}); {ORIGIN} fetches from no other"
            raise UsageError(f"{told}: end what uses it, or open the file there by hand") from None

    @property
    def page_url(self) -> str:
        """What to open in a browser."""
        return f"{ORIGIN}/#!/?url=http://{self.host}{self.address_path}"

    @property
    def host(self) -> str:
        """This server, as a browser names it."""
        return f"{HOST}:{self.server_address[1]}"

    def serve_once(self) -> None:
        """Answer until the file was fetched once."""
        self.timeout = POLL_S
        while not self.fetched.is_set():
            self.handle_request()

    def server_close(self) -> None:
        """Free the port and the file."""
        super().server_close()
        self.file.close()


class _Handler(BaseHTTPRequestHandler):
    server: TraceServer
    timeout = IDLE_S
    server_version, sys_version = "dlrm-bench", ""

    def do_GET(self) -> None:
        if not self._head():
            return
        try:
            self.connection.sendfile(self.server.file, offset=0)
        except OSError:
            self.close_connection = True
            return
        self.server.fetched.set()

    def do_HEAD(self) -> None:
        self._head()

    def do_OPTIONS(self) -> None:
        """What a browser asks before a public page may fetch from a private address."""
        if self._refused():
            return
        self.send_response(204)
        self._allow()
        self.send_header("Access-Control-Allow-Methods", "GET, HEAD")
        self.send_header("Access-Control-Allow-Headers", "*")
        self.send_header("Access-Control-Allow-Private-Network", "true")
        self.end_headers()

    def _head(self) -> bool:
        """Status and headers; whether the file may follow."""
        if self._refused():
            return False
        self.send_response(200)
        self._allow()
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(self._size()))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        return True

    def _size(self) -> int:
        return os.fstat(self.server.file.fileno()).st_size

    def _refused(self) -> bool:
        """Other paths, other pages, and other names of this address (a page may give its own name to 127.0.0.1)."""
        if self.headers.get("Host") != self.server.host or self.headers.get("Origin", ORIGIN) != ORIGIN:
            self.send_error(403, f"for {ORIGIN} only")
        elif self.path != self.server.address_path:
            self.send_error(404, "one file is served here")
        else:
            return False
        return True

    def _allow(self) -> None:
        self.send_header("Access-Control-Allow-Origin", ORIGIN)
        self.send_header("Vary", "Origin")

    def log_message(self, format: str, *args: object) -> None:
        """Silent: stderr is for people."""
