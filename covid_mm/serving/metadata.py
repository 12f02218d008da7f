"""meta.json: what a checkpoint says of itself, checked before anything is believed.

The loader refuses what it does not understand, so a field is either read here with its type and
range, or it is information for people only.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from covid_mm.config import CLASSES, DEFAULT_PAIR, IMAGE_SIZE, MODALITIES, Modality, NetworkConfig
from covid_mm.errors import CheckpointError, CovidMMError, Message
from covid_mm.explain.method_table import FIXED_SCALE_METHODS, LAYERS, FixedScaleMethod, LayerChoice
from covid_mm.models.meta_file import CLASSIFIER_NAME, LUNGS_NAME, META_NAME, ONNX_FOLDER, read_meta
from covid_mm.serving.prediction import CheckpointInfo, Evidence, HeatLocation
from covid_mm.serving.scan_rule import ScanHead, ScanRule

Preprocessing = Literal["paper", "lungs"]

FORMAT_VERSION = 2
WEIGHTS_NAME = "model.weights.h5"
CARD_NAME = "README.md"
EVIDENCE_UNITS = ("images", "scans", "pairs")
LARGEST_IMAGE = 512  # pixels per side; above it a network answers too slowly on a processor


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


def check_place(folder: Path) -> None:
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
            f"Checkpoint {name} has format version {_short(version)} and this program reads {FORMAT_VERSION}; use"
            " the program that wrote it, or train again."
        )
    if raw["classes"] != list(CLASSES):
        raise CheckpointError(
            f"Checkpoint {name} orders the classes {_short(raw['classes'])}, expected {list(CLASSES)!r}; train"
            " again."
        )
    described = raw["network"]
    network = NetworkConfig(
        branches=tuple((modality, backbone) for modality, backbone in described["branches"]),
        head_width=_number(described["head_width"], 1, 65536, whole=True),
        dropout=float(_number(described["dropout"], 0, 1)),
        image_size=_number(described["image_size"], IMAGE_SIZE, LARGEST_IMAGE, whole=True),
        pooling=described["pooling"],
        output_stride=_number(described["output_stride"], 1, 64, whole=True),
    )
    if network.modalities != tuple(m for m in MODALITIES if m in network.modalities):
        raise ValueError(f"branches are ordered {', '.join(MODALITIES)}")
    if raw["pair"] != network.name:
        raise ValueError(f"pair {_short(raw['pair'])} is not that of the network, {network.name}")
    heads = ("fused", *network.modalities) if network.is_concatenated else network.modalities
    sha256 = raw["weights"]["sha256"]
    if raw["weights"]["file"] != WEIGHTS_NAME or not _is_sha256(sha256):
        raise CheckpointError(
            f"Checkpoint {name} names no {WEIGHTS_NAME} with its SHA-256; put back the published {META_NAME}."
        )
    scale: dict[str, dict[Modality, float]] = {}
    for head in heads:
        seen = network.modalities if head == "fused" else tuple(m for m in MODALITIES if m == head)
        scale[head] = {m: float(_number(raw["heatmap_scale"][head][m], 1e-9, 1e9)) for m in seen}
    preprocessing = _choice(raw["preprocessing"]["name"], get_args(Preprocessing))
    if (preprocessing == "lungs") != (raw.get("lungs") is not None):
        raise CheckpointError(
            f"Checkpoint {name} has preprocessing {preprocessing!r}"
            f" {'without' if preprocessing == 'lungs' else 'and yet names'} a {LUNGS_NAME}; put back the published"
            f" {META_NAME}."
        )
    threshold = {head: float(_number(raw["decision_threshold"][head], 1e-6, 1 - 1e-6)) for head in heads}
    supported = _by_head(raw, "supported_probability", heads, 1.0, lambda v: float(_number(v, 0.5, 1)))
    method = _choice(raw.get("heatmap_method", "grad_cam"), FIXED_SCALE_METHODS)
    layer = _choice(raw.get("heatmap_layer", "coarse"), LAYERS)
    location = _by_head(raw, "heat_location", network.modalities, None, _read_heat_location)
    for head in heads:
        if not 1 - supported[head] <= threshold[head] <= supported[head]:
            raise ValueError(f"the decision_threshold of {head} is not within what is supported")
    for measured in location.values():
        if measured is not None and (measured.method, measured.layer) != (method, layer):
            raise ValueError(
                f"heat_location is of {measured.method}, {measured.layer}, not of {method}, {layer}"
            )
    return Metadata(
        name=name,
        network=network,
        sha256=sha256,
        temperature={head: float(_number(raw["temperature"][head], 1e-3, 1e3)) for head in heads},
        threshold=threshold,
        heatmap_scale=scale,
        trained_on=word_training(raw),
        trained_at=_typed(raw["trained_at"], str),
        synthetic=_typed(raw["synthetic"], bool),
        classifier_sha256=_read_hash(raw.get("judge"), CLASSIFIER_NAME, name),
        preprocessing=preprocessing,
        lungs_sha256=_read_hash(raw.get("lungs"), LUNGS_NAME, name),
        offset=_by_head(raw, "offset", heads, 0.0, lambda v: float(_number(v, -1e3, 1e3))),
        abstain_zone=_read_zones(raw, threshold),
        supported_probability=supported,
        evidence=_by_head(raw, "evidence", heads, None, _read_evidence),
        heat_location=location,
        heatmap_method=method,
        heatmap_layer=layer,
        scan=_read_scan(raw.get("scan"), heads),
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
    english: str = _typed(raw["trained_on"], str)
    try:
        described = describe_training(raw)
    except (KeyError, TypeError, ValueError, AttributeError):  # of phantoms, or of another version
        return english
    return described if described == english else english


def _by_head(raw: Any, field: str, heads: Iterable[Any], absent: Any, read: Callable[[Any], Any]) -> Any:
    """One value for each head, or modality: all of them in the file, or the field not there at all."""
    if field not in raw:
        return dict.fromkeys(heads, absent)
    values = _typed(raw[field], dict)
    if set(values) != set(heads):
        raise ValueError(f"{field} is of {_short(sorted(values))}, expected {', '.join(heads)}")
    return {head: read(values[head]) for head in heads}


def _read_zones(raw: Any, threshold: dict[str, float]) -> dict[str, tuple[float, float] | None]:
    zones: dict[str, Any] = _by_head(raw, "abstain_zone", threshold, None, lambda value: value)
    checked: dict[str, tuple[float, float] | None] = {}
    for head, zone in zones.items():
        if zone is None:
            checked[head] = None
            continue
        low, high = (float(_number(bound, 0, 1)) for bound in zone)
        if not low <= threshold[head] <= high:
            raise ValueError(f"the abstain_zone of {head} does not hold its decision_threshold")
        checked[head] = (low, high) if low < high else None
    return checked


def _read_evidence(described: Any) -> Evidence | None:
    if described is None:
        return None
    ece = described.get("ece")
    evidence = Evidence(
        **{
            field: float(_number(described[field], 0, 1))
            for field in ("auc", "auc_low", "auc_high", "sensitivity", "specificity")
        },
        collections=tuple(_typed(name, str) for name in _typed(described["collections"], list)),
        images=_number(described["images"], 1, 10**9, whole=True),
        ece=None if ece is None else float(_number(ece, 0, 1)),
        unit=_choice(described.get("unit", "images"), EVIDENCE_UNITS),
    )
    if not evidence.auc_low <= evidence.auc <= evidence.auc_high:
        raise ValueError("the auc of evidence is outside its interval")
    return evidence


def _read_scan(described: Any, heads: tuple[str, ...]) -> ScanRule:
    """The optional field `scan`: share and, by head, the calibration of whole scans."""
    if described is None:
        return ScanRule()
    parts: dict[str, ScanHead] = {}
    for head, part in _typed(described["heads"], dict).items():
        _choice(head, heads)
        threshold = float(_number(part["threshold"], 1e-6, 1 - 1e-6))
        zone = _read_zones({"abstain_zone": {head: part["abstain_zone"]}}, {head: threshold})[head]
        supported = float(_number(part["supported_probability"], 0.5, 1))
        if not 1 - supported <= threshold <= supported:
            raise ValueError(f"the scan threshold of {head} is not within what is supported")
        parts[head] = ScanHead(
            temperature=float(_number(part["temperature"], 1e-3, 1e3)),
            offset=float(_number(part["offset"], -1e3, 1e3)),
            threshold=threshold,
            abstain_zone=zone,
            supported_probability=supported,
            evidence=_read_evidence(part.get("evidence")),
        )
    return ScanRule(float(_number(described["share"], 0.01, 1)), parts)


def _read_heat_location(described: Any) -> HeatLocation | None:
    if described is None:
        return None
    return HeatLocation(
        target=_choice(described["target"], ("opacity boxes", "lesion masks")),
        hit=float(_number(described["hit"], 0, 1)),
        chance=float(_number(described["chance"], 0, 1)),
        images=_number(described["images"], 1, 10**9, whole=True),
        method=_choice(described["method"], FIXED_SCALE_METHODS),
        layer=_choice(described["layer"], LAYERS),
    )


def _read_hash(described: Any, file: str, name: str) -> str | None:
    """The SHA-256 of a checkpoint's further file; None where meta.json describes none."""
    if described is None:
        return None
    if described["file"] != file or not _is_sha256(described["sha256"]):
        raise CheckpointError(
            f"Checkpoint {name} names no {file} with its SHA-256; put back the published {META_NAME}."
        )
    return str(described["sha256"])


def _choice(value: Any, choices: tuple[Any, ...]) -> Any:
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{_short(value)} is not one of {', '.join(choices)}")
    return value


def _number(value: Any, least: float, most: float, *, whole: bool = False) -> Any:
    kinds = int if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds):
        raise ValueError(f"{_short(value)} is not a{' whole' if whole else ''} number")
    if not least <= value <= most:  # NaN is not either
        raise ValueError(f"{_short(value)} is not within {least:g} to {most:g}")
    return value


def _typed(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise ValueError(f"{_short(value)} is not of the type {kind.__name__}")
    return value


def _short(value: Any) -> str:
    try:
        return repr(value)[:60]
    except ValueError:  # an integer of thousands of digits
        return "a huge number"


def _is_sha256(text: Any) -> bool:
    return isinstance(text, str) and len(text) == 64 and set(text) <= set("0123456789abcdef")


def list_checkpoints(folder: Path) -> list[Path]:
    """The checkpoint folders that are there, the default pair first."""
    folders = sorted(
        meta.parent for meta in folder.glob(f"*/{META_NAME}") if not meta.parent.name.startswith(".")
    )
    return sorted(folders, key=lambda checkpoint: checkpoint.name != DEFAULT_PAIR)
