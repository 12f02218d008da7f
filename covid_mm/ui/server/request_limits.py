"""A small gate before Gradio: what the page does not need is refused before it is read.

Gradio's own limits leave gaps that this closes: `max_file_size` counts uploaded files only and lets
a JSON body of any size in; `/file=` and `/proxy=` can fetch foreign addresses for a stranger; an
upload keeps the user's file name, which is often a patient's, in the path that is sent back; any
site's page may post to it; what it cannot read goes into the log, names and all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from python_multipart.multipart import parse_options_header

from covid_mm.ui.server.error_log import log_fault
from covid_mm.ui.server.login import client_address
from covid_mm.ui.server.request_body import (
    PATIENCE,
    App,
    Message,
    Receive,
    Refusal,
    RequestBody,
    Scope,
    Send,
    UploadLimits,
    UploadParts,
    answer_plainly,
    look_for_room,
)
from covid_mm.ui.server.upload_folder import UploadRoom

READING = ("GET", "HEAD", "OPTIONS")
_PORTS = {"http": 80, "https": 443}


def is_foreign(method: str, headers: Mapping[bytes, bytes], *, behind_proxy: bool = False) -> bool:
    """Whether a browser sent this write for another site's page; programs send neither header and are not.

    What the browser says of itself (Sec-Fetch-Site) goes first: no script can set it, and it holds behind
    every proxy. Browsers leave it out over plain HTTP to another machine; there Origin has to name this host.

    Args:
        method: of the request; one that only reads is never foreign.
        headers: of the request, names in lower case.
        behind_proxy: whether X-Forwarded-Host is a proxy's word; anybody else can write it.
    """
    if method in READING:
        return False
    site = headers.get(b"sec-fetch-site", b"").strip()
    if site:
        return site not in (b"same-origin", b"none")
    if b"origin" not in headers:
        return False
    names = [headers.get(b"host", b"")]
    if behind_proxy:
        names.append(headers.get(b"x-forwarded-host", b"").partition(b",")[0])
    return not _names_one_of(headers[b"origin"].decode("latin-1"), (n.decode("latin-1") for n in names))


def _names_one_of(origin: str, hosts: Iterable[str]) -> bool:
    scheme, _, own = origin.strip().lower().partition("://")
    port = _PORTS.get(scheme)
    if port is None or not own:  # "null" too, which a sandboxed page sends
        return False
    spellings = {own, f"{own}:{port}", own.removesuffix(f":{port}")}  # the usual port may be written or not
    return any(host.strip().lower() in spellings for host in hosts)


MAX_JSON = 256 * 1024  # bytes; the page's own requests are below 2 kB
UPLOAD = "/gradio_api/upload"

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


class RequestGuard:
    """ASGI middleware: refuses routes and foreign pages, limits bodies, takes the file names out of uploads.

    Args:
        app: what comes behind.
        uploads: bytes of an upload and its parts.
        max_json: bytes of any other body.
        room: for uploads; those beyond it are refused until some are deleted. None for no limit.
        behind_proxy: whether to believe X-Forwarded-Host.
        patience: seconds that a body may keep the server waiting.
    """

    def __init__(
        self,
        app: App,
        *,
        uploads: UploadLimits,
        max_json: int = MAX_JSON,
        room: UploadRoom | None = None,
        behind_proxy: bool = False,
        patience: float = PATIENCE,
    ) -> None:
        self._app = app
        self._uploads = uploads
        self._max_json = max_json
        self._room = room
        self._behind_proxy = behind_proxy
        self._patience = patience

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 400, 403, 408, 413 or 507, or let the request pass with fewer names and more headers."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        client_address.set((scope.get("client") or ("",))[0])
        started = False
        body: RequestBody | None = None

        async def send_guarded(message: Message) -> None:
            nonlocal started
            if body is not None and body.refusal is not None:
                return  # what the application makes of it; the refusal itself is the answer
            if message["type"] == "http.response.start":
                started = True
                message = {**message, "headers": [*message.get("headers", []), *SECURITY_HEADERS]}
            await send(message)

        try:
            body, scope = await self._open_body(scope, receive)
            await self._app(scope, body.receive, send_guarded)
        except Refusal as refusal:
            if body is None:
                await answer_plainly(send, refusal.status, str(refusal.message), SECURITY_HEADERS)
        except Exception as error:
            token = log_fault(error)
            if not started and (body is None or body.refusal is None):
                sentence = f"The server could not answer this request; its log has the details under {token}."
                await answer_plainly(send, 500, sentence, SECURITY_HEADERS)
        if body is not None and body.refusal is not None and not started:
            await answer_plainly(send, body.refusal.status, body.refusal.message, SECURITY_HEADERS)

    async def _open_body(self, scope: Scope, receive: Receive) -> tuple[RequestBody, Scope]:
        """The request's body and what else is handed on; raises Refusal for what the head tells already."""
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if path.removeprefix("/gradio_api").lstrip("/").startswith(REFUSED):
            raise Refusal(403, "This server hands out no files.")
        headers = dict(reversed(scope["headers"]))  # of a header that comes twice Starlette takes the first
        if is_foreign(scope["method"], headers, behind_proxy=self._behind_proxy):
            raise Refusal(403, "This request comes from a page of another site; open this server's own page.")
        is_upload = path.rstrip("/") == UPLOAD
        limit = self._uploads.request if is_upload else self._max_json
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > limit:
            raise Refusal(413, f"The request is larger than {limit} bytes.")
        if not is_upload:
            return RequestBody(receive, limit, patience=self._patience), scope
        if self._room is not None:
            await look_for_room(self._room, int(length))
        _, options = parse_options_header(headers.get(b"content-type"))
        boundary = options.get(b"boundary")
        if not boundary:
            raise Refusal(400, "An upload is sent as multipart/form-data with a boundary.")
        others = [(key, value) for key, value in scope["headers"] if key != b"content-length"]
        body = RequestBody(
            receive,
            limit,
            parts=UploadParts(boundary, self._uploads),
            room=self._room,
            patience=self._patience,
        )
        return body, {**scope, "headers": others}  # the names had a length of their own
