"""The gate before Gradio, alone: file names out, bodies limited, routes refused."""

from __future__ import annotations

import asyncio
import re

import pytest

from covid_mm.ui.guard import REFUSED, NameRemover, RequestGuard

BODY = bytes(range(256)) * 3 + b"\r\n--bou" + b"--boundary" + b"\r\n\r\n"  # nearly a mark, but none


def multipart(name: bytes, content: bytes = BODY, field: bytes = b'name="files"; ') -> bytes:
    return (
        b"--boundary\r\nContent-Disposition: form-data; " + field + b'filename="' + name + b'"\r\n'
        b"Content-Type: image/png\r\n\r\n" + content + b"\r\n"
        b'--boundary\r\nContent-Disposition: form-data; name="note"\r\n\r\nplain\r\n--boundary--\r\n'
    )


def run_through(data: bytes, step: int) -> bytes:
    remover = NameRemover(b"boundary")
    out = b"".join(remover.feed(data[i : i + step]) for i in range(0, len(data), step))
    return out + remover.feed(b"", last=True)


@pytest.mark.parametrize("step", [1, 2, 7, 64, 100_000])
@pytest.mark.parametrize("name", [b"ZZPHI Smith 1950.png", b"", b"a" * 500, "Müller.png".encode()])
def test_only_the_name_changes_however_the_stream_is_cut(step, name):
    out = run_through(multipart(name), step)
    found = re.findall(rb'filename="(.*?)"', out)
    assert len(found) == 1
    assert re.fullmatch(rb"image-[0-9a-f]{16}", found[0])
    assert name not in out or not name
    expected = multipart(found[0]).replace(b"; name", b"; name")
    assert out == expected


@pytest.mark.parametrize(
    "form", [b"filename*=UTF-8''ZZPHI.png", b"FILENAME=ZZPHI.png", b'fileName="ZZPHI\\".png"']
)
def test_other_spellings_of_a_name_go_too(form):
    data = multipart(b"x").replace(b'filename="x"', form)
    out = run_through(data, 10)
    assert b"ZZPHI" not in out
    assert out.count(b"filename=") == 1


def test_each_upload_gets_a_name_of_its_own():
    names = {re.findall(rb'filename="(.*?)"', run_through(multipart(b"same.png"), 50))[0] for _ in range(20)}
    assert len(names) == 20


def test_an_endless_part_header_is_refused():
    remover = NameRemover(b"boundary")
    with pytest.raises(ValueError, match="too long"):
        remover.feed(b"--boundary\r\nX: " + b"a" * 10_000)


def test_a_stream_without_the_boundary_passes_as_it_is():
    assert run_through(b"nothing to see", 3) == b"\r\nnothing to see"


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


def ask(path: str, chunks: list[bytes], headers: dict[str, str] | None = None, **limits: int):
    app = Echo()
    guard = RequestGuard(app, **{"max_upload": 1000, "max_json": 100, **limits})
    sent: list[dict] = []
    queue = list(chunks)

    async def receive() -> dict:
        body = queue.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(queue)}

    async def send(message: dict) -> None:
        sent.append(message)

    raw = [(key.encode(), value.encode()) for key, value in (headers or {}).items()]
    scope = {"type": "http", "path": path, "root_path": "", "headers": raw}
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
    assert ask("/gradio_api/upload", [b""], {"content-length": "1001"})[::3] == (413, 0)
    assert ask("/gradio_api/queue/join", [b""], {"content-length": "-1"})[::3] == (413, 0)


def test_an_undeclared_length_over_the_limit_is_cut_off():
    assert ask("/gradio_api/queue/join", [b"a" * 60, b"b" * 60])[0] == 413


def test_uploads_have_a_limit_of_their_own_and_lose_their_names():
    headers = {"content-type": "multipart/form-data; boundary=boundary"}
    data = multipart(b"ZZPHI.png", b"x" * 300)
    status, _, body, _ = ask("/gradio_api/upload", [data[:100], data[100:]], headers)
    assert status == 200
    assert b"ZZPHI" not in body
    assert b"x" * 300 in body


def test_uploads_are_refused_while_the_folder_is_full(tmp_path):
    options = {"folder": tmp_path, "max_stored": 1000}
    headers = {"content-length": "300"}
    assert ask("/gradio_api/upload", [b"x" * 300], headers, **options)[0] == 200
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "image").write_bytes(bytes(800))
    status, _, body, calls = ask("/gradio_api/upload", [b"x" * 300], headers, **options)
    assert (status, calls) == (507, 0)
    assert b"too many uploads" in body
    assert ask("/gradio_api/queue/join", [b"x"], **options)[0] == 200


@pytest.mark.parametrize("step", [1, 7, 100_000])
def test_only_an_archive_may_be_larger_than_an_image(step):
    kind = {"content-type": "multipart/form-data; boundary=boundary"}
    for content, status in ((b"PK\x03\x04", 200), (b"\x89PNG", 413), (b"x PK\x03\x04", 413)):
        data = multipart(b"x", content + bytes(1500))
        chunks = [data[at : at + step] for at in range(0, len(data), step)]
        headers = kind | {"content-length": str(len(data))}
        found, _, body, calls = ask("/gradio_api/upload", chunks, headers, max_archive=5000)
        assert (found, calls) == (status, int(status == 200))
        assert (content + bytes(1500) in body) is (status == 200)
    data = multipart(b"x", b"PK\x03\x04" + bytes(5000))
    assert ask("/gradio_api/upload", [data], kind | {"content-length": "6000"}, max_archive=5000)[0] == 413
    assert ask("/gradio_api/upload", [data], kind, max_archive=5000)[0] == 413  # of no declared length
