"""A loaded network on studies that were read: one compiled function per combination of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from covid_mm.config import Modality, NetworkConfig
from covid_mm.errors import CheckpointError
from covid_mm.explain.explained import AnswerFunction, Explained
from covid_mm.explain.method_table import ATTENTION
from covid_mm.models.content_classifier import Content, ContentClassifier
from covid_mm.models.heads import FUSED
from covid_mm.serving.answers import find_rule
from covid_mm.serving.heatmap_request import HeatmapRequest, show_evidence
from covid_mm.serving.metadata import Metadata
from covid_mm.serving.network_functions import NetworkFunctions
from covid_mm.serving.reading import Study

if TYPE_CHECKING:
    from covid_mm.models.network import Network

Pixels = NDArray[np.float32]


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
        self,
        functions: NetworkFunctions,
        meta: Metadata,
        classifier: ContentClassifier | None,
        *,
        reads_lungs: bool,
    ) -> None:
        """Take the network's functions, which are compiled when first needed.

        classifier: of image content, where it is checked. reads_lungs: the network reads crops, the content
        classifier the whole images.
        """
        self.functions = functions
        self._metadata = meta
        self.classifier = classifier
        self._classifies_whole_images = classifier is not None and reads_lungs

    def run(self, studies: Sequence[Study], request: HeatmapRequest) -> list[StudyOutput]:
        """Run studies of one combination of modalities through their compiled function.

        Raises CheckpointError where the network gives no number.
        """
        combination = tuple(studies[0])
        layer = self._metadata.heatmap_layer if request.pass_method is None else request.layer
        function = self.functions.answer(combination, layer)
        explained = function.explain(
            {m: np.stack([study[m].pixels for study in studies]) for m in combination},
            np.full(len(studies), request.class_index, dtype=np.int32),
            {m: np.stack([study[m].whole for study in studies]) for m in combination}
            if self._classifies_whole_images
            else None,
            method=request.pass_method,
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
        if request.pass_method is None:
            maps = self._explain_slowly(study, output.class_index, request)
        else:
            evidence = output.evidence
            if request.method == ATTENTION:
                grids = self.find_grids(tuple(study), request)
                evidence = {m: study[m].weigh_by_lungs(part, grids[m]) for m, part in evidence.items()}
            maps = show_evidence(evidence, request, find_rule(self._metadata, tuple(study)).heatmap_scale)
        return {m: study[m].place(maps[m]) for m in output.evidence}

    def find_grids(
        self, modalities: Sequence[Modality], request: HeatmapRequest
    ) -> dict[str, tuple[int, int]]:
        """Rows and columns of the feature map that each modality's heatmap is made of."""
        return {m: self.functions.grid(m, request.layer) for m in modalities}

    def _pick_row(self, function: AnswerFunction, explained: Explained, row: int) -> StudyOutput:
        contents = {}
        if self.classifier is not None:
            contents = {
                m: self.classifier.check(m, part[row : row + 1])[0] for m, part in explained.contents.items()
            }
        return StudyOutput(
            {
                name_head(name, self.functions.config): logits[row]
                for name, logits in explained.logits.items()
            },
            int(explained.classes[row]),
            {m: explained.evidence[m][row] for m in function.modalities},
            {m: explained.second[m][row] for m in function.modalities},
            contents,
        )

    def _explain_slowly(
        self, study: Study, class_index: int, request: HeatmapRequest
    ) -> dict[Modality, NDArray[np.float32]]:
        """Maps of a method that runs the network on its own, apart from the pass that answered."""
        return self.functions.slow_heatmaps(tuple(study)).explain(
            {m: image.pixels for m, image in study.items()},
            class_index,
            method=request.method,
            layer=request.layer,
            progress=request.progress,
            cancelled=request.cancelled,
        )


def name_head(target: str, config: NetworkConfig) -> str:
    """The name under which meta.json keeps a head: a single network's only head is its modality's."""
    return config.modalities[0] if target == FUSED and not config.is_concatenated else target


def compile_functions(
    network: Network | NetworkFunctions,
    meta: Metadata,
    classifier: ContentClassifier | None,
    *,
    reads_lungs: bool,
) -> NetworkFunctions:
    """What runs a network: TensorFlow through Keras, unless functions are given already."""
    if isinstance(network, NetworkFunctions):
        return network
    from covid_mm.serving.tensorflow_functions import TensorFlowFunctions

    reader = None if classifier is None else classifier.reader
    return TensorFlowFunctions(network, meta, reader, reads_lungs=reads_lungs)
