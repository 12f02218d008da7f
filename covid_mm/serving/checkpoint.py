"""Checkpoints: publish whole or not at all, load strictly or not at all.

A checkpoint is a folder with weights, meta.json (which names their SHA-256) and a model card. It
is written under another name and swapped in; should a crash fall between the two renames of the
swap, the previous folder is put back by the next load.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from covid_mm.config import Modality
from covid_mm.errors import CheckpointError, WeightsError
from covid_mm.files import hash_file, write_atomically
from covid_mm.models.content_classifier import (
    MAX_CLASSIFIER_BYTES,
    ContentClassifier,
    content_width,
    read_content_classifier,
)
from covid_mm.models.lung_segmenter import MAX_LUNGS_BYTES, LungSegmenter, read_lung_segmenter
from covid_mm.models.meta_file import CLASSIFIER_NAME, LUNGS_NAME, META_NAME, find_part, write_meta
from covid_mm.models.weights_file import load_weights, save_weights
from covid_mm.serving.metadata import (
    CARD_NAME,
    WEIGHTS_NAME,
    Metadata,
    check_replaceable,
    parse_metadata,
    previous_folder,
    read_metadata,
    recover_checkpoint,
)

if TYPE_CHECKING:
    from covid_mm.models.network import Network

MAX_WEIGHTS_BYTES = 512 * 1024 * 1024  # far above any of the nine networks; keeps a wrong file out of memory


def publish_checkpoint(
    folder: Path,
    network: Network,
    meta: dict[str, Any],
    card: str,
    *,
    classifier: ContentClassifier | None = None,
    segmenter: LungSegmenter | None = None,
    half: bool = True,
) -> Metadata:
    """Write weights, content classifier, segmenter, card and, last, meta.json; then swap the folder in.

    half: kernels as float16. `meta` gets each file's name, size and SHA-256. Raises
    CheckpointError where meta is not one that the loader would take, or where the folder holds
    something else than a checkpoint; what is there stays.
    """
    folder = Path(os.path.abspath(folder))
    folder.parent.mkdir(parents=True, exist_ok=True)
    recover_checkpoint(folder)
    check_replaceable(folder)
    tmp_path = Path(tempfile.mkdtemp(prefix=f".{folder.name}.new-", dir=folder.parent))
    try:
        weights = tmp_path / WEIGHTS_NAME
        save_weights(network, weights, half=half)
        whole = meta | {
            "weights": {
                "file": WEIGHTS_NAME,
                "bytes": weights.stat().st_size,
                "sha256": hash_file(weights),
                "kernels": "float16" if half else "float32",
            }
        }
        if classifier is not None:
            whole["content_check"] = meta.get("content_check", {}) | write_classifier(tmp_path, classifier)
        if segmenter is not None:
            whole["lungs"] = meta.get("lungs", {}) | _write_part(tmp_path, LUNGS_NAME, segmenter.to_bytes())
        checked = parse_metadata(json.loads(json.dumps(whole, allow_nan=False)), folder.name)
        (tmp_path / CARD_NAME).write_text(card, encoding="utf-8")
        write_meta(tmp_path, whole)
        tmp_path.chmod(0o755)
        previous = previous_folder(folder)
        shutil.rmtree(previous, ignore_errors=True)  # left over where a crash came after the swap
        if folder.exists():
            folder.rename(previous)
        tmp_path.rename(folder)
        shutil.rmtree(previous, ignore_errors=True)
    finally:
        recover_checkpoint(folder)
        shutil.rmtree(tmp_path, ignore_errors=True)
    return checked


def write_classifier(folder: Path, classifier: ContentClassifier) -> dict[str, Any]:
    """Write the content classifier into a checkpoint folder, by rename; what meta.json says of the file."""
    return _write_part(folder, CLASSIFIER_NAME, classifier.to_bytes())


def _write_part(folder: Path, name: str, data: bytes) -> dict[str, Any]:
    write_atomically(folder / name, data)
    return {"file": name, "bytes": len(data), "sha256": hash_file(folder / name)}


def load_classifier(folder: Path, network: Network, meta: Metadata) -> ContentClassifier | None:
    """The checkpoint's content classifier; None where meta.json names none.

    Raises CheckpointError where it is missing, damaged or exchanged.
    """
    if meta.classifier_sha256 is None:
        return None
    file = find_part(folder, CLASSIFIER_NAME, meta.classifier_sha256, MAX_CLASSIFIER_BYTES, meta.name)
    return read_content_classifier(
        file, network.config.modalities, lambda reader: content_width(network, reader)
    )


def load_segmenter(folder: Path, meta: Metadata) -> LungSegmenter | None:
    """What finds the lungs for a network that reads them; None for one that reads whole images.

    Raises CheckpointError where it is missing, damaged or exchanged, or lacks a modality.
    """
    file = find_lungs_file(folder, meta)
    if file is None:
        return None
    segmenter = read_lung_segmenter(file)
    check_lung_modalities(meta, segmenter.networks)
    return segmenter


def find_lungs_file(folder: Path, meta: Metadata) -> Path | None:
    """The lung segmenter's file, its hash checked, where the checkpoint has one. Raises CheckpointError."""
    if meta.lungs_sha256 is None:
        return None
    return find_part(folder, LUNGS_NAME, meta.lungs_sha256, MAX_LUNGS_BYTES, meta.name)


def check_lung_modalities(meta: Metadata, covered: Iterable[Modality]) -> None:
    """Raise CheckpointError where a segmenter lacks a modality that the network reads."""
    if lacking := set(meta.network.modalities) - set(covered):
        raise CheckpointError(
            f"The {LUNGS_NAME} of checkpoint {meta.name} finds no lungs on {', '.join(sorted(lacking))} images; put"
            " back the published one, or train again."
        )


def find_weights(folder: Path) -> tuple[Path, Metadata]:
    """The weights file, its hash checked, and what meta.json says. Raises CheckpointError."""
    folder = Path(os.path.abspath(folder))  # its name is shown, and "." has none
    meta = read_metadata(folder)
    weights = folder / WEIGHTS_NAME
    if not weights.is_file() or weights.is_symlink():
        raise CheckpointError(f"Checkpoint {folder.name} has no {WEIGHTS_NAME}; put back the published one.")
    if weights.stat().st_size > MAX_WEIGHTS_BYTES:
        raise CheckpointError(
            f"The {WEIGHTS_NAME} of checkpoint {folder.name} is larger than any network of this project; put"
            " back the published one."
        )
    if hash_file(weights) != meta.sha256:
        raise CheckpointError(
            f"The {WEIGHTS_NAME} of checkpoint {folder.name} is not the file that its {META_NAME} describes"
            " (SHA-256 differs): it is damaged or was exchanged; put back the published one."
        )
    return weights, meta


def load_checkpoint(folder: Path) -> tuple[Network, Metadata]:
    """Check meta.json and the hash, build the network in code, load the weights strictly.

    Raises CheckpointError for whatever is missing, damaged, foreign or not finite.
    """
    from covid_mm.models.network import build_network

    weights, meta = find_weights(folder)
    network = build_network(meta.network)
    scaling = {modality: network.backbone(modality).scaling for modality in meta.network.modalities}
    if meta.raw["preprocessing"].get("scaling_inside_the_network", scaling) != scaling:
        raise CheckpointError(
            f"Checkpoint {meta.name} was trained with another scaling of pixels than its backbones have here"
            f" ({scaling}); use the program that wrote it, or train again."
        )
    try:
        load_weights(network, weights)
    except WeightsError as error:
        raise CheckpointError(f"Checkpoint {meta.name} cannot be used. {error}") from error
    return network, meta
