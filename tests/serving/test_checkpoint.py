"""Checkpoints: whole or not at all, whatever is damaged, hostile, or cut short."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from toy_checkpoint import make_meta, publish_toy
from toy_networks import PAIR, make_network, read_folder, toy_backbones

from covid_mm.errors import CheckpointError
from covid_mm.files import hash_file
from covid_mm.models.meta_file import write_meta
from covid_mm.models.weights_file import save_weights
from covid_mm.serving import checkpoint as module
from covid_mm.serving.checkpoint import load_checkpoint, publish_checkpoint
from covid_mm.serving.metadata import list_checkpoints, parse_metadata, read_metadata

pytestmark = pytest.mark.usefixtures("small_backbones")

EVIDENCE = {
    "auc": 0.9,
    "auc_low": 0.85,
    "auc_high": 0.94,
    "sensitivity": 0.8,
    "specificity": 0.85,
    "collections": ["one hospital", "another"],
    "images": 400,
    "ece": 0.04,
}
HEAT_LOCATION = {
    "target": "lesion masks",
    "hit": 0.5,
    "chance": 0.08,
    "images": 90,
    "method": "grad_cam",
    "layer": "coarse",
}
WEIGHTS, META, CARD = "model.weights.h5", "meta.json", "README.md"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good checkpoint, published once; tests work on copies."""
    folder = tmp_path_factory.mktemp("checkpoints") / "toy"
    with toy_backbones():
        publish_toy(folder)
    return folder


@pytest.fixture
def good(published: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(published, tmp_path / "checkpoints" / "toy"))


def refuse(path: Path) -> str:
    """The one sentence or two that the checkpoint is refused with."""
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    assert len(message) < 600
    return message


def edit_meta(folder: Path, path: str, value: Any) -> None:
    """Put a value at `a/b/c` of meta.json; `...` removes it."""
    meta = json.loads((folder / META).read_text())
    part = meta
    *parents, last = path.split("/")
    for name in parents:
        part = part[name]
    if value is ...:
        del part[last]
    else:
        part[last] = value
    write_meta(folder, meta)


def test_what_is_published_loads(tmp_path):
    folder = tmp_path / "new" / "toy"
    network = publish_toy(folder, half=False)
    assert set(read_folder(folder)) == {WEIGHTS, META, CARD}
    assert [path.name for path in folder.parent.iterdir()] == ["toy"]
    loaded, meta = load_checkpoint(folder)
    for ours, theirs in zip(network.model.get_weights(), loaded.model.get_weights(), strict=True):
        assert np.array_equal(ours, theirs)
    assert loaded.config == network.config
    assert (meta.name, meta.trained_on, meta.synthetic) == ("toy", "made-up images", False)
    assert meta.sha256 == hash_file(folder / WEIGHTS)
    assert meta.heads == ("fused", "ct", "xray")
    written = json.loads((folder / META).read_text())["weights"]
    assert written["bytes"] == (folder / WEIGHTS).stat().st_size
    assert written["kernels"] == "float32"


def test_half_kernels_halve_the_file(good, tmp_path):
    publish_toy(tmp_path / "whole", half=False)
    assert (good / WEIGHTS).stat().st_size < (tmp_path / "whole" / WEIGHTS).stat().st_size
    load_checkpoint(good)


def test_publishing_replaces_at_once(good):
    before = hash_file(good / WEIGHTS)
    publish_toy(good, seed=3)
    assert hash_file(good / WEIGHTS) != before
    assert [path.name for path in good.parent.iterdir()] == ["toy"]
    load_checkpoint(good)


def test_the_folder_may_be_named_relatively(good, monkeypatch):
    monkeypatch.chdir(good)
    assert load_checkpoint(Path("."))[1].name == "toy"
    assert load_checkpoint(Path("../toy/"))[1].name == "toy"


def test_a_flipped_byte_anywhere_is_refused(good):
    content = (good / WEIGHTS).read_bytes()
    positions = [0, 1, 100, len(content) - 1, *np.random.default_rng(0).integers(0, len(content), 40)]
    for position in positions:
        (good / WEIGHTS).write_bytes(
            content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]
        )
        assert "SHA-256 differs" in refuse(good)


def test_truncated_anywhere_is_refused(good):
    for name in (WEIGHTS, META):
        content = (good / name).read_bytes()
        for length in [0, 1, *(len(content) * np.arange(1, 12) // 12), len(content.rstrip()) - 1]:
            (good / name).write_bytes(content[: int(length)])
            refuse(good)
        (good / name).write_bytes(content)
    load_checkpoint(good)


def flip(content: bytes, bit: int) -> bytes:
    byte = content[bit // 8] ^ (1 << bit % 8)
    return content[: bit // 8] + bytes([byte]) + content[bit // 8 + 1 :]


def test_a_flipped_bit_anywhere_in_meta_is_refused(good):
    content = (good / META).read_bytes()
    bits = 8 * np.random.default_rng(0).permutation(len(content))[:60]
    threshold = 8 * content.index(b'"decision_threshold"')
    passed = []
    for bit in [*(bits + np.arange(60) % 8), *range(threshold, threshold + 8 * 60)]:
        (good / META).write_bytes(flip(content, int(bit)))
        try:
            read_metadata(good)
        except CheckpointError:
            continue
        passed.append(bit)
    assert passed == []
    (good / META).write_bytes(content)
    load_checkpoint(good)


def test_missing_files_are_refused(good):
    assert "There is no checkpoint in" in refuse(good.parent / "none")
    (good / WEIGHTS).rename(good / "away")
    assert f"has no {WEIGHTS}" in refuse(good)
    (good / WEIGHTS).symlink_to(good / "away")
    assert f"has no {WEIGHTS}" in refuse(good)
    (good / META).unlink()
    assert "There is no checkpoint in" in refuse(good)


def test_oversized_weights_are_not_read(good, monkeypatch):
    monkeypatch.setattr(module, "MAX_WEIGHTS_BYTES", 1000)
    assert "larger than any network" in refuse(good)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "3", '"text"', "\x00", "[" * 200_000, "9" * 5000, '{"format_version": 3}']
)
def test_damaged_meta_is_refused(good, text):
    (good / META).write_text(text)
    refuse(good)


def test_meta_that_is_no_text_is_refused(good):
    (good / META).write_bytes(b"\xff\xfe\x00")
    assert "damaged" in refuse(good)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("format_version", 2),
        ("format_version", "3"),
        ("format_version", True),
        ("format_version", ...),
        ("classes", ["covid19_pneumonia", "normal"]),
        ("classes", ["normal"]),
        ("classes", None),
        ("pair", "resnet50-vgg16"),
        ("network", []),
        ("network/branches", [["ct", "densenet121"]]),
        ("network/branches", [["ct", "densenet121"], ["ct", "mobilenet"]]),
        ("network/branches", [["xray", "mobilenet"], ["ct", "densenet121"]]),
        ("network/branches", [["ct", "lambda"], ["xray", "mobilenet"]]),
        ("network/branches", [["ct"], ["xray"]]),
        ("network/branches", [[{}, "densenet121"], ["xray", "mobilenet"]]),
        ("network/branches", "ct"),
        ("network/head_width", 16.5),
        ("network/head_width", 0),
        ("network/head_width", 10**9),
        ("network/head_width", 10**400),
        ("network/head_width", 17),  # not the weights'
        ("network/dropout", 1.5),
        ("network/image_size", 64),
        ("network/image_size", 1024),
        ("network/pooling", "maximum"),
        ("network/pooling", ...),
        ("network/output_stride", 8),
        ("network/output_stride", True),
        ("preprocessing", ...),
        ("preprocessing/name", "crop"),
        ("preprocessing/name", "lungs"),  # without the file
        ("lungs", {"file": "lungs.npz", "sha256": "0" * 64}),  # with preprocessing "paper"
        ("offset", {"fused": 0.0}),
        ("abstain_zone", {"fused": [0.6, 0.7], "ct": [0.5, 0.5], "xray": [0.5, 0.5]}),
        ("abstain_zone", {"fused": [0.4], "ct": [0.5, 0.5], "xray": [0.5, 0.5]}),
        ("abstain_zone", [0.4, 0.6]),
        ("supported_probability", {"fused": 0.4, "ct": 1.0, "xray": 1.0}),
        ("supported_probability", {"fused": 1.0, "ct": 1.0}),
        ("evidence", {"fused": {}, "ct": None, "xray": None}),
        ("evidence", {"fused": EVIDENCE | {"auc": 1.2}, "ct": None, "xray": None}),
        ("evidence", {"fused": EVIDENCE | {"auc_low": 0.95}, "ct": None, "xray": None}),
        ("evidence", {"fused": EVIDENCE | {"images": 0}, "ct": None, "xray": None}),
        ("evidence", {"fused": EVIDENCE | {"collections": "medseg"}, "ct": None, "xray": None}),
        ("heat_location", {"ct": HEAT_LOCATION | {"target": "lungs"}, "xray": None}),
        ("heat_location", {"ct": HEAT_LOCATION | {"method": "hires_cam"}, "xray": None}),  # not the default
        ("heat_location", {"ct": HEAT_LOCATION}),
        ("heatmap_method", "score_cam"),
        ("heatmap_layer", "middle"),
        ("temperature", 1.0),
        ("temperature/ct", 0),
        ("temperature/ct", -1.0),
        ("temperature/ct", "1"),
        ("temperature/ct", True),
        ("temperature/ct", None),
        ("temperature/fused", ...),
        ("decision_threshold/fused", 1.0),
        ("decision_threshold/xray", ...),
        ("heatmap_scale/fused/ct", 0.0),
        ("heatmap_scale/ct", {}),
        ("heatmap_scale", ...),
        ("trained_on", ["x"]),
        ("trained_at", 2020),
        ("synthetic", "false"),
        ("synthetic", 0),
        ("synthetic", ...),
        ("weights", ...),
        ("weights/file", "../other.weights.h5"),
        ("weights/sha256", "0" * 63),
        ("weights/sha256", 0),
        ("weights/sha256", "0" * 64),
    ],
)
def test_what_is_not_understood_is_refused(good, path, value):
    edit_meta(good, path, value)
    refuse(good)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("temperature/ct", "1", "temperature.ct is '1', float is expected"),
        ("temperature/ct", -1.0, "temperature.ct is '-1.0', at least 0.001 is expected"),
        ("network/head_width", 16.5, "network.head_width is '16.5', int is expected"),
        ("network", [], "network is '[]', an object is expected"),
        (
            "evidence",
            {"fused": EVIDENCE | {"auc_low": 0.95}},
            "evidence.fused: the auc is outside its interval",
        ),
        ("heatmap_method", "score_cam", "heatmap_method is 'score_cam', grad_cam or hires_cam or"),
        ("synthetic", ..., "toy lacks 'synthetic'"),
    ],
)
def test_what_does_not_fit_is_named_with_what_came_and_what_was_expected(good, path, value, words):
    edit_meta(good, path, value)
    assert words in refuse(good)


@pytest.mark.parametrize("field", ["temperature", "offset", "decision_threshold", "supported_probability"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_is_refused(good, field, value):
    raw = read_metadata(good).raw
    with pytest.raises(CheckpointError, match=rf"{field}\.ct is '(nan|inf)', .* is expected"):
        parse_metadata(raw | {field: dict.fromkeys(("fused", "ct", "xray"), 0.5) | {"ct": value}}, "toy")
    (good / META).write_text(json.dumps(raw | {field: value}))  # which JSON cannot hold, but Python reads
    assert "damaged" in refuse(good)


def fit_hash(folder: Path) -> None:
    edit_meta(folder, "weights/sha256", hash_file(folder / WEIGHTS))


def test_hostile_weights_with_the_right_hash_are_refused(good):
    with h5py.File(good / WEIGHTS, "r+") as file:
        file["logits/bias"][0] = np.nan
    fit_hash(good)
    assert "not finite" in refuse(good)
    with h5py.File(good / WEIGHTS, "r+") as file:
        del file["logits/bias"]
        file["logits/bias"] = h5py.ExternalLink("other.h5", "/x")
    fit_hash(good)
    assert "a link" in refuse(good)


def test_nan_is_not_published(good):
    before = read_folder(good)
    network = make_network(PAIR, head_width=16)
    with pytest.raises((CheckpointError, ValueError)):
        publish_checkpoint(good, network, make_meta(network, trained_on=float("nan")), "card")
    with pytest.raises(CheckpointError, match="lacks 'fused'"):
        publish_checkpoint(good, network, make_meta(network, temperature={}), "card")
    assert read_folder(good) == before
    assert [path.name for path in good.parent.iterdir()] == ["toy"]


@pytest.mark.parametrize("failing", ["save_weights", "fsync", "first rename", "second rename"])
def test_failed_publishing_leaves_the_old_checkpoint(good, monkeypatch, failing):
    before = read_folder(good)

    def fail(*arguments: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    if failing == "save_weights":
        monkeypatch.setattr(module, "save_weights", fail)
    elif failing == "fsync":
        monkeypatch.setattr(os, "fsync", fail)
    else:
        rename = Path.rename

        def refuse_rename(self: Path, target: Path) -> Path:
            failing_path = good if failing == "first rename" else None
            if self == failing_path or (failing == "second rename" and ".new-" in self.name):
                raise OSError(13, "Permission denied")
            return rename(self, target)

        monkeypatch.setattr(Path, "rename", refuse_rename)
    with pytest.raises(OSError, match=r"No space|Permission"):
        publish_toy(good, seed=1)
    monkeypatch.undo()
    assert read_folder(good) == before
    assert [path.name for path in good.parent.iterdir()] == ["toy"]
    load_checkpoint(good)


def test_a_crash_between_the_renames_is_mended(good):
    before = read_folder(good)
    good.rename(good.parent / ".toy.previous")  # what a crash there leaves
    load_checkpoint(good)
    assert read_folder(good) == before
    assert not (good.parent / ".toy.previous").exists()


def test_a_crash_after_the_renames_does_not_stop_the_next_publishing(good):
    shutil.copytree(good, good.parent / ".toy.previous")  # what a crash before the removal leaves
    load_checkpoint(good)
    publish_toy(good, seed=2)
    assert [path.name for path in good.parent.iterdir()] == ["toy"]
    load_checkpoint(good)


def test_other_peoples_files_are_never_replaced(tmp_path):
    folder = tmp_path / "documents"
    folder.mkdir()
    (folder / "letter.txt").write_text("dear")
    with pytest.raises(CheckpointError, match=r"letter\.txt"):
        publish_toy(folder)
    file = tmp_path / "file"
    file.write_text("text")
    with pytest.raises(CheckpointError, match="not just a checkpoint"):
        publish_toy(file)
    assert (folder / "letter.txt").read_text() == "dear"
    assert file.read_text() == "text"
    empty = tmp_path / "empty"
    empty.mkdir()
    publish_toy(empty)
    load_checkpoint(empty)


def test_checkpoints_are_listed_default_first(good, tmp_path):
    folder = good.parent
    assert list_checkpoints(tmp_path / "none") == []
    shutil.copytree(good, folder / "another")
    shutil.copytree(good, folder / PAIR)
    shutil.copytree(good, folder / ".toy.previous")
    (folder / "empty").mkdir()
    assert [path.name for path in list_checkpoints(folder)] == [PAIR, "another", "toy"]


def test_weights_of_another_network_are_refused(good):
    other = make_network(PAIR, head_width=8)
    save_weights(other, good / WEIGHTS)
    fit_hash(good)
    assert "should have shape" in refuse(good)


def test_another_scaling_of_pixels_is_refused(good):
    right = {"ct": "torch", "xray": "tf"}  # of DenseNet121 and MobileNet
    edit_meta(good, "preprocessing/scaling_inside_the_network", right)
    load_checkpoint(good)
    edit_meta(good, "preprocessing/scaling_inside_the_network", right | {"ct": "caffe"})
    assert "another scaling of pixels" in refuse(good)


def test_left_out_figures_are_read_and_absent_ones_are_none(good):
    meta = load_checkpoint(good)[1]
    assert (meta.preprocessing, meta.lungs_sha256) == ("paper", None)
    assert meta.offset == dict.fromkeys(meta.heads, 0.0)
    assert meta.evidence == meta.abstain_zone == dict.fromkeys(meta.heads)
    assert meta.supported_probability == dict.fromkeys(meta.heads, 1.0)
    assert (meta.heatmap_method, meta.heatmap_layer) == ("grad_cam", "coarse")
    edit_meta(good, "evidence", {"fused": EVIDENCE, "ct": None, "xray": None})
    edit_meta(good, "heat_location", {"ct": HEAT_LOCATION, "xray": None})
    edit_meta(good, "abstain_zone", {"fused": [0.4, 0.6], "ct": [0.5, 0.5], "xray": [0.2, 0.5]})
    meta = load_checkpoint(good)[1]
    assert meta.evidence["fused"].collections == ("one hospital", "another")
    assert (meta.heat_location["ct"].hit, meta.heat_location["xray"]) == (0.5, None)
    assert meta.abstain_zone == {"fused": (0.4, 0.6), "ct": None, "xray": (0.2, 0.5)}
