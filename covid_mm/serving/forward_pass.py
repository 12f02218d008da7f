"""A loaded network on studies that were read: one compiled function per combination of images."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from covid_mm.config import Modality
from covid_mm.errors import CheckpointError
from covid_mm.explain.grad_cam import Explained, GradCam, find_layer
from covid_mm.explain.method_table import LayerChoice
from covid_mm.explain.methods import BranchExplainer
from covid_mm.models.content_classifier import Content, ContentClassifier
from covid_mm.models.network import FUSED, Network
from covid_mm.serving.answers import find_rule, weigh_heads
from covid_mm.serving.heatmap_request import HeatmapRequest, show_evidence
from covid_mm.serving.metadata import Metadata
from covid_mm.serving.reading import Study


@dataclass(frozen=True)
class StudyOutput:
    """What one pass gave for one study.

    logits: head, as meta.json names it -> float32 (2,). class_index: of CLASSES,
    whose evidence was measured. evidence: modality -> float32 (side, side) >= 0, not yet on a scale.
    second: as evidence, by another method.
    contents: modality -> what the content check says of its image; empty without one.
    """

    logits: Mapping[str, NDArray[np.float32]]
    class_index: int
    evidence: Mapping[Modality, NDArray[np.float32]]
    second: Mapping[Modality, NDArray[np.float32]]
    contents: Mapping[Modality, Content]


class ForwardPass:
    """Runs one network; safe to call from any thread."""

    def __init__(
        self, network: Network, meta: Metadata, classifier: ContentClassifier | None, *, reads_lungs: bool
    ) -> None:
        """The functions are traced when first needed.

        classifier: of image content, where it is checked. reads_lungs: the network reads crops, the content
        classifier the whole images.
        """
        self._network = network
        self._metadata = meta
        self._classifier = classifier
        self._classifies_whole_images = classifier is not None and reads_lungs
        self._functions: dict[tuple[tuple[Modality, ...], LayerChoice], GradCam] = {}
        self._explainers: dict[tuple[Modality, ...], BranchExplainer] = {}
        self._tracing = threading.Lock()  # two threads must not trace the same function at once

    def run(self, studies: Sequence[Study], request: HeatmapRequest) -> list[StudyOutput]:
        """Run studies of one combination of modalities through their compiled function.

        Raises CheckpointError where the network gives no number.
        """
        combination = tuple(studies[0])
        function = self._function(combination, request)
        explained = function.explain(
            {m: np.stack([study[m].pixels for study in studies]) for m in combination},
            np.full(len(studies), request.class_index, dtype=np.int32),
            {m: np.stack([study[m].whole for study in studies]) for m in combination}
            if self._classifies_whole_images
            else None,
            method=request.gradient_method,
        )
        for head, logits in explained.logits.items():
            if not np.isfinite(logits).all():
                raise CheckpointError(
                    "The {head} output of checkpoint {name} is not a number; it cannot be used: put back the"
                    " published weights, or train again.",
                    head=head,
                    name=self._metadata.name,
                )
        return [self._pick_row(function, explained, row) for row in range(len(studies))]

    def make_heatmaps(
        self, study: Study, output: StudyOutput, request: HeatmapRequest
    ) -> dict[str, NDArray[np.float32]]:
        """A study's heatmaps on the request's scale, 0..1, each in the frame of its whole image.

        Raises Cancelled, and CheckpointError for a map that is no number.
        """
        if request.gradient_method is None:
            maps = self._explain_slowly(study, output.class_index, request)
        else:
            maps = show_evidence(
                output.evidence, request, find_rule(self._metadata, tuple(study)).heatmap_scale
            )
        return {m: study[m].place(maps[m]) for m in output.evidence}

    def find_grids(
        self, modalities: Sequence[Modality], request: HeatmapRequest
    ) -> dict[str, tuple[int, int]]:
        """Rows and columns of the feature map that each modality's heatmap is made of."""
        shapes = {
            m: self._network.tensor(find_layer(self._network, m, request.layer)).shape for m in modalities
        }
        return {m: (int(shape[1]), int(shape[2])) for m, shape in shapes.items()}

    def _pick_row(self, function: GradCam, explained: Explained, row: int) -> StudyOutput:
        contents = {}
        if self._classifier is not None:
            contents = {
                m: self._classifier.check(m, part[row : row + 1])[0] for m, part in explained.contents.items()
            }
        return StudyOutput(
            {self._head(name): logits[row] for name, logits in explained.logits.items()},
            int(explained.classes[row]),
            {m: explained.evidence[m][row] for m in function.modalities},
            {m: explained.second[m][row] for m in function.modalities},
            contents,
        )

    def _explain_slowly(
        self, study: Study, class_index: int, request: HeatmapRequest
    ) -> dict[Modality, NDArray[np.float32]]:
        """Maps of a method that runs the network on its own, apart from the pass that answered."""
        combination = tuple(study)
        with self._tracing:
            if combination not in self._explainers:
                self._explainers[combination] = BranchExplainer(self._network, combination)
        return self._explainers[combination].explain(
            {m: image.pixels[None] for m, image in study.items()},
            class_index,
            method=request.method,
            layer=request.layer,
            progress=request.progress,
            cancelled=request.cancelled,
        )

    def _function(self, combination: tuple[Modality, ...], request: HeatmapRequest) -> GradCam:
        """The compiled function that answers such studies with maps of the layer; the usual one"
        " for a slow method."""
        meta = self._metadata
        key = (combination, meta.heatmap_layer if request.gradient_method is None else request.layer)
        with self._tracing:
            if key not in self._functions:
                weights, margin = weigh_heads(meta, find_rule(meta, combination))
                if FUSED not in weights and combination == self._network.config.modalities:
                    weights = {FUSED: weights[combination[0]]}  # a single network's only head
                self._functions[key] = GradCam(
                    self._network,
                    combination,
                    positive_margin=margin,
                    weights=weights,
                    judging_branch=None if self._classifier is None else self._classifier.branch,
                    judges_other_images=self._classifies_whole_images,
                    method=meta.heatmap_method,
                    layer=key[1],
                )
            return self._functions[key]

    def _head(self, target: str) -> str:
        """The name under which meta.json keeps a head: a single network's only head is its modality's."""
        if target == FUSED and not self._network.config.is_concatenated:
            return self._network.config.modalities[0]
        return target
