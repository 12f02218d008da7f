"""meta.json: what a checkpoint says of itself, checked before anything is believed.

The loader refuses what it does not understand, so a field is either read here with its type and
range, or it is information for people only.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from covid_mm.config import CLASSES, DEFAULT_PAIR, IMAGE_SIZE, MODALITIES, Modality, NetworkConfig
from covid_mm.errors import CheckpointError, CovidMMError

FORMAT_VERSION = 1
WEIGHTS_NAME = "model.weights.h5"
META_NAME = "meta.json"
CARD_NAME = "README.md"
JUDGE_NAME = "judge.npz"


@dataclass(frozen=True)
class Metadata:
    """The fields that serving needs and enforces; `raw` is the whole file.

    temperature and threshold: by head (`fused`, `ct`, `xray`). heatmap_scale: by head, then by
    modality, the evidence in logit units that is drawn as 1. judge_sha256: of the judge of image
    content, None in a checkpoint without one.
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
    judge_sha256: str | None
    raw: dict[str, Any]

    @property
    def heads(self) -> tuple[str, ...]:
        """The heads that answer: `fused` and each modality for a pair, the modality for a single."""
        if self.network.is_concatenated:
            return ("fused", *self.network.modalities)
        return self.network.modalities

    @property
    def validation_studies(self) -> dict[str, int]:
        """On how many studies each head was calibrated, as far as the file says."""
        metrics = self.raw.get("metrics", {})
        reports = metrics.get("validation", {}) if isinstance(metrics, dict) else {}
        found: dict[str, int] = {}
        for head in self.heads:
            try:
                found[head] = int(sum(reports[head]["counts"].values()))
            except (KeyError, TypeError, AttributeError, ValueError):
                continue
        return found


def check_place(place: Path) -> None:
    """Refuse a place whose files a checkpoint must not replace. Raises CheckpointError naming one."""
    if not os.path.lexists(place):
        return
    known = {WEIGHTS_NAME, META_NAME, CARD_NAME, JUDGE_NAME}
    foreign = [] if place.is_dir() else [place.name]
    if place.is_dir():
        foreign = sorted(file.name for file in place.iterdir() if file.name not in known)
    if foreign or place.is_symlink():
        raise CheckpointError(
            f"{place.name} is there already and is not just a checkpoint ({', '.join(foreign[:1]) or 'a link'});"
            " publishing would replace it all: name a new folder."
        )


def recover_checkpoint(place: Path) -> None:
    """Finish a publication that a crash cut in two: put the previous folder back where none is."""
    previous = previous_place(place)
    if previous.exists() and not place.exists():
        previous.rename(place)


def previous_place(place: Path) -> Path:
    """Where a publication keeps the old folder between its two renames."""
    return place.parent / f".{place.name}.previous"


def read_metadata(place: Path) -> Metadata:
    """Read and check a checkpoint folder's meta.json. Raises CheckpointError with what is wrong."""
    recover_checkpoint(place)
    try:
        raw = json.loads((place / META_NAME).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(
            f"There is no checkpoint in {place}: it has no {META_NAME}; train one with train.py, or name a"
            " folder with --checkpoint."
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"The {META_NAME} of checkpoint {place.name} is damaged ({type(error).__name__}); put back the"
            " published one, or train again."
        ) from error
    return parse_metadata(raw, place.name)


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
        image_size=_number(described["image_size"], IMAGE_SIZE, IMAGE_SIZE, whole=True),
    )
    if network.modalities != tuple(m for m in MODALITIES if m in network.modalities):
        raise ValueError("branches are ordered ct, xray")
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
    return Metadata(
        name=name,
        network=network,
        sha256=sha256,
        temperature={head: float(_number(raw["temperature"][head], 1e-3, 1e3)) for head in heads},
        threshold={head: float(_number(raw["decision_threshold"][head], 1e-6, 1 - 1e-6)) for head in heads},
        heatmap_scale=scale,
        trained_on=_typed(raw["trained_on"], str),
        trained_at=_typed(raw["trained_at"], str),
        synthetic=_typed(raw["synthetic"], bool),
        judge_sha256=_read_judge_hash(raw.get("judge"), name),
        raw=raw,
    )


def _read_judge_hash(described: Any, name: str) -> str | None:
    if described is None:
        return None
    if described["file"] != JUDGE_NAME or not _is_sha256(described["sha256"]):
        raise CheckpointError(
            f"Checkpoint {name} names no {JUDGE_NAME} with its SHA-256; put back the published {META_NAME}."
        )
    return str(described["sha256"])


def _number(value: Any, least: float, most: float, *, whole: bool = False) -> Any:
    wanted = int if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, wanted):
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
    found = sorted(
        meta.parent for meta in folder.glob(f"*/{META_NAME}") if not meta.parent.name.startswith(".")
    )
    return sorted(found, key=lambda place: place.name != DEFAULT_PAIR)
