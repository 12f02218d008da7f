"""The running server against the handbook's threats, each with a number."""

from __future__ import annotations

import base64
import json
import re
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
import pytest
from fake_predictor import SECRET
from gradio_client import Client, handle_file
from live_server import HOLD, LiveServer, Visitor, file_data
from made_images import make_png
from PIL import Image

from covid_mm.ui.page import QUEUE_SIZE
from covid_mm.ui.server.launch import EVENTS
from covid_mm.ui.server.request_body import ARCHIVE

MARK = "ZZPHI"
ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("prefix", ["/file=", "/gradio_api/file=", "/gradio_api/file/", "/gradio_api/proxy="])
def test_no_file_is_served_to_anyone(visitor: Visitor, dark, prefix):
    own = visitor.upload(dark)["path"]
    paths = [
        "/etc/passwd",
        str(ROOT / "app.py"),
        "app.py",
        str(ROOT / "checkpoints" / "densenet121-mobilenet" / "model.weights.h5"),
        "http://169.254.169.254/latest/meta-data/",
        "https://example.com/",
        own,
        "../" * 8 + "etc/passwd",
        "%2e%2e%2f" * 8 + "etc/passwd",
    ]
    answers = [visitor.request("GET", prefix + path) for path in paths]
    assert {answer.status_code for answer in answers} <= {403, 404}  # 404: httpx itself climbs "../"
    assert not any("root:" in answer.text for answer in answers)


def test_static_routes_give_nothing_outside(visitor: Visitor):
    for route in ("/static/", "/assets/", "/svelte/", "/gradio_api/custom_component/"):
        for climb in ("../" * 12 + "etc/passwd", "%2e%2e/" * 12 + "etc/passwd", "/etc/passwd"):
            answer = visitor.request("GET", route + climb)
            assert answer.status_code >= 400 or "root:" not in answer.text


@pytest.mark.parametrize(
    "path",
    [
        "/docs",
        "/redoc",
        "/openapi.json",
        "/monitoring",
        "/monitoring/summary",
        "/gradio_api/runs",
        "/gradio_api/vibe-code",
        "/gradio_api/run-history/records",
        "/gradio_api/deep_link",
        "/gradio_api/mcp/sse",
    ],
)
def test_what_the_page_does_not_need_is_closed(visitor: Visitor, path):
    assert visitor.request("GET", path).status_code in (403, 404)


def test_the_queue_cannot_be_bypassed(server: LiveServer, dark, tmp_path):
    (tmp_path / "ct.png").write_bytes(dark)
    client = Client(server.url, verbose=False, download_files=False)

    def post(number: int) -> int:
        kind = "run" if number % 2 else "api"
        body = {"data": [None, None]}
        return httpx.post(f"{server.url}/gradio_api/{kind}/diagnose", json=body, timeout=120).status_code

    with ThreadPoolExecutor(9) as pool:
        honest = pool.submit(
            client.predict, ct=handle_file(str(tmp_path / "ct.png")), xray=None, api_name="/diagnose"
        )
        codes = list(pool.map(post, range(8)))
        assert codes == [404] * 8
        assert honest.result()["label"] == "normal"


def test_fifty_visitors_at_once_are_all_answered_and_told_how_many_wait_and_the_queue_has_an_end(
    tmp_path, dark
):
    (tmp_path / HOLD).write_text("600")
    server = LiveServer(tmp_path).wait_until_open()
    try:
        opener = Visitor(server.url)
        assert "Loading the network" in opener.request("GET", "/config").text
        number = opener.find_event("mm-analyse")
        visitors = [Visitor(server.url) for _ in range(50)]

        def visit(one: Visitor) -> tuple[int, bool]:
            one.client.timeout = 300
            code = one.join(number, [one.upload(dark), None, None, None]).status_code
            return code, 'data-label="normal"' in one.listen()["output"]["data"][0]

        def list_counts() -> list[int]:
            received = "".join(one.received for one in visitors)
            return [int(count) for count in re.findall(r"(\d+) studies before yours", received)]

        with ThreadPoolExecutor(50) as pool:
            visits = [pool.submit(visit, one) for one in visitors]
            try:
                wait_for(lambda: max(list_counts(), default=0) > 20)  # the last are told how many come first
                more = [opener.upload(dark), None, None, None]
                codes = [opener.join(number, more).status_code for _ in range(QUEUE_SIZE + EVENTS + 10)]
            finally:
                (tmp_path / HOLD).unlink()
        assert [one.result() for one in visits] == [(200, True)] * 50
        assert max(list_counts()) < 50
        assert len(set(list_counts())) > 5  # and see it shrink
        assert set(codes) == {200, 503}
        assert codes.index(503) >= QUEUE_SIZE - len(visitors)
        assert codes[-1] == 503
    finally:
        server.stop()


def test_base64_cannot_carry_an_image_past_the_limit(visitor: Visitor):
    number = visitor.find_event("diagnose")
    url = "data:image/png;base64," + base64.b64encode(bytes(5_000_000)).decode()
    large = visitor.join(number, [{**file_data(""), "url": url}, None])
    assert large.status_code == 413
    small = {**file_data(""), "url": "data:image/png;base64," + base64.b64encode(make_png(0.5)).decode()}
    assert visitor.ask("diagnose", [small, None])["success"] is False


def wait_for(reached: Callable[[], bool]) -> None:
    """Fails where it is not so within two minutes."""
    end = time.monotonic() + 120
    while not reached():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_uploads_over_20_mb_are_refused_and_leave_nothing(server: LiveServer, visitor: Visitor):
    before = len(server.uploads)
    archive = ("files", ("a", ARCHIVE + bytes(2**20)))
    large = ("files", ("a", bytes(20 * 2**20 + 1)))
    for files in ([large], [archive, large], [("files", ("a", bytes(201 * 2**20)))]):
        answer = visitor.request("POST", "/gradio_api/upload", files=files)
        assert answer.status_code == 413
        assert "larger than" in answer.text
    assert len(server.uploads) == before


def test_a_chunked_upload_is_counted_and_a_broken_off_one_leaves_nothing(
    server: LiveServer, visitor: Visitor
):
    before = len(server.uploads)
    head = b'--b\r\nContent-Disposition: form-data; name="files"; filename="x"\r\n\r\n'
    kind = {"content-type": "multipart/form-data; boundary=b"}
    chunks = (part for part in (head, *[bytes(2**20)] * 21))
    assert visitor.request("POST", "/gradio_api/upload", content=chunks, headers=kind).status_code == 413
    assert len(server.uploads) == before

    with socket.create_connection(("127.0.0.1", server.port), timeout=120) as line:
        length = b"Content-Length: 9000000\r\nContent-Type: multipart/form-data; boundary=b\r\n\r\n"
        line.sendall(b"POST /gradio_api/upload HTTP/1.1\r\nHost: x\r\n" + length + head + bytes(2**20))
        wait_for(lambda: len(server.uploads) == before + 1)
    wait_for(lambda: len(server.uploads) == before)


def test_a_foreign_page_posts_nothing(server: LiveServer, visitor: Visitor, dark):
    before = len(server.uploads)
    files = {"files": ("a", dark)}
    for headers in ({"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
        assert visitor.request("POST", "/gradio_api/upload", files=files, headers=headers).status_code == 403
    assert len(server.uploads) == before
    own = {"Origin": server.url, "Sec-Fetch-Site": "same-origin"}
    assert visitor.request("POST", "/gradio_api/upload", files=files, headers=own).status_code == 200


def test_what_cannot_be_read_is_one_line_of_the_log_without_a_name(server: LiveServer, visitor: Visitor):
    before = len(server.log)
    for data in (
        [file_data(f"/tmp/{MARK}.png", MARK), None],
        [{"path": f"/tmp/{MARK}.png", "orig_name": MARK}, None],
        [f"{MARK}.png", None],
        [file_data(MARK * 2000), None],
        [file_data(f"{MARK}\0"), None],
        [],
    ):
        assert visitor.ask("diagnose", data)["success"] is False
    for path in (f"/gradio_api/call/{MARK}", "/gradio_api/call/v2/diagnose"):
        assert visitor.request("POST", path, json={MARK: MARK, "data": [MARK]}).status_code == 500
    assert (
        visitor.request("GET", "/config", headers={"X-Forwarded-Host": f"{MARK}:{MARK}"}).status_code == 500
    )
    lines = server.log[before:].splitlines()
    assert len(lines) == 9
    assert all(re.fullmatch(r"error [0-9a-f]{8}: \w+ in .{3,60}:\d+", line) for line in lines)
    assert MARK not in server.log


def test_large_archives_pass_and_large_images_in_them_do_not(visitor: Visitor):
    archive = visitor.upload(ARCHIVE + bytes(30 * 2**20))  # many studies may come in one
    with pytest.raises(httpx.HTTPStatusError, match="413"):
        visitor.upload(b"\x89PNG\r\n\x1a\n" + bytes(20 * 2**20))
    Path(archive["path"]).unlink()


def test_a_client_names_no_path_and_no_link(server: LiveServer, visitor: Visitor):
    for path in ("/etc/passwd", str(ROOT / "app.py"), str(server.temporary / "secret"), "../../etc/passwd"):
        done = visitor.ask("diagnose", [file_data(path), None])
        assert done["success"] is False
        assert "root:" not in json.dumps(done)
    for link in ("http://169.254.169.254/a.png", "https://example.com/a.png", "file:///etc/passwd"):
        done = visitor.ask("diagnose", [file_data(link), None])
        assert done["success"] is False
    bare = visitor.ask("diagnose", [{"path": "/etc/passwd"}, None])  # without Gradio's mark
    assert bare["success"] is False


def test_names_and_exif_never_come_back(server: LiveServer, visitor: Visitor):
    picture = Image.fromarray(np.full((64, 64), 90, np.uint8))
    exif = picture.getexif()
    exif[0x010E] = exif[0x9286] = exif[0x013B] = f"{MARK}^JOHN"
    buffer = BytesIO()
    picture.save(buffer, "JPEG", exif=exif, comment=MARK)
    assert MARK.encode() in buffer.getvalue()
    name = f"{MARK}_1950-01-01.jpg"

    panel = visitor.analyse(buffer.getvalue(), buffer.getvalue(), name)
    assert 'data-label="normal"' in panel
    files = [visitor.upload(buffer.getvalue(), name) for _ in range(2)]
    assert visitor.ask("diagnose", files)["success"] is True
    broken = visitor.analyse(buffer.getvalue()[:200], None, name)
    assert "CT slice: " in broken

    pixels = "".join(re.findall(r"data:image/png;base64,([\w+/=]+)", visitor.received))
    assert MARK not in visitor.received
    assert MARK.encode() not in base64.b64decode(pixels.replace("=", "") + "===", validate=False)
    assert MARK not in server.log
    assert not any(MARK in str(path) for path in server.uploads)


def test_unexpected_errors_leak_nothing(server: LiveServer, visitor: Visitor):
    buffer = BytesIO()
    Image.fromarray(np.full((40, 40), 255, np.uint8)).save(buffer, "PNG")
    panel = visitor.analyse(buffer.getvalue(), None)
    token = re.search(r"details under ([0-9a-f]{8})\.", panel)
    assert token
    done = visitor.ask("diagnose", [visitor.upload(buffer.getvalue()), None])
    assert done["success"] is False
    assert "Something went wrong on the server" in done["output"]["error"]
    assert SECRET not in visitor.received
    assert str(ROOT) not in visitor.received
    assert "Traceback" not in visitor.received
    assert token.group(1) in server.log
    assert SECRET in server.log


def test_foreign_origins_get_no_credentials(visitor: Visitor):
    answer = visitor.request("GET", "/config", headers={"Origin": "https://evil.example"})
    assert answer.headers.get("access-control-allow-origin") is None


def test_reporting_history_and_monitoring_are_off(visitor: Visitor):
    config = visitor.request("GET", "/config").json()
    assert config["analytics_enabled"] is False
    assert config["show_error"] is False
    assert config.get("run_history") in (False, None)
    assert not config.get("is_space")
    assert config["footer_links"] == ["api"]


def test_only_the_documented_events_are_public(server: LiveServer):
    info = httpx.get(f"{server.url}/gradio_api/info").json()
    assert list(info["named_endpoints"]) == ["/batch", "/diagnose", "/report"]
    assert info["unnamed_endpoints"] == {}


def test_answers_of_simultaneous_visitors_never_mix(server: LiveServer):
    levels = [0.1 + 0.8 * i / 11 for i in range(12)]

    def visit(level: float) -> tuple[str, str]:
        image = make_png(level, seed=int(level * 100))
        return Visitor(server.url).analyse(image, None), Visitor(server.url).analyse(image, None)

    with ThreadPoolExecutor(6) as pool:
        panels = list(pool.map(visit, levels))
    assert all(first == second for first, second in panels)
    assert len({first for first, _ in panels}) == len(levels)


def test_clearing_deletes_the_uploads(server: LiveServer, visitor: Visitor, dark):
    files = [visitor.upload(dark) for _ in range(2)]
    assert all(Path(file["path"]).exists() for file in files)
    panel = visitor.call("mm-clear", files)[0]
    assert "No study analysed yet" in panel
    assert not any(Path(file["path"]).exists() for file in files)
    assert "no longer kept" in visitor.ask("mm-analyse", [files[0], None, None, None])["output"]["data"][0]
