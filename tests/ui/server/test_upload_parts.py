"""The parts of an upload: file names out, each part within its own limit."""

from __future__ import annotations

import re

import pytest

from covid_mm.ui.server.request_body import ARCHIVE, Refusal, UploadLimits, UploadParts

LIMITS = UploadLimits(file=5000, archive=9000, field=100)

BODY = bytes(range(256)) * 3 + b"\r\n--bou" + b"--boundary" + b"\r\n\r\n"  # nearly a mark, but none


def multipart(name: bytes, content: bytes = BODY, field: bytes = b'name="files"; ') -> bytes:
    return (
        b"--boundary\r\nContent-Disposition: form-data; " + field + b'filename="' + name + b'"\r\n'
        b"Content-Type: image/png\r\n\r\n" + content + b"\r\n"
        b'--boundary\r\nContent-Disposition: form-data; name="note"\r\n\r\nplain\r\n--boundary--\r\n'
    )


def run_through(data: bytes, step: int) -> bytes:
    upload = UploadParts(b"boundary", LIMITS)
    out = b"".join(upload.feed(data[i : i + step]) for i in range(0, len(data), step))
    return out + upload.feed(b"", last=True)


@pytest.mark.parametrize("step", [1, 2, 7, 64, 100_000])
@pytest.mark.parametrize("name", [b"ZZPHI Smith 1950.png", b"", b"a" * 500, "Müller.png".encode()])
def test_only_the_name_changes_however_the_stream_is_cut(step, name):
    out = run_through(multipart(name), step)
    result = re.findall(rb'filename="(.*?)"', out)
    assert len(result) == 1
    assert re.fullmatch(rb"image-[0-9a-f]{16}", result[0])
    assert name not in out or not name
    expected = multipart(result[0]).replace(b"; name", b"; name")
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
    upload = UploadParts(b"boundary", LIMITS)
    with pytest.raises(Refusal, match="header of an uploaded part"):
        upload.feed(b"--boundary\r\nX: " + b"a" * 10_000)


def test_a_stream_without_the_boundary_passes_as_it_is():
    assert run_through(b"nothing to see", 3) == b"\r\nnothing to see"


def part(content: bytes, disposition: bytes = b'name="files"; filename="x"') -> bytes:
    return b"--boundary\r\nContent-Disposition: form-data; " + disposition + b"\r\n\r\n" + content + b"\r\n"


@pytest.mark.parametrize("step", [1, 7, 100_000])
def test_each_part_has_the_limit_of_its_own_kind(step):
    zipped, image, field = ARCHIVE + bytes(8000), bytes(4900), part(bytes(90), b'name="note"')
    end = b"--boundary--\r\n"
    assert bytes(8000) in run_through(part(zipped) + part(image) + field + end, step)
    for start in (b"\x1f\x8b", b"\x5c\x01\0\0", bytes(128) + b"DICM"):  # whole CT scans
        assert bytes(8000) in run_through(part(start + bytes(8000)) + end, step)
    for large in (
        part(bytes(127) + b"DICM" + bytes(8000)),
        part(zipped) + part(bytes(5001)),  # behind an archive an image is still an image
        part(image) + part(zipped + bytes(1000)),
        part(image) + part(b"x" + zipped),
        part(zipped) + part(bytes(101), b'name="note"'),  # which Gradio would hold in memory
    ):
        with pytest.raises(Refusal, match="larger than") as refused:
            run_through(large + end, step)
        assert refused.value.status == 413
        with pytest.raises(Refusal, match="larger than"):
            run_through(large, step)  # broken off before the part ends


def test_nothing_is_kept_that_comes_before_the_first_part():
    with pytest.raises(Refusal, match="boundary"):
        run_through(bytes(20_000), 1000)
