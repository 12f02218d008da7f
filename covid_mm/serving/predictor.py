"""Answers studies from one checkpoint: loaded once, warmed up, safe to call from any thread."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covid_mm.config import CLASSES, DEFAULT_CHECKPOINT, MODALITY_TITLES, Modality
from covid_mm.errors import CheckpointError, UsageError
from covid_mm.explain.grad_cam import Explained, GradCam
from covid_mm.explain.method_table import LayerChoice, MethodName, find_method
from covid_mm.explain.methods import BranchExplainer, Progress
from covid_mm.imaging import ImageHeader, ImageSource, WindowSettings, read_grey, read_header
from covid_mm.models.content_classifier import ContentClassifier
from covid_mm.models.meta_file import LUNGS_NAME
from covid_mm.models.network import FUSED, Network
from covid_mm.serving.answers import (
    answer_head,
    describe_lungs,
    describe_missing_lungs,
    disagree,
    find_warnings,
    positive_margin,
    refuse_study,
)
from covid_mm.serving.checkpoint import load_checkpoint, load_classifier, load_segmenter
from covid_mm.serving.content_check import check_contents, contradicting_slots, describe_contradictions
from covid_mm.serving.heatmap_request import HeatmapRequest, request_heatmaps, show_evidence
from covid_mm.serving.metadata import Metadata
from covid_mm.serving.prediction import UNDETERMINED, BranchAnswer, CheckpointInfo, Explanation, Prediction
from covid_mm.serving.reading import GreyStudy, LungFinder, Study, make_preview, prepare_studies

BATCH = 16  # studies per forward pass in predict_batch
BATCH_PIXELS = 50_000_000  # of whole images that predict_batch holds at once

_NONE: Mapping[Modality, Any] = MappingProxyType({})


def load_predictor(checkpoint: str | Path | None = None) -> Predictor:
    """The predictor of a checkpoint folder; of the default pair's without an argument.

    Raises CheckpointError where it is missing, damaged or not understood.
    """
    folder = DEFAULT_CHECKPOINT if checkpoint is None else Path(checkpoint)
    network, meta = load_checkpoint(folder)
    return Predictor(network, meta, load_classifier(folder, network, meta), load_segmenter(folder, meta))


class Predictor:
    """Answers from one network: the fused answer, each modality's own, and the heatmaps."""

    def __init__(
        self,
        network: Network,
        meta: Metadata,
        classifier: ContentClassifier | None = None,
        segmenter: LungFinder | None = None,
    ) -> None:
        """Take a loaded network; the compiled functions are traced when first needed or by warm_up.

        classifier: of image content; without one every image is answered, with a warning that says so.
        segmenter: finds the lungs where the checkpoint's preprocessing is `lungs`; CheckpointError
        without it there.
        """
        if meta.preprocessing == "lungs" and segmenter is None:
            raise CheckpointError(
                f"The network of checkpoint {meta.name} reads the lungs only, and there is nothing to find them"
                f" with: put back the published {LUNGS_NAME}."
            )
        self.segmenter = segmenter if meta.preprocessing == "lungs" else None
        self.network = network
        self.metadata = meta
        self.classifier = classifier
        self._functions: dict[tuple[tuple[Modality, ...], LayerChoice], GradCam] = {}
        self._explainers: dict[tuple[Modality, ...], BranchExplainer] = {}
        self._tracing = threading.Lock()

    @property
    def meta(self) -> dict[str, Any]:
        """The whole meta.json."""
        return self.metadata.raw

    @property
    def info(self) -> CheckpointInfo:
        """What travels with each answer."""
        return self.metadata.info

    def warm_up(self) -> None:
        """Trace and run every compiled function once, so that the first study does not wait."""
        config, request = self.network.config, request_heatmaps(self.metadata)
        blank = np.zeros((config.image_size, config.image_size), np.float32)
        for combination in dict.fromkeys([config.modalities, *((m,) for m in config.modalities)]):
            self._answer(self._prepare([dict.fromkeys(combination, blank)]), request)

    def predict(
        self,
        ct: ImageSource | None = None,
        xray: ImageSource | None = None,
        *,
        heatmap_class: str | None = None,
        method: MethodName | None = None,
        layer: LayerChoice | None = None,
        windows: Mapping[Modality, WindowSettings | str] | None = None,
        frames: Mapping[Modality, int] | None = None,
        progress: Progress | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Prediction:
        """Answer one study of a CT slice, an X-ray, or both.

        heatmap_class: the class whose evidence the heatmaps show; the answer's own without it.
        method, layer: of the heatmaps, by name as in `explain.method_table`; the checkpoint's own, on
        its fixed scale, without them. All but Faster Score-CAM come from the pass that answers.
        windows, frames: how a DICOM file is read, by modality, see `imaging.read_grey`. A file
        whose header contradicts its slot leaves the study undetermined.
        progress, cancelled: of a slow method: gets shares 0..1; says whether to stop.
        Raises ImageError for an image that cannot be read, UsageError for no image, a modality that
        this network does not read or an unknown name, Cancelled, CheckpointError where the network
        gives no number.
        """
        started = time.perf_counter()
        request = request_heatmaps(self.metadata, heatmap_class, method, layer, progress, cancelled)
        greys = self._read(ct, xray, windows or {}, frames or {})
        wrong = contradicting_slots(_read_headers(ct, xray))
        decoded = time.perf_counter()
        if wrong:
            prediction = self._refuse_unread(greys, wrong)
        else:
            (prediction,) = self._answer(self._prepare([greys]), request)
        finished = time.perf_counter()
        prediction.timing_ms.update(
            decode=_milliseconds(decoded - started),
            network=_milliseconds(finished - decoded),
            total=_milliseconds(finished - started),
        )
        return prediction

    def explain(
        self,
        ct: ImageSource | None = None,
        xray: ImageSource | None = None,
        *,
        method: MethodName | None = None,
        layer: LayerChoice | None = None,
        heatmap_class: str | None = None,
        windows: Mapping[Modality, WindowSettings | str] | None = None,
        frames: Mapping[Modality, int] | None = None,
        progress: Progress | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Explanation:
        """The heatmaps alone of what predict gives for the same arguments.

        layer: `coarse` for the last convolution, `fine` for an earlier one. Without method and layer
        they are on the checkpoint's fixed scale; all others are relative to their highest value.
        Raises what predict raises, and UsageError for a study that is not answered.
        """
        answer = self.predict(
            ct,
            xray,
            heatmap_class=heatmap_class,
            method=method,
            layer=layer,
            windows=windows,
            frames=frames,
            progress=progress,
            cancelled=cancelled,
        )
        if not answer.probabilities:
            raise UsageError(f"There is no heatmap without an answer. {answer.warnings[0].message}")
        return Explanation(
            answer.heatmap_method,
            find_method(answer.heatmap_method).title,
            answer.heatmap_layer,
            answer.heatmap_class,
            answer.heatmap_scale,
            answer.heatmaps,
        )

    def predict_batch(
        self,
        studies: Iterable[tuple[ImageSource | None, ImageSource | None]],
        *,
        heatmap_class: str | None = None,
    ) -> list[Prediction]:
        """Answer studies (ct, xray) together, with the same values as one by one.

        Raises what predict raises, for the first study that cannot be answered.
        """
        request = request_heatmaps(self.metadata, heatmap_class)
        predictions: list[Prediction] = []
        for chunk in self._read_chunks(studies):
            predictions += self._answer_chunk(chunk, request)
        return predictions

    def _read_chunks(
        self, studies: Iterable[tuple[ImageSource | None, ImageSource | None]]
    ) -> Iterator[list[GreyStudy | Prediction]]:
        """Some studies at a time, read; those whose header contradicts their slot are refused already."""
        chunk: list[GreyStudy | Prediction] = []
        pixels = 0
        for ct, xray in studies:
            greys = self._read(ct, xray)
            wrong = contradicting_slots(_read_headers(ct, xray))
            chunk.append(self._refuse_unread(greys, wrong) if wrong else greys)
            pixels += sum(grey.size for grey in greys.values())
            if len(chunk) == BATCH or pixels > BATCH_PIXELS:
                yield chunk
                chunk, pixels = [], 0
        yield chunk

    def _answer_chunk(self, chunk: list[GreyStudy | Prediction], request: HeatmapRequest) -> list[Prediction]:
        began = time.perf_counter()
        answers = {row: part for row, part in enumerate(chunk) if isinstance(part, Prediction)}
        rows = {row: part for row, part in enumerate(chunk) if not isinstance(part, Prediction)}
        read = dict(zip(rows, self._prepare(list(rows.values())), strict=True))
        for combination in dict.fromkeys(tuple(study) for study in read.values()):
            alike = [row for row, study in read.items() if tuple(study) == combination]
            answered = self._answer([read[row] for row in alike], request)
            answers |= dict(zip(alike, answered, strict=True))
        each = _milliseconds((time.perf_counter() - began) / max(len(read), 1))
        for row in read:
            answers[row].timing_ms.update(network=each, total=each)
        return [answers[row] for row in range(len(chunk))]

    def _read(
        self,
        ct: ImageSource | None,
        xray: ImageSource | None,
        windows: Mapping[Modality, WindowSettings | str] = _NONE,
        frames: Mapping[Modality, int] = _NONE,
    ) -> GreyStudy:
        given: dict[Modality, ImageSource | None] = {"ct": ct, "xray": xray}
        present = {m: source for m, source in given.items() if source is not None}
        foreign = [m for m in present if m not in self.network.config.modalities]
        if foreign:
            raise UsageError(
                f"This checkpoint ({self.metadata.name}) reads {_join(self.network.config.modalities)} only,"
                f" not {_join(foreign)}; leave that slot empty or choose a checkpoint of a pair."
            )
        if not present:
            raise UsageError("There is no image: give a chest CT slice, a chest X-ray, or both.")
        return {
            m: read_grey(source, window=windows.get(m), frame=frames.get(m)) for m, source in present.items()
        }

    def _prepare(self, studies: Sequence[GreyStudy]) -> list[Study]:
        return prepare_studies(studies, self.network.config.image_size, self.segmenter)

    def _refuse_unread(self, greys: GreyStudy, wrong: tuple[Modality, ...]) -> Prediction:
        """No answer to a study whose headers contradict their slots."""
        previews = {m: make_preview(grey) for m, grey in greys.items()}
        return refuse_study(self.metadata, previews, describe_contradictions(wrong))

    def _answer(self, studies: Sequence[Study], request: HeatmapRequest) -> list[Prediction]:
        """Run studies of one combination of modalities through their compiled function."""
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
                    f"The {head} output of checkpoint {self.metadata.name} is not a number; it cannot be"
                    " used: put back the published weights, or train again."
                )
        return [
            self._answer_row(function, studies[row], explained, row, request) for row in range(len(studies))
        ]

    def _answer_row(
        self, function: GradCam, study: Study, explained: Explained, row: int, request: HeatmapRequest
    ) -> Prediction:
        """One study's answer, or the first reason against it: what its images show, then their lungs."""
        previews = {m: image.preview for m, image in study.items()}
        if self.classifier is not None:
            contents = {
                m: self.classifier.check(m, part[row : row + 1])[0] for m, part in explained.contents.items()
            }
            if refusal := check_contents(contents):
                in_place = all(content.kind == m for m, content in contents.items())
                return refuse_study(self.metadata, previews, refusal, study if in_place else None)
        if refusal := describe_missing_lungs(study):
            return refuse_study(self.metadata, previews, refusal, study)
        return self._assemble(function, study, explained, row, request)

    def _assemble(
        self, function: GradCam, study: Study, explained: Explained, row: int, request: HeatmapRequest
    ) -> Prediction:
        meta = self.metadata
        answers = {
            self._head(name): answer_head(meta, self._head(name), logits[row])
            for name, logits in explained.logits.items()
        }
        head = self._head(function.target)
        branches: dict[str, BranchAnswer] = {m: answers[m] for m in function.modalities if m in answers}
        class_index = int(explained.classes[row])
        if request.gradient_method is None:
            maps = self._explain_slowly(study, class_index, request)
        else:
            evidence = {m: part[row] for m, part in explained.evidence.items()}
            maps = show_evidence(evidence, request, meta.heatmap_scale[head])
        heatmaps: dict[str, NDArray[np.float32]] = {m: study[m].place(maps[m]) for m in function.modalities}
        shown = CLASSES[class_index]
        checked = self.classifier is not None
        return Prediction(
            label=UNDETERMINED if disagree(branches) else answers[head].label,
            probabilities=answers[head].probabilities,
            branches=branches,
            modalities=function.modalities,
            heatmaps=heatmaps,
            heatmap_class=shown,
            images={m: image.preview for m, image in study.items()},
            warnings=tuple(
                find_warnings(meta, head, answers[head], branches, heatmaps, shown, checked=checked)
            ),
            checkpoint=dataclasses.replace(self.info, decision_threshold=meta.threshold[head]),
            evidence=meta.evidence[head],
            heat_location={
                m: measured for m in function.modalities if (measured := meta.heat_location[m]) is not None
            },
            heatmap_method=request.method,
            heatmap_layer=request.layer,
            heatmap_scale=request.scale,
            abstain_zone=meta.abstain_zone[head],
            supported_probability=meta.supported_probability[head],
            **describe_lungs(study),
        )

    def _explain_slowly(
        self, study: Study, class_index: int, request: HeatmapRequest
    ) -> dict[Modality, NDArray[np.float32]]:
        """Maps of a method that runs the network on its own, apart from the pass that answered."""
        combination = tuple(study)
        with self._tracing:
            if combination not in self._explainers:
                self._explainers[combination] = BranchExplainer(self.network, combination)
        return self._explainers[combination].explain(
            {m: image.pixels[None] for m, image in study.items()},
            class_index,
            method=request.method,
            layer=request.layer,
            progress=request.progress,
            cancelled=request.cancelled,
        )

    def _function(self, combination: tuple[Modality, ...], request: HeatmapRequest) -> GradCam:
        """The compiled function that answers such studies with maps of the layer; the usual one for a slow method."""
        meta = self.metadata
        key = (combination, meta.heatmap_layer if request.gradient_method is None else request.layer)
        with self._tracing:  # two threads must not trace the same function at once
            if key not in self._functions:
                whole = combination == self.network.config.modalities
                head = self._head(FUSED if whole else combination[0])
                self._functions[key] = GradCam(
                    self.network,
                    combination,
                    positive_margin=positive_margin(meta, head),
                    judging_branch=None if self.classifier is None else self.classifier.branch,
                    judges_other_images=self._classifies_whole_images,
                    method=meta.heatmap_method,
                    layer=key[1],
                )
            return self._functions[key]

    def _head(self, target: str) -> str:
        """The name under which meta.json keeps a head: a single network's only head is its modality's."""
        if target == FUSED and not self.network.config.is_concatenated:
            return self.network.config.modalities[0]
        return target

    @property
    def _classifies_whole_images(self) -> bool:
        """Whether the content classifier reads other images than the network: it knows whole images only."""
        return self.classifier is not None and self.segmenter is not None


def _read_headers(ct: ImageSource | None, xray: ImageSource | None) -> dict[Modality, ImageHeader | None]:
    given: dict[Modality, ImageSource | None] = {"ct": ct, "xray": xray}
    return {m: read_header(source) for m, source in given.items() if source is not None}


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000.0, 1)


def _join(modalities: Iterable[str]) -> str:
    return " and ".join(MODALITY_TITLES[m] for m in modalities)
