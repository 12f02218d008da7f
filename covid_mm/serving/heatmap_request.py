"""Which heatmaps come with an answer, and on which scale their values are shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypedDict, cast

import numpy as np
from numpy.typing import NDArray

from covid_mm.config import CLASS_TITLES, CLASSES, MODALITIES, POSITIVE, Modality
from covid_mm.errors import UsageError
from covid_mm.explain.explained import PREDICTED, Progress, stretch_map
from covid_mm.explain.heat_checks import (
    APART,
    MEASURED,
    OUTSIDE,
    HeatLevel,
    contradict,
    find_share_outside,
    second_method,
)
from covid_mm.explain.method_table import (
    ATTENTION,
    ATTENTION_LAYER,
    PASS_METHODS,
    FixedScaleMethod,
    LayerChoice,
    MethodName,
    PassMethod,
    check_layer,
    find_method,
    list_methods,
)
from covid_mm.formats import format_percent, round_share
from covid_mm.imaging import WindowSettings
from covid_mm.serving.metadata import Metadata
from covid_mm.serving.prediction import Notice
from covid_mm.serving.reading import Study
from covid_mm.serving.warnings import warn

STAND_IN: FixedScaleMethod = "layer_cam"
FAINTEST = 0.02  # of the heatmap's scale: below it nothing could be seen, so the map is empty and says so


class PredictOptions(TypedDict, total=False):
    """The keywords of `Predictor.predict`, where its docstring says what each does."""

    heatmap_class: str | None
    method: MethodName | None
    layer: LayerChoice | None
    windows: Mapping[Modality, WindowSettings | str] | None
    frames: Mapping[Modality, int] | None
    series: int | None
    progress: Progress | None
    cancelled: Callable[[], bool] | None


@dataclass(frozen=True)
class HeatmapRequest:
    """The heatmaps to make of a study.

    class_index: of CLASSES, or PREDICTED. scale: `fixed` for the checkpoint's own method and layer,
    `relative` for all others. progress, cancelled: of a slow method, as `BranchExplainer.explain` takes them.
    """

    class_index: int
    method: MethodName
    layer: LayerChoice
    scale: Literal["fixed", "relative"]
    progress: Progress | None = None
    cancelled: Callable[[], bool] | None = None

    @property
    def pass_method(self) -> PassMethod | None:
        """The method, where the pass that answers makes its maps too; None where it needs passes of its own."""
        return self.method if self.method in PASS_METHODS else None


def request_heatmaps(
    meta: Metadata,
    heatmap_class: str | None = None,
    method: str | None = None,
    layer: str | None = None,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> HeatmapRequest:
    """Check names; None stands for the answer's class and the checkpoint's method and layer.

    Attention shows the positive class, whatever the answer. Where it is the checkpoint's own and another class or
    layer is asked for without a method, Layer-CAM stands in for it. Raises UsageError.
    """
    if heatmap_class is not None and heatmap_class not in CLASSES:
        raise UsageError(f"Class {heatmap_class!r} is not known; choose {' or '.join(CLASSES)}.")
    own = (meta.heatmap_method, meta.heatmap_layer)
    usual = ATTENTION_LAYER if method == ATTENTION else own[1]
    chosen_layer = usual if layer is None else cast(LayerChoice, layer)
    check_layer(chosen_layer)
    for_attention = heatmap_class in (None, CLASSES[POSITIVE]) and chosen_layer == ATTENTION_LAYER
    if method is None:
        method = STAND_IN if own[0] == ATTENTION and not for_attention else own[0]
    chosen = (find_method(method).name, chosen_layer)
    class_index = PREDICTED if heatmap_class is None else [*CLASSES].index(heatmap_class)
    if chosen[0] == ATTENTION:
        if chosen[0] not in list_methods(meta.network.pooling):
            raise UsageError(
                "Checkpoint {name} pools by the mean and has no map of its attention; choose another heatmap method.",
                name=meta.name,
            )
        if not for_attention:
            raise UsageError(
                "{title} shows where the network sees lesions: of {target} and layer {layer} only. Choose another"
                " heatmap method for another class or layer.",
                title=find_method(ATTENTION).title,
                target=CLASS_TITLES[CLASSES[POSITIVE]],
                layer=ATTENTION_LAYER,
            )
        class_index = POSITIVE
    return HeatmapRequest(
        class_index,
        *chosen,
        "fixed" if chosen == own else "relative",
        progress,
        cancelled,
    )


def show_evidence(
    evidence: Mapping[Modality, NDArray[np.float32]], request: HeatmapRequest, scale: Mapping[Modality, float]
) -> dict[Modality, NDArray[np.float32]]:
    """Evidence (side, side) >= 0 of one study as 0..1 on the scale of the request.

    scale: by modality, the evidence in the method's own unit that is shown as 1 on the fixed scale; a map whose
    highest value is too faint there is all zero. Raises CheckpointError for what is no number.
    """
    if request.scale == "relative":
        return {m: stretch_map(part, MODALITIES[m].title) for m, part in evidence.items()}
    shown = {
        m: np.clip(part / np.float32(scale[m]), 0.0, 1.0).astype(np.float32) for m, part in evidence.items()
    }
    return {m: part if float(part.max()) >= FAINTEST else np.zeros_like(part) for m, part in shown.items()}


def find_heat_warnings(
    study: Study,
    request: HeatmapRequest,
    class_index: int,
    evidence: Mapping[Modality, NDArray[np.float32]],
    second: Mapping[Modality, NDArray[np.float32]],
) -> Iterable[Notice]:
    """What makes maps doubtful: heat beside the lungs, and a second method that points elsewhere.

    Only of evidence for the positive class, by the method and layer on which the levels were measured.
    evidence, second: modality -> (side, side) >= 0, by the request's method and by another one.
    """
    if class_index != POSITIVE or (request.method, request.layer) != MEASURED:
        return
    for modality, heat in evidence.items():
        region = study[modality].region
        outside = None if region is None else find_share_outside(study[modality].place(heat), region.outline)
        level = OUTSIDE.get(modality)
        if outside is not None and level is not None and outside > level.level:
            share = format_percent(round_share(outside))
            yield warn("heat_outside_lungs", modality, share=share, **_tell_worth(level))
        if contradict(heat, second[modality], modality):
            names = (MEASURED[0], second_method(MEASURED[0]))
            titles = dict(zip(("first", "second"), (find_method(name).title for name in names), strict=True))
            yield warn(
                "methods_contradict", modality, **titles, **_tell_worth(APART[MODALITIES[modality].kind])
            )


def _tell_worth(level: HeatLevel) -> dict[str, str]:
    return {"beyond": format_percent(level.beyond), "within": format_percent(level.within)}
