"""The fields of meta.json that serving enforces: their types and ranges, as strict pydantic models."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

import pydantic
from pydantic import Field

from covid_mm.config import IMAGE_SIZE
from covid_mm.explain.method_table import FixedScaleMethod, LayerChoice
from covid_mm.json_record import describe_damage
from covid_mm.serving.prediction import Evidence, HeatLocation

Preprocessing = Literal["paper", "lungs"]
LARGEST_IMAGE = 512  # pixels per side; above it a network answers too slowly on a processor

Share = Annotated[float, Field(ge=0, le=1)]
Threshold = Annotated[float, Field(ge=1e-6, le=1 - 1e-6)]
Temperature = Annotated[float, Field(ge=1e-3, le=1e3)]
Offset = Annotated[float, Field(ge=-1e3, le=1e3)]
Supported = Annotated[float, Field(ge=0.5, le=1)]
Scale = Annotated[float, Field(ge=1e-9, le=1e9)]
Count = Annotated[int, Field(ge=1, le=10**9)]
Zone = tuple[Share, Share]


class Part(pydantic.BaseModel):
    """Base of an object in the file; what it holds beyond the fields is information for people."""

    model_config = pydantic.ConfigDict(strict=True, frozen=True, extra="ignore")


class NetworkPart(Part):
    """The values of `NetworkConfig`, which checks its own names."""

    branches: tuple[tuple[str, str], ...]
    head_width: Annotated[int, Field(ge=1, le=65536)]
    dropout: Share
    image_size: Annotated[int, Field(ge=IMAGE_SIZE, le=LARGEST_IMAGE)]
    pooling: str
    output_stride: Annotated[int, Field(ge=1, le=64)]


class PreprocessingPart(Part):
    """How an image becomes the network's input."""

    name: Preprocessing


class EvidencePart(Part):
    """The values of `Evidence`."""

    auc: Share
    auc_low: Share
    auc_high: Share
    sensitivity: Share
    specificity: Share
    collections: tuple[str, ...]
    images: Count
    ece: Share | None = None
    unit: Literal["images", "scans", "pairs"] = "images"

    @pydantic.model_validator(mode="after")
    def _check_interval(self) -> Self:
        if not self.auc_low <= self.auc <= self.auc_high:
            raise ValueError("the auc is outside its interval")
        return self

    def to_evidence(self) -> Evidence:
        """As it travels with each answer."""
        return Evidence(**self.model_dump())


class HeatLocationPart(Part):
    """The values of `HeatLocation`, of maps on a fixed scale."""

    target: Literal["opacity boxes", "lesion masks"]
    hit: Share
    chance: Share
    images: Count
    method: FixedScaleMethod
    layer: LayerChoice

    def to_location(self) -> HeatLocation:
        """As it travels with each answer."""
        return HeatLocation(**self.model_dump())


class ScanHeadPart(Part):
    """The calibration of one head's answers to whole scans."""

    temperature: Temperature
    offset: Offset
    threshold: Threshold
    abstain_zone: Zone | None
    supported_probability: Supported
    evidence: EvidencePart | None = None


class ScanPart(Part):
    """The optional field `scan`."""

    share: Annotated[float, Field(ge=0.01, le=1)]
    heads: dict[str, ScanHeadPart]


class MetaFields(Part):
    """What serving reads of meta.json, field by field; `serving.metadata` checks what they say of one another."""

    pair: str
    network: NetworkPart
    preprocessing: PreprocessingPart
    temperature: dict[str, Temperature]
    decision_threshold: dict[str, Threshold]
    heatmap_scale: dict[str, dict[str, Scale]]
    trained_on: str
    trained_at: str
    synthetic: bool
    offset: dict[str, Offset] | None = None
    abstain_zone: dict[str, Zone | None] | None = None
    supported_probability: dict[str, Supported] | None = None
    evidence: dict[str, EvidencePart | None] | None = None
    heat_location: dict[str, HeatLocationPart | None] | None = None
    heatmap_method: FixedScaleMethod = "grad_cam"
    heatmap_layer: LayerChoice = "coarse"
    scan: ScanPart | None = None


def read_fields(raw: Mapping[str, Any]) -> MetaFields:
    """The fields of the object that meta.json holds.

    Raises:
        KeyError: the first field that is not there. ValueError: what does not fit in the first that does not.
    """
    try:
        return MetaFields.model_validate_json(json.dumps(raw))  # as JSON, whose lists pass for tuples
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        if first["type"] == "missing" and len(first["loc"]) == 1:
            raise KeyError(first["loc"][0]) from error
        raise ValueError(describe_damage(error, "")) from error
