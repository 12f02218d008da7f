"""Small files that would take minutes or gigabytes to read: refused by their first bytes, or read within bounds."""

from __future__ import annotations

import gc
import io
import logging
import struct
import subprocess
import sys
import threading
import time
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from dicom_files import LUNG, SECRET, WATER, ct_slice, make_dataset, write
from openjpeg.utils import encode_array
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import UID

from covid_mm.config import ImageLimits
from covid_mm.errors import ImageError
from covid_mm.imaging import DicomImage, read_dicom, read_grey, read_image, stack_slices
from covid_mm.imaging.jpeg import read_jpeg
from covid_mm.imaging.png import check_png

ROOT = Path(__file__).parents[2]
J2K = "1.2.840.10008.1.2.4.90"
SIDE = 4990  # its square is just below the limit on pixels
SOON = 1.0  # seconds of processor time; each refusal takes a tenth of it, and each file took 5 to 70
MEMORY = 400  # MB that the worst accepted file may cost


def refuse(data: bytes) -> str:
    """The sentence with which these bytes are refused, soon."""
    gc.freeze()  # what other tests left in this process is not looked through again meanwhile
    try:
        began = time.process_time()
        with pytest.raises(ImageError) as caught:
            read_grey(data)
        assert time.process_time() - began < SOON
    finally:
        gc.unfreeze()
    return str(caught.value)


def chunk(kind: bytes, body: bytes = b"") -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def make_png(width: int, height: int, *, depth: int = 8, colour: int = 0, pixel: bytes = b"\0") -> bytes:
    """All pixels the same."""
    packer = zlib.compressobj(1)
    rows = (b"\0" + pixel * width) * min(height, 499)
    parts = [packer.compress(rows) for _ in range(height // min(height, 499))]
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = b"".join([*parts, packer.flush()])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND")


def make_jpeg(**options: object) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (64, 48), 77).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def make_exif(entries: int, shared: int, orientation: int = 1) -> bytes:
    """EXIF whose entries all point to the same bytes, which a parser copies for each."""
    head = b"II*\0\x08\0\0\0" + struct.pack("<H", entries + 1)
    start = 10 + 12 * (entries + 1) + 4
    first = struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0)
    others = b"".join(struct.pack("<HHII", 0x0200 + n, 7, shared, start) for n in range(entries))
    return head + first + others + bytes(4) + bytes(shared)


def jpeg_2000_file(frames: int, side: int = SIDE) -> bytes:
    frame = encode_array(np.zeros((side, side), np.uint8), photometric_interpretation=2)
    dataset = make_dataset(np.zeros((2, 2, 2) if frames > 1 else (2, 2), np.uint8), syntax=J2K)
    dataset.Rows = dataset.Columns = side
    if frames > 1:
        dataset.NumberOfFrames = frames
    dataset.PixelData = encapsulate([frame] * frames)
    dataset["PixelData"].is_undefined_length = True
    return write(dataset)


def test_twenty_large_frames_are_refused_by_the_header():
    data = jpeg_2000_file(20)
    assert len(data) < 10_000
    assert "20 frames of 4990 x 4990 pixels" in refuse(data)


def test_the_budget_is_on_frames_times_pixels():
    frames = np.zeros((3, 16, 16), np.int16)
    assert read_dicom(ct_slice(frames), limits=ImageLimits(max_total_pixels=768)).frames == 3
    with pytest.raises(ImageError, match="3 frames"):
        read_dicom(ct_slice(frames), limits=ImageLimits(max_total_pixels=767))


def test_a_header_of_millions_of_elements_is_refused():
    empty = b"".join(
        struct.pack("<HH2sH", 0x0009 + 2 * (n // 60_000), 0x1000 + n % 60_000, b"LO", 0)
        for n in range(1_500_000)
    )
    data = ct_slice()
    patient = data.index(b"\x10\x00\x10\x00PN")
    assert "more parts" in refuse(data[:patient] + empty + data[patient:])
    table = Dataset()
    table.LUTDescriptor, table.LUTData = [4096, 0, 16], bytes(2_000_000)
    table["LUTDescriptor"].VR, table["LUTData"].VR = "US", "OW"
    assert "more parts" in refuse(ct_slice(VOILUTSequence=Sequence([table])))


def test_a_frame_of_millions_of_fragments_is_refused():
    data = jpeg_2000_file(1, side=64)
    end = data.rindex(b"\xfe\xff\xdd\xe0")
    assert "more parts" in refuse(data[:end] + b"\xfe\xff\x00\xe0\0\0\0\0" * 2_000_000 + data[end:])


@pytest.fixture
def decoded(monkeypatch) -> list[int]:
    """The frames that are decoded, in order."""
    frames: list[int] = []
    values = DicomImage.values

    def record(self: DicomImage, frame: int = 0) -> np.ndarray:
        frames.append(frame)
        return values(self, frame)

    monkeypatch.setattr(DicomImage, "values", record)
    return frames


def test_the_first_choice_looks_at_a_sample_of_a_long_stack(decoded):
    frames = np.full((300, 8, 8), WATER, np.int16)
    for number, rows in ((150, 8), (120, 4), (180, 4)):
        frames[number - 20 : number + 20, :rows] = LUNG
    stack = stack_slices([read_dicom(ct_slice(frames))])
    chosen = stack.find_first_choice()
    assert (frames[chosen] == LUNG).all()
    assert len(decoded) == 32
    assert (decoded[0], decoded[-1]) == (0, 299)


def test_the_first_choice_of_a_short_stack_looks_at_all(decoded):
    frames = np.full((7, 8, 8), WATER, np.int16)
    frames[5] = LUNG
    assert stack_slices([read_dicom(ct_slice(frames))]).find_first_choice() == 5
    assert decoded == list(range(7))


def test_of_very_large_slices_none_is_decoded_to_choose(decoded):
    stack = stack_slices([read_dicom(jpeg_2000_file(4))])
    assert stack.find_first_choice() == 2
    assert decoded == []


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (b"\xff\xe1" + struct.pack(">H", 42) + b"Exif\0\0" + bytes(34), "more parts"),
        (b"\xff\xfe\x00\x02", "more parts"),
        (b"\xff\xd0", "more parts"),
        (b"\0", "more parts"),
        (b"\xff", "more parts"),
        (b"\xff\xf0", "damaged"),
    ],
    ids=["EXIF segments", "comments", "restarts", "stray bytes", "fill bytes", "what no decoder skips"],
)
def test_a_jpeg_of_millions_of_parts_is_refused(extra, words):
    data = make_jpeg()
    head = 20  # behind the first segment, which shows that it is a JPEG
    assert words in refuse(data[:head] + extra * (18_000_000 // len(extra)) + data[head:])


def test_parts_behind_the_first_scan_count_too():
    data = make_jpeg()
    assert "more parts" in refuse(data[:-2] + b"\xff\xfe\x00\x02" * 4_500_000 + data[-2:])


def test_scans_count_by_the_picture_that_they_pass_over():
    scan = b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00"
    data = make_jpeg(progressive=True)
    assert "scans" in refuse(data[:-2] + scan * 101 + data[-2:])
    large = io.BytesIO()
    Image.new("L", (SIDE, SIDE)).save(large, "JPEG", progressive=True)
    content = large.getvalue()
    assert read_jpeg(content, "").scans < 30
    assert "scans" in refuse(content[:-2] + scan * 30 + content[-2:])


def test_a_png_of_millions_of_chunks_is_refused():
    data = make_png(40, 30)
    assert "more parts" in refuse(data[:33] + chunk(b"tEXt") * 1_500_000 + data[33:])


def test_ordinary_metadata_is_read_over():
    texts = {"comment": b"x" * 60_000, "icc_profile": bytes(300_000)}
    plain, dressed = make_jpeg(), make_jpeg(exif=b"Exif\0\0" + make_exif(4, 40), **texts)
    assert len(dressed) > 360_000
    np.testing.assert_array_equal(read_grey(dressed), read_grey(plain))
    assert len(read_jpeg(dressed, "").strip(dressed)) < len(plain) + 300
    png = make_png(40, 30)
    noted = png[:33] + chunk(b"tEXt", b"a\0b") * 500 + chunk(b"eXIf", make_exif(0, 0, 6)) + png[33:]
    assert read_grey(noted).shape == (40, 30)
    assert len(check_png(noted, "")) < len(png) + 100


def test_jpeg_ls_whose_pixels_look_like_markers_is_read():
    """There a byte of FF is followed by any of 00 to 7F."""
    pixels = np.random.default_rng(0).integers(0, 65536, (600, 700)).astype(np.uint16)
    dataset = make_dataset(pixels, modality="DX")
    dataset.compress(UID("1.2.840.10008.1.2.4.80"), generate_instance_uid=False)
    np.testing.assert_array_equal(read_dicom(write(dataset)).values(), pixels)


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_exif_that_multiplies_is_never_parsed(form):
    """65,000 entries on 1 MB would be copied to 65 GB."""
    exif = make_exif(40_000, 1_000_000)
    if form == "PNG":
        data = make_png(40, 30)
        data = data[:33] + chunk(b"eXIf", exif) + data[33:]
    else:
        data = make_jpeg()
        parts = [exif[start : start + 65_000] for start in range(0, len(exif), 65_000)]
        segments = [b"\xff\xe1" + struct.pack(">H", len(part) + 8) + b"Exif\0\0" + part for part in parts]
        data = data[:2] + b"".join(segments) + data[2:]
    began = time.process_time()
    assert read_grey(data).size > 0
    assert time.process_time() - began < SOON


@pytest.mark.parametrize(
    ("width", "height", "words"),
    [
        (1, 24_900_000, "at most 10000 a side"),
        (10_001, 2000, "at most 10000 a side"),
        (100, 2001, "20 times the other"),
        (5001, 5000, "25 million"),
    ],
)
def test_stripes_are_refused_whatever_they_weigh(width, height, words):
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    assert words in refuse(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IEND"))
    for source in (np.zeros((height, width), np.uint8), Image.new("L", (width, height))):
        with pytest.raises(ImageError, match=words):
            read_grey(source)


def test_the_longest_shapes_are_read():
    assert read_grey(np.zeros((100, 2000), np.uint8)).shape == (100, 2000)
    assert read_grey(make_png(500, 9980)).shape == (9980, 500)


def test_frames_of_other_shapes_than_the_header_says_are_refused():
    """A codestream of more components, or cut into millions of tiles, would fill the memory."""
    data = jpeg_2000_file(1, side=64)
    siz = data.index(b"\xff\x4f\xff\x51")
    many = data[: siz + 40] + struct.pack(">H", 16384) + data[siz + 42 :]
    assert "another size" in refuse(many)
    tiled = data[: siz + 24] + struct.pack(">II", 1, 1) + data[siz + 32 :]
    assert "more parts" in refuse(tiled)
    assert read_grey(data).shape == (64, 64)


@pytest.mark.parametrize(("kind", "taken"), [(np.int16, True), (np.uint32, False), ("colour", False)])
def test_pixels_of_several_values_count_as_several(kind, taken):
    limits = ImageLimits(max_pixels=20 * 20)
    pixels = np.zeros((20, 20, 3), np.uint8) if kind == "colour" else np.zeros((20, 20), kind)
    if taken:
        assert read_grey(ct_slice(pixels), limits=limits).size == 400
    else:
        with pytest.raises(ImageError, match="several times the memory"):
            read_grey(ct_slice(pixels), limits=limits)


def measure_memory(path: Path) -> float:
    """MB that reading a file adds to a process in which all decoders are loaded."""
    code = (
        "import resource, sys\n"
        "import openjpeg, pydicom.pixels, PIL.JpegImagePlugin, PIL.PngImagePlugin\n"
        "from covid_mm.imaging import read_image\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "read_image(sys.argv[1])\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return float(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is counted in kB on Linux only")
@pytest.mark.parametrize("kind", ["grey of 16 bits", "RGBA", "progressive JPEG, turned", "JPEG 2000"])
def test_the_worst_accepted_files_stay_within_memory(kind, tmp_path):
    if kind == "grey of 16 bits":
        data = make_png(SIDE, SIDE, depth=16, pixel=b"\x01\x02")
    elif kind == "RGBA":
        data = make_png(SIDE, SIDE, colour=6, pixel=b"\x10\x20\x30\x40")
    elif kind == "JPEG 2000":
        data = jpeg_2000_file(1)
    else:
        exif, buffer = Image.Exif(), io.BytesIO()
        exif[0x0112] = 6
        Image.new("CMYK", (SIDE, SIDE)).save(buffer, "JPEG", progressive=True, subsampling=0, exif=exif)
        data = buffer.getvalue()
    (tmp_path / "image").write_bytes(data)
    assert measure_memory(tmp_path / "image") < MEMORY


def test_conversion_by_rows_changes_no_value(monkeypatch):
    rng = np.random.default_rng(0)
    deep = rng.integers(0, 65536, (50, 37)).astype(np.uint16)
    colour = Image.fromarray(rng.integers(0, 256, (50, 37, 4), dtype=np.uint8))
    slices = ct_slice(rng.integers(-1000, 1000, (50, 37)).astype(np.int16), RescaleSlope=0.7)
    whole = [read_image(source) for source in (deep, colour, colour.convert("P"), slices)]
    monkeypatch.setattr("covid_mm.imaging.raster._BAND_PIXELS", 100)
    parts = [read_image(source) for source in (deep, colour, colour.convert("P"), slices)]
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(one, other)


def test_two_threads_leave_logs_and_warnings_as_they_were(monkeypatch, caplog):
    """The one that came first also leaves first, as it may: what the second found then is no setting to restore."""
    import pydicom

    first_is_in, second_is_in, first_is_out = (threading.Event() for _ in range(3))
    read = pydicom.dcmread

    def wait(*arguments: object, **options: object) -> object:
        if threading.current_thread().name == "first":
            first_is_in.set()
            assert second_is_in.wait(30)
        else:
            assert first_is_in.wait(30)
            second_is_in.set()
            assert first_is_out.wait(30)
        return read(*arguments, **options)

    def work() -> None:
        read_dicom(data)
        first_is_out.set()

    data = ct_slice(ViewPosition=SECRET)
    read_dicom(data)  # whatever is set once is set
    monkeypatch.setattr(pydicom, "dcmread", wait)
    before = (logging.getLogger("pydicom").disabled, logging.getLogger("pydicom").propagate)
    filters = list(warnings.filters)
    threads = [threading.Thread(target=work, name=name) for name in ("first", "second")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (logging.getLogger("pydicom").disabled, logging.getLogger("pydicom").propagate) == before
    assert list(warnings.filters) == filters
    assert SECRET not in caplog.text


def test_nothing_of_a_header_is_told_by_any_thread(tmp_path):
    """In a process of its own, where nobody but the package says what is silent."""
    code = (
        "import logging, sys, threading\n"
        "logging.basicConfig()\n"
        "from covid_mm.imaging import read_dicom\n"
        "data = open(sys.argv[1], 'rb').read()\n"
        "work = lambda: [read_dicom(data).header for _ in range(20)]\n"
        "threads = [threading.Thread(target=work) for _ in range(4)]\n"
        "[t.start() for t in threads]; [t.join() for t in threads]\n"
        "logging.getLogger('pydicom.pixels.decoders.base').warning('ZZPHI')\n"
    )
    (tmp_path / "slice").write_bytes(ct_slice(ViewPosition=SECRET))
    done = subprocess.run(
        [sys.executable, "-W", "default", "-c", code, str(tmp_path / "slice")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "ZZPHI" not in done.stderr + done.stdout
