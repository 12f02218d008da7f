"""A request's body as it comes: its bytes are counted, its silence is timed, its parts are held to their limits."""

from __future__ import annotations

import asyncio
import time

from covid_mm.ui.privacy import UploadRoom
from covid_mm.ui.refusal import Message, Receive, Refusal
from covid_mm.ui.upload_parts import UploadParts

PATIENCE = 30.0  # s of waiting for a body, and beyond it
SLOWEST = 8 * 1024  # bytes a second that a sender has to keep up
STEP = 4 * 1024**2  # bytes after which the room for uploads is looked at again


class RequestBody:
    """Stands in for `receive`. Whatever it refuses is raised, and kept in `refusal`.

    Args:
        receive: gives the body.
        limit: bytes of it all, whatever length was declared.
        parts: of an upload; None for any other body.
        room: for uploads; None for no limit of them all.
        patience: seconds.
    """

    def __init__(
        self,
        receive: Receive,
        limit: int,
        *,
        parts: UploadParts | None = None,
        room: UploadRoom | None = None,
        patience: float = PATIENCE,
    ) -> None:
        self.refusal: Refusal | None = None
        self._receive = receive
        self._limit = limit
        self._parts = parts
        self._room = room
        self._patience = patience
        self._waited = 0.0  # s, the sender's time only
        self._count = 0
        self._looked = 0  # bytes that had come when the room was looked at
        self._more = True

    async def receive(self) -> Message:
        """The next message, without file names.

        Raises:
            Refusal: too large, too slow, no room, or an upload broken off.
        """
        if not self._more:
            return await self._receive()
        try:
            return await self._take()
        except Refusal as refusal:
            self.refusal = refusal
            raise

    async def _take(self) -> Message:
        message = await self._wait()
        if message["type"] != "http.request":
            if self._parts is not None:  # so that what has come of it is deleted
                raise Refusal(400, "The upload was broken off.")
            return message
        body = message.get("body", b"")
        self._more = message.get("more_body", False)
        self._count += len(body)
        if self._count > self._limit:
            raise Refusal(413, f"The request is larger than {self._limit} bytes.")
        if self._room is not None and self._count >= self._looked + STEP:
            self._looked = self._count
            await look_for_room(self._room, len(body))
        if self._parts is None:
            return message
        return {**message, "body": self._parts.feed(body, last=not self._more)}

    async def _wait(self) -> Message:
        began = time.monotonic()
        allowed = self._patience + self._count / SLOWEST - self._waited
        try:
            if allowed <= 0:  # drops, each of which came in time
                raise TimeoutError
            return await asyncio.wait_for(self._receive(), allowed)
        except TimeoutError:
            raise Refusal(408, "The request comes too slowly; send it again over a better line.") from None
        finally:
            self._waited += time.monotonic() - began


async def look_for_room(room: UploadRoom, size: int) -> None:
    """Raises Refusal where so many bytes more are not to be stored."""
    if not await asyncio.to_thread(room.takes, size):
        raise Refusal(507, "The server holds too many uploads just now; try again later.")
