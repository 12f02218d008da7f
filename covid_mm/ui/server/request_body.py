"""A request's body as it comes: bytes counted, silence timed, each part held to its limit, file names taken out."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from python_multipart.multipart import parse_options_header
from starlette.formparsers import MultiPartException

from covid_mm.ui.server.upload_folder import UploadRoom

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Refusal(MultiPartException):
    """Raised out of `receive`; for this exception Gradio deletes what it has written of the upload.

    status: of the answer. message: one sentence for the client.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


async def answer_plainly(
    send: Send, status: int, text: str, headers: tuple[tuple[bytes, bytes], ...] = ()
) -> None:
    """A whole answer of one sentence."""
    body = text.encode()
    kind = (
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
    )
    await send({"type": "http.response.start", "status": status, "headers": [*kind, *headers]})
    await send({"type": "http.response.body", "body": body})


MAX_PART_HEADER = 8 * 1024  # bytes
ARCHIVE = b"PK\x03\x04"  # how a ZIP begins
# how files begin that may be as large as a CT scan: a ZIP, gzip, NIfTI-1, NIfTI-2, and DICOM after its preamble
LARGE_STARTS = (ARCHIVE, b"\x1f\x8b", b"\x5c\x01\0\0", b"\x1c\x02\0\0")
DICOM, DICOM_AT = b"DICM", 128


@dataclass(frozen=True)
class UploadLimits:
    """Bytes. file: one file. archive: one that begins as a ZIP or CT scan does. field: a part that is no file."""

    file: int
    archive: int
    field: int

    @property
    def request(self) -> int:
        """Of a whole upload, with the marks and headers between its parts."""
        return max(self.file, self.archive) + 64 * 1024


class UploadParts:
    """A multipart stream with random file names in the place of its own, each part within its limit.

    Args:
        boundary: from the request's content type, without the leading dashes.
        limits: of each part.
    """

    def __init__(self, boundary: bytes, limits: UploadLimits) -> None:
        self._mark = b"\r\n--" + boundary
        self._limits = limits
        self._rest = b"\r\n"  # so that the first mark, at the very start, looks like the others
        self._fresh = True
        self._in_header = False
        self._ended = False
        self._is_file = False
        self._head = b""  # the part's first bytes, which tell its kind
        self._count = 0  # bytes of the part so far

    def feed(self, data: bytes, *, last: bool = False) -> bytes:
        """What can be passed on so far; `last` gives the remainder too.

        Raises:
            Refusal: a part is larger than its limit, or its header than 8 kB.
        """
        self._rest += data
        out = bytearray()
        while not self._ended:
            if self._in_header:
                if self._rest.startswith(b"--"):
                    self._ended = True
                    break
                end = self._rest.find(b"\r\n\r\n")
                if max(end, len(self._rest) if end < 0 else 0) > MAX_PART_HEADER:
                    raise Refusal(
                        400, f"The header of an uploaded part is longer than {MAX_PART_HEADER} bytes."
                    )
                if end < 0:
                    break
                header, self._is_file = _rename(self._rest[:end])
                out += header + b"\r\n\r\n"
                self._rest = self._rest[end + 4 :]
                self._in_header, self._head, self._count = False, b"", 0
            else:
                start = self._rest.find(self._mark)
                if start < 0:
                    safe = len(self._rest) - len(self._mark) + 1
                    if self._fresh and safe > MAX_PART_HEADER:
                        raise Refusal(400, "The upload does not begin with its boundary.")
                    if safe > 0 and not self._fresh:
                        out += self._take(self._rest[:safe])
                        self._rest = self._rest[safe:]
                    break
                end = start + len(self._mark)
                if not self._fresh:
                    self._take(self._rest[:start])
                out += self._rest[2 if self._fresh else 0 : end]
                self._rest = self._rest[end:]
                self._in_header, self._fresh = True, False
        if self._ended or last:
            out += self._rest if self._fresh or self._in_header or self._ended else self._take(self._rest)
            self._rest = b""
        return bytes(out)

    def _take(self, content: bytes) -> bytes:
        """Count bytes of the part's content; the same bytes."""
        self._head += content[: max(0, DICOM_AT + len(DICOM) - len(self._head))]
        self._count += len(content)
        limits = self._limits
        if not self._is_file:
            if self._count > limits.field:
                raise Refusal(
                    413, f"A part of the upload that is no file is larger than {limits.field} bytes."
                )
        elif self._count > (limits.archive if _may_be_large(self._head) else limits.file):
            raise Refusal(
                413,
                f"A file is larger than the {limits.file} bytes that one may have, or a ZIP archive or CT scan than"
                f" {limits.archive}; send less at once.",
            )
        return content


def _may_be_large(head: bytes) -> bool:
    return head.startswith(LARGE_STARTS) or head[DICOM_AT:] == DICOM


def _rename(header: bytes) -> tuple[bytes, bool]:
    """One part's header with a random file name, or unchanged where it has none; whether it has one."""
    lines = []
    is_file = False
    for line in header.split(b"\r\n"):
        key, _, value = line.partition(b":")
        if key.strip().lower() == b"content-disposition":
            _, options = parse_options_header(value.strip())
            is_file = b"filename" in value.lower()  # also filename*, and spellings that parsers differ on
            if is_file:
                field = options.get(b"name", b"files").replace(b'"', b"").replace(b"\\", b"")
                token = secrets.token_hex(8).encode()
                line = b'Content-Disposition: form-data; name="%s"; filename="image-%s"' % (field, token)
        lines.append(line)
    return b"\r\n".join(lines), is_file


PATIENCE = 30.0  # s of waiting for a body, and beyond it
SLOWEST = 8 * 1024  # bytes per second that a sender has to keep up
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
