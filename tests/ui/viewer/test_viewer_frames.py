"""Full-resolution frames for the viewer: the visitor's own and alive, lossless, windowed anew; its scripts."""

from __future__ import annotations

import base64
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_files import ct_slice, film, slice_hu
from live_server import Visitor
from PIL import Image

from covid_mm.config import ImageLimits
from covid_mm.errors import CovidMMError
from covid_mm.ui.templates import FOLDER
from covid_mm.ui.viewer.assets import LIBRARY, SCRIPTS, find_address
from covid_mm.ui.viewer.frames import MOST_FRAMES, read_frames, read_request

LIMITS = ImageLimits()
MOST_COMPRESSED = 1_000_000  # bytes that the viewer may cost a visitor


def decode(url: str) -> np.ndarray:
    head, body = url.split(",")
    assert head == "data:image/png;base64"
    return np.asarray(Image.open(BytesIO(base64.b64decode(body))))


def save(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return str(path)


def ask(upload: str | tuple[str, ...], **values: Any) -> dict[str, Any]:
    return read_frames(upload, LIMITS, read_request({"modality": "ct", **values}))


def test_a_large_film_comes_as_it_is(tmp_path):
    pixels = np.random.default_rng(3).integers(0, 256, (2400, 1900), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "film.png")
    answer = read_frames(str(tmp_path / "film.png"), LIMITS, read_request({"modality": "xray"}))
    assert (answer["count"], answer["frame"], answer["windows"]) == (1, 0, [])
    picture = answer["pictures"]["0"]
    assert (picture["width"], picture["height"]) == (1900, 2400)
    np.testing.assert_array_equal(decode(picture["url"]), pixels)


def test_a_stack_comes_by_number_through_the_window_that_is_asked_for(tmp_path):
    stack = np.stack([slice_hu(64) + 20 * k for k in range(12)]).astype(np.int16)
    path = save(tmp_path / "stack", ct_slice(stack))
    first = ask(path)
    assert first["count"] == 12
    assert list(first["pictures"]) == [str(first["frame"])]
    assert first["shown"] == {"level": -600.0, "width": 1500.0}
    some = ask(path, frames=[2, 3, 99], window="free", level=40, width=400)
    assert list(some["pictures"]) == ["2", "3"]  # those that there are
    assert some["shown"] == {"level": 40.0, "width": 400.0}
    drawn = decode(some["pictures"]["2"]["url"]).astype(float)
    expected = np.clip((stack[2] - (40 - 200)) / 400 * 255, 0, 255)
    assert np.abs(drawn - expected).max() <= 1.5
    other = ask(path, frames=[2], window="mediastinum")
    assert other["shown"] == {"level": 40.0, "width": 400.0}
    one = save(tmp_path / "film", film(np.tile(np.arange(0, 4096, 32, dtype=np.uint16), (128, 1))))
    assert ask(one)["shown"] is None  # no window in the file: grey levels


@pytest.mark.parametrize(
    "values",
    [
        None,
        {"modality": "mri"},
        {"modality": "ct", "frames": "0"},
        {"modality": "ct", "frames": [-1]},
        {"modality": "ct", "frames": [True]},
        {"modality": "ct", "frames": list(range(MOST_FRAMES + 1))},
        {"modality": "ct", "window": "free", "level": "low"},
    ],
)
def test_what_makes_no_sense_is_refused(values):
    with pytest.raises(CovidMMError):
        read_request(values)


def test_frames_are_given_of_ones_own_upload_while_it_is_kept_and_of_nothing_else(visitor: Visitor, dark):
    own = visitor.upload(dark)
    request = {"modality": "ct", "frames": [0], "number": 7}

    def frames(by: Visitor, file: Any) -> Any:
        message = by.ask("mm-frames", [file, None, request])
        return message["output"]["data"][0] if message["success"] else message["output"]

    answer = frames(visitor, own)
    assert answer["number"] == 7
    assert decode(answer["pictures"]["0"]["url"]).shape == np.asarray(Image.open(BytesIO(dark))).shape[:2]

    # another visitor, even with the same file: the name in the path is drawn anew for each upload
    other = Visitor(str(visitor.client.base_url))
    theirs = other.upload(dark)
    assert theirs["path"] != own["path"]
    guesses = [
        str(Path(own["path"]).parent / "image"),
        str(Path(own["path"]).with_name("image-0000000000000000")),
        "/etc/passwd",
        str(FOLDER / "page.py"),
    ]
    for path in guesses:
        assert "pictures" not in frames(other, {**theirs, "path": path})
    wrong_slot = frames(visitor, None)
    assert "no longer kept" in wrong_slot["error"]

    visitor.call("mm-clear", [own, None])
    assert "no longer kept" in frames(visitor, own)["error"]
    assert "pictures" in frames(other, theirs)  # nobody else's went with it
    assert "image-" not in visitor.received.split("pictures")[1]  # an answer names no file


def test_scripts_are_sent_compressed_under_an_address_that_changes_with_them(visitor: Visitor):
    assert f'"scripts":"{find_address()}"' in visitor.request("GET", "/config").text.replace(" ", "")
    total = 0
    for name in SCRIPTS:
        with visitor.client.stream("GET", f"{find_address()}/{name}") as answer:
            total += len(b"".join(answer.iter_raw()))
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith("text/javascript")
            assert "immutable" in answer.headers["cache-control"]
    assert total < MOST_COMPRESSED
    plain = visitor.request("GET", f"{find_address()}/{LIBRARY}", headers={"accept-encoding": "identity"})
    assert plain.content == (FOLDER / "viewer" / LIBRARY).read_bytes()
    for name in ("frames.py", "openseadragon-licence.txt", "..%2fpage.py", "%2e%2e/page.py", "viewer.html"):
        assert visitor.request("GET", f"{find_address()}/{name}").status_code == 404
    assert "redistribution" in (FOLDER / "viewer" / "openseadragon-licence.txt").read_text("utf-8").lower()
