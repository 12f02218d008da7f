"""A third modality is one more entry in one table: built, trained, published, loaded, answered and explained."""

from __future__ import annotations

import re
import tokenize
from pathlib import Path

import keras
import numpy as np
import pytest
from toy_checkpoint import CARD, make_meta, publish_toy
from toy_networks import grey_images, shake_weights, toy_backbones

import covid_mm
from covid_mm.config import CLASSES, MODALITIES, ModalityInfo, NetworkConfig, TrainingConfig
from covid_mm.errors import UsageError
from covid_mm.imaging import ImageHeader, to_network_input
from covid_mm.imaging.lungs import find_region, read_lungs
from covid_mm.models.content_classifier import (
    NEITHER,
    Content,
    compute_contents,
    content_width,
    read_content_classifier,
)
from covid_mm.models.heads import FUSED, find_margins
from covid_mm.models.network import build_network
from covid_mm.serving.checkpoint import publish_checkpoint
from covid_mm.serving.content_check import check_contents, contradicting_slots
from covid_mm.serving.pairing import ImageFile, pair_files
from covid_mm.serving.predictor import load_predictor
from covid_mm.training.batches import ModalitySamples, prepare_bottleneck
from covid_mm.training.content_classifier import ContentImages, fit_content_classifier
from covid_mm.training.features import compute_features
from covid_mm.training.fit import fit_network
from covid_mm.training.fusion import branch_direction, fit_fused_head
from covid_mm.training.run import RunFolder

LATERAL = ModalityInfo("lateral X-ray", "a lateral chest X-ray", "film", dicom_codes=("CR", "DX"))
THREE = ("ct", "xray", "lateral")
BRANCHES = tuple(zip(THREE, ("densenet121", "mobilenet", "mobilenet"), strict=True))
TEMPERATURE = {"fused": 1.5, "ct": 2.0, "xray": 1.25, "lateral": 3.0}
OFFSET = {"fused": 0.1, "ct": -0.2, "xray": 0.3, "lateral": 0.05}
POSITIVE = CLASSES[1]
SIDE = 150
PACKAGE = Path(covid_mm.__file__).parent
NAMED_IN = {  # files outside the page that name a modality, which need not know a third one
    "config.py",
    *(f"datasets/{name}.py" for name in ("coronahack", "manifest", "phantoms", "sarscov2", "siim")),
    *(f"imaging/{name}.py" for name in ("dicom", "scan", "series", "window")),  # of CT alone
    "serving/predictor.py",  # predict(ct=, xray=)
    "serving/scan_files.py",  # the one that comes as a whole scan
    "explain/heat_checks.py",  # levels, each measured on its images
    "evaluation/results.py",  # the paper's four possibilities
    *(f"reporting/{name}.py" for name in ("model_card", "results_tables", "served_facts")),
}
NAME = re.compile(r"""ct|xray|(ct|xray)_\w+|\w+_(ct|xray)|["'](ct|xray)["']""")


@pytest.fixture(scope="module", autouse=True)
def _third_modality():
    """All that the package is told of it."""
    with pytest.MonkeyPatch.context() as patch, toy_backbones():
        patch.setitem(MODALITIES, "lateral", LATERAL)
        yield


def make_samples(seed: int) -> dict[str, ModalitySamples]:
    """Eight images of each modality; the positive ones are brighter."""
    labels = (np.arange(8) % 2).astype(np.int64)
    lighter = 90 * labels[:, None, None].astype(np.float32)
    return {
        m: ModalitySamples(grey_images(8, SIDE, seed=seed + k) * np.float32(0.5) + lighter, labels)
        for k, m in enumerate(THREE)
    }


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """Three branches: the last blocks and the concatenated head trained together, then each branch's own head."""
    network = build_network(NetworkConfig(BRANCHES, head_width=16, image_size=SIDE))
    shake_weights(network.model, 0)
    sides = make_samples(0), make_samples(20)
    for head in (FUSED, *THREE):
        modalities, fine_tune = (THREE, "last-block") if head == FUSED else ((head,), "frozen")
        config = TrainingConfig(
            epochs=1, steps_per_epoch=2, batch_size=4, augmented_copies=2, fine_tune=fine_tune
        )
        training, validation = (
            {
                m: prepare_bottleneck(network, m, side[m], fine_tune=fine_tune, copies=copies, seed=0)
                for m in modalities
            }
            for side, copies in zip(sides, (2, 1), strict=True)
        )
        trained = ["logits", *(f"{m}_last_conv" for m in THREE)] if head == FUSED else [f"{head}_logits"]
        before = [network.model.get_layer(name).get_weights()[0] for name in trained]
        fit_network(
            network, training, validation, config, RunFolder(tmp_path_factory.mktemp(head)), head=head
        )
        for name, weights in zip(trained, before, strict=True):
            assert not np.array_equal(weights, network.model.get_layer(name).get_weights()[0]), name
    return network


@pytest.fixture(scope="module")
def predictor(network, tmp_path_factory):
    """The network as it is loaded from its published files."""
    folder = tmp_path_factory.mktemp("published") / network.config.name
    meta = make_meta(network, temperature=TEMPERATURE, offset=OFFSET)
    publish_checkpoint(folder, network, meta, CARD, half=False)
    return load_predictor(folder)


@pytest.fixture(scope="module")
def study():
    return {m: grey_images(1, SIDE, seed=50 + k)[0].astype(np.uint8) for k, m in enumerate(THREE)}


def calibrated_margins(network, study) -> dict[str, float]:
    """(difference of a head's logits - offset) / temperature, by head, straight from the network."""
    outputs = network.model(
        {m: to_network_input(image[None].astype(np.float32)) for m, image in study.items()}
    )
    margins = {
        h: find_margins(np.asarray(outputs["logits" if h == FUSED else f"{h}_logits"]))[0]
        for h in TEMPERATURE
    }
    return {h: float(margin - OFFSET[h]) / TEMPERATURE[h] for h, margin in margins.items()}


def share(margin: float) -> float:
    return 1 / (1 + np.exp(-margin))


def test_all_three_images_get_the_concatenated_answer(network, predictor, study):
    assert predictor.network.config == NetworkConfig(BRANCHES, head_width=16, image_size=SIDE)
    assert predictor.metadata.heads == (FUSED, *THREE)
    margins = calibrated_margins(network, study)
    answer = predictor.predict_images(dict(reversed(study.items())))
    assert answer.modalities == THREE
    assert answer.probabilities[POSITIVE] == pytest.approx(share(margins[FUSED]), abs=1e-5)
    assert {m: branch.probabilities[POSITIVE] for m, branch in answer.branches.items()} == pytest.approx(
        {m: share(margins[m]) for m in THREE}, abs=1e-5
    )
    assert {m: part.shape for m, part in answer.heatmaps.items()} == dict.fromkeys(THREE, (SIDE, SIDE))
    assert any(part.any() for part in answer.heatmaps.values())
    written = answer.to_dict()
    assert all(tuple(written[field]) == THREE for field in ("branches", "modalities", "heatmaps", "lungs"))
    assert not answer.has_warning("missing_images")
    (together,) = predictor.predict_batch([study])
    assert together.probabilities == pytest.approx(answer.probabilities, abs=1e-6)


@pytest.mark.parametrize("modality", THREE)
def test_one_image_gets_its_branches_answer(network, predictor, study, modality):
    margins = calibrated_margins(network, study)
    answer = predictor.predict_images({modality: study[modality]})
    assert answer.probabilities[POSITIVE] == pytest.approx(share(margins[modality]), abs=1e-5)
    assert set(answer.heatmaps) == {modality}
    assert answer.has_warning("single_modality")


@pytest.mark.parametrize("missing", THREE)
def test_two_of_three_get_the_sum_of_what_each_says(network, predictor, study, missing):
    given = {m: image for m, image in study.items() if m != missing}
    margins = calibrated_margins(network, study)
    answer = predictor.predict_images(given, heatmap_class=POSITIVE)
    assert answer.probabilities[POSITIVE] == pytest.approx(share(sum(margins[m] for m in given)), abs=1e-5)
    apart = len({answer.branches[m].label for m in given}) > 1
    assert answer.label == ("undetermined" if apart else CLASSES[int(answer.probabilities[POSITIVE] >= 0.5)])
    assert answer.evidence is None
    (notice,) = [one for one in answer.warnings if one.code == "missing_images"]
    assert MODALITIES[missing].title in notice.message
    for modality, heatmap in answer.heatmaps.items():
        alone = predictor.predict_images({modality: study[modality]}, heatmap_class=POSITIVE)
        np.testing.assert_allclose(heatmap, alone.heatmaps[modality], atol=1e-5)


@pytest.mark.parametrize("given", [THREE, ("xray", "lateral"), ("lateral",)], ids=len)
@pytest.mark.parametrize("method", ["layer_cam", "score_cam"])
def test_any_images_are_explained_by_any_method(predictor, study, given, method):
    explanation = predictor.explain_images(
        {m: study[m] for m in given}, method=method, heatmap_class=POSITIVE
    )
    assert tuple(explanation.heatmaps) == given
    assert all(np.isfinite(part).all() and part.max() <= 1 for part in explanation.heatmaps.values())


def test_the_concatenated_head_learns_the_sum_of_three(network):
    copied = build_network(network.config)
    copied.model.set_weights(network.model.get_weights())
    samples = make_samples(0)
    features = {m: compute_features(copied, m, samples[m].images, fine_tune="frozen")[0] for m in THREE}
    calibrations = dict.fromkeys(THREE, lambda margins: margins / 2)
    totals = (
        sum(features[m] @ branch_direction(copied, m)[0] + branch_direction(copied, m)[1] for m in THREE) / 2
    )
    head = keras.Model([copied.features(m) for m in THREE], copied.logits(FUSED))
    before = np.abs(find_margins(head.predict([features[m] for m in THREE], verbose=0)) - totals).mean()
    assert fit_fused_head(copied, features, calibrations, steps=150, learning_rate=1e-2) < before / 3


def test_a_content_check_tells_the_third_apart_and_its_file_says_so(network, tmp_path):
    rows = np.broadcast_to(np.arange(SIDE, dtype=np.float32)[:, None], (SIDE, SIDE))
    patterns = {
        "ct": 20 + rows * (200 / SIDE),
        "xray": 20 + 200 * (rows.T // 5 % 2),
        "lateral": 0 * rows + 240,
        NEITHER: 0 * rows,
    }
    images = {
        kind: np.clip(pattern + grey_images(12, SIDE, seed=k) * np.float32(0.05), 0, 255).astype(np.float32)
        for k, (kind, pattern) in enumerate(patterns.items())
    }
    classifier = fit_content_classifier(network, ContentImages(images, images))
    path = tmp_path / "content_classifier.npz"
    path.write_bytes(classifier.to_bytes())
    read = read_content_classifier(path, THREE, lambda reader: content_width(network, reader))
    assert read.kinds == (*THREE, NEITHER)
    for kind, part in images.items():
        contents = read.check("lateral", compute_contents(network, read.reader, part))
        assert {content.kind for content in contents} == {kind}


def test_its_slot_is_checked_like_the_others():
    def shows(kind: str) -> Content:
        return Content(kind, {}, 0.5, unusual=False)

    swapped = check_contents({"ct": shows("ct"), "xray": shows("lateral"), "lateral": shows("xray")})
    assert [notice.code for notice in swapped] == ["swapped_inputs"]
    assert "the X-ray slot shows a lateral chest X-ray" in swapped[0].message
    (wrong,) = check_contents({"ct": shows("lateral")})
    assert wrong.code == "wrong_modality_ct"
    assert "Move it to the lateral X-ray slot" in wrong.message
    film = ImageHeader("xray", None, (), None, 1)  # DICOM's codes name a film, not which
    assert contradicting_slots({"ct": film, "xray": film, "lateral": film}) == {"ct": "xray"}


def test_its_lungs_are_read_as_those_of_a_film():
    probability = np.zeros((64, 64), np.float32)
    probability[10:50, 8:28] = probability[10:50, 36:56] = 1.0
    region = find_region(probability, "lateral")
    grey = grey_images(1, 200, seed=1)[0]
    np.testing.assert_array_equal(
        read_lungs(grey, region, "lateral", 75), read_lungs(grey, region, "xray", 75)
    )


def test_a_network_of_two_is_as_it_was(tmp_path, study):
    publish_toy(tmp_path / "pair")
    pair = load_predictor(tmp_path / "pair")
    assert pair.predict(study["ct"], study["xray"]).modalities == ("ct", "xray")
    with pytest.raises(UsageError, match="reads CT and X-ray only, not lateral X-ray"):
        pair.predict_images(study)


def test_files_of_a_batch_are_found_by_its_name():
    files = [ImageFile(f"a_{m}.png", bytes) for m in THREE]
    (study,) = pair_files([*files, ImageFile("a_mri.png", bytes)]).studies
    assert tuple(study.files) == THREE


def test_few_files_name_a_modality():
    named = set()
    for path in PACKAGE.rglob("*.py"):
        with path.open(encoding="utf-8") as file:
            tokens = [one for one in tokenize.generate_tokens(file.readline) if NAME.fullmatch(one.string)]
        if tokens and "ui" not in path.relative_to(PACKAGE).parts:
            named.add(path.relative_to(PACKAGE).as_posix())
    assert "config.py" in named
    assert named <= NAMED_IN, "what differs between modalities is a field of MODALITIES in config.py"
