"""The gate before Gradio, alone: bodies limited and timed, foreign pages and routes refused, faults one line."""

from __future__ import annotations

import asyncio
import logging
import shutil
from types import SimpleNamespace

import pytest
from test_upload_parts import multipart, part

from covid_mm.ui.server.request_body import ARCHIVE, STEP, UploadLimits
from covid_mm.ui.server.request_limits import REFUSED, RequestGuard
from covid_mm.ui.server.upload_folder import UploadRoom

LIMITS = UploadLimits(file=1000, archive=1000, field=100)
KIND = {"content-type": "multipart/form-data; boundary=boundary"}
LARGE = LIMITS.request + 1


class Echo:
    """An application that reads all and answers with it."""

    def __init__(self) -> None:
        self.calls = 0

    async def __call__(self, scope, receive, send) -> None:
        self.calls += 1
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})


def ask(
    path: str, chunks: list[bytes], headers: dict[str, str] | None = None, method: str = "POST", **options
):
    app = options.pop("app", None) or Echo()
    guard = RequestGuard(app, **{"uploads": LIMITS, "max_json": 100, **options})
    sent: list[dict] = []
    queue = list(chunks)

    async def receive() -> dict:
        if not queue:
            await asyncio.sleep(3600)
        body = queue.pop(0)
        if body is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": body, "more_body": bool(queue)}

    async def send(message: dict) -> None:
        sent.append(message)

    raw = [(key.encode(), value.encode()) for key, value in (headers or {}).items()]
    scope = {"type": "http", "method": method, "path": path, "root_path": "", "headers": raw}
    asyncio.run(guard(scope, receive, send))
    return sent[0]["status"], dict(sent[0]["headers"]), sent[1]["body"], app.calls


@pytest.mark.parametrize("prefix", ["/", "/gradio_api/"])
@pytest.mark.parametrize("route", REFUSED)
def test_refused_routes_never_reach_gradio(prefix, route):
    status, headers, _, calls = ask(prefix + route + "/etc/passwd", [b""])
    assert (status, calls) == (403, 0)
    assert headers[b"x-content-type-options"] == b"nosniff"


def test_bodies_within_the_limit_pass_with_security_headers():
    status, headers, body, _ = ask(
        "/gradio_api/queue/join", [b"a" * 50, b"b" * 50], {"content-length": "100"}
    )
    assert (status, body) == (200, b"a" * 50 + b"b" * 50)
    assert b"connect-src 'self'" in headers[b"content-security-policy"]


def test_a_declared_length_over_the_limit_is_refused_unread():
    assert ask("/gradio_api/queue/join", [b""], {"content-length": "101"})[::3] == (413, 0)
    assert ask("/gradio_api/upload", [b""], KIND | {"content-length": str(LARGE)})[::3] == (413, 0)
    assert ask("/gradio_api/queue/join", [b""], {"content-length": "-1"})[::3] == (413, 0)


def test_an_undeclared_length_over_the_limit_is_cut_off():
    assert ask("/gradio_api/queue/join", [b"a" * 60, b"b" * 60])[0] == 413


def test_uploads_have_a_limit_of_their_own_and_lose_their_names():
    data = multipart(b"ZZPHI.png", b"x" * 300)
    status, _, body, _ = ask("/gradio_api/upload", [data[:100], data[100:]], KIND)
    assert status == 200
    assert b"ZZPHI" not in body
    assert b"x" * 300 in body


def test_a_second_content_type_does_not_hide_a_name():
    data = multipart(b"ZZPHI.png", b"x")
    sent = []
    app = Echo()

    async def receive() -> dict:
        return {"type": "http.request", "body": data, "more_body": False}

    async def send(message: dict) -> None:
        sent.append(message)

    kinds = [b"multipart/form-data; boundary=boundary", b"multipart/form-data; boundary=other"]
    headers = [(b"content-type", kind) for kind in kinds]  # Starlette reads the first
    scope = {"type": "http", "method": "POST", "path": "/gradio_api/upload", "headers": headers}
    asyncio.run(RequestGuard(app, uploads=LIMITS)(scope, receive, send))
    assert b"image-" in sent[1]["body"]
    assert b"ZZPHI" not in sent[1]["body"]


def test_an_upload_without_a_boundary_is_refused():
    for kind in ({}, {"content-type": "text/plain"}, {"content-type": "multipart/form-data"}):
        assert ask("/gradio_api/upload", [b"x"], kind)[::3] == (400, 0)


def test_uploads_are_refused_while_the_folder_is_full(tmp_path):
    options = {"room": UploadRoom(tmp_path, 1000)}
    headers = KIND | {"content-length": "300"}
    assert ask("/gradio_api/upload", [b"x" * 300], headers, **options)[0] == 200
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "image").write_bytes(bytes(800))
    status, _, body, calls = ask("/gradio_api/upload", [b"x" * 300], headers, **options)
    assert (status, calls) == (507, 0)
    assert b"too many uploads" in body
    assert ask("/gradio_api/queue/join", [b"x"], **options)[0] == 200


def test_bytes_of_no_declared_length_are_counted_as_they_come(tmp_path):
    limits = UploadLimits(file=4 * STEP, archive=4 * STEP, field=100)
    data = part(bytes(3 * STEP))
    chunks = [data[at : at + STEP // 4] for at in range(0, len(data), STEP // 4)]

    class Store(Echo):
        async def __call__(self, scope, receive, send) -> None:
            async def receive_and_store() -> dict:
                message = await receive()
                with (tmp_path / "image").open("ab") as file:
                    file.write(message.get("body", b""))
                return message

            await super().__call__(scope, receive_and_store, send)

    status, _, body, calls = ask(
        "/gradio_api/upload", chunks, KIND, app=Store(), uploads=limits, room=UploadRoom(tmp_path, 2 * STEP)
    )
    assert (status, calls) == (507, 1)
    assert b"too many uploads" in body
    assert (tmp_path / "image").stat().st_size <= 2 * STEP


def test_the_ceiling_of_uploads_is_half_of_the_free_disk(tmp_path, monkeypatch):
    room = UploadRoom(tmp_path, 4 * 1024**3)
    free = 1_000_000
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=free))
    assert room.takes(500_000)
    assert not room.takes(500_001)
    (tmp_path / "image").write_bytes(bytes(400_000))
    free = 600_000  # what lies there counts as free: the ceiling stays where it was
    assert room.takes(100_000)
    assert not room.takes(100_001)
    free = 100 * 1024**3
    assert not room.takes(4 * 1024**3)


@pytest.mark.parametrize("step", [1, 7, 100_000])
def test_only_an_archive_may_be_larger_than_an_image(step):
    limits = UploadLimits(file=1000, archive=5000, field=100)
    for content, expected in ((ARCHIVE, 200), (b"\x89PNG", 413), (b"x PK\x03\x04", 413)):
        for declared in (True, False):
            data = multipart(b"x", content + bytes(1500))
            chunks = [data[at : at + step] for at in range(0, len(data), step)]
            headers = KIND | ({"content-length": str(len(data))} if declared else {})
            status, _, body, _ = ask("/gradio_api/upload", chunks, headers, uploads=limits)
            assert status == expected
            assert (content + bytes(1500) in body) is (status == 200)
    assert ask("/gradio_api/upload", [multipart(b"x", ARCHIVE + bytes(5000))], KIND, uploads=limits)[0] == 413


@pytest.mark.parametrize("path", ["/gradio_api/upload", "/gradio_api/queue/join"])
def test_a_body_that_stops_coming_is_given_up(path):
    async def run() -> int:
        sent = []

        async def receive() -> dict:
            await asyncio.sleep(3600)
            return {}

        async def send(message: dict) -> None:
            sent.append(message)

        headers = [(key.encode(), value.encode()) for key, value in KIND.items()]
        scope = {"type": "http", "method": "POST", "path": path, "headers": headers}
        await RequestGuard(Echo(), uploads=LIMITS, patience=0.2)(scope, receive, send)
        return sent[0]["status"]

    assert asyncio.run(asyncio.wait_for(run(), 30)) == 408


def test_a_body_in_drops_is_given_up_too():
    async def run() -> tuple[int, int]:
        sent, drops = [], 0

        async def receive() -> dict:
            nonlocal drops
            drops += 1
            await asyncio.sleep(0.02)
            return {"type": "http.request", "body": b"x", "more_body": True}

        async def send(message: dict) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/gradio_api/queue/join", "headers": []}
        await RequestGuard(Echo(), uploads=LIMITS, patience=0.3)(scope, receive, send)
        return sent[0]["status"], drops

    status, drops = asyncio.run(asyncio.wait_for(run(), 30))
    assert status == 408
    assert 2 <= drops < 100


def test_a_page_of_another_site_writes_nothing():
    own = {"host": "127.0.0.1:7860", "origin": "http://127.0.0.1:7860"}
    for path in ("/gradio_api/upload", "/gradio_api/queue/join", "/login"):
        status, _, body, calls = ask(path, [b"x"], KIND | own | {"origin": "https://evil.example"})
        assert (status, calls) == (403, 0)
        assert b"another site" in body
        assert ask(path, [b"x"], KIND | own)[0] == 200
        assert ask(path, [b"x"], KIND)[0] == 200  # gradio_client, curl


def test_a_fault_is_one_line_without_the_name(caplog):
    class Broken(Echo):
        async def __call__(self, scope, receive, send) -> None:
            raise OSError("cannot open /tmp/ZZPHI.png")

    with caplog.at_level(logging.DEBUG):
        status, _, body, _ = ask("/gradio_api/queue/join", [b"x"], app=Broken())
    assert status == 500
    (record,) = [record for record in caplog.records if record.name.startswith("covid_mm")]
    assert "OSError in test_request_guard.py:" in record.getMessage()
    assert record.exc_info is None
    assert "ZZPHI" not in caplog.text + body.decode()
