"""The predictor's contract: answers, heatmaps, notices, and many callers at once."""

from __future__ import annotations

import dataclasses
import json
import math
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from answer_keys import ANSWER_KEYS
from PIL import Image
from toy_checkpoint import make_meta, publish_toy
from toy_networks import PAIR, grey_images, make_network, toy_backbones

from covid_mm import load_predictor
from covid_mm.config import CLASSES, NetworkConfig
from covid_mm.errors import CheckpointError, ImageError, UsageError
from covid_mm.explain.grad_cam import GradCam, find_layer
from covid_mm.models.meta_file import read_meta
from covid_mm.models.network import build_network
from covid_mm.serving.heatmap_request import FAINTEST
from covid_mm.serving.metadata import parse_metadata
from covid_mm.serving.predictor import Predictor

pytestmark = pytest.mark.usefixtures("small_backbones")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints") / "toy"
    with toy_backbones():
        publish_toy(folder, temperature={"fused": 2.0, "ct": 1.5, "xray": 1.0})
    return folder


@pytest.fixture(scope="module")
def predictor(checkpoint: Path) -> Predictor:
    with toy_backbones():
        loaded = load_predictor(checkpoint)
        loaded.warm_up()
    return loaded


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    """Twelve grey pictures, uint8 (150, 150)."""
    return list(grey_images(12, 150, seed=3).astype(np.uint8))


def with_meta(predictor: Predictor, **changes: Any) -> Predictor:
    """The same network with other fields in its meta.json."""
    return Predictor(
        predictor.network, parse_metadata(predictor.metadata.raw | changes, predictor.metadata.name)
    )


def aim(network: Any, **differences: float) -> None:
    """Make heads give these logit differences (positive minus normal) whatever they see."""
    for head, difference in differences.items():
        layer = network.model.get_layer("logits" if head == "fused" else f"{head}_logits")
        layer.kernel.assign(np.zeros(layer.kernel.shape, np.float32))
        layer.bias.assign([0.0, difference])


@pytest.fixture
def aimed() -> Callable[..., Predictor]:
    """`aimed({"fused": 1.0}, synthetic=True)`: heads with fixed logit differences, other meta."""

    def make(differences: dict[str, float], **changes: Any) -> Predictor:
        network = make_network(PAIR, head_width=16)
        aim(network, **differences)
        weights = {"file": "model.weights.h5", "sha256": "0" * 64}
        return Predictor(network, parse_metadata(make_meta(network, weights=weights, **changes), "aimed"))

    return make


def same(first: Any, second: Any, tolerance: float = 1e-5) -> bool:
    """Whether two predictions are equal but for rounding."""
    return (
        first.label == second.label
        and first.modalities == second.modalities
        and first.heatmap_class == second.heatmap_class
        and first.warnings == second.warnings
        and all(abs(first.probabilities[c] - second.probabilities[c]) < tolerance for c in CLASSES)
        and all(
            abs(first.branches[m].probabilities[c] - second.branches[m].probabilities[c]) < tolerance
            for m in first.branches
            for c in CLASSES
        )
        and all(np.abs(first.heatmaps[m] - second.heatmaps[m]).max() < 10 * tolerance for m in first.heatmaps)
        and all(np.array_equal(first.images[m], second.images[m]) for m in first.images)
    )


def test_answer_to_a_pair(predictor, checkpoint, pictures):
    answer = predictor.predict(ct=pictures[0], xray=pictures[1])
    assert answer.modalities == ("ct", "xray")
    for part in (answer, *answer.branches.values()):
        assert set(part.probabilities) == set(CLASSES)
        assert sum(part.probabilities.values()) == pytest.approx(1.0, abs=1e-9)
        assert part.label == max(part.probabilities, key=part.probabilities.get)
    assert set(answer.branches) == set(answer.heatmaps) == set(answer.images) == {"ct", "xray"}
    for modality, picture in zip(("ct", "xray"), pictures, strict=False):
        heatmap = answer.heatmaps[modality]
        assert heatmap.shape == (150, 150)
        assert heatmap.dtype == np.float32
        assert heatmap.min() >= 0
        assert heatmap.max() <= 1
        assert answer.images[modality].dtype == np.uint8
        assert np.array_equal(answer.images[modality], np.repeat(picture[..., None], 3, -1))
    assert answer.heatmap_class == answer.label
    meta = read_meta(checkpoint)
    assert answer.checkpoint.sha256 == meta["weights"]["sha256"]
    assert (answer.checkpoint.name, answer.checkpoint.pair) == ("toy", PAIR)
    assert predictor.meta == meta


def test_json_object_is_that_of_the_design(predictor, pictures):
    answer = predictor.predict(ct=pictures[0], xray=pictures[1])
    result = json.loads(json.dumps(answer.to_dict({"ct": "ct.png"}), allow_nan=False))
    assert list(result) == ANSWER_KEYS
    assert result["lungs"] == {"ct": None, "xray": None}
    assert result["evidence"] is None
    assert result["heatmaps"] == {"ct": "ct.png", "xray": None}
    assert set(result["checkpoint"]) == {"name", "sha256", "pair", "trained_on", "decision_threshold"}
    assert set(result["branches"]) == {"ct", "xray"}
    assert all(set(part) == {"label", "probabilities"} for part in result["branches"].values())
    assert all(set(part) == {"code", "message"} for part in result["warnings"])
    assert set(result["timing_ms"]) == {"decode", "network", "total"}
    assert all(value >= 0 for value in result["timing_ms"].values())


@pytest.mark.parametrize("modality", ["ct", "xray"])
def test_one_image_is_answered_by_its_branch_alone(predictor, pictures, modality):
    both = predictor.predict(ct=pictures[0], xray=pictures[0])
    alone = predictor.predict(**{modality: pictures[0]})
    assert alone.modalities == (modality,)
    assert set(alone.heatmaps) == set(alone.branches) == set(alone.images) == {modality}
    assert alone.probabilities == pytest.approx(both.branches[modality].probabilities, abs=1e-6)
    assert alone.label == both.branches[modality].label
    assert alone.has_warning("single_modality")
    assert not both.has_warning("single_modality")


def test_no_image_is_refused(predictor):
    with pytest.raises(UsageError, match="There is no image"):
        predictor.predict()
    with pytest.raises(UsageError, match="There is no image"):
        predictor.predict_batch([(None, None)])


def test_an_unreadable_image_is_refused(predictor, pictures, tmp_path):
    for bad in (b"", b"not an image", tmp_path / "none.png"):
        with pytest.raises(ImageError):
            predictor.predict(ct=bad, xray=pictures[0])


def test_every_kind_of_source_gives_one_answer(predictor, pictures, tmp_path):
    picture = Image.fromarray(pictures[0])
    buffer = BytesIO()
    picture.save(buffer, "PNG")
    file = tmp_path / "ct.png"
    file.write_bytes(buffer.getvalue())
    answers = [
        predictor.predict(ct=source) for source in (pictures[0], picture, buffer.getvalue(), file, str(file))
    ]
    assert all(same(answers[0], answer) for answer in answers[1:])


@pytest.mark.parametrize("name", CLASSES)
def test_heatmaps_show_the_class_that_was_asked_for(predictor, pictures, name):
    usual = predictor.predict(ct=pictures[0], xray=pictures[1])
    asked = predictor.predict(ct=pictures[0], xray=pictures[1], heatmap_class=name)
    assert asked.heatmap_class == name
    assert asked.probabilities == pytest.approx(usual.probabilities, abs=1e-6)
    same_maps = all(np.allclose(asked.heatmaps[m], usual.heatmaps[m], atol=1e-6) for m in ("ct", "xray"))
    assert same_maps == (name == usual.label)


def test_an_unknown_class_is_refused(predictor, pictures):
    with pytest.raises(UsageError, match="choose normal or covid19_pneumonia"):
        predictor.predict(ct=pictures[0], heatmap_class="pneumonia")


def test_heatmaps_are_on_the_checkpoints_scale(predictor, pictures):
    images = {m: np.repeat(pictures[0][None, ..., None], 3, -1).astype(np.float32) for m in ("ct", "xray")}
    explained = GradCam(predictor.network).explain(images, np.array([1], np.int32))
    shown = max(("ct", "xray"), key=lambda m: explained.evidence[m].max())
    evidence = explained.evidence[shown][0]
    peak = float(evidence.max())
    assert peak > 0

    def heatmap(scale: float) -> np.ndarray:
        own = {m: {m: scale} for m in ("ct", "xray")}
        scaled = with_meta(predictor, heatmap_scale=own | {"fused": {"ct": scale, "xray": scale}})
        return scaled.predict(pictures[0], pictures[0], heatmap_class=CLASSES[1]).heatmaps[shown]

    assert heatmap(2 * peak) == pytest.approx(evidence / (2 * peak), abs=1e-4)
    cut = heatmap(peak / 2)
    assert cut.max() == 1.0
    assert cut == pytest.approx(np.minimum(evidence / (peak / 2), 1), abs=1e-4)
    assert heatmap(peak * 0.99 / FAINTEST).any()
    assert not heatmap(peak * 1.01 / FAINTEST).any()  # too faint to be seen: empty, not stretched


def test_maps_come_with_their_layers_cells(predictor, pictures):
    answer = predictor.predict(pictures[0], pictures[1])
    for modality in ("ct", "xray"):
        name = find_layer(predictor.network, modality, answer.heatmap_layer)
        shape = predictor.network.tensor(name).shape
        assert answer.heatmap_grids[modality] == tuple(shape[1:3])
        cells = answer.find_heat_cells(modality)
        assert cells is not None
        drawn = answer.draw_heatmap(modality, 300, 300)
        assert len(np.unique(drawn)) <= shape[1] * shape[2] + 1
    assert predictor.predict(pictures[0], layer="fine").heatmap_grids["ct"] > answer.heatmap_grids["ct"]
    assert answer.to_dict() == dataclasses.replace(answer, heatmap_grids={}).to_dict()  # a matter of drawing


@pytest.mark.parametrize(("temperature", "threshold"), [(1.0, 0.5), (2.0, 0.5), (2.0, 0.7), (1.0, 0.9)])
def test_temperature_and_threshold_are_applied(aimed, pictures, temperature, threshold):
    difference = 1.5
    changes = {
        "temperature": {"fused": temperature, "ct": 1.0, "xray": 3.0},
        "decision_threshold": {"fused": threshold, "ct": 0.95, "xray": 0.5},
    }
    answer = aimed(dict.fromkeys(("fused", "ct", "xray"), difference), **changes).predict(
        pictures[0], pictures[1]
    )

    def expected(divisor: float) -> float:
        return 1 / (1 + math.exp(-difference / divisor))

    positive = CLASSES[1]
    assert answer.probabilities[positive] == pytest.approx(expected(temperature), abs=1e-6)
    assert answer.label == "undetermined"  # the branches below disagree
    assert answer.heatmap_class == CLASSES[int(expected(temperature) >= threshold)]
    assert answer.checkpoint.decision_threshold == threshold
    assert answer.branches["ct"].label == "normal"  # 0.82 is below its own 0.95
    assert answer.branches["xray"].label == positive
    assert answer.branches["xray"].probabilities[positive] == pytest.approx(expected(3.0), abs=1e-6)


def test_extreme_logits_stay_numbers(aimed, pictures):
    answer = aimed({"fused": 3e4, "ct": -3e4}).predict(pictures[0], pictures[1])
    assert answer.probabilities == {"normal": 0.0, "covid19_pneumonia": 1.0}
    assert answer.branches["ct"].probabilities == {"normal": 1.0, "covid19_pneumonia": 0.0}


def test_disagreeing_branches_are_said(aimed, pictures):
    answer = aimed({"fused": 1.0, "ct": 2.0, "xray": -2.0}).predict(pictures[0], pictures[1])
    (notice,) = [w for w in answer.warnings if w.code == "branches_disagree"]
    assert (answer.label, answer.reason) == ("undetermined", "branches_disagree")
    assert answer.probabilities  # of the combined head, to be shown small
    assert answer.to_dict()["branches"]["ct"]["label"] == answer.branches["ct"].label
    assert "CT alone says COVID-19 pneumonia" in notice.message
    assert "X-ray alone Normal" in notice.message
    agreeing = aimed({"fused": 1.0, "ct": 2.0, "xray": 2.0}).predict(pictures[0], pictures[1])
    assert not agreeing.has_warning("branches_disagree")


def test_empty_heatmaps_are_said(aimed, pictures):
    answer = aimed({"fused": 1.0}).predict(pictures[0], pictures[1])  # a head that looks at nothing
    codes = {notice.code for notice in answer.warnings}
    assert {"no_positive_evidence_ct", "no_positive_evidence_xray"} <= codes
    assert all(not heatmap.any() for heatmap in answer.heatmaps.values())


def test_phantoms_are_said(predictor, pictures):
    assert not predictor.predict(ct=pictures[0]).has_warning("synthetic_checkpoint")
    answer = with_meta(predictor, synthetic=True).predict(ct=pictures[0])
    assert answer.has_warning("synthetic_checkpoint")


def test_nan_is_an_error_never_a_label(aimed, pictures):
    broken = aimed({"fused": float("nan")})
    with pytest.raises(CheckpointError, match="fused output of checkpoint aimed is not a number"):
        broken.predict(pictures[0], pictures[1])
    assert broken.predict(ct=pictures[0]).label in CLASSES  # the branch's own head is sound


def test_a_single_network_answers_its_modality_only(pictures):
    network = build_network(NetworkConfig.single("mobilenet", "xray"))
    weights = {"file": "model.weights.h5", "sha256": "0" * 64}
    single = Predictor(network, parse_metadata(make_meta(network, weights=weights), "single"))
    answer = single.predict(xray=pictures[0])
    assert answer.modalities == ("xray",)
    assert set(answer.branches) == {"xray"}
    assert not answer.has_warning("single_modality")
    with pytest.raises(UsageError, match="reads X-ray only, not CT"):
        single.predict(ct=pictures[0])


def mixed_studies(pictures: list[np.ndarray], count: int) -> list[tuple[Any, Any]]:
    """Pairs and single images in turn, each of other pictures."""
    n = len(pictures)
    return [
        (
            None if k % 4 == 1 else pictures[k % n],
            None if k % 4 == 2 else pictures[(3 * k + k // n) % n],
        )
        for k in range(count)
    ]


def test_a_batch_is_answered_as_one_by_one(predictor, pictures):
    studies = mixed_studies(pictures, 40)  # more than one forward pass's worth of pairs
    together = predictor.predict_batch(studies)
    assert len(together) == 40
    assert all(
        same(predictor.predict(*study), answer) for study, answer in zip(studies, together, strict=True)
    )
    asked = predictor.predict_batch(studies[:4], heatmap_class="normal")
    assert [answer.heatmap_class for answer in asked] == ["normal"] * 4
    assert predictor.predict_batch([]) == []


def test_64_mixed_requests_at_once_are_not_mixed_up(checkpoint, pictures):
    studies = mixed_studies(pictures, 64)
    fresh = load_predictor(checkpoint)  # not warmed up: the functions are traced by whoever comes first
    gate = threading.Barrier(8)

    def ask(worker: int) -> list[Any]:
        gate.wait()
        return [fresh.predict(*study) for study in studies[worker::8]]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(8)))
    expected = fresh.predict_batch(studies)
    for worker, result in enumerate(answers):
        for answer, wanted in zip(result, expected[worker::8], strict=True):
            assert same(answer, wanted)
    assert sum(heatmap.any() for answer in expected for heatmap in answer.heatmaps.values()) > 32
    values = {answer.probabilities["normal"] for answer in expected}
    assert len(values) > 32  # or a mix-up could not be seen


def test_public_names_are_the_same_objects():
    import covid_mm
    from covid_mm.serving import prediction, predictor

    assert covid_mm.load_predictor is predictor.load_predictor
    assert covid_mm.Predictor is predictor.Predictor
    assert covid_mm.Prediction is prediction.Prediction
