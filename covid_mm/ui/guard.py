"""A small gate before Gradio: what the page does not need is refused before it is read.

Gradio's own limits leave gaps that this closes: `max_file_size` counts uploaded files only and lets
a JSON body of any size in; `/file=` and `/proxy=` can fetch foreign addresses for a stranger; an
upload keeps the user's file name, which is often a patient's, in the path that is sent back.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

from python_multipart.multipart import parse_options_header

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_JSON = 256 * 1024  # bytes; the page's own requests are below 2 kB
MAX_PART_HEADER = 8 * 1024  # bytes
UPLOAD = "/gradio_api/upload"
ARCHIVE = b"PK\x03\x04"

# The page gets its pictures inline and the API its heatmaps in the JSON, so no file is ever served.
REFUSED = (
    "file=",
    "file/",
    "proxy=",
    "stream/",
    "deep_link",
    "dev/",
    "monitoring",
    "process_recording",
    "profiling",
    "run-history",
    "runs",
    "undo-vibe-edit",
    "vibe-",
    "custom_component",
)

# Gradio compiles its templates in the browser, hence 'unsafe-eval' and 'unsafe-inline'.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; "
    "worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'; "
    "frame-ancestors 'self' https://huggingface.co https://*.hf.space"
)
SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", POLICY.encode()),
)


class _TooLargeError(Exception):
    """A body without a declared length went over its limit."""


class RequestGuard:
    """ASGI middleware: refuses routes, limits bodies, takes the file names out of uploads.

    Args:
        app: what comes behind.
        max_upload: bytes of one multipart request.
        max_archive: the same where its file begins as a ZIP archive does; None for no difference.
        max_json: bytes of any other body.
        folder: where uploads lie until they are deleted; None for no limit of them all.
        max_stored: bytes in that folder; uploads beyond it are refused until some are deleted.
    """

    def __init__(
        self,
        app: App,
        *,
        max_upload: int,
        max_archive: int | None = None,
        max_json: int = MAX_JSON,
        folder: Path | None = None,
        max_stored: int = 0,
    ) -> None:
        self._app = app
        self._max_upload = max_upload
        self._max_archive = max(max_upload, max_archive or 0)
        self._max_json = max_json
        self._folder = folder
        self._max_stored = max_stored

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 403, 413 or 507, or let the request pass with fewer names and more headers."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if path.removeprefix("/gradio_api").lstrip("/").startswith(REFUSED):
            await _answer(send, 403, "This server hands out no files.")
            return
        headers = dict(scope["headers"])
        is_upload = path.rstrip("/") == UPLOAD
        limit = self._max_upload if is_upload else self._max_json
        length = headers.get(b"content-length", b"0")
        if is_upload and length.isdigit() and limit < int(length) <= self._max_archive:
            is_archive, receive = await _peek(receive)  # before Gradio begins to write it
            limit = self._max_archive if is_archive else limit
        if not length.isdigit() or int(length) > limit:
            await _answer(send, 413, f"The request is larger than {limit} bytes.")
            return
        if is_upload and self._folder is not None:
            stored = await asyncio.to_thread(count_bytes, self._folder)
            if stored + int(length) > self._max_stored:
                await _answer(send, 507, "The server holds too many uploads just now; try again later.")
                return
        receive = _limited(receive, limit)
        if is_upload:
            _, options = parse_options_header(headers.get(b"content-type"))
            if boundary := options.get(b"boundary"):
                receive = _nameless(receive, NameRemover(boundary))
                kept = [(key, value) for key, value in scope["headers"] if key != b"content-length"]
                scope = {**scope, "headers": kept}  # the names had a length of their own
        started = False

        async def send_guarded(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message = {**message, "headers": [*message.get("headers", []), *SECURITY_HEADERS]}
            await send(message)

        try:
            await self._app(scope, receive, send_guarded)
        except _TooLargeError:
            if not started:
                await _answer(send, 413, f"The request is larger than {limit} bytes.")


def count_bytes(folder: Path) -> int:
    """Bytes of all files under a folder, those that vanish meanwhile left out."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.stat(os.path.join(parent, name)).st_size
    return total


class NameRemover:
    """Replaces the file names in a multipart stream by random ones; the content passes unchanged.

    Args:
        boundary: from the request's content type, without the leading dashes.
    """

    def __init__(self, boundary: bytes) -> None:
        self._mark = b"\r\n--" + boundary
        self._rest = b"\r\n"  # so that the first mark, at the very start, looks like the others
        self._fresh = True
        self._in_header = False
        self._ended = False

    def feed(self, data: bytes, *, last: bool = False) -> bytes:
        """What can be passed on so far; `last` gives the remainder too.

        Raises:
            ValueError: a part's header longer than 8 kB.
        """
        self._rest += data
        out = bytearray()
        while not self._ended:
            if self._in_header:
                if self._rest.startswith(b"--"):
                    self._ended = True
                    break
                end = self._rest.find(b"\r\n\r\n")
                if end < 0:
                    if len(self._rest) > MAX_PART_HEADER:
                        raise ValueError("The header of an uploaded part is too long.")
                    break
                out += _rename(self._rest[:end]) + b"\r\n\r\n"
                self._rest = self._rest[end + 4 :]
                self._in_header = False
            else:
                start = self._rest.find(self._mark)
                if start < 0:
                    safe = len(self._rest) - len(self._mark) + 1
                    if safe > 0 and not self._fresh:
                        out += self._rest[:safe]
                        self._rest = self._rest[safe:]
                    break
                end = start + len(self._mark)
                out += self._rest[2 if self._fresh else 0 : end]
                self._rest = self._rest[end:]
                self._in_header, self._fresh = True, False
        if self._ended or last:
            out += self._rest
            self._rest = b""
        return bytes(out)


def _rename(header: bytes) -> bytes:
    """One part's header with a random file name, or unchanged where it has none."""
    lines = []
    for line in header.split(b"\r\n"):
        key, _, value = line.partition(b":")
        if key.strip().lower() == b"content-disposition":
            _, options = parse_options_header(value.strip())
            if b"filename" in value.lower():  # also filename*, and spellings that parsers differ on
                field = options.get(b"name", b"files").replace(b'"', b"").replace(b"\\", b"")
                token = secrets.token_hex(8).encode()
                line = b'Content-Disposition: form-data; name="%s"; filename="image-%s"' % (field, token)
        lines.append(line)
    return b"\r\n".join(lines)


async def _peek(receive: Receive) -> tuple[bool, Receive]:
    """Whether an upload's first file begins as a ZIP archive does, and the same body from its start."""
    read: list[Message] = []
    head = b""
    while len(head) <= MAX_PART_HEADER:
        read.append(await receive())
        head += read[-1].get("body", b"")
        begin = head.find(b"\r\n\r\n") + 4  # 3 where the part's header has not ended yet
        if (begin > 3 and len(head) >= begin + len(ARCHIVE)) or not read[-1].get("more_body", False):
            break

    async def receive_again() -> Message:
        return read.pop(0) if read else await receive()

    return begin > 3 and head.startswith(ARCHIVE, begin), receive_again


def _limited(receive: Receive, limit: int) -> Receive:
    count = 0

    async def receive_limited() -> Message:
        nonlocal count
        message = await receive()
        count += len(message.get("body", b""))
        if count > limit:
            raise _TooLargeError
        return message

    return receive_limited


def _nameless(receive: Receive, remover: NameRemover) -> Receive:
    async def receive_nameless() -> Message:
        message = await receive()
        if message["type"] != "http.request":
            return message
        more = message.get("more_body", False)
        return {**message, "body": remover.feed(message.get("body", b""), last=not more)}

    return receive_nameless


async def _answer(send: Send, status: int, text: str) -> None:
    body = text.encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        *SECURITY_HEADERS,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
