"""A trace for ui.perfetto.dev, asked for by a real HTTP client."""

from __future__ import annotations

import http.client
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from bench.errors import UsageError
from bench.perfetto import ORIGIN, PORT, TraceServer

CONTENT = os.urandom(3_000_000)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[TraceServer]:
    path = tmp_path / "my trace #1.json.gz"
    path.write_bytes(CONTENT)
    (tmp_path / "secret.txt").write_text("secret")
    with TraceServer(path, port=0) as server:
        thread = threading.Thread(target=server.serve_once)
        thread.start()
        yield server
        server.fetched.set()
        thread.join(10)
        assert not thread.is_alive()


def ask(server: TraceServer, method: str, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    client = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=10)
    client.request(method, path, headers=headers)
    answer = client.getresponse()
    body = answer.read()
    client.close()
    return answer.status, dict(answer.getheaders()), body


def test_the_page_fetches_the_file_whole_and_the_server_ends(served: TraceServer) -> None:
    assert served.page_url.startswith(f"{ORIGIN}/#!/?url=")
    (address,) = parse_qs(urlsplit(served.page_url).fragment.removeprefix("!/?"))["url"]
    path = urlsplit(served.page_url.partition("url=")[2]).path
    assert address.startswith("http://127.0.0.1:")
    status, headers, body = ask(served, "GET", path, Origin=ORIGIN)
    assert (status, body == CONTENT) == (200, True)
    assert headers["Access-Control-Allow-Origin"] == ORIGIN
    assert served.fetched.wait(10)


def test_asking_first_does_not_end_it(served: TraceServer) -> None:
    status, headers, _ = ask(served, "OPTIONS", served.address_path, Origin=ORIGIN)
    assert (status, headers["Access-Control-Allow-Private-Network"]) == (204, "true")
    status, headers, body = ask(served, "HEAD", served.address_path, Origin=ORIGIN)
    assert (status, headers["Content-Length"], body) == (200, str(len(CONTENT)), b"")
    assert not served.fetched.is_set()


@pytest.mark.parametrize("path", ["/", "/secret.txt", "/../secret.txt", "/%2e%2e/secret.txt", "//etc/passwd", "/?url="])
def test_nothing_else_is_served(served: TraceServer, path: str) -> None:
    status, headers, body = ask(served, "GET", path)
    assert status == 404
    assert b"secret" not in body
    assert "Access-Control-Allow-Origin" not in headers
    assert not served.fetched.is_set()


@pytest.mark.parametrize("headers", [{"Origin": "https://evil.example"}, {"Host": "evil.example:9001"}])
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_other_pages_get_nothing(served: TraceServer, headers: dict[str, str], method: str) -> None:
    status, said, body = ask(served, method, served.address_path, **headers)
    assert status == 403
    assert "Access-Control-Allow-Origin" not in said
    assert CONTENT[:100] not in body


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_it_only_reads(served: TraceServer, method: str) -> None:
    assert ask(served, method, served.address_path)[0] == 501


def test_a_fetch_that_breaks_off_is_not_the_last(served: TraceServer) -> None:
    with socket.create_connection(("127.0.0.1", served.server_address[1])) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sendall(f"GET {served.address_path} HTTP/1.1\r\nHost: {served.host}\r\n\r\n".encode())
        client.recv(1000)
    assert ask(served, "GET", served.address_path)[2] == CONTENT


def test_a_busy_port_and_a_missing_file_say_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    with pytest.raises(UsageError, match="cannot be read"):
        TraceServer(path, port=0)
    path.write_text("{}")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=rf"port {port} of 127.0.0.1 cannot be used .* end what uses it"):
            TraceServer(path, port=port)


def test_the_port_is_the_one_that_the_page_may_fetch_from() -> None:
    """connect-src of ui.perfetto.dev lists http://127.0.0.1:9001 and no other port for files."""
    assert PORT == 9001
