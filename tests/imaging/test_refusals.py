"""What is not an image for this project: one sentence each, always an ImageError."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from covid_mm.config import ImageLimits
from covid_mm.errors import ImageError
from covid_mm.imaging import read_grey

GREY = np.random.default_rng(3).integers(0, 256, (40, 50), dtype=np.uint8)
SECRET = "ZZPHI"


def encode(form: str, picture: Image.Image | None = None, **options: object) -> bytes:
    buffer = io.BytesIO()
    (picture or Image.fromarray(GREY)).save(buffer, form, **options)
    return buffer.getvalue()


def png_header(width: int, height: int) -> bytes:
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))


def animated(form: str) -> bytes:
    frames = [Image.fromarray(np.roll(GREY, step)) for step in range(3)]
    return encode(form, frames[0], save_all=True, append_images=frames[1:])


def refuse(source: object, **options: object) -> str:
    """The one sentence with which `source` is refused."""
    with pytest.raises(ImageError) as caught:
        read_grey(source, **options)  # type: ignore[arg-type]
    message = str(caught.value)
    assert message.endswith(".")
    assert len(message) < 200
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"once upon a time", "not a PNG, JPEG or DICOM file"),
        (encode("GIF"), "a GIF"),
        (encode("TIFF"), "a TIFF"),
        (encode("BMP"), "a BMP"),
        (encode("EPS"), "an EPS"),
        (encode("WEBP"), "not a PNG, JPEG"),
        (b"%PDF-1.7 ...", "a PDF"),
        (b"\0" * 128 + b"DICM" + b"\0" * 50, "DICOM"),
        (animated("PNG"), "animated"),
        (animated("GIF"), "a GIF"),
        (b"\x89PNG\r\n\x1a\n", "damaged"),
        (b"\xff\xd8\xff", "damaged"),
        (png_header(0, 5), "empty"),
        (png_header(30_000, 30_000), "30000 x 30000"),
        (png_header(2**31 - 1, 2**31 - 1), "million"),
    ],
)
def test_files_that_are_refused(data: bytes, words: str, tmp_path: Path) -> None:
    assert words in refuse(data)
    renamed = tmp_path / "image.png"
    renamed.write_bytes(data)
    assert words in refuse(renamed)


def test_animated_pil_images_are_refused() -> None:
    for form in ("GIF", "PNG"):
        assert "animated" in refuse(Image.open(io.BytesIO(animated(form))))


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_a_100_megapixel_file_is_refused_before_it_is_decoded(form: str, tmp_path: Path) -> None:
    path = tmp_path / "large"
    Image.new("L", (10_000, 10_000)).save(path, form)
    started = time.process_time()
    message = refuse(path)
    assert time.process_time() - started < 0.2
    assert "10000 x 10000" in message
    assert "25 million" in message


def test_the_number_of_pixels_counts_not_the_sides() -> None:
    limits = ImageLimits(max_pixels=2000)
    assert read_grey(GREY, limits=limits).size == 2000
    for source in (
        np.zeros((2001, 1), np.uint8),
        Image.new("L", (3, 667)),
        encode("PNG", Image.new("L", (3, 667))),
    ):
        assert "scale it down" in refuse(source, limits=limits)


def test_a_file_over_20_mb_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "heavy.png"
    path.write_bytes(encode("PNG"))
    os.truncate(path, 20 * 2**20 + 1)
    assert "20 MB" in refuse(path)
    assert "20 MB" in refuse(path.read_bytes())


def test_a_jpeg_of_very_many_scans_is_refused() -> None:
    data = encode("JPEG", progressive=True)
    assert "scans" in refuse(data[:-2] + b"\xff\xda\x00\x02" * 300 + data[-2:])


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_truncation_anywhere_is_noticed(form: str) -> None:
    data = encode(form)
    read_grey(data)
    positions = sorted({*range(1, 60), *range(60, len(data), 37), *range(len(data) - 20, len(data))})
    for position in positions:
        refuse(data[:position])


def test_a_flipped_bit_in_a_png_never_changes_the_picture() -> None:
    data = encode("PNG")
    whole = read_grey(data)
    rng = np.random.default_rng(1)
    for position in rng.integers(0, len(data), 150):
        damaged = bytearray(data)
        damaged[position] ^= 1 << int(rng.integers(0, 8))
        try:
            grey = read_grey(bytes(damaged))
        except ImageError:
            continue
        np.testing.assert_array_equal(grey, whole)


@pytest.mark.filterwarnings("ignore")  # Pillow warns about damaged EXIF
@pytest.mark.parametrize("form", ["PNG", "JPEG", "JPEG progressive", "JPEG EXIF", "PNG palette", "MPO"])
def test_mutations_raise_nothing_but_image_errors(form: str) -> None:
    data = {
        "PNG": lambda: encode("PNG"),
        "JPEG": lambda: encode("JPEG"),
        "JPEG progressive": lambda: encode("JPEG", progressive=True),
        "JPEG EXIF": lambda: encode("JPEG", exif=b"Exif\0\0" + Image.Exif().tobytes()[6:] + b"\1" * 30),
        "PNG palette": lambda: encode("PNG", Image.fromarray(GREY).convert("P"), transparency=3),
        "MPO": lambda: encode("MPO", save_all=True, append_images=[Image.fromarray(GREY)]),
    }[form]()
    rng = np.random.default_rng(sum(form.encode()))
    refused = 0
    for _ in range(200):
        damaged = bytearray(data)
        head = rng.random() < 0.5  # half of the damage in the header, where parsers decide
        for position in rng.integers(2, min(len(data), 200) if head else len(data), rng.integers(1, 6)):
            damaged[position] = rng.integers(0, 256)
        if rng.random() < 0.3:
            start = int(rng.integers(2, len(damaged)))
            del damaged[start : start + int(rng.integers(1, 40))]
        try:
            grey = read_grey(bytes(damaged))
        except ImageError:
            refused += 1
        else:
            assert grey.ndim == 2
            assert np.isfinite(grey).all()
            assert grey.min() >= 0
            assert grey.max() <= 255
    assert refused > 20


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros(5, np.uint8), "shape"),
        (np.zeros((4, 4, 2), np.uint8), "shape"),
        (np.zeros((1, 4, 4, 3), np.uint8), "shape"),
        (np.zeros((3, 50, 50), np.uint8), "shape"),
        (np.zeros((0, 4), np.uint8), "empty"),
        (np.zeros((4, 0, 3), np.float32), "empty"),
        (np.zeros((4, 4), np.int64), "int64"),
        (np.zeros((4, 4), bool), "bool"),
        (np.zeros((4, 4), complex), "complex"),
        (np.array([["a", "b"]]), "expected uint8"),
        (np.array([[None, 1]]), "object"),
        (np.full((4, 4), 255.5), "0..255"),
        (np.full((4, 4), -0.5), "0..255"),
        (np.full((4, 4), np.nan), "NaN"),
        (np.array([[0.0, np.inf]]), "0..255"),
    ],
)
def test_arrays_that_are_refused(array: np.ndarray, words: str) -> None:
    assert words in refuse(array)


@pytest.mark.parametrize("source", [None, 5, ["image.png"], object()])
def test_other_kinds_of_source_are_refused(source: object) -> None:
    assert "Expected a path, bytes" in refuse(source)


def test_a_pil_image_with_nan_is_refused() -> None:
    assert "not numbers" in refuse(Image.fromarray(np.full((4, 4), np.nan, np.float32)))


def test_a_pil_image_whose_file_is_truncated_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "half.jpg"
    path.write_bytes(encode("JPEG")[:-300])
    refuse(Image.open(path))


def test_paths_that_hold_no_file(tmp_path: Path) -> None:
    assert "can't be opened" in refuse(tmp_path / "absent.png")
    assert "not a file" in refuse(tmp_path)
    refuse("")
    refuse("a\0b.png")
    refuse("x" * 5000)
    assert "a?b.png" in refuse(tmp_path / "a\nb.png")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_named_pipe_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    assert "not a file" in refuse(tmp_path / "pipe.png")


def test_messages_hold_neither_the_folder_nor_the_metadata(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010E] = f"{SECRET} description"
    data = encode("JPEG", exif=exif, comment=SECRET.encode())
    assert SECRET.encode() in data
    folder = tmp_path / SECRET
    folder.mkdir()
    samples = {"half.jpg": data[: len(data) // 2], "text.png": SECRET.encode(), "none.png": b""}
    for name, content in samples.items():
        path = folder / name
        path.write_bytes(content)
        message = refuse(path)
        assert SECRET not in message
        assert str(tmp_path) not in message
        assert message.startswith(name)
        assert refuse(content).startswith("The image")
    assert SECRET not in refuse(folder / "absent.png")


def test_importing_changes_no_setting_of_pillow_and_loads_nothing_heavy() -> None:
    code = (
        "import sys; from PIL import Image, ImageFile; before = Image.MAX_IMAGE_PIXELS;"
        "import covid_mm.imaging, covid_mm.datasets;"
        "assert Image.MAX_IMAGE_PIXELS == before and not ImageFile.LOAD_TRUNCATED_IMAGES;"
        "assert not {'tensorflow', 'keras', 'gradio', 'tqdm'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
