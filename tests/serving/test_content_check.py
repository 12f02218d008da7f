"""What keeps a study from being answered, in words and in the predictor."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from toy_checkpoint import make_meta, publish_toy
from toy_networks import PAIR, grey_images, make_network, toy_backbones

from covid_mm import load_predictor
from covid_mm.errors import CheckpointError
from covid_mm.models.content_classifier import (
    Content,
    ContentClassifier,
    ContentReader,
    PcaOutlierModel,
    compute_contents,
    content_kinds,
    content_width,
)
from covid_mm.serving.checkpoint import publish_checkpoint
from covid_mm.serving.content_check import check_contents

pytestmark = pytest.mark.usefixtures("small_backbones")


def content(kind: str, *, unusual: bool = False) -> Content:
    return Content(kind, dict.fromkeys(content_kinds(), 1 / 3), 2.5 if unusual else 0.9, unusual)


@pytest.mark.parametrize(
    ("ct", "xray", "codes"),
    [
        ("ct", "xray", []),
        ("xray", "ct", ["swapped_inputs"]),
        ("xray", "xray", ["wrong_modality_ct"]),
        ("ct", "ct", ["wrong_modality_xray"]),
        ("neither", "xray", ["not_a_chest_image_ct"]),
        ("neither", "ct", ["not_a_chest_image_ct", "wrong_modality_xray"]),
        ("neither", "neither", ["not_a_chest_image_ct", "not_a_chest_image_xray"]),
        (None, "ct", ["wrong_modality_xray"]),
        ("neither", None, ["not_a_chest_image_ct"]),
        ("ct", None, []),
    ],
)
def test_each_case_has_its_notices(ct, xray, codes):
    contents = {m: content(kind) for m, kind in (("ct", ct), ("xray", xray)) if kind is not None}
    notices = check_contents(contents)
    assert [notice.code for notice in notices] == codes
    assert all(notice.message.endswith(".") for notice in notices)


def test_what_is_too_unlike_is_said_with_its_distance():
    (notice,) = check_contents({"ct": content("ct", unusual=True), "xray": content("xray")})
    assert notice.code == "unlike_training_ct"
    assert "2.5" in notice.message


READER = ContentReader("xray")


def pictures(kind: str, count: int = 4) -> list[np.ndarray]:
    """Bright noise stands for a CT slice, dark noise for a film, an even shade for neither."""
    rng = np.random.default_rng(content_kinds().index(kind))
    mean, spread = {"ct": (190, 30), "xray": (60, 30), "neither": (120, 0)}[kind]
    return [np.clip(rng.normal(mean, spread, (150, 150)), 0, 255).astype(np.uint8) for _ in range(count)]


def fitted_classifier(network) -> ContentClassifier:
    """One that tells those three apart by least squares; everything is usual to it."""
    width = content_width(network, READER)
    images = np.stack([picture for kind in content_kinds() for picture in pictures(kind)]).astype(np.float32)
    features = compute_contents(network, READER, images)
    wanted = 20 * np.repeat(np.eye(3), 4, axis=0)
    weights, *_ = np.linalg.lstsq(features, wanted, rcond=None)
    usual = PcaOutlierModel(
        np.eye(width, 1, dtype=np.float32), np.zeros(1, np.float32), np.full(1, 1e3, np.float32), 1.0
    )
    nothing = np.zeros(width, np.float32)
    return ContentClassifier(
        READER,
        nothing,
        nothing + 1,
        weights.astype(np.float32),
        np.zeros(3, np.float32),
        0.5,
        {"ct": usual, "xray": usual},
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints") / "checked"
    with toy_backbones():
        network = make_network(PAIR, head_width=16)
        meta = make_meta(network) | {"content_check": {"refusal": 0.5}}
        publish_checkpoint(folder, network, meta, "# checked\n", classifier=fitted_classifier(network))
    return folder


def test_the_content_classifier_travels_with_the_checkpoint(folder):
    meta = json.loads((folder / "meta.json").read_text())
    assert meta["content_check"]["refusal"] == 0.5
    written = (folder / "content_classifier.npz").read_bytes()
    assert meta["content_check"]["sha256"] == hashlib.sha256(written).hexdigest()
    assert load_predictor(folder).classifier is not None


def test_a_refused_study_has_no_numbers(folder):
    predictor = load_predictor(folder)
    (flat,) = pictures("neither", 1)
    answer = predictor.predict(ct=flat, xray=flat)
    assert answer.label == "undetermined"
    assert answer.probabilities == {}
    assert answer.heatmaps == {}
    assert {notice.code for notice in answer.warnings} == {"not_a_chest_image_ct", "not_a_chest_image_xray"}
    assert all(not branch.probabilities for branch in answer.branches.values())
    assert "probability" not in json.dumps(answer.to_dict()["branches"])


def test_one_by_one_and_together_check_alike(folder):
    predictor = load_predictor(folder)
    given = [*(picture for kind in content_kinds() for picture in pictures(kind, 1)), None]
    studies = [(a, b) for a in given for b in given if a is not None or b is not None]
    together = predictor.predict_batch(studies)
    alone = [predictor.predict(ct=ct, xray=xray) for ct, xray in studies]
    assert [p.label for p in together] == [p.label for p in alone]
    assert [[w.code for w in p.warnings] for p in together] == [[w.code for w in p.warnings] for p in alone]
    answered = [(p.modalities, p.label != "undetermined") for p in together]
    assert sum(answered_here for _, answered_here in answered) == 3  # the pair in place, and each alone


def test_an_exchanged_content_classifier_is_refused(folder, tmp_path):
    import shutil

    other = tmp_path / "checked"
    shutil.copytree(folder, other)
    (other / "content_classifier.npz").write_bytes((other / "content_classifier.npz").read_bytes() + b"x")
    with pytest.raises(CheckpointError, match="SHA-256 differs"):
        load_predictor(other)
    (other / "content_classifier.npz").unlink()
    with pytest.raises(CheckpointError, match="missing"):
        load_predictor(other)


def test_a_checkpoint_without_a_content_classifier_says_so(tmp_path):
    publish_toy(tmp_path / "toy")
    picture = grey_images(1, 150, seed=1)[0].astype(np.uint8)
    assert load_predictor(tmp_path / "toy").predict(ct=picture).has_warning("content_not_judged")
