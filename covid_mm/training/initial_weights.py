"""Where a network's backbones start from: `--weights auto|imagenet|none|DIR|FILE`.

A DIR is a checkpoint or a run folder of this project; the branch with the same backbone is taken
(the same modality's, if it is there). A FILE is in the layout of `keras.applications`
(`include_top=False`). Branches may differ, named by modality or by backbone:
`ct=PATH,xray=PATH`, `densenet121=PATH,mobilenet=PATH`.
"""

from __future__ import annotations

import dataclasses
import json
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from covid_mm.config import BACKBONES, CHANNELS, MODALITIES, Modality, NetworkConfig
from covid_mm.errors import CheckpointError, CovidMMError, UsageError, WeightsError
from covid_mm.files import hash_file
from covid_mm.models.meta_file import META_NAME, read_meta
from covid_mm.models.network import Network, build_network
from covid_mm.models.weights_file import hash_backbones, load_weights
from covid_mm.training.plan import shorten_command

_DOWNLOAD_TIMEOUT_S = 20.0
_FOLDER_WEIGHTS = ("model.weights.h5", "best.weights.h5")  # of a checkpoint, of a run folder


@dataclass(frozen=True)
class InitialWeights:
    """What one branch started from.

    kind: `imagenet`, `file`, `checkpoint`, `run` or `random`. origin: one phrase for people.
    seen: `<modality>:<split hash>` of each division whose training images these weights have seen.
    commands: the command lines that made them, oldest first.
    """

    kind: str
    origin: str
    seen: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()


def parse_weights(text: str, branches: tuple[tuple[Modality, str], ...]) -> dict[Modality, str]:
    """`--weights` as one choice per modality; a backbone's name goes before its modality's.

    Raises UsageError for a branch without one.
    """
    if "=" not in text:
        return {modality: text for modality, _ in branches}
    choices: dict[str, str] = {}
    for part in text.split(","):
        name, _, path = (word.strip() for word in part.partition("="))
        if name not in (*MODALITIES, *BACKBONES) or not path:
            raise UsageError(
                f"--weights {text!r}: expected ct=PATH,xray=PATH or BACKBONE=PLACE,..., got {part!r}."
            )
        choices[name] = path
    missing = [
        f"{m} or {backbone}" for m, backbone in branches if m not in choices and backbone not in choices
    ]
    if missing:
        raise UsageError(f"--weights {text!r} names no weights for {', '.join(missing)}; add them.")
    return {m: choices.get(backbone) or choices[m] for m, backbone in branches}


def identify_weights(choice: str, default_checkpoint: Path) -> str:
    """What a choice stands for at this moment, as a string that changes with the backbones' weights.

    Downloads and builds nothing: ImageNet's weights are taken as unchanging.
    """
    path = default_checkpoint if choice == "auto" else Path(choice)
    if choice in ("none", "imagenet"):
        return choice
    if path.is_dir():
        files = [path / name for name in _FOLDER_WEIGHTS if (path / name).is_file()]
        digest = hash_backbones(files[0]) if files else ""
    else:
        digest = hash_file(path) if path.is_file() else ""
    return f"{'auto' if choice == 'auto' else 'place'} {digest}".strip()


def initialise_network(
    network: Network, choice: str, default_checkpoint: Path
) -> dict[Modality, InitialWeights]:
    """Load each backbone's initial weights and say what they are.

    `auto` takes ImageNet if it is cached or can be downloaded, else the default checkpoint's own
    backbone, else random weights. Raises WeightsError where a named source cannot be had.
    """
    choices = parse_weights(choice, network.config.branches)
    return {
        modality: _initialise_branch(network, modality, path, default_checkpoint)
        for modality, path in choices.items()
    }


def _initialise_branch(network: Network, modality: Modality, choice: str, default: Path) -> InitialWeights:
    if choice == "none":
        return InitialWeights("random", "random weights")
    if choice == "imagenet":
        return _load_imagenet(network, modality)
    if choice == "auto":
        try:
            return _load_imagenet(network, modality)
        except WeightsError:
            pass
        try:
            return _load_folder(network, modality, default)
        except CovidMMError:
            return InitialWeights(
                "random", "random weights (no ImageNet weights, no checkpoint with this backbone)"
            )
    path = Path(choice)
    if path.is_dir():
        return _load_folder(network, modality, path)
    if path.is_file():
        return _load_file(network, modality, path)
    raise WeightsError(
        f"--weights {choice!r} is neither auto, imagenet or none, nor a folder or file that exists; name a"
        " checkpoint folder, a run folder, or a .weights.h5 file of keras.applications."
    )


def _load_imagenet(network: Network, modality: Modality) -> InitialWeights:
    backbone = network.backbone(modality)
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_DOWNLOAD_TIMEOUT_S)
    try:
        source = backbone.build(include_top=False, weights="imagenet", input_shape=_shape(network))
    except Exception as error:
        raise WeightsError(
            f"The ImageNet weights of {backbone.title} are not cached and cannot be downloaded here; connect"
            " to the internet once, or choose --weights auto (the default checkpoint's own backbones), none"
            " (random), or a checkpoint folder or .weights.h5 file."
        ) from error
    finally:
        socket.setdefaulttimeout(timeout)
    _copy_backbone(source, network, modality)
    return InitialWeights("imagenet", "ImageNet weights of keras.applications")


def _load_file(network: Network, modality: Modality, path: Path) -> InitialWeights:
    backbone = network.backbone(modality)
    source = backbone.build(include_top=False, weights=None, input_shape=_shape(network))
    try:
        source.load_weights(str(path))
    except Exception as error:
        raise WeightsError(
            f"{path.name} does not hold weights of {backbone.title} without its top in the layout of"
            f" keras.applications ({type(error).__name__}); name the file of that backbone."
        ) from error
    if not all(np.isfinite(values).all() for values in source.get_weights()):
        raise WeightsError(f"{path.name} holds numbers that are not finite; name an undamaged file.")
    _copy_backbone(source, network, modality)
    return InitialWeights("file", f"weights file {path.name}")


def _load_folder(network: Network, modality: Modality, path: Path) -> InitialWeights:
    """Take one branch out of a checkpoint (meta.json) or a run folder (config.json)."""
    is_checkpoint = (path / META_NAME).exists()
    backbone = network.backbone(modality).name
    about = _read_checkpoint(path) if is_checkpoint else _read_run(path)
    try:
        branches = tuple((m, b) for m, b in about["network"]["branches"])
        config = NetworkConfig(branches=branches, head_width=int(about["network"]["head_width"]))
        earlier = about["initial_weights"]
        before = {m: (list(earlier[m]["seen"]), list(earlier[m]["commands"])) for m in config.modalities}
        hashes = {m: str(about["split"]["hashes"][m]) for m in config.modalities}
        command = str(about["command"] if is_checkpoint else about["plan"]["command"])
        sha256 = about["weights"]["sha256"] if is_checkpoint else None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise WeightsError(
            f"{path.name} does not describe a network of this project; name another folder."
        ) from error
    fitting = [m for m, b in config.branches if b == backbone]
    if not fitting:
        raise WeightsError(
            f"{path.name} has no {backbone} branch, only {', '.join(b for _, b in config.branches)}; name a"
            " folder whose network has that backbone."
        )
    chosen = modality if modality in fitting else fitting[0]
    file = path / ("model.weights.h5" if is_checkpoint else "best.weights.h5")
    if sha256 is not None and file.is_file() and hash_file(file) != sha256:
        raise WeightsError(
            f"The {file.name} of checkpoint {path.name} is not the file that its meta.json describes (SHA-256"
            " differs): it is damaged or was exchanged; put back the published one."
        )
    source = build_network(config)
    load_weights(source, file)
    for ours, theirs in zip(network.branch_layers(modality), source.branch_layers(chosen), strict=True):
        ours.set_weights(theirs.get_weights())
    kind = "checkpoint" if is_checkpoint else "run"
    what = f"the {chosen} {backbone} of {kind} {path.name}"
    seen, commands = before[chosen]
    return InitialWeights(
        kind,
        what,
        seen=tuple(dict.fromkeys([*seen, f"{chosen}:{hashes[chosen]}"])),
        commands=tuple(dict.fromkeys([*commands, command])),
    )


def _copy_backbone(source: Any, network: Network, modality: Modality) -> None:
    layers = [layer for layer in source.layers if layer.variables]
    for ours, theirs in zip(network.branch_layers(modality), layers, strict=True):
        ours.set_weights(theirs.get_weights())


def _read_checkpoint(path: Path) -> dict[str, Any]:
    try:
        return read_meta(path)
    except CheckpointError as error:
        raise WeightsError(str(error)) from error


def _read_run(path: Path) -> Any:
    try:
        return json.loads((path / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise WeightsError(
            f"{path} is neither a checkpoint nor a run folder of this project (config.json cannot be read);"
            " name one, or a .weights.h5 file."
        ) from error


def _shape(network: Network) -> tuple[int, int, int]:
    return (network.config.image_size, network.config.image_size, CHANNELS)


def initial_weights_to_dict(weights: InitialWeights) -> dict[str, Any]:
    """What meta.json says of a branch's initial weights; run folders keep whole command lines."""
    commands = [shorten_command(command) for command in weights.commands]
    return dataclasses.asdict(weights) | {"commands": commands}
