"""meta.json: what a checkpoint says of itself, checked before anything is believed.

The loader refuses what it does not understand, so a field is either read here with its type and
range, or it is information for people only.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from covid_mm.config import CLASSES, DEFAULT_PAIR, MODALITIES, Modality, NetworkConfig
from covid_mm.errors import CheckpointError, CovidMMError, Message
from covid_mm.explain.method_table import (
    ATTENTION,
    ATTENTION_LAYER,
    FixedScaleMethod,
    LayerChoice,
    list_methods,
)
from covid_mm.models.meta_file import CLASSIFIER_NAME, LUNGS_NAME, META_NAME, ONNX_FOLDER, read_meta
from covid_mm.serving.meta_fields import MetaFields, Preprocessing, ScanPart, read_fields
from covid_mm.serving.prediction import CheckpointInfo, Evidence, HeatLocation
from covid_mm.serving.scan_rule import ScanHead, ScanRule

FORMAT_VERSION = 3
WEIGHTS_NAME = "model.weights.h5"
CARD_NAME = "README.md"


@dataclass(frozen=True)
class Metadata:
    """The fields that serving needs and enforces; `raw` is the file's whole content, without its digest.

    temperature and threshold: by head (`fused`, each modality). heatmap_scale: by head, then by
    modality, the evidence in logit units that is drawn as 1. classifier_sha256: of the classifier of
    image content, None in a checkpoint without one. preprocessing: `paper` for the whole image resized,
    `lungs` for the lungs found and cropped by the file whose hash is lungs_sha256.

    offset, abstain_zone, supported_probability, evidence: by head, as the checkpoint's left-out
    predictions gave them: probability = sigmoid((difference of the logits - offset) / temperature);
    inside the zone (None: there is none) the label is undetermined; no probability above the
    supported one is shown; evidence is None where it was not measured. heat_location: by modality,
    of heatmap_method on heatmap_layer, with which predictions come. scan: how slices become one answer.
    """

    name: str
    network: NetworkConfig
    sha256: str
    temperature: dict[str, float]
    threshold: dict[str, float]
    heatmap_scale: dict[str, dict[Modality, float]]
    trained_on: str
    trained_at: str
    synthetic: bool
    classifier_sha256: str | None
    preprocessing: Preprocessing
    lungs_sha256: str | None
    offset: dict[str, float]
    abstain_zone: dict[str, tuple[float, float] | None]
    supported_probability: dict[str, float]
    evidence: dict[str, Evidence | None]
    heat_location: dict[Modality, HeatLocation | None]
    heatmap_method: FixedScaleMethod
    heatmap_layer: LayerChoice
    scan: ScanRule
    raw: dict[str, Any]

    @property
    def heads(self) -> tuple[str, ...]:
        """The heads that answer: `fused` and each modality for a pair, the modality for a single."""
        if self.network.is_concatenated:
            return ("fused", *self.network.modalities)
        return self.network.modalities

    @property
    def info(self) -> CheckpointInfo:
        """What travels with each answer."""
        return CheckpointInfo(
            name=self.name,
            sha256=self.sha256,
            pair=self.network.name,
            trained_on=self.trained_on,
            trained_at=self.trained_at,
            decision_threshold=self.threshold[self.heads[0]],
            validation_studies=self.validation_studies,
            heatmap_methods=list_methods(self.network.pooling),
        )

    @property
    def validation_studies(self) -> dict[str, int]:
        """On how many studies each head was calibrated, as far as the file says."""
        metrics = self.raw.get("metrics", {})
        reports = metrics.get("validation", {}) if isinstance(metrics, dict) else {}
        studies: dict[str, int] = {}
        for head in self.heads:
            try:
                studies[head] = int(sum(reports[head]["counts"].values()))
            except (KeyError, TypeError, AttributeError, ValueError):
                continue
        return studies

    def for_scans(self) -> Metadata:
        """The same with the calibration of scans in place of a slice's, where there is one."""
        if not self.scan.is_calibrated:
            return self
        names = ("temperature", "offset", "threshold", "abstain_zone", "supported_probability", "evidence")
        changes: dict[str, Any] = {
            name: {**getattr(self, name), **{h: getattr(part, name) for h, part in self.scan.heads.items()}}
            for name in names
        }
        return replace(self, **changes)


def check_replaceable(folder: Path) -> None:
    """Refuse a folder whose files a checkpoint must not replace. Raises CheckpointError naming one."""
    if not os.path.lexists(folder):
        return
    known = {WEIGHTS_NAME, META_NAME, CARD_NAME, CLASSIFIER_NAME, LUNGS_NAME, ONNX_FOLDER}
    foreign = [] if folder.is_dir() else [folder.name]
    if folder.is_dir():
        foreign = sorted(file.name for file in folder.iterdir() if file.name not in known)
    if foreign or folder.is_symlink():
        raise CheckpointError(
            f"{folder.name} is there already and is not just a checkpoint ({', '.join(foreign[:1]) or 'a link'});"
            " publishing would replace it all: name a new folder."
        )


def recover_checkpoint(folder: Path) -> None:
    """Finish a publication that a crash cut in two: put the previous folder back where none is."""
    previous = previous_folder(folder)
    if previous.exists() and not folder.exists():
        previous.rename(folder)


def previous_folder(folder: Path) -> Path:
    """Where a publication keeps the old folder between its two renames."""
    return folder.parent / f".{folder.name}.previous"


def read_metadata(folder: Path) -> Metadata:
    """Read and check a checkpoint folder's meta.json. Raises CheckpointError with what is wrong."""
    recover_checkpoint(folder)
    return parse_metadata(read_meta(folder), folder.name)


def parse_metadata(raw: Any, name: str) -> Metadata:
    """Check the object that meta.json holds. Raises CheckpointError."""
    try:
        return _parse(raw, name)
    except (KeyError, TypeError, ValueError, AttributeError, CovidMMError) as error:
        if isinstance(error, CheckpointError):
            raise
        what = f"lacks {error}" if isinstance(error, KeyError) else f"has a field that does not fit ({error})"
        raise CheckpointError(
            f"The {META_NAME} of checkpoint {name} {what}; it was not written by this version of train.py:"
            " train again or put back the published one."
        ) from error


def _parse(raw: Any, name: str) -> Metadata:
    version = raw["format_version"]
    if type(version) is not int or version != FORMAT_VERSION:
        raise CheckpointError(
            f"Checkpoint {name} has format version {repr(version)[:60]} and this program reads {FORMAT_VERSION}; use"
            " the program that wrote it, or train again."
        )
    if raw["classes"] != list(CLASSES):
        raise CheckpointError(
            f"Checkpoint {name} orders the classes {repr(raw['classes'])[:60]}, expected {list(CLASSES)!r}; train"
            " again."
        )
    weights = _read_hash(raw["weights"], WEIGHTS_NAME, name)
    fields = read_fields(raw)
    network = NetworkConfig(**fields.network.model_dump())
    if network.modalities != tuple(m for m in MODALITIES if m in network.modalities):
        raise ValueError(f"branches are ordered {', '.join(MODALITIES)}")
    if fields.pair != network.name:
        raise ValueError(f"pair {fields.pair[:60]!r} is not that of the network, {network.name}")
    heads = ("fused", *network.modalities) if network.is_concatenated else network.modalities
    preprocessing = fields.preprocessing.name
    if (preprocessing == "lungs") != (raw.get("lungs") is not None):
        raise CheckpointError(
            f"Checkpoint {name} has preprocessing {preprocessing!r}"
            f" {'without' if preprocessing == 'lungs' else 'and yet names'} a {LUNGS_NAME}; put back the published"
            f" {META_NAME}."
        )
    scale: dict[str, dict[Modality, float]] = {}
    for head in heads:
        seen = network.modalities if head == "fused" else tuple(m for m in MODALITIES if m == head)
        scale[head] = {m: fields.heatmap_scale[head][m] for m in seen}
    threshold = {head: fields.decision_threshold[head] for head in heads}
    supported = _by_head(fields, "supported_probability", heads, 1.0)
    evidence = _by_head(fields, "evidence", heads, None)
    location = _by_head(fields, "heat_location", network.modalities, None)
    for head in heads:
        if not 1 - supported[head] <= threshold[head] <= supported[head]:
            raise ValueError(f"the decision_threshold of {head} is not within what is supported")
    method, layer = fields.heatmap_method, fields.heatmap_layer
    if method not in list_methods(network.pooling) or (method == ATTENTION and layer != ATTENTION_LAYER):
        raise ValueError(f"a network with {network.pooling} pooling has no heatmap {method} of layer {layer}")
    for measured in location.values():
        if measured is not None and (measured.method, measured.layer) != (method, layer):
            raise ValueError(
                f"heat_location is of {measured.method}, {measured.layer}, not of {method}, {layer}"
            )
    zones = _by_head(fields, "abstain_zone", heads, None)
    return Metadata(
        name=name,
        network=network,
        sha256=weights,
        temperature={head: fields.temperature[head] for head in heads},
        threshold=threshold,
        heatmap_scale=scale,
        trained_on=word_training(raw),
        trained_at=fields.trained_at,
        synthetic=fields.synthetic,
        classifier_sha256=_read_hash(raw["content_check"], CLASSIFIER_NAME, name)
        if raw.get("content_check") is not None
        else None,
        preprocessing=preprocessing,
        lungs_sha256=_read_hash(raw["lungs"], LUNGS_NAME, name) if raw.get("lungs") is not None else None,
        offset=_by_head(fields, "offset", heads, 0.0),
        abstain_zone={head: _check_zone(zones[head], threshold[head], head) for head in heads},
        supported_probability=supported,
        evidence={head: part and part.to_evidence() for head, part in evidence.items()},
        heat_location={m: part and part.to_location() for m, part in location.items()},
        heatmap_method=method,
        heatmap_layer=layer,
        scan=_read_scan(fields.scan, heads),
        raw=raw,
    )


def describe_training(raw: Mapping[str, Any]) -> Message:
    """What a network was trained on, by the collections that its meta.json lists: `2481 CT images (sarscov2-ct)`."""
    parts = []
    for modality, _ in raw["network"]["branches"]:
        listed = [part for part in raw["data"] if part["modality"] == modality]
        if raw.get("recipe") == "served":
            counts = {part["name"]: part["trained"] for part in listed if part["use"] == "training"}
        else:
            counts = {part["name"]: sum(part["counts"]["train"].values()) for part in listed}
        parts.append(
            Message(
                "{count} {modality} images ({names})",
                count=sum(counts.values()),
                modality=MODALITIES[modality].title,
                names=", ".join(counts),
            )
        )
    images = functools.reduce(lambda one, next_: Message("{one} and {next}", one=one, next=next_), parts)
    if raw.get("recipe") == "served":
        return images
    return Message("{images}, {split} split", images=images, split=raw["split"]["protocol"])


def word_training(raw: Mapping[str, Any]) -> str:
    """`trained_on` of meta.json; with what it was made from, where that says the same."""
    english: str = raw["trained_on"]
    try:
        described = describe_training(raw)
    except (KeyError, TypeError, ValueError, AttributeError):  # of phantoms, or of another version
        return english
    return described if described == english else english


def _by_head(fields: MetaFields, field: str, heads: Iterable[Any], absent: Any) -> dict[Any, Any]:
    """One value for each head, or modality: all of them in the file, or the field not there at all."""
    values = getattr(fields, field)
    if field not in fields.model_fields_set:
        return dict.fromkeys(heads, absent)
    if values is None or set(values) != set(heads):
        raise ValueError(f"{field} is of {repr(sorted(values or ()))[:60]}, expected {', '.join(heads)}")
    return {head: values[head] for head in heads}


def _check_zone(zone: tuple[float, float] | None, threshold: float, head: str) -> tuple[float, float] | None:
    """An abstain zone round its threshold; None where it is empty."""
    if zone is None:
        return None
    if not zone[0] <= threshold <= zone[1]:
        raise ValueError(f"the abstain_zone of {head} does not hold its decision_threshold")
    return zone if zone[0] < zone[1] else None


def _read_scan(part: ScanPart | None, heads: tuple[str, ...]) -> ScanRule:
    """The optional field `scan`: share and, by head, the calibration of whole scans."""
    if part is None:
        return ScanRule()
    for head, one in part.heads.items():
        if head not in heads:
            raise ValueError(f"{head[:60]!r} is not one of {', '.join(heads)}")
        if not 1 - one.supported_probability <= one.threshold <= one.supported_probability:
            raise ValueError(f"the scan threshold of {head} is not within what is supported")
    return ScanRule(
        part.share,
        {
            head: ScanHead(
                temperature=one.temperature,
                offset=one.offset,
                threshold=one.threshold,
                abstain_zone=_check_zone(one.abstain_zone, one.threshold, head),
                supported_probability=one.supported_probability,
                evidence=None if one.evidence is None else one.evidence.to_evidence(),
            )
            for head, one in part.heads.items()
        },
    )


def _read_hash(described: Any, file: str, name: str) -> str:
    """The SHA-256 of a checkpoint's further file."""
    if described["file"] != file or not _is_sha256(described["sha256"]):
        raise CheckpointError(
            f"Checkpoint {name} names no {file} with its SHA-256; put back the published {META_NAME}."
        )
    return str(described["sha256"])


def _is_sha256(text: Any) -> bool:
    return isinstance(text, str) and len(text) == 64 and set(text) <= set("0123456789abcdef")


def list_checkpoints(folder: Path) -> list[Path]:
    """The checkpoint folders that are there, the default pair first."""
    folders = sorted(
        meta.parent for meta in folder.glob(f"*/{META_NAME}") if not meta.parent.name.startswith(".")
    )
    return sorted(folders, key=lambda checkpoint: checkpoint.name != DEFAULT_PAIR)
