"""DICOM: values, windows, syntaxes, series; what is refused; what never leaves the header."""

from __future__ import annotations

import dataclasses
import logging
import warnings

import numpy as np
import pytest
from dicom_files import AIR, BONE, LUNG, SECRET, WATER, ct_slice, film, make_dataset, slice_hu, write
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import UID

from covid_mm.config import ImageLimits
from covid_mm.errors import ImageError
from covid_mm.imaging import (
    WINDOW_PRESETS,
    WindowSettings,
    read_dicom,
    read_grey,
    read_header,
    read_image,
    stack_slices,
)

LUNG_WINDOW = {AIR: 59.6, LUNG: 93.6, WATER: 229.7, BONE: 255.0}  # level -600, width 1500, by hand
MEDIASTINUM = {AIR: 0.0, LUNG: 0.0, WATER: 102.1, BONE: 255.0}  # level 40, width 400
CORNERS = {AIR: (2, 2), LUNG: (2, 12), WATER: (12, 2), BONE: (12, 12)}
COMPRESSED = {
    "RLE": "1.2.840.10008.1.2.5",
    "JPEG-LS": "1.2.840.10008.1.2.4.80",
    "JPEG 2000": "1.2.840.10008.1.2.4.90",
}


def grey_at(grey: np.ndarray) -> dict[int, float]:
    return {hu: float(grey[position]) for hu, position in CORNERS.items()}


def refuse(data: bytes, limits: ImageLimits | None = None) -> str:
    with pytest.raises(ImageError) as raised:
        read_grey(data, limits=limits or ImageLimits())
    text = str(raised.value)
    assert "ZZPHI" not in text
    assert len(text.splitlines()) == 1
    return text


@pytest.mark.parametrize(
    ("window", "expected"),
    [(None, LUNG_WINDOW), ("lung", LUNG_WINDOW), ("mediastinum", MEDIASTINUM), ("file", MEDIASTINUM)],
)
def test_hounsfield_units_through_the_window(window, expected):
    data = ct_slice(WindowCenter=[40, -600], WindowWidth=[400, 1500])
    assert grey_at(read_grey(data, window=window)) == pytest.approx(expected, abs=1)


def test_slope_and_intercept_come_before_the_window():
    stored = ((slice_hu().astype(np.int32) + 1024) * 2).astype(np.uint16)
    data = ct_slice(stored, RescaleSlope=0.5, RescaleIntercept=-1024)
    image = read_dicom(data)
    assert grey_at(image.values()) == {hu: hu for hu in CORNERS}
    assert grey_at(read_grey(data)) == pytest.approx(LUNG_WINDOW, abs=1)


@pytest.mark.parametrize("level", [-600.0, 0.0, 55.5])
def test_free_windows_and_their_functions(level):
    data = ct_slice()
    for function in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        grey = read_grey(data, window=WindowSettings(level, 800.0, function))
        assert 0 <= grey.min() <= grey.max() <= 255
        assert grey[2, 2] <= grey[2, 12] <= grey[12, 2] <= grey[12, 12]
    exact = read_grey(data, window=WindowSettings(level, 800.0, "LINEAR_EXACT"))
    assert exact[12, 2] == pytest.approx(np.clip(((0 - level) / 800 + 0.5) * 255, 0, 255), abs=0.01)
    step = read_grey(data, window=WindowSettings(level, 1.0))
    assert set(np.unique(step)) <= {0.0, 255.0}


@pytest.mark.parametrize("level_width", [(0.0, 0.0), (0.0, -5.0), (float("nan"), 100.0), (0.0, float("inf"))])
def test_windows_that_make_no_sense_are_refused(level_width):
    with pytest.raises(ImageError, match="window"):
        WindowSettings(*level_width)


def test_an_unknown_window_function_is_not_taken_for_linear():
    with pytest.raises(ImageError, match="LINEAR, LINEAR_EXACT, SIGMOID"):
        WindowSettings(0.0, 100.0, "CUBIC")


def test_an_unknown_window_is_one_sentence():
    with pytest.raises(ImageError, match="lung, mediastinum, file"):
        read_grey(ct_slice(), window="bone")


@pytest.mark.parametrize("syntax", COMPRESSED.values(), ids=COMPRESSED)
def test_compressed_pixels_are_the_same(syntax):
    pixels = np.random.default_rng(0).integers(-1000, 1000, (96, 80)).astype(np.int16)
    plain = make_dataset(pixels)
    dataset = make_dataset(pixels)
    dataset.compress(UID(syntax), generate_instance_uid=False)
    assert len(write(dataset)) != len(write(plain))
    np.testing.assert_array_equal(read_dicom(write(dataset)).values(), pixels)


def test_jpeg_frames_are_read():
    import io

    from PIL import Image
    from pydicom.encaps import encapsulate

    pixels = np.tile(np.arange(0, 240, 8, dtype=np.uint8), (24, 1))
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "JPEG", quality=95)
    dataset = make_dataset(pixels, modality="DX", syntax="1.2.840.10008.1.2.4.50")
    dataset.PixelData = encapsulate([content.getvalue()])
    dataset["PixelData"].is_undefined_length = True
    assert np.abs(read_dicom(write(dataset)).values() - pixels).max() <= 4
    larger = io.BytesIO()
    Image.new("L", (4000, 4000)).save(larger, "JPEG")
    dataset.PixelData = encapsulate([larger.getvalue()])
    dataset["PixelData"].is_undefined_length = True
    assert "another size" in refuse(write(dataset))


def test_monochrome1_is_the_complement():
    pixels = np.arange(256, dtype=np.uint16).reshape(16, 16) * 16
    plain = read_grey(film(pixels, modality="CR"))
    inverted = read_grey(film(pixels, modality="CR", PhotometricInterpretation="MONOCHROME1"))
    np.testing.assert_allclose(plain + inverted, 255, atol=0.01)
    assert plain[0, 0] == 0 and plain[-1, -1] == 255  # noqa: PT018


def test_a_film_is_shown_through_its_own_window_or_table():
    pixels = np.arange(256, dtype=np.uint16).reshape(16, 16) * 16
    windowed = read_grey(film(pixels, WindowCenter=1024, WindowWidth=2048))
    assert windowed[0, 0] == 0
    assert windowed[8, 0] == pytest.approx(255, abs=1)
    table = Dataset()
    table.LUTDescriptor = [4096, 0, 16]
    table.LUTData = (65535 - 16 * np.arange(4096, dtype=np.uint16)).tobytes()
    table["LUTDescriptor"].VR, table["LUTData"].VR = "US", "OW"
    dataset = make_dataset(pixels, modality="DX", VOILUTSequence=Sequence([table]))
    shown = read_grey(write(dataset))
    expected = (65535 - 16.0 * pixels) / 65535 * 255
    np.testing.assert_allclose(shown, expected, atol=0.01)


def test_padding_is_black_and_does_not_stretch_the_range():
    pixels = (np.arange(256, dtype=np.uint16) + 1000).reshape(16, 16)
    pixels[0] = 60000
    for colour in ("MONOCHROME1", "MONOCHROME2"):
        grey = read_grey(film(pixels, PixelPaddingValue=60000, PhotometricInterpretation=colour))
        assert not grey[0].any()
        assert (grey[1:].min(), grey[1:].max()) == pytest.approx((0, 255), abs=1e-3)


def test_colour_becomes_luminance():
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:, :4, 0], pixels[:, 4:, 1] = 200, 100
    grey = read_grey(film(pixels))
    assert grey[0, 0] == pytest.approx(0.299 * 200, abs=1)
    assert grey[0, 7] == pytest.approx(0.587 * 100, abs=1)


def test_the_network_reads_what_a_png_of_the_window_holds():
    side = 64
    data = ct_slice(slice_hu(side))
    grey = read_grey(data)
    np.testing.assert_allclose(read_image(data), read_image(np.rint(grey).astype(np.uint8)), atol=1)
    assert read_image(data).shape == (150, 150, 3)


def test_frames_begin_with_the_most_lung():
    frames = np.stack([np.full((16, 16), WATER, np.int16), slice_hu(), np.full((16, 16), BONE, np.int16)])
    data = ct_slice(frames)
    np.testing.assert_array_equal(read_grey(data), read_grey(data, frame=1))
    assert read_grey(data, frame=2).min() == 255
    with pytest.raises(ImageError, match="3 frames"):
        read_grey(data, frame=3)


def test_files_of_one_series_are_one_stack():
    files = []
    for number, z in ((3, 10.0), (1, 30.0), (2, 20.0)):
        pixels = slice_hu() if number == 2 else np.full((16, 16), WATER, np.int16)
        where = {"ImagePositionPatient": [0, 0, z], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
        files.append(read_dicom(ct_slice(pixels, InstanceNumber=number, SeriesInstanceUID="1.2.5", **where)))
    other = read_dicom(ct_slice(SeriesInstanceUID="1.2.6"))
    stack = stack_slices([other, *files])
    assert [image for image, _ in stack.slices] == [files[0], files[2], files[1]]
    assert stack.left_out == 1
    assert stack.find_first_choice() == 1
    assert grey_at(stack.render(1)) == pytest.approx(LUNG_WINDOW, abs=1)
    with pytest.raises(ImageError, match="3 slices"):
        stack.render(3)
    with pytest.raises(ImageError, match="no image"):
        stack_slices([])


def test_the_header_is_reduced_to_harmless_facts():
    header = read_header(
        film(slice_hu(), ViewPosition="PA", PixelSpacing=[0.2, 0.3], WindowCenter=0, WindowWidth=100)
    )
    assert header is not None
    assert dataclasses.asdict(header) == {
        "modality": "xray",
        "view": "PA",
        "windows": ({"level": 0.0, "width": 100.0, "function": "LINEAR"},),
        "pixel_spacing": (0.2, 0.3),
        "frames": 1,
    }
    odd = read_header(
        film(slice_hu(), ViewPosition=SECRET[:16], WindowCenter="nan", WindowWidth=0, modality="MR")
    )
    assert (odd.modality, odd.view, odd.windows, odd.pixel_spacing) == (None, None, (), None)
    assert read_header(ct_slice()).modality == "ct"
    assert read_header(b"\x89PNG") is None


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"Rows": 60000, "Columns": 60000}, "60000 x 60000"),
        ({"Rows": 0}, "empty"),
        ({"Rows": 400, "Columns": 400}, "truncated"),
        ({"NumberOfFrames": 5}, "truncated"),
        ({"NumberOfFrames": 100000}, "100000 frames"),
        ({"RescaleSlope": 0}, "slope"),
        ({"PhotometricInterpretation": "ODD"}, "colour model"),
        ({"SamplesPerPixel": 3}, "contradicts"),
        ({"BitsAllocated": 12}, "contradicts"),
    ],
)
def test_headers_that_cannot_be_true_are_refused(tags, words):
    assert words in refuse(ct_slice(**tags))


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("1.2.840.10008.5.1.4.1.1.104.1", "document"),
        ("1.2.840.10008.1.3.10", "DICOMDIR"),
        ("1.2.840.10008.5.1.4.1.1.88.11", "report"),
    ],
)
def test_other_dicom_files_are_named(kind, words):
    dataset = make_dataset(slice_hu())
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = UID(kind)
    del dataset.PixelData
    assert words in refuse(write(dataset))


def test_missing_pixels_and_untaken_syntaxes_are_named():
    dataset = make_dataset(slice_hu())
    del dataset.PixelData
    assert "without pixels" in refuse(write(dataset))
    assert "deflated" in refuse(ct_slice(syntax="1.2.840.10008.1.2.1.99"))
    video = make_dataset(slice_hu())
    data = write(video).replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.9\0")
    assert "not taken" in refuse(data)
    assert "does not say how" in refuse(bytes(128) + b"DICM" + bytes(40))


def test_damaged_files_give_an_image_or_one_sentence(caplog):
    data = bytearray(ct_slice(slice_hu(), WindowCenter=40, WindowWidth=400))
    rng = np.random.default_rng(0)
    outcomes: set[str] = set()
    said: list[str] = []
    with warnings.catch_warnings(), caplog.at_level(logging.DEBUG):
        warnings.simplefilter("error")
        for turn in range(300):
            bad = bytearray(data)
            if turn % 3 == 0:
                bad = bad[: int(rng.integers(140, len(bad)))]
            else:
                for position in rng.integers(132, len(bad), size=3):
                    bad[position] = int(rng.integers(0, 256))
            try:
                grey = read_grey(bytes(bad))
                assert np.isfinite(grey).all()
                outcomes.add("image")
            except ImageError as error:
                said.append(str(error))
                outcomes.add("refused")
    assert "ZZPHI" not in "".join(said)
    assert outcomes == {"image", "refused"}
    assert "ZZPHI" not in caplog.text


def test_presets_are_the_usual_ones():
    assert {name: (w.level, w.width) for name, w in WINDOW_PRESETS.items()} == {
        "lung": (-600.0, 1500.0),
        "mediastinum": (40.0, 400.0),
    }
