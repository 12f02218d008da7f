"""Real sockets that ask for nothing, or never finish asking: they go, and others are answered meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import re
import select
import socket
import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn
from live_server import LiveServer, Visitor

from covid_mm.ui.server.connections import HEAD_SECONDS, MOST_CONNECTIONS, WatchedProtocol, watch_connections

HALF = b"POST /gradio_api/upload HTTP/1.1\r\nHost: x\r\nContent-"
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def answer(scope, receive, send) -> None:
    """An application: /slow answers when `release` is set, all else at once."""
    while scope["path"] == "/slow" and not release.is_set():
        await asyncio.sleep(0.02)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


release = threading.Event()


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A small uvicorn, watched, with a short deadline and few places."""
    monkeypatch.setattr(WatchedProtocol, "head_seconds", 2.0)
    monkeypatch.setattr(WatchedProtocol, "most_connections", 10)
    release.clear()
    server = uvicorn.Server(uvicorn.Config(answer, port=0, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    watch_connections(server)
    yield server.servers[0].sockets[0].getsockname()[1]
    release.set()
    server.should_exit = True
    thread.join(20)


def connect(port: int, data: bytes = b"") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=120)
    connection.sendall(data)
    return connection


def is_closed(one: socket.socket) -> bool:
    if not select.select([one], [], [], 0)[0]:
        return False
    with contextlib.suppress(ConnectionError):
        return one.recv(65536) == b""
    return True


def count_open(sockets: list[socket.socket], seconds: float) -> int:
    """How many are open once none is, or when the time is over."""
    end = time.monotonic() + seconds
    still = list(sockets)
    while still and time.monotonic() < end:
        still = [one for one in still if not is_closed(one)]
        time.sleep(0.05)
    return len(still)


def read_answer(one: socket.socket) -> bytes:
    """One whole answer: its head, and as much of a body as that announces."""
    received = b""
    while not is_whole(received) and (more := one.recv(65536)):
        received += more
    return received


def is_whole(answer: bytes) -> bool:
    head, end, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head.lower())
    return bool(end) and len(body) >= (int(length[1]) if length else 0)


@pytest.mark.parametrize("sent", [b"", b"G", HALF])
def test_a_connection_without_a_whole_head_is_closed(port, sent):
    assert count_open([connect(port, sent) for _ in range(5)], 60) == 0


def test_a_head_in_drops_is_no_head(port):
    one = connect(port, b"GET / HTTP/1.1\r\n")
    ended = False
    for _ in range(600):
        time.sleep(0.1)
        try:
            one.sendall(b"X: y\r\n")
        except OSError:
            ended = True
            break
    assert ended


def test_a_connection_is_kept_between_requests_and_while_one_is_answered(port):
    slow = connect(port, b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
    quick = connect(port, GET)
    assert b"200" in read_answer(quick)
    quick.sendall(GET)
    assert b"200" in read_answer(quick)
    time.sleep(3)  # longer than a head may take
    assert not is_closed(slow)
    release.set()
    assert b"200" in read_answer(slow)


def test_whoever_asks_for_nothing_makes_room(port):
    idle = [connect(port, HALF) for _ in range(10)]
    for _ in range(5):
        assert b"200" in read_answer(connect(port, GET))
    assert any(is_closed(one) for one in idle)


def test_places_that_are_all_in_use_are_not_shared(port):
    busy = [connect(port, b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n") for _ in range(10)]
    time.sleep(1)  # until the server has read them
    assert b"503" in read_answer(connect(port, GET))
    release.set()
    assert all(b"200" in read_answer(one) for one in busy)


def test_the_page_outlives_a_crowd_of_half_open_connections(server: LiveServer, visitor: Visitor):
    crowd = [connect(server.port, HALF) for _ in range(300)]
    assert visitor.request("GET", "/health").status_code == 200
    assert count_open(crowd, 4 * HEAD_SECONDS) == 0
    assert MOST_CONNECTIONS >= 50 * 6  # fifty browsers with all that they may open
