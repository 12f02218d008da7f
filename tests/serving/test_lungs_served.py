"""A checkpoint that reads the lungs: crops, frames, studies without lungs, and what is judged first."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from made_lungs import BOX, LUNGS, WEIGHTS, make_lungs_predictor, make_region
from toy_checkpoint import make_meta
from toy_networks import PAIR, grey_images, make_network, read_folder, toy_backbones

from covid_mm import load_predictor
from covid_mm.config import CLASSES
from covid_mm.errors import CheckpointError, UsageError
from covid_mm.explain.heat_checks import OUTSIDE
from covid_mm.imaging.lungs import read_lungs
from covid_mm.models.content_classifier import Content, ContentReader, compute_contents, content_kinds
from covid_mm.models.lung_segmenter import LungSegmenter, build_segmenter
from covid_mm.serving.checkpoint import publish_checkpoint
from covid_mm.serving.metadata import parse_metadata
from covid_mm.serving.predictor import Predictor

pytestmark = pytest.mark.usefixtures("small_backbones")


@pytest.fixture(scope="module")
def network() -> Any:
    with toy_backbones():
        return make_network(PAIR, head_width=16, seed=1)


@pytest.fixture(scope="module")
def predictor(network) -> Predictor:
    with toy_backbones():
        made = make_lungs_predictor(network)
        made.warm_up()
    return made


def picture(seed: int, height: int = 300, width: int = 600) -> np.ndarray:
    return grey_images(1, 600, seed=seed)[0][:height, :width].astype(np.uint8)


EMPTY = np.zeros((90, 120), np.uint8)


def test_the_network_is_given_the_lungs_only(predictor, network):
    ct, xray = picture(1), picture(2)
    crops = {
        m: np.repeat(
            read_lungs(grey.astype(np.float32), predictor.segmenter.region, m, 150)[None, ..., None], 3, -1
        )
        for m, grey in (("ct", ct), ("xray", xray))
    }
    expected = network.model.predict_on_batch(crops)["probabilities"][0]
    answer = predictor.predict(ct, xray)
    assert list(answer.probabilities.values()) == pytest.approx(expected, abs=1e-5)
    outside = ct.copy()
    outside[:, :140] = 255  # left of the box
    assert predictor.predict(outside, xray).probabilities == pytest.approx(answer.probabilities, abs=1e-6)


def test_heatmaps_lie_where_they_belong_in_the_whole_image(predictor):
    answer = predictor.predict(picture(1), picture(2, 600, 300), heatmap_class=CLASSES[1])
    shapes = {"ct": (256, 512), "xray": (512, 256)}
    for modality, (height, width) in shapes.items():
        heatmap = answer.heatmaps[modality]
        assert heatmap.shape == (height, width)
        assert answer.images[modality].shape == (height, width, 3)
        inside = np.zeros((height, width), bool)
        inside[
            round(BOX[1] * height) : round(BOX[3] * height), round(BOX[0] * width) : round(BOX[2] * width)
        ] = True
        assert not heatmap[~inside].any()
        assert answer.lungs[modality] == BOX
        assert [polygon.shape for polygon in answer.outlines[modality]] == [(4, 2), (4, 2)]
    assert any(heatmap.any() for heatmap in answer.heatmaps.values())
    written = json.loads(json.dumps(answer.to_dict(), allow_nan=False))
    assert written["lungs"] == {"ct": list(BOX), "xray": list(BOX)}


def test_other_methods_lie_there_too(predictor):
    explained = predictor.explain(picture(1), method="hires_cam", layer="fine", heatmap_class=CLASSES[1])
    assert (explained.scale, explained.heatmaps["ct"].shape) == ("relative", (256, 512))
    assert not explained.heatmaps["ct"][:, :120].any()


def test_an_image_without_lungs_is_not_answered(predictor):
    answer = predictor.predict(ct=EMPTY)
    assert (answer.label, answer.reason) == ("undetermined", "lungs_not_found_ct")
    assert answer.probabilities == answer.heatmaps == {}
    assert answer.images["ct"].shape == (90, 120, 3)
    assert answer.lungs == {"ct": None}
    assert [w.message for w in answer.warnings] == [
        "No lungs were found on the CT, so there is no answer. Replace it."
    ]
    with pytest.raises(UsageError, match="No lungs were found on the CT"):
        predictor.explain(ct=EMPTY)


def test_one_of_two_images_without_lungs_is_named_and_the_other(predictor):
    answer = predictor.predict(picture(1), EMPTY)
    (notice,) = answer.warnings
    assert notice.code == "lungs_not_found_xray"
    assert "the CT can be analysed alone" in notice.message
    assert answer.label == "undetermined"
    assert answer.probabilities == {}
    assert answer.lungs == {"ct": BOX, "xray": None}
    both = predictor.predict(EMPTY, EMPTY)
    assert [w.code for w in both.warnings] == ["lungs_not_found_ct", "lungs_not_found_xray"]


def test_a_batch_is_answered_as_one_by_one_and_segmented_together(predictor):
    studies = [(picture(1), picture(2)), (picture(3), None), (EMPTY, picture(4)), (picture(5), picture(6))]
    predictor.segmenter.calls.clear()
    together = predictor.predict_batch(studies)
    assert sorted(predictor.segmenter.calls) == [("ct", 4), ("xray", 3)]
    for study, answer in zip(studies, together, strict=True):
        alone = predictor.predict(*study)
        assert (alone.label, alone.warnings, alone.lungs) == (answer.label, answer.warnings, answer.lungs)
        assert alone.probabilities == pytest.approx(answer.probabilities, abs=1e-5)
        for modality, heatmap in alone.heatmaps.items():
            np.testing.assert_allclose(heatmap, answer.heatmaps[modality], atol=1e-4)
    assert [answer.reason for answer in together] == [None, None, "lungs_not_found_ct", None]


def test_large_images_are_held_a_few_at_a_time(predictor, monkeypatch):
    monkeypatch.setattr("covid_mm.serving.predictor.BATCH_PIXELS", 300 * 600)
    predictor.segmenter.calls.clear()
    assert len(predictor.predict_batch([(picture(k), None) for k in range(3)])) == 3
    assert predictor.segmenter.calls == [("ct", 2), ("ct", 1)]


class FakeClassifier:
    """Says that every image shows `kind`, and remembers what it read."""

    reader = ContentReader("xray")

    def __init__(self, kinds: dict[str, str], *, unusual: bool = False) -> None:
        self.kinds, self.unusual = kinds, unusual
        self.read: dict[str, np.ndarray] = {}

    def check(self, modality: str, features: np.ndarray) -> list[Content]:
        self.read[modality] = features
        kind = self.kinds.get(modality, modality)
        return [Content(kind, dict.fromkeys(content_kinds(), 1 / 3), 2.0, self.unusual)]


def test_the_content_check_reads_whole_images(network):
    classifier = FakeClassifier({})
    ct, xray = picture(1), picture(2)
    answer = make_lungs_predictor(network, classifier).predict(ct, xray)
    assert answer.label in CLASSES
    from covid_mm.imaging import resize_grey

    for modality, grey in (("ct", ct), ("xray", xray)):
        expected = compute_contents(network, ContentReader("xray"), resize_grey(grey)[None])
        np.testing.assert_allclose(classifier.read[modality], expected, atol=2e-3)


@pytest.mark.parametrize(
    ("kinds", "codes"),
    [
        ({"ct": "xray", "xray": "ct"}, ["swapped_inputs"]),
        ({"xray": "neither"}, ["not_a_chest_image_xray"]),
    ],
)
def test_content_is_told_before_missing_lungs(network, kinds, codes):
    answer = make_lungs_predictor(network, FakeClassifier(kinds)).predict(picture(1), EMPTY)
    assert [w.code for w in answer.warnings] == codes
    assert not any(answer.lungs.values())


def test_the_lungs_of_what_is_unlike_training_are_shown(network):
    answer = make_lungs_predictor(network, FakeClassifier({}, unusual=True)).predict(ct=picture(1))
    assert answer.reason == "unlike_training_ct"
    assert answer.lungs == {"ct": BOX}


def test_a_network_of_the_lungs_needs_something_that_finds_them(network):
    meta = parse_metadata(make_meta(network, weights=WEIGHTS, **LUNGS), "lungs")
    with pytest.raises(CheckpointError, match=r"put back the published lungs\.npz"):
        Predictor(network, meta)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, network) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints") / "lungs"
    segmenter = LungSegmenter({m: build_segmenter(seed) for seed, m in enumerate(("ct", "xray"))})
    meta = make_meta(network, preprocessing=LUNGS["preprocessing"])
    with toy_backbones():
        publish_checkpoint(folder, network, meta, "# lungs\n", segmenter=segmenter)
    return folder


def test_the_segmenter_travels_with_the_checkpoint(folder):
    assert "lungs.npz" in read_folder(folder)
    written = json.loads((folder / "meta.json").read_text())["lungs"]
    assert written["bytes"] == (folder / "lungs.npz").stat().st_size
    loaded = load_predictor(folder)
    assert isinstance(loaded.segmenter, LungSegmenter)
    answer = loaded.predict(ct=EMPTY)  # whatever random weights find
    assert answer.label in {*CLASSES, "undetermined"}


def test_an_exchanged_or_missing_segmenter_is_refused(folder, tmp_path):
    import shutil

    other = tmp_path / "lungs"
    shutil.copytree(folder, other)
    (other / "lungs.npz").write_bytes((other / "lungs.npz").read_bytes() + b"x")
    with pytest.raises(CheckpointError, match="SHA-256 differs"):
        load_predictor(other)
    (other / "lungs.npz").unlink()
    with pytest.raises(CheckpointError, match=r"lungs\.npz of checkpoint lungs is missing"):
        load_predictor(other)


def test_a_segmenter_of_one_modality_is_refused_for_a_pair(network, tmp_path):
    segmenter = LungSegmenter({"ct": build_segmenter()})
    meta = make_meta(network, preprocessing=LUNGS["preprocessing"])
    publish_checkpoint(tmp_path / "half", network, meta, "# half\n", segmenter=segmenter)
    with pytest.raises(CheckpointError, match="finds no lungs on xray images"):
        load_predictor(tmp_path / "half")


def test_a_map_of_attention_is_drawn_in_the_lungs_only(small_backbones):
    network = make_network(PAIR, head_width=16, seed=1, pooling="attention")
    scale = {
        head: dict.fromkeys(("ct", "xray") if head == "fused" else [head], 1.0)
        for head in ("fused", "ct", "xray")
    }
    predictor = make_lungs_predictor(network, heatmap_method="attention", heatmap_scale=scale)
    images = dict(zip(("ct", "xray"), grey_images(2, 200, seed=3).astype(np.uint8), strict=True))
    answer = predictor.predict(**images)
    assert (answer.heatmap_method, answer.heatmap_class) == ("attention", "covid19_pneumonia")
    assert "attention" in answer.checkpoint.heatmap_methods
    lungs = cv2.resize(make_region().lungs.astype(np.uint8), (200, 200), interpolation=cv2.INTER_NEAREST) > 0
    for heatmap in answer.heatmaps.values():
        point = np.unravel_index(heatmap.argmax(), heatmap.shape)
        assert lungs[point]
        assert 0.02 < heatmap.max() <= 1.0
    other = predictor.predict(**images, heatmap_class="normal")
    assert (other.heatmap_method, other.heatmap_class, other.heatmap_scale) == (
        "layer_cam",
        "normal",
        "relative",
    )
    assert other.probabilities == pytest.approx(answer.probabilities, abs=1e-6)


def test_attention_needs_a_network_that_has_it(small_backbones):
    network = make_network(PAIR, head_width=16, seed=1)
    with pytest.raises(CheckpointError, match="average pooling has no heatmap attention"):
        make_lungs_predictor(network, heatmap_method="attention")


def test_heat_of_an_answer_that_names_normal_is_not_doubted(small_backbones, monkeypatch):
    monkeypatch.setitem(OUTSIDE, "ct", dataclasses.replace(OUTSIDE["ct"], level=0.0))
    network = make_network(PAIR, head_width=16, seed=1, pooling="attention")
    heads = ("fused", "ct", "xray")
    scale = {head: dict.fromkeys(("ct", "xray") if head == "fused" else [head], 1.0) for head in heads}
    codes = {}
    for label, offset in (("normal", 50.0), ("covid19_pneumonia", -50.0)):
        predictor = make_lungs_predictor(
            network, heatmap_method="attention", heatmap_scale=scale, offset=dict.fromkeys(heads, offset)
        )
        answer = predictor.predict(*grey_images(2, 200, seed=3).astype(np.uint8))
        assert answer.label == label
        codes[label] = {notice.code for notice in answer.warnings}
    assert "heat_outside_lungs_ct" in codes["covid19_pneumonia"]
    assert codes["normal"] == {"content_not_judged"}
