"""Initial weights: each source by name, and one sentence for whatever is none."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from toy_checkpoint import publish_toy
from toy_networks import PAIR, make_network, shake_weights, toy_backbones

from covid_mm.config import NetworkConfig
from covid_mm.errors import CovidMMError, UsageError, WeightsError
from covid_mm.models.backbones import find_backbone
from covid_mm.models.meta_file import write_meta
from covid_mm.models.network import Network, build_network
from covid_mm.models.weights_file import save_weights
from covid_mm.training.initial_weights import identify_weights, initialise_network, parse_weights

pytestmark = pytest.mark.usefixtures("small_backbones")

EARLIER = {"seen": ["ct:old"], "commands": ["python older"]}
NOWHERE = Path("no-such-checkpoint")


@dataclasses.dataclass(frozen=True)
class Sources:
    """Everything that `--weights` may name."""

    checkpoint: Path
    run: Path
    file: Path


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    root = tmp_path_factory.mktemp("sources")
    description = {
        "initial_weights": {"ct": EARLIER, "xray": {"seen": [], "commands": []}},
        "split": {"hashes": {"ct": "aaa", "xray": "bbb"}},
    }
    with toy_backbones():
        publish_toy(root / "checkpoint", seed=11, half=False, command="python newer", **description)
        single = build_network(NetworkConfig.single("mobilenet", "ct", image_size=64, head_width=8), 12)
        save_weights(single, root / "run" / "best.weights.h5")
        config = description | {
            "network": dataclasses.asdict(single.config),
            "plan": {"command": "python single"},
        }
        (root / "run" / "config.json").write_text(json.dumps(config))
        backbone = find_backbone("mobilenet").build(include_top=False, input_shape=(64, 64, 3))
        shake_weights(backbone, 13)
        backbone.save_weights(str(root / "mobilenet.weights.h5"))
    return Sources(root / "checkpoint", root / "run", root / "mobilenet.weights.h5")


@pytest.fixture
def network() -> Network:
    return build_network(NetworkConfig.pair(PAIR, image_size=64), seed=1)


def branch(network: Any, modality: Any) -> list[np.ndarray]:
    return [values for layer in network.branch_layers(modality) for values in layer.get_weights()]


def equal(first: list[np.ndarray], second: list[np.ndarray]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def refuse(network: Network, choice: str, kind: type[CovidMMError] = WeightsError) -> str:
    with pytest.raises(kind) as caught:
        initialise_network(network, choice, NOWHERE)
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    return message


def test_none_leaves_random_weights(network):
    before = network.model.get_weights()
    result = initialise_network(network, "none", NOWHERE)
    assert {m: weights.kind for m, weights in result.items()} == {"ct": "random", "xray": "random"}
    assert equal(before, network.model.get_weights())


def test_a_checkpoint_gives_each_branch_its_own(network, sources):
    heads = [layer.get_weights() for layer in network.head_layers()]
    result = initialise_network(network, str(sources.checkpoint), NOWHERE)
    published = make_network(seed=11, head_width=16)
    for modality in ("ct", "xray"):
        assert equal(branch(network, modality), branch(published, modality))
        assert result[modality].kind == "checkpoint"
        assert f"of checkpoint {sources.checkpoint.name}" in result[modality].origin
    assert result["ct"].seen == ("ct:old", "ct:aaa")
    assert result["ct"].commands == ("python older", "python newer")
    assert result["xray"].seen == ("xray:bbb",)
    for layer, before in zip(network.head_layers(), heads, strict=True):
        assert equal(layer.get_weights(), before)  # only backbones are taken over


def test_a_run_gives_its_backbone_to_another_modality(network, sources):
    result = initialise_network(network, f"ct=none, xray={sources.run}", NOWHERE)
    single = build_network(NetworkConfig.single("mobilenet", "ct", image_size=64, head_width=8), 12)
    assert equal(branch(network, "xray"), branch(single, "ct"))
    assert result["ct"].kind == "random"
    assert (result["xray"].kind, result["xray"].origin) == ("run", "the ct mobilenet of run run")
    assert result["xray"].seen == ("ct:old", "ct:aaa")
    assert result["xray"].commands == ("python older", "python single")


def test_a_file_of_keras_applications_is_read(network, sources):
    result = initialise_network(network, f"xray={sources.file},ct=none", NOWHERE)
    assert (result["xray"].kind, result["xray"].origin) == ("file", "weights file mobilenet.weights.h5")
    backbone = find_backbone("mobilenet").build(include_top=False, input_shape=(64, 64, 3))
    backbone.load_weights(str(sources.file))
    expected = [values for layer in backbone.layers for values in layer.get_weights()]
    assert equal(branch(network, "xray"), expected)


def test_imagenet_out_of_reach_names_the_alternatives(network):
    message = refuse(network, "imagenet")
    assert "cannot be downloaded" in message
    assert all(word in message for word in ("auto", "none", "checkpoint folder", ".weights.h5"))


def test_imagenet_is_taken_where_it_can_be_had(network, monkeypatch):
    from covid_mm.models import backbones

    made = []
    for name in ("densenet121", "mobilenet"):
        known = backbones.BY_NAME[name]

        def build(known=known, weights=None, **options):
            made.append(known.build(weights=None, **options))
            shake_weights(made[-1], len(made))
            return made[-1]

        monkeypatch.setitem(backbones.BY_NAME, name, dataclasses.replace(known, build=build))
    for choice in ("imagenet", "auto"):
        result = initialise_network(network, choice, NOWHERE)
        assert {weights.kind for weights in result.values()} == {"imagenet"}
        assert equal(branch(network, "xray"), [v for layer in made[-1].layers for v in layer.get_weights()])


def test_auto_falls_back_to_the_default_checkpoint_and_says_so(network, sources):
    result = initialise_network(network, "auto", sources.checkpoint)
    assert {weights.kind for weights in result.values()} == {"checkpoint"}
    assert equal(branch(network, "ct"), branch(make_network(seed=11, head_width=16), "ct"))


def test_auto_falls_back_to_random_weights_and_says_so(network, sources):
    before = network.model.get_weights()
    result = initialise_network(network, "auto", NOWHERE)
    assert {weights.kind for weights in result.values()} == {"random"}
    assert "no ImageNet weights, no checkpoint" in result["ct"].origin
    assert equal(before, network.model.get_weights())
    other = build_network(NetworkConfig.single("vgg16", "xray", image_size=64))
    assert initialise_network(other, "auto", sources.checkpoint)["xray"].kind == "random"


def test_a_folder_without_the_backbone_is_refused(sources):
    other = build_network(NetworkConfig.single("vgg16", "xray", image_size=64))
    assert "no vgg16 branch, only densenet121, mobilenet" in refuse(other, str(sources.checkpoint))


def test_a_damaged_checkpoint_is_refused(network, sources, tmp_path):
    folder = Path(shutil.copytree(sources.checkpoint, tmp_path / "copy"))
    weights = folder / "model.weights.h5"
    content = weights.read_bytes()
    middle = len(content) // 2
    weights.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    assert "SHA-256 differs" in refuse(network, str(folder))
    weights.unlink()
    assert "no such file" in refuse(network, str(folder))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("initial_weights", None),
        ("initial_weights", {}),
        ("initial_weights", {"ct": {"seen": []}, "xray": {}}),
        ("split", {}),
        ("split", None),
        ("network", {"branches": 3}),
        ("network", None),
        ("weights", None),
    ],
)
def test_a_checkpoint_that_does_not_describe_itself_is_refused(network, sources, tmp_path, path, value):
    folder = Path(shutil.copytree(sources.checkpoint, tmp_path / "copy"))
    meta = json.loads((folder / "meta.json").read_text()) | {path: value}
    write_meta(folder, meta)
    assert "does not describe a network" in refuse(network, str(folder))


def test_a_damaged_meta_is_refused(network, sources, tmp_path):
    folder = Path(shutil.copytree(sources.checkpoint, tmp_path / "copy"))
    text = (folder / "meta.json").read_text()
    (folder / "meta.json").write_text(text.replace('"head_width": 1', '"head_width": 3'))
    assert "damaged or was edited" in refuse(network, str(folder))


def test_other_folders_and_files_are_refused(network, sources, tmp_path):
    assert "neither a checkpoint nor a run folder" in refuse(network, str(tmp_path))
    assert "neither auto, imagenet or none" in refuse(network, "imagenette")
    (tmp_path / "config.json").write_text("[]")
    assert "does not describe" in refuse(network, str(tmp_path))
    (tmp_path / "config.json").write_text("{")
    assert "config.json cannot be read" in refuse(network, str(tmp_path))
    text = tmp_path / "text.weights.h5"
    text.write_text("not weights")
    assert "does not hold weights of DenseNet121" in refuse(network, str(text))
    # a file of this project's own layout, and one of another network
    own = sources.checkpoint / "model.weights.h5"
    assert "does not hold weights of DenseNet121" in refuse(network, str(own))
    small = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    small.save_weights(str(text := tmp_path / "small.weights.h5"))
    assert "does not hold weights" in refuse(network, str(text))


def test_a_file_with_nan_is_refused(network, sources, tmp_path):
    path = Path(shutil.copy(sources.file, tmp_path / "nan.weights.h5"))
    with h5py.File(path, "r+") as file:
        arrays: list[h5py.Dataset] = []
        file.visititems(lambda _, item: arrays.append(item) if isinstance(item, h5py.Dataset) else None)
        arrays[0][...] = np.nan
    before = network.model.get_weights()
    assert "not finite" in refuse(network, f"ct=none,xray={path}")
    assert equal(before, network.model.get_weights())


def test_choices_are_parsed():
    both = (("ct", "resnet50"), ("xray", "vgg16"))
    assert parse_weights("auto", both) == {"ct": "auto", "xray": "auto"}
    assert parse_weights("xray=none, ct=a/b", both) == {"ct": "a/b", "xray": "none"}
    assert parse_weights("ct=a,xray=b", both[1:]) == {"xray": "b"}


def test_a_backbones_name_goes_before_its_modality():
    both = (("ct", "resnet50"), ("xray", "vgg16"))
    assert parse_weights("vgg16=v, resnet50=r, xception=x", both) == {"ct": "r", "xray": "v"}
    assert parse_weights("ct=none,xray=auto,vgg16=v", both) == {"ct": "none", "xray": "v"}


def test_a_choice_is_identified_by_content(tmp_path):
    run, other = tmp_path / "run", tmp_path / "elsewhere"
    for folder, seed in ((run, 0), (other, 0)):
        save_weights(make_network(seed=seed), folder / "best.weights.h5")
    assert identify_weights("none", tmp_path) == "none"
    assert identify_weights(str(run), tmp_path) == identify_weights(str(other), tmp_path)
    network = make_network()
    network.model.get_layer("logits").set_weights([np.ones((256, 2)), np.ones(2)])
    save_weights(network, other / "best.weights.h5")
    assert identify_weights(str(run), tmp_path) == identify_weights(
        str(other), tmp_path
    )  # a head is no backbone
    save_weights(make_network(seed=1), other / "best.weights.h5")
    assert identify_weights(str(run), tmp_path) != identify_weights(str(other), tmp_path)
    file = tmp_path / "some.weights.h5"
    file.write_bytes(b"one")
    first = identify_weights(str(file), tmp_path)
    file.write_bytes(b"two")
    assert identify_weights(str(file), tmp_path) != first
    assert identify_weights("auto", run).startswith("auto ")
    assert identify_weights("auto", tmp_path / "nothing") == "auto"


@pytest.mark.parametrize("text", ["ct=a", "ct=a,xray=", "ct=a,mri=b", "ct=a,xray", "=a"])
def test_unclear_choices_are_refused(network, text):
    assert "--weights" in refuse(network, text, UsageError)
