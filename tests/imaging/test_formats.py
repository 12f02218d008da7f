"""Every mode, from a path, bytes, a PIL image and an array, gives the same grey."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from covid_mm.imaging import read_grey, read_image

HEIGHT, WIDTH = 24, 37
RNG = np.random.default_rng(7)
GREY = RNG.integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
ALPHA = RNG.integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8)
DEEP = RNG.integers(300, 4096, (HEIGHT, WIDTH)).astype(np.uint16)  # 12 bits in 16
DEEP[1, :2] = 300, 4095
LUMINANCE = COLOUR @ np.array([0.299, 0.587, 0.114])
LEVELS = RNG.integers(0, 256, (16, 3), dtype=np.uint8)  # a palette
INDICES = RNG.integers(0, 16, (HEIGHT, WIDTH), dtype=np.uint8)


def encode(picture: Image.Image, form: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def paletted(**info: object) -> Image.Image:
    picture = Image.new("P", (WIDTH, HEIGHT))
    picture.putpalette(LEVELS.tobytes())
    picture.putdata(INDICES.ravel().tolist())
    picture.info.update(info)
    return picture


def orientation(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


PALETTE_ALPHA = RNG.integers(0, 256, 16, dtype=np.uint8)
PALETTE_GREY = (LEVELS @ np.array([0.299, 0.587, 0.114]))[INDICES]
RGBA = np.dstack([COLOUR, ALPHA])

# mode -> (PIL image, what it means, array of the same picture or None, tolerance in grey levels)
MODES: dict[str, tuple[Callable[[], Image.Image], np.ndarray, np.ndarray | None, float]] = {
    "L": (lambda: Image.fromarray(GREY), GREY, GREY, 0),
    "LA": (
        lambda: Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(ALPHA)]),
        GREY * (ALPHA / 255),
        None,
        1.01,
    ),
    "P": (paletted, PALETTE_GREY, None, 0.51),
    "P with transparency": (
        lambda: paletted(transparency=PALETTE_ALPHA.tobytes()),
        PALETTE_GREY * (PALETTE_ALPHA[INDICES] / 255),
        None,
        1.5,
    ),
    "RGB": (lambda: Image.fromarray(COLOUR), LUMINANCE, COLOUR, 0.51),
    "RGBA": (lambda: Image.fromarray(RGBA), LUMINANCE * (ALPHA / 255), RGBA, 1.5),
    "1": (lambda: Image.fromarray(GREY > 99), (GREY > 99) * 255.0, None, 0),
    "I;16": (lambda: Image.fromarray(DEEP), (DEEP - 300.0) / (4095 - 300) * 255, DEEP, 0.2),
}


@pytest.mark.parametrize("mode", MODES)
def test_all_ways_in_give_the_same_grey(mode: str, tmp_path: Path) -> None:
    make, meaning, array, tolerance = MODES[mode]
    data = encode(make())
    path = tmp_path / "image.png"
    path.write_bytes(data)
    grey = read_grey(data)
    assert grey.dtype == np.float32
    assert grey.shape == (HEIGHT, WIDTH)
    np.testing.assert_allclose(grey, meaning, atol=tolerance)
    sources = [path, str(path), bytearray(data), make(), Image.open(path)]
    for source in sources if array is None else [*sources, array]:
        np.testing.assert_array_equal(read_grey(source), grey)


@pytest.mark.parametrize("mode", ["CMYK", "RGB", "L", "YCbCr"])
def test_jpeg_of_each_kind(mode: str, tmp_path: Path) -> None:
    smooth = Image.fromarray(COLOUR).resize((WIDTH, HEIGHT), box=(0, 0, 4, 4))
    meaning = np.asarray(smooth.convert("L"), dtype=np.float32)
    data = encode(smooth.convert(mode), "JPEG", quality=98, subsampling=0)
    path = tmp_path / "image.jpeg"
    path.write_bytes(data)
    grey = read_grey(path)
    np.testing.assert_allclose(grey, meaning, atol=4)
    np.testing.assert_array_equal(read_grey(data), grey)
    np.testing.assert_array_equal(read_grey(Image.open(path)), grey)


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "HSV", "PA", "La", "RGBa", "RGBX"])
def test_pil_modes_that_no_png_holds(mode: str) -> None:
    grey = Image.fromarray(GREY)
    steps = {"PA": ["LA", "PA"], "La": ["LA", "La"], "RGBa": ["RGBA", "RGBa"]}.get(mode, ["RGB", mode])
    picture = grey
    for step in steps:
        picture = picture.convert(step)
    np.testing.assert_allclose(read_grey(picture), GREY, atol=2)


@pytest.mark.parametrize(
    "picture",
    [
        Image.fromarray(DEEP.astype(np.int32)),
        Image.fromarray(DEEP.astype(np.float32)),
        Image.frombytes("I;16B", (WIDTH, HEIGHT), DEEP.astype(">u2").tobytes()),
    ],
    ids=["I", "F", "I;16B"],
)
def test_deep_grey_is_scaled_not_clipped(picture: Image.Image) -> None:
    grey = read_grey(picture)
    np.testing.assert_array_equal(grey, read_grey(DEEP))
    assert grey.min() == 0
    assert grey.max() == 255
    assert len(np.unique(grey)) == len(np.unique(DEEP))


def test_deep_grey_within_8_bits_keeps_its_values() -> None:
    np.testing.assert_array_equal(read_grey(GREY.astype(np.uint16)), GREY)
    np.testing.assert_array_equal(read_grey(encode(Image.fromarray(GREY.astype(np.uint16)))), GREY)


def test_deep_grey_of_one_value_is_black() -> None:
    assert not read_grey(np.full((4, 5), 40_000, np.uint16)).any()


def test_transparent_value_of_a_deep_png_does_not_stretch_the_range() -> None:
    values = DEEP.copy()
    values[0, 0] = 65_535
    header, rest = encode(Image.fromarray(values))[:33], encode(Image.fromarray(values))[33:]
    body = b"tRNS" + struct.pack(">H", 65_535)
    chunk = struct.pack(">I", 2) + body + struct.pack(">I", zlib.crc32(body))
    grey = read_grey(header + chunk + rest)
    assert grey[0, 0] == 0
    np.testing.assert_allclose(grey[1:], read_grey(DEEP)[1:], atol=0.2)


@pytest.mark.parametrize("value", range(1, 9))
@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_exif_orientation_is_applied(value: int, form: str, tmp_path: Path) -> None:
    data = encode(Image.fromarray(GREY), form, exif=orientation(value))
    opened = Image.open(io.BytesIO(data))
    path = tmp_path / "turned"
    path.write_bytes(data)
    upright = np.asarray(ImageOps.exif_transpose(opened), dtype=np.float32)
    for source in (data, path, Image.open(io.BytesIO(data))):
        np.testing.assert_array_equal(read_grey(source), upright)


@pytest.mark.parametrize("value", [0, 9, 77])
def test_an_unknown_orientation_is_none(value: int) -> None:
    np.testing.assert_array_equal(read_grey(encode(Image.fromarray(GREY), exif=orientation(value))), GREY)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_does_not_spoil_the_pixels() -> None:
    data = encode(Image.fromarray(GREY), exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    np.testing.assert_array_equal(read_grey(data), GREY)


@pytest.mark.parametrize(
    "array",
    [
        GREY,
        GREY[:, :, None],
        np.dstack([GREY] * 3),
        np.dstack([GREY] * 3 + [np.full_like(GREY, 255)]),
        GREY.astype(np.uint16),
        GREY.astype(np.float32),
        GREY.astype(np.float64)[:, :, None],
        np.dstack([GREY] * 3).astype(np.float16),
        np.asfortranarray(GREY),
        np.repeat(GREY, 2, axis=1)[:, ::2],
    ],
)
def test_arrays_of_the_same_grey(array: np.ndarray) -> None:
    before = array.copy()
    np.testing.assert_array_equal(read_grey(array), GREY)
    np.testing.assert_array_equal(array, before)


def test_float_arrays_keep_their_fractions() -> None:
    values = GREY.astype(np.float32) * 0.5
    np.testing.assert_allclose(read_grey(values), values)
    colour = COLOUR.astype(np.float32) * 0.5
    np.testing.assert_allclose(read_grey(colour), LUMINANCE * 0.5, atol=1e-3)
    half = np.dstack([colour, np.full((HEIGHT, WIDTH), 127.5)])
    np.testing.assert_allclose(read_grey(half), LUMINANCE * 0.25, atol=1e-3)


def test_deep_colour_arrays_are_scaled_together() -> None:
    deep = COLOUR.astype(np.uint16) * 257
    deep[0, 0], deep[0, 1] = 0, 65_535
    grey = read_grey(deep)
    np.testing.assert_allclose(grey[1:], LUMINANCE[1:], atol=0.01)


def test_a_pil_image_is_not_changed() -> None:
    picture = Image.fromarray(RGBA)
    read_grey(picture)
    assert picture.mode == "RGBA"
    np.testing.assert_array_equal(np.asarray(picture), RGBA)


def test_the_name_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "scan.gif"
    path.write_bytes(encode(Image.fromarray(GREY)))
    np.testing.assert_array_equal(read_grey(path), GREY)


def test_the_first_picture_of_a_jpeg_with_several_is_taken() -> None:
    pictures = [Image.fromarray(np.full((16, 16), level, np.uint8)) for level in (200, 20)]
    data = encode(pictures[0], "MPO", save_all=True, append_images=pictures[1:])
    np.testing.assert_allclose(read_grey(data), 200, atol=2)


def test_read_image_is_what_the_networks_read() -> None:
    image = read_image(encode(Image.fromarray(COLOUR)))
    assert image.shape == (150, 150, 3)
    assert image.dtype == np.float32
    assert image.min() >= 0
    assert image.max() <= 255
    np.testing.assert_array_equal(image[:, :, 0], image[:, :, 1])
    np.testing.assert_array_equal(image[:, :, 0], image[:, :, 2])
    assert read_image(GREY, size=96).shape == (96, 96, 3)
