"""Connections that ask for nothing are closed: a deadline for a request's head, and a limit on how many there are.

uvicorn times a connection between two requests only; one that never finishes its first stays for ever, and
`limit_concurrency` refuses those who ask, not those who hold the places.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from uvicorn import Server
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 15.0  # for a request's head, from the connection's start or the last answer's end
MOST_CONNECTIONS = (
    512  # a visitor's browser holds six at most; half of the files that a process may usually open
)
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 5\r\ncontent-length: 0\r\n\r\n"
)


class WatchedProtocol(H11Protocol):
    """uvicorn's own protocol, which gives up a connection without a request; the oldest makes room for a new one."""

    head_seconds = HEAD_SECONDS
    most_connections = MOST_CONNECTIONS
    _deadline: asyncio.TimerHandle | None = None  # set while no request is being read or answered

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection, or answer 503 where all are busy with requests."""
        super().connection_made(transport)
        self._expect_request()
        others = [one for one in self.connections if not one.transport.is_closing() and one is not self]
        if len(others) < self.most_connections:
            return
        waiting = [one for one in others if isinstance(one, WatchedProtocol) and one._deadline is not None]
        if waiting:
            min(waiting, key=lambda one: cast("asyncio.TimerHandle", one._deadline).when()).transport.close()
        else:
            transport.write(_FULL)
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is expected any more."""
        self._expect_nothing()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """A new request ends the deadline; bytes of an unfinished head do not."""
        before: Any = self.cycle
        super().handle_events()
        if self.cycle is not before and not self.cycle.response_complete:
            self._expect_nothing()

    def on_response_complete(self) -> None:
        """The next request has its deadline too, and so has the rest of a body that nobody wants."""
        self._expect_request()
        super().on_response_complete()

    def _expect_request(self) -> None:
        self._expect_nothing()
        self._deadline = self.loop.call_later(self.head_seconds, self.transport.close)

    def _expect_nothing(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def watch_connections(server: Server) -> None:
    """From now on each new connection of a running server is watched; Gradio takes no protocol of its own."""
    server.config.http_protocol_class = WatchedProtocol
