"""A checkpoint exported for ONNX Runtime answers as TensorFlow does, and nothing else is answered from."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_classifier import make_content_classifier
from made_lungs import LUNGS_META
from toy_checkpoint import CARD, make_meta
from toy_networks import PAIR, grey_images, make_network, read_folder, toy_backbones

from covid_mm import load_predictor
from covid_mm.config import NetworkConfig
from covid_mm.errors import CheckpointError, UsageError
from covid_mm.explain.method_table import list_pass_methods
from covid_mm.models.content_classifier import ContentReader, content_width
from covid_mm.models.lung_segmenter import LungSegmenter, build_segmenter
from covid_mm.models.meta_file import ONNX_FOLDER
from covid_mm.models.network import build_network
from covid_mm.publishing import onnx_export
from covid_mm.publishing.onnx_export import export_onnx
from covid_mm.serving.checkpoint import publish_checkpoint
from covid_mm.serving.onnx_functions import MANIFEST_NAME, OnnxFunctions, OnnxSegmenter, load_onnx
from covid_mm.serving.prediction import Prediction
from covid_mm.serving.tensorflow_functions import TensorFlowFunctions

pytestmark = pytest.mark.usefixtures("small_backbones")


READER = ContentReader("xray", ("entry_relu",), 2)


def picture(seed: int) -> np.ndarray:
    return grey_images(1, 300, seed=seed)[0].astype(np.uint8)


def assert_same(one: Prediction, other: Prediction) -> None:
    assert one.probabilities
    assert one.label == other.label
    assert [notice.code for notice in one.warnings] == [notice.code for notice in other.warnings]
    assert one.probabilities == pytest.approx(other.probabilities, abs=1e-4)
    assert set(one.branches) == set(other.branches)
    for modality, branch in one.branches.items():
        assert branch.probabilities == pytest.approx(other.branches[modality].probabilities, abs=1e-4)
    for modality, heatmap in one.heatmaps.items():
        np.testing.assert_allclose(heatmap, other.heatmaps[modality], atol=1e-4)


def export_toy(folder: Path, *, checks_contents: bool) -> Path:
    """A toy pair with attention pooling, exported; its content classifier refuses most pictures."""
    with toy_backbones():
        network = make_network(PAIR, head_width=16, seed=1, pooling="attention")
        classifier = (
            make_content_classifier(content_width(network, READER), reader=READER)
            if checks_contents
            else None
        )
        meta = make_meta(network, heatmap_method="layer_cam", heatmap_layer="coarse")
        publish_checkpoint(folder, network, meta, CARD, classifier=classifier)
        differences = export_onnx(folder, progress=lambda name: None)
    assert {"logits fused", "logits ct", "evidence xray"} <= set(differences)
    assert ("contents ct" in differences) == checks_contents
    assert max(differences.values()) <= onnx_export.TOLERANCE
    return folder


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_toy(tmp_path_factory.mktemp("exported") / "toy", checks_contents=False)


@pytest.fixture(scope="module")
def checking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_toy(tmp_path_factory.mktemp("checking") / "toy", checks_contents=True)


@pytest.fixture
def predictors(exported: Path) -> tuple[Any, Any]:
    return load_predictor(exported), load_predictor(exported, runtime="onnx")


def test_answers_and_heatmaps_equal_tensorflow(predictors) -> None:
    ours, theirs = predictors
    for study in ({"ct": picture(1), "xray": picture(2)}, {"ct": picture(3)}, {"xray": picture(4)}):
        assert_same(ours.predict(**study), theirs.predict(**study))
    studies = [(picture(5), picture(6)), (None, picture(7)), (picture(8), None), (picture(9), picture(10))]
    for one, other in zip(ours.predict_batch(studies), theirs.predict_batch(studies), strict=True):
        assert_same(one, other)
    for method in list_pass_methods(ours.network.config.pooling):
        assert_same(*(p.predict(picture(1), picture(2), method=method, layer="coarse") for p in predictors))


def test_refusals_equal_tensorflow(checking: Path) -> None:
    predictors = [load_predictor(checking, runtime=name) for name in ("tensorflow", "onnx")]
    for study in ({"ct": picture(1), "xray": picture(2)}, {"xray": picture(4)}):
        ours, theirs = (predictor.predict(**study) for predictor in predictors)
        assert not ours.probabilities
        assert [notice.message for notice in ours.warnings] == [notice.message for notice in theirs.warnings]


def test_a_scan_is_read_alike(checking: Path) -> None:
    _, meta, classifier, _ = load_onnx(checking)
    theirs = OnnxFunctions(checking / ONNX_FOLDER, meta)
    from covid_mm.serving.checkpoint import load_checkpoint

    network, _ = load_checkpoint(checking)
    ours = TensorFlowFunctions(network, meta, classifier.reader, reads_lungs=False)
    images = np.random.default_rng(0).uniform(0, 255, (5, 150, 150)).astype(np.float32)
    np.testing.assert_allclose(theirs.contents(images), ours.contents(images), rtol=1e-4, atol=1e-5)
    for modality in ("ct", "xray"):
        for got, expected in zip(
            theirs.read_slices(modality, images), ours.read_slices(modality, images), strict=True
        ):
            np.testing.assert_allclose(got, expected, atol=1e-5)
    features = [ours.read_slices(m, images)[1] for m in ("ct", "xray")]
    np.testing.assert_allclose(theirs.fuse(features), ours.fuse(features), atol=1e-5)


def test_what_was_not_exported_is_refused(predictors) -> None:
    _, theirs = predictors
    with pytest.raises(UsageError, match="layer coarse only, not fine; run with --runtime tensorflow"):
        theirs.predict(picture(1), layer="fine")
    with pytest.raises(UsageError, match="heatmaps that come with the answer only"):
        theirs.predict(picture(1), method="score_cam")
    with pytest.raises(
        UsageError,
        match="Runtime 'torch' is not known; choose one of tensorflow, keras, openvino, openvino-bfloat16, onnx",
    ):
        load_predictor(runtime="torch")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: shutil.rmtree(folder / ONNX_FOLDER), "was not exported for ONNX Runtime: run"),
        (lambda folder: (folder / ONNX_FOLDER / MANIFEST_NAME).write_text("{"), "cannot be read"),
        (lambda folder: edit_manifest(folder, weights_sha256="0" * 64), "made from other weights"),
        (lambda folder: (folder / ONNX_FOLDER / "ct.onnx").write_bytes(b"x"), "ct.onnx .* is missing or not"),
        (lambda folder: (folder / ONNX_FOLDER / "ct.onnx").unlink(), "ct.onnx .* is missing or not"),
    ],
)
def test_other_files_are_not_answered_from(exported: Path, tmp_path: Path, spoil, message: str) -> None:
    folder = tmp_path / "toy"
    shutil.copytree(exported, folder)
    spoil(folder)
    with pytest.raises(CheckpointError, match=message):
        load_predictor(folder, runtime="onnx").predict(picture(1))


def edit_manifest(folder: Path, **changes: Any) -> None:
    path = folder / ONNX_FOLDER / MANIFEST_NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_publishing_again_takes_the_old_export_away(exported: Path, tmp_path: Path) -> None:
    folder = tmp_path / "toy"
    shutil.copytree(exported, folder)
    network = make_network(PAIR, head_width=16, seed=2)
    publish_checkpoint(folder, network, make_meta(network), CARD)
    assert not (folder / ONNX_FOLDER).exists()


def test_lungs_are_found_alike_and_what_differs_is_not_exported(tmp_path: Path, monkeypatch) -> None:
    """A network of one branch, which is exported sooner; each branch has its segmenter in a file of its own."""
    network = build_network(NetworkConfig.single("mobilenet", "xray", head_width=16), 1)
    segmenter = LungSegmenter({"xray": build_segmenter(1)})
    meta = make_meta(network, preprocessing={"name": "lungs", "pixels": "the lungs"}, lungs=LUNGS_META)
    publish_checkpoint(tmp_path / "toy", network, meta, CARD, segmenter=segmenter)
    export_onnx(tmp_path / "toy", progress=lambda name: None)
    functions, _, classifier, loaded = load_onnx(tmp_path / "toy")
    assert classifier is None
    assert isinstance(loaded, OnnxSegmenter)
    from covid_mm.serving.checkpoint import load_segmenter
    from covid_mm.serving.metadata import read_metadata

    stored = load_segmenter(tmp_path / "toy", read_metadata(tmp_path / "toy"))
    images = [picture(1).astype(np.float32), picture(2).astype(np.float32)]
    np.testing.assert_allclose(
        loaded.probabilities(images, "xray"), stored.probabilities(images, "xray"), atol=1e-4
    )
    assert functions.content_width == 0

    monkeypatch.setattr(onnx_export, "TOLERANCE", 0.0)
    before = read_folder(tmp_path)  # what was exported before stays, and nothing lies beside
    with pytest.raises(CheckpointError, match=r"differ from TensorFlow's by .* it was not exported"):
        export_onnx(tmp_path / "toy", progress=lambda name: None)
    assert read_folder(tmp_path) == before


def test_a_content_check_of_other_layers_asks_for_a_new_export(checking: Path, tmp_path: Path) -> None:
    folder = tmp_path / "toy"
    shutil.copytree(checking, folder)
    edit_manifest(folder, content_reader={"branch": "xray", "layers": [], "reduction": 1})
    with pytest.raises(CheckpointError, match="was fitted anew after it was exported"):
        load_onnx(folder)


def test_tensorflow_is_not_imported(exported: Path) -> None:
    """In a process of its own, since this one has it."""
    code = (
        "import sys, numpy as np\n"
        "from covid_mm import load_predictor\n"
        "predictor = load_predictor(sys.argv[1], runtime='onnx')\n"
        "image = np.random.default_rng(0).integers(0, 255, (200, 200), dtype=np.uint8)\n"
        "assert predictor.predict(ct=image, xray=image).probabilities\n"
        "loaded = {'tensorflow', 'keras', 'tf2onnx'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )
    subprocess.run([sys.executable, "-c", code, str(exported)], check=True, timeout=120)
