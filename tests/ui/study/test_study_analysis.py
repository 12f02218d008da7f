"""From uploads to an answer or a sentence."""

from __future__ import annotations

import json
import logging
import struct
import time
import zlib

import numpy as np
import pytest
from fake_predictor import SECRET, FakePredictor
from made_images import make_png

from covid_mm.config import ImageLimits
from covid_mm.errors import CovidMMError, ImageError, UsageError
from covid_mm.explain.overlay import blend_heatmap
from covid_mm.imaging import read_grey
from covid_mm.ui.pictures import encode_png, make_heat_layer, make_preview
from covid_mm.ui.study.analysis import analyse_study, delete_uploads, describe_prediction, explain_error
from covid_mm.ui.study.heatmaps import HeatmapChoice
from covid_mm.ui.study.images import BOTH_EMPTY


def decode(url: str) -> np.ndarray:
    import base64
    from io import BytesIO

    from PIL import Image

    return np.asarray(Image.open(BytesIO(base64.b64decode(url.split(",")[1]))))


def test_the_whole_image_reaches_the_predictor_once_read(tmp_path, dark):
    seen = []

    class Recorder(FakePredictor):
        def predict(self, ct=None, xray=None):
            seen.append((ct, xray))
            return super().predict(ct, xray)

    (tmp_path / "image").write_bytes(dark)
    analysis = analyse_study(Recorder(), str(tmp_path / "image"), None)
    ((ct, xray),) = seen
    np.testing.assert_array_equal(ct.grey, read_grey(dark))
    assert xray is None
    assert set(analysis.previews) == {"ct"}


def test_both_empty_is_one_sentence(predictor):
    with pytest.raises(UsageError, match=r"^Add a CT slice, a chest X-ray, or both"):
        analyse_study(predictor, None, None)
    assert predictor.calls == 0
    assert BOTH_EMPTY.endswith(".")


@pytest.mark.parametrize(
    "content",
    [b"", b"\x89PNG\r\n\x1a\n", b"GIF89a" + bytes(50), b"%PDF-1.4", b"II*\x00" + bytes(20), b"hello"],
    ids=["empty", "half-png", "gif", "pdf", "tiff", "text"],
)
def test_what_is_no_image_is_one_sentence_with_its_slot(predictor, tmp_path, dark, content):
    (tmp_path / "a").write_bytes(dark)
    (tmp_path / "b").write_bytes(content)
    with pytest.raises(ImageError) as caught:
        analyse_study(predictor, str(tmp_path / "a"), str(tmp_path / "b"))
    sentence = str(caught.value)
    assert sentence.startswith("Chest X-ray: ")
    assert str(tmp_path) not in sentence
    assert predictor.calls == 0


def test_a_truncated_image_is_one_sentence(predictor, tmp_path, bright):
    (tmp_path / "a").write_bytes(bright[: len(bright) // 2])
    with pytest.raises(ImageError, match=r"^CT slice: "):
        analyse_study(predictor, str(tmp_path / "a"), None)


def test_an_upload_that_is_gone_is_one_sentence_without_its_path(predictor, tmp_path):
    with pytest.raises(ImageError, match="no longer kept") as caught:
        analyse_study(predictor, str(tmp_path / "gone"), None)
    assert str(tmp_path) not in str(caught.value)


def test_a_file_over_the_limit_is_refused(predictor, tmp_path, dark):
    (tmp_path / "a").write_bytes(dark)
    with pytest.raises(ImageError, match="larger than"):
        analyse_study(predictor, str(tmp_path / "a"), None, ImageLimits(max_bytes=100))


def test_a_bomb_is_refused_at_once(predictor, tmp_path):
    side = 10_000
    row = zlib.compress(bytes(side * 64), 9)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)), (b"IDAT", row), (b"IEND", b"")]
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )
    (tmp_path / "a").write_bytes(data)
    start = time.process_time()
    with pytest.raises(ImageError):
        analyse_study(predictor, str(tmp_path / "a"), None)
    assert time.process_time() - start < 0.2


def test_the_users_errors_keep_their_sentence():
    assert explain_error(ImageError("The image is empty.")) == "The image is empty."


def test_unexpected_errors_get_an_id_and_stay_in_the_log(predictor, tmp_path, caplog):
    white = np.full((40, 40), 255, np.uint8)
    (tmp_path / "a").write_bytes(decode_bytes(white))
    with caplog.at_level(logging.ERROR, "covid_mm.ui"), pytest.raises(OSError, match="planted") as caught:
        analyse_study(predictor, str(tmp_path / "a"), None)
    with caplog.at_level(logging.ERROR, "covid_mm.ui"):
        sentence = explain_error(caught.value)
    token = sentence.rstrip(".").split()[-1]
    assert SECRET not in sentence
    assert SECRET in caplog.text
    assert len(token) == 8
    assert token in caplog.text


def decode_bytes(pixels: np.ndarray) -> bytes:
    import base64

    return base64.b64decode(encode_png(pixels).split(",")[1])


def test_the_json_is_that_of_the_command_with_maps_as_pictures(predictor, tmp_path):
    (tmp_path / "a").write_bytes(make_png(0.7))
    (tmp_path / "b").write_bytes(decode_bytes(np.zeros((40, 40), np.uint8)))
    prediction = analyse_study(predictor, str(tmp_path / "a"), str(tmp_path / "b")).prediction
    result = json.loads(json.dumps(describe_prediction(prediction)))
    assert list(result) == list(prediction.to_dict())
    assert result["heatmaps"]["xray"] is None  # all black: no positive evidence
    pixels = decode(result["heatmaps"]["ct"])
    assert pixels.shape == (96, 96)  # the whole image
    assert np.abs(pixels / 255.0 - prediction.heatmaps["ct"]).max() <= 0.5 / 255 + 1e-6


def test_deleting_uploads_twice_is_harmless(tmp_path):
    (tmp_path / "a").write_bytes(b"x")
    delete_uploads(str(tmp_path / "a"), None)
    delete_uploads(str(tmp_path / "a"), None)
    assert not (tmp_path / "a").exists()


def test_views_keep_proportions_and_are_never_enlarged():
    wide = make_preview(np.zeros((500, 1000), np.float32))
    assert (wide.width, wide.height) == (384, 192)
    small = make_preview(np.full((30, 20), 200.4, np.float32))
    assert (small.width, small.height) == (20, 30)
    assert (decode(small.url) == 200).all()


def test_the_layer_over_the_image_is_the_blended_heatmap():
    rng = np.random.default_rng(0)
    heatmap = rng.random((20, 20)).astype(np.float32)
    image = np.repeat(rng.integers(0, 256, (20, 20, 1), dtype=np.uint8), 3, axis=2)
    layer = decode(make_heat_layer(heatmap, 0.6)).astype(np.float64)
    alpha = layer[..., 3:] / 255.0
    composed = image * (1 - alpha) + layer[..., :3] * alpha
    assert np.abs(composed - blend_heatmap(image, heatmap, 0.6)).max() <= 1.0


def test_all_errors_of_the_family_are_sentences_to_the_page():
    assert issubclass(ImageError, CovidMMError)
    assert explain_error(CovidMMError("One sentence.")) == "One sentence."


@pytest.mark.usefixtures("small_backbones")
def test_other_heatmaps_cost_no_second_pass_and_no_second_reading(tmp_path, monkeypatch):
    from toy_checkpoint import publish_toy
    from toy_networks import count_passes

    from covid_mm.serving import reading
    from covid_mm.serving.predictor import load_predictor

    publish_toy(tmp_path / "toy")
    predictor = load_predictor(tmp_path / "toy")
    passes, readings = count_passes(predictor.network), []
    for name in ("read_grey", "read_header"):
        read = getattr(reading, name)
        monkeypatch.setattr(
            reading,
            name,
            lambda *source, read=read, **options: (readings.append(read), read(*source, **options))[1],
        )
    for name, value in (("a", 0.2), ("b", 0.7)):
        (tmp_path / name).write_bytes(make_png(value))
    choice = HeatmapChoice("layer_cam", "coarse")
    analysis = analyse_study(predictor, str(tmp_path / "a"), str(tmp_path / "b"), choice=choice)
    assert (analysis.kind.method, analysis.kind.scale) == ("layer_cam", "relative")
    assert passes == {"ct": 1, "xray": 1}
    assert len(readings) == 4  # pixels and header of each image
