"""A checkpoint served by TensorFlow's library alone answers as the network in Keras does."""

from __future__ import annotations

import dataclasses
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits
from toy_networks import make_network

from covid_mm import load_predictor
from covid_mm.config import DEFAULT_CHECKPOINT
from covid_mm.datasets.phantoms import make_study
from covid_mm.errors import CheckpointError, UsageError
from covid_mm.models import tensorflow_library
from covid_mm.models.openvino_graph import other_allocator
from covid_mm.models.tensorflow_graph import TensorFlowGraph
from covid_mm.models.tensorflow_library import LibraryUnavailable
from covid_mm.serving import graph_functions
from covid_mm.serving.graph_functions import GraphFunctions
from covid_mm.serving.runtimes import limit_threads

ALLOCATOR = pytest.mark.skipif(
    bool(other_allocator()), reason="OpenVINO crashes under LD_PRELOAD's allocator"
)
QUICK = (
    "import sys\n"
    "from covid_mm import load_predictor\n"
    "from covid_mm.datasets.phantoms import make_study\n"
    "study = make_study(1, seed=0)\n"
    "predictor = load_predictor()\n"
    "predictor.warm_up()\n"
    "answer = predictor.predict(study.ct, study.xray)\n"
    "print(bool(answer.probabilities), [m for m in ('tensorflow', 'keras', 'gradio') if m in sys.modules])\n"
)


@pytest.fixture(scope="module")
def quick() -> Any:
    return load_predictor()


def test_no_tensorflow_is_imported_for_an_answer():
    done = subprocess.run([sys.executable, "-c", QUICK], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "True []", done.stderr


def test_only_programs_that_serve_hold_numpy_and_opencv_to_one_thread(quick, monkeypatch):
    def count_threads():
        return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    held = []
    monkeypatch.setattr(cv2, "setNumThreads", held.append)  # for the other tests of this process
    study = make_study(1, seed=0)
    with threadpool_limits(3, user_api="blas"):  # what a program that imports us may have set
        assert load_predictor().predict(study.ct, study.xray).probabilities
        assert count_threads() == {3}
        assert not held
        limit_threads()
        assert count_threads() == {1}
        assert held == [1]


ARENAS = """
import ctypes, threading
from covid_mm.serving.runtimes import limit_threads

limit_threads()
gate = threading.Barrier(9)
def work():
    kept = [bytes(100_000) for _ in range(20)]
    gate.wait()
threads = [threading.Thread(target=work) for _ in range(8)]
for one in threads: one.start()
gate.wait()
libc = ctypes.CDLL(None)
libc.malloc_info(0, ctypes.c_void_p.in_dll(libc, "stdout"))
libc.fflush(None)
"""


@pytest.mark.skipif(
    bool(other_allocator()) or platform.libc_ver()[0] != "glibc", reason="another allocator than glibc's"
)
def test_threads_of_a_program_that_serves_share_two_arenas():
    counts = []
    for script in (ARENAS, ARENAS.replace("\nlimit_threads()", "")):
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        counts.append(done.stdout.count("<heap nr="))
    assert counts[0] <= 2 < counts[1]


@pytest.mark.slow  # Keras builds and traces the published network
def test_answers_equal_those_of_keras_to_the_last_digit_shown(quick):
    ours, theirs = quick, load_predictor(runtime="keras")
    assert isinstance(ours.network, GraphFunctions)
    studies = [make_study(label, seed=seed) for label, seed in ((0, 1), (1, 2), (1, 3))]
    for study in studies:
        for images in ({"ct": study.ct, "xray": study.xray}, {"ct": study.ct}, {"xray": study.xray}):
            for options in ({}, {"method": "grad_cam"}, {"heatmap_class": "normal"}):
                one, other = (p.predict(**images, **options) for p in (ours, theirs))
                first, second = one.to_dict(), other.to_dict()
                assert_alike(first | {"timing_ms": 0}, second | {"timing_ms": 0})
                for modality, heatmap in one.heatmaps.items():
                    np.testing.assert_allclose(heatmap, other.heatmaps[modality], atol=1e-4)
    side = ours.network.config.image_size
    images = np.random.default_rng(0).uniform(0, 255, (2, side, side)).astype(np.float32)
    kept, whole = ours.network, theirs.forward_pass.functions
    np.testing.assert_allclose(kept.contents(images), whole.contents(images), atol=1e-4)
    for got, expected in zip(kept.read_slices("ct", images), whole.read_slices("ct", images), strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-4)
    fine = [p.predict(studies[0].ct, studies[0].xray, layer="fine").heatmaps["ct"] for p in (ours, theirs)]
    np.testing.assert_array_equal(*fine)
    assert kept.grid("ct", "fine") == whole.grid("ct", "fine")


@ALLOCATOR
def test_openvino_answers_as_tensorflow_does(quick):
    other = load_predictor(runtime="openvino")
    assert isinstance(other.network, GraphFunctions)
    for label, seed in ((0, 1), (1, 2)):
        study = make_study(label, seed=seed)
        for images in ({"ct": study.ct, "xray": study.xray}, {"ct": study.ct}, {"xray": study.xray}):
            one, theirs = (p.predict(**images) for p in (quick, other))
            assert_alike(one.to_dict() | {"timing_ms": 0}, theirs.to_dict() | {"timing_ms": 0})
            for modality, heatmap in one.heatmaps.items():
                np.testing.assert_allclose(heatmap, theirs.heatmaps[modality], atol=1e-4)


@ALLOCATOR
def test_openvino_in_bfloat16_answers_nearly_so(quick):
    other = load_predictor(runtime="openvino-bfloat16")
    study = make_study(1, seed=2)
    one, theirs = (p.predict(study.ct, study.xray) for p in (quick, other))
    assert one.label == theirs.label
    np.testing.assert_allclose(
        list(one.probabilities.values()), list(theirs.probabilities.values()), atol=0.02
    )


@ALLOCATOR
def test_openvino_says_which_checkpoint_it_cannot_serve(monkeypatch):
    monkeypatch.delitem(graph_functions.LISTED, "mobilenet")
    with pytest.raises(UsageError, match=r"densenet121-mobilenet.*mobilenet.*tensorflow"):
        load_predictor(runtime="openvino")


def test_the_fine_layer_s_heatmaps_come_from_the_network_in_keras(quick, monkeypatch, small_backbones):
    """Whatever it loads from the checkpoint's folder: here a small stand-in, as the real one takes long."""
    meta = quick.metadata
    config = {field.name: getattr(meta.network, field.name) for field in dataclasses.fields(meta.network)}
    size = config.pop("image_size")
    stand_in = make_network(seed=3, size=size, **{k: v for k, v in config.items() if k != "branches"})
    loaded: list[Path] = []

    def load(folder: Path) -> Any:
        loaded.append(folder)
        return stand_in, meta

    monkeypatch.setattr("covid_mm.serving.checkpoint.load_checkpoint", load)
    monkeypatch.setattr(
        quick.network, "content_reader", None
    )  # the stand-in's features are not what was fitted
    monkeypatch.setattr(quick.forward_pass, "classifier", None)
    monkeypatch.setattr(quick.network, "_whole", None)
    study = make_study(1, seed=0)
    for options in ({}, {"method": "grad_cam"}):
        answer = quick.predict(study.ct, study.xray, layer="fine", **options)
        assert answer.probabilities
        assert answer.heatmap_layer == "fine"
        assert {m: heatmap.shape for m, heatmap in answer.heatmaps.items()} == {
            m: image.shape[:2] for m, image in answer.images.items()
        }
        assert all(0.8 < heatmap.max() <= 1.05 for heatmap in answer.heatmaps.values()), [
            float(heatmap.max()) for heatmap in answer.heatmaps.values()
        ]
        rows = stand_in.tensor("ct_entry_relu").shape[1]
        assert answer.heatmap_grids["ct"] == (rows, rows)
    assert loaded == [DEFAULT_CHECKPOINT]


def assert_alike(one: Any, other: Any) -> None:
    """The same JSON, numbers to rounding far below what is shown."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_alike(one[key], other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_alike(a, b)
    elif isinstance(one, float):
        assert one == pytest.approx(other, abs=1e-5)
    else:
        assert one == other


def test_a_batch_gives_what_single_studies_give(quick):
    studies = [make_study(number % 2, seed=number) for number in range(3)]
    together = quick.predict_batch([(study.ct, study.xray) for study in studies])
    for study, answer in zip(studies, together, strict=True):
        alone = quick.predict(study.ct, study.xray)
        assert_alike(alone.probabilities, answer.probabilities)
        for modality, heatmap in alone.heatmaps.items():
            np.testing.assert_allclose(heatmap, answer.heatmaps[modality], atol=1e-4)


def test_an_answer_is_one_pass_through_each_branch(quick, monkeypatch):
    study = make_study(1, seed=0)
    quick.predict(study.ct, study.xray)
    passes: list[tuple[str, int]] = []
    run = quick.network.last_map
    monkeypatch.setattr(
        quick.network,
        "last_map",
        lambda modality, images: (passes.append((modality, len(images))), run(modality, images))[1],
    )
    quick.predict_batch([(study.ct, study.xray)] * 2)
    assert sorted(passes) == [("ct", 2), ("xray", 2)]


def test_content_images_are_asked_for(quick):
    side = quick.network.config.image_size
    image = {"ct": np.zeros((1, side, side), np.float32)}
    with pytest.raises(UsageError, match="give content_images"):
        quick.network.answer(("ct",), "coarse").explain(image, np.zeros(1, np.int32))


def test_a_foreign_or_damaged_file_is_refused(tmp_path: Path):
    folder = tmp_path / "copy"
    shutil.copytree(DEFAULT_CHECKPOINT, folder)
    weights = (folder / "model.weights.h5").read_bytes()
    (folder / "model.weights.h5").write_bytes(weights[:-1] + b"\0\1")
    with pytest.raises(CheckpointError, match="SHA-256 differs"):
        load_predictor(folder)
    (folder / "model.weights.h5").write_bytes(weights)
    (folder / "lungs.npz").write_bytes(b"no archive")
    with pytest.raises(CheckpointError, match=r"lungs.npz of checkpoint copy is missing or not the file"):
        load_predictor(folder)


def test_weights_of_another_network_are_refused(tmp_path: Path, monkeypatch):
    monkeypatch.setitem(graph_functions.LISTED, "mobilenet", graph_functions.LISTED["densenet121"])
    meta = graph_functions.find_weights(DEFAULT_CHECKPOINT)[1]
    lists = {m: graph_functions.LISTED[name](f"{m}_", 16) for m, name in meta.network.branches}
    with pytest.raises(CheckpointError, match=r"cannot be used. model.weights.h5 does not hold the weights"):
        GraphFunctions(
            DEFAULT_CHECKPOINT, meta, lists, DEFAULT_CHECKPOINT / "model.weights.h5", TensorFlowGraph
        )


@pytest.mark.parametrize("reason", ["library", "backbone"])
def test_keras_serves_where_this_way_does_not(monkeypatch, caplog, reason):
    def refuse() -> None:
        raise LibraryUnavailable("there is a GPU")

    if reason == "library":
        monkeypatch.setattr(tensorflow_library, "load_library", refuse)
    else:
        monkeypatch.delitem(graph_functions.LISTED, "mobilenet")
    asked: list[Path] = []

    # building it would take ten seconds
    def load(folder: Path) -> Any:
        asked.append(folder)
        raise CheckpointError("asked for")

    monkeypatch.setattr("covid_mm.serving.checkpoint.load_checkpoint", load)
    with caplog.at_level("INFO"), pytest.raises(CheckpointError, match="asked for"):
        load_predictor()
    assert asked == [DEFAULT_CHECKPOINT]
    assert "Keras serves densenet121-mobilenet: " in caplog.text
