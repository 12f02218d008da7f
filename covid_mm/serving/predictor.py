"""Answers studies from one checkpoint: loaded once, warmed up, safe to call from any thread."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from covid_mm.config import CLASSES, DEFAULT_CHECKPOINT, POSITIVE, RUNTIMES, Modality
from covid_mm.errors import CheckpointError, UsageError
from covid_mm.explain.explained import PREDICTED, Progress
from covid_mm.explain.method_table import LayerChoice, MethodName, find_method
from covid_mm.imaging import CtScan, ImageSource, WindowSettings
from covid_mm.models.content_classifier import ContentClassifier
from covid_mm.models.heads import FUSED
from covid_mm.models.meta_file import LUNGS_NAME
from covid_mm.serving.answers import (
    answer_by,
    describe_lungs,
    describe_missing_lungs,
    describe_scan,
    disagree,
    find_rule,
    find_scan_warnings,
    find_warnings,
    refuse_study,
    split_margin,
    weigh_heads,
)
from covid_mm.serving.content_check import check_contents, contradicting_slots, describe_contradictions
from covid_mm.serving.forward_pass import ForwardPass, StudyOutput, compile_functions
from covid_mm.serving.heatmap_request import (
    HeatmapRequest,
    PredictOptions,
    find_heat_warnings,
    request_heatmaps,
)
from covid_mm.serving.label_meaning import read_positive_sources
from covid_mm.serving.metadata import Metadata
from covid_mm.serving.network_functions import NetworkFunctions
from covid_mm.serving.prediction import (
    UNDETERMINED,
    BranchAnswer,
    CheckpointInfo,
    Explanation,
    Notice,
    Prediction,
)
from covid_mm.serving.reading import (
    GreyStudy,
    LungFinder,
    Study,
    make_preview,
    prepare_studies,
    read_headers,
    read_study,
)
from covid_mm.serving.runtimes import load_parts
from covid_mm.serving.scan_files import SCANNED, ScanSource, StudyFiles, StudyImages, take_scan
from covid_mm.serving.scan_reader import ScanReader

if TYPE_CHECKING:
    from covid_mm.models.network import Network

BATCH = 16  # studies per forward pass in predict_batch
BATCH_PIXELS = 50_000_000  # of whole images that predict_batch holds at once


def load_predictor(checkpoint: str | Path | None = None, *, runtime: str = RUNTIMES[0]) -> Predictor:
    """The predictor of a checkpoint folder; of the default pair's without an argument.

    runtime: what runs it, as `serving.runtimes.load_parts` says.

    Raises CheckpointError where it is missing, damaged or not understood, UsageError for another runtime.
    """
    return Predictor(*load_parts(DEFAULT_CHECKPOINT if checkpoint is None else Path(checkpoint), runtime))


class Predictor:
    """Answers from one network: the fused answer, each modality's own, and the heatmaps."""

    def __init__(
        self,
        network: Network | NetworkFunctions,
        meta: Metadata,
        classifier: ContentClassifier | None = None,
        segmenter: LungFinder | None = None,
    ) -> None:
        """Take a loaded network, or functions that run one; they are compiled when first needed or by warm_up.

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
        reads_lungs = self.segmenter is not None
        functions = compile_functions(network, meta, classifier, reads_lungs=reads_lungs)
        self.scans = ScanReader(functions, classifier, self.segmenter)
        self.forward_pass = ForwardPass(functions, meta, classifier, reads_lungs=reads_lungs)

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
        ct: ImageSource | ScanSource | None = None,
        xray: ImageSource | None = None,
        *,
        heatmap_class: str | None = None,
        method: MethodName | None = None,
        layer: LayerChoice | None = None,
        windows: Mapping[Modality, WindowSettings | str] | None = None,
        frames: Mapping[Modality, int] | None = None,
        series: int | None = None,
        progress: Progress | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Prediction:
        """Answer one study of a CT slice or a whole CT scan, an X-ray, or both.

        ct: of a scan its DICOM files, a folder, ZIP, NIfTI volume or multi-frame file, or a `CtScan`. All its slices
        with lung are read; the answer's `scan` holds what each alone says, its CT heatmap is that of the most
        suspicious one.

        heatmap_class: whose evidence the heatmaps show; without it the answer's own, of attention the positive class.
        method, layer: of the heatmaps, by name as in `explain.method_table`; the checkpoint's own, on
        its fixed scale, without them. All but Faster Score-CAM come from the pass that answers.
        windows, frames: how a DICOM file is read, by modality, see `imaging.read_grey`; of a scan with a frame
        that slice alone is answered. series: the number of the scan's series where there are several, in the
        order of `CtScan.series`. A file whose header contradicts its slot leaves the study undetermined.
        progress, cancelled: of a scan or a slow method: gets shares 0..1; says whether to stop.
        Raises ImageError for an image that cannot be read, UsageError for no image, a modality that
        this network does not read or an unknown name, Cancelled, CheckpointError where the network
        gives no number.
        """
        return self.predict_images(
            {"ct": ct, "xray": xray},
            heatmap_class=heatmap_class,
            method=method,
            layer=layer,
            windows=windows,
            frames=frames,
            series=series,
            progress=progress,
            cancelled=cancelled,
        )

    def predict_images(self, files: StudyFiles, **options: Unpack[PredictOptions]) -> Prediction:
        """What predict gives, of images by modality; None stands for no image."""
        started = time.perf_counter()
        images, scan = take_scan(files, options.get("windows"), options.get("frames"), options.get("series"))
        request = request_heatmaps(
            self.metadata,
            options.get("heatmap_class"),
            options.get("method"),
            options.get("layer"),
            options.get("progress"),
            options.get("cancelled"),
        )
        greys = self._read(images, options.get("windows"), options.get("frames"))
        wrong = contradicting_slots(read_headers(images))
        decoded = time.perf_counter()
        if wrong:
            prediction = self._refuse_unread(greys, wrong)
        elif scan is not None:
            prediction = self._answer_scan(scan, greys, request, (options.get("windows") or {}).get(SCANNED))
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
        ct: ImageSource | ScanSource | None = None,
        xray: ImageSource | None = None,
        **options: Unpack[PredictOptions],
    ) -> Explanation:
        """The heatmaps alone of what predict gives for the same arguments.

        layer: `coarse` for the last convolution, `fine` for an earlier one. Without method and layer
        they are on the checkpoint's fixed scale; all others are relative to their highest value.
        Raises what predict raises, and UsageError for a study that is not answered.
        """
        return self.explain_images({"ct": ct, "xray": xray}, **options)

    def explain_images(self, images: StudyFiles, **options: Unpack[PredictOptions]) -> Explanation:
        """What explain gives, of images by modality."""
        answer = self.predict_images(images, **options)
        if not answer.probabilities:
            raise UsageError(
                "There is no heatmap without an answer. {reason}", reason=answer.warnings[0].message
            )
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
        studies: Iterable[tuple[ImageSource | ScanSource | None, ImageSource | None] | StudyFiles],
        *,
        heatmap_class: str | None = None,
    ) -> list[Prediction]:
        """Answer studies, (ct, xray) or images by modality, together, with the same values as one by one.

        Raises what predict raises, for the first study that cannot be answered.
        """
        request = request_heatmaps(self.metadata, heatmap_class)
        predictions: list[Prediction] = []
        for chunk in self._read_chunks(studies, heatmap_class):
            predictions += self._answer_chunk(chunk, request)
        return predictions

    def _read_chunks(
        self,
        studies: Iterable[tuple[ImageSource | ScanSource | None, ImageSource | None] | StudyFiles],
        heatmap_class: str | None,
    ) -> Iterator[list[GreyStudy | Prediction]]:
        """Some studies at a time, read; refused already where a header contradicts its slot, answered with a scan."""
        chunk: list[GreyStudy | Prediction] = []
        pixels = 0
        for study in studies:
            files: StudyFiles = {"ct": study[0], "xray": study[1]} if isinstance(study, tuple) else study
            images, scan = take_scan(files)
            if scan is not None:
                chunk.append(self.predict_images({**images, SCANNED: scan}, heatmap_class=heatmap_class))
                continue
            greys = self._read(images)
            wrong = contradicting_slots(read_headers(images))
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
        images: StudyImages,
        windows: Mapping[Modality, WindowSettings | str] | None = None,
        frames: Mapping[Modality, int] | None = None,
    ) -> GreyStudy:
        return read_study(images, self.network.config.modalities, self.metadata.name, windows, frames)

    def _prepare(self, studies: Sequence[GreyStudy]) -> list[Study]:
        return prepare_studies(studies, self.network.config.image_size, self.segmenter)

    def _refuse_unread(self, greys: GreyStudy, wrong: Mapping[Modality, Modality]) -> Prediction:
        """No answer to a study whose headers contradict their slots."""
        previews = {m: make_preview(grey) for m, grey in greys.items()}
        return refuse_study(self.metadata, previews, describe_contradictions(wrong))

    def _answer(self, studies: Sequence[Study], request: HeatmapRequest) -> list[Prediction]:
        """Answer studies of one combination of modalities."""
        outputs = self.forward_pass.run(studies, request)
        return [
            self._answer_study(study, output, request) for study, output in zip(studies, outputs, strict=True)
        ]

    def _answer_scan(
        self, scan: CtScan, greys: GreyStudy, request: HeatmapRequest, window: WindowSettings | str | None
    ) -> Prediction:
        """A study with a whole scan: the scan's answer, the heatmap of its most suspicious slice.

        greys: the other images, and any slice in the scan's place.
        """
        reading = self.scans.read(scan, window, request.progress, request.cancelled)
        shown = reading.most_suspicious
        (study,) = self._prepare([{**greys, SCANNED: scan.render(shown, window)}])
        answer = describe_scan(self.metadata, scan, reading, shown, window)
        if reading.refusal:
            previews = {m: image.preview for m, image in study.items()}
            refused = refuse_study(self.metadata, previews, reading.refusal)
            return dataclasses.replace(refused, scan=answer)
        meta = self.metadata.for_scans()
        pooled: dict[str, float] = {SCANNED: self.metadata.scan.pool(reading.margins)}
        if len(study) > 1 and tuple(study) == self.network.config.modalities:
            others = {m: image.pixels for m, image in study.items() if m != SCANNED}
            pooled[FUSED] = self.scans.fuse(reading, self.metadata.scan, others)
        weights, least = weigh_heads(meta, find_rule(meta, tuple(study)))
        if request.class_index == PREDICTED and weights.keys() <= pooled.keys():
            positive = sum(weights[head] * pooled[head] for head in weights) >= least
            request = dataclasses.replace(request, class_index=POSITIVE if positive else 1 - POSITIVE)
        (output,) = self.forward_pass.run([study], request)
        logits = dict(output.logits) | {head: split_margin(margin) for head, margin in pooled.items()}
        output = dataclasses.replace(output, logits=logits)
        prediction = self._answer_study(study, output, request, meta)
        warnings = (*prediction.warnings, *find_scan_warnings(self.metadata, prediction, answer))
        return dataclasses.replace(prediction, scan=answer, warnings=warnings)

    def _answer_study(
        self, study: Study, output: StudyOutput, request: HeatmapRequest, meta: Metadata | None = None
    ) -> Prediction:
        """One study's answer, or the first reason against it: what its images show, then their lungs.

        meta: with other calibrations than a slice's.
        """
        previews = {m: image.preview for m, image in study.items()}
        if refusal := check_contents(output.contents):
            in_place = all(content.kind == m for m, content in output.contents.items())
            return refuse_study(self.metadata, previews, refusal, study if in_place else None)
        if refusal := describe_missing_lungs(study):
            return refuse_study(self.metadata, previews, refusal, study)
        return self._assemble(study, output, request, meta or self.metadata)

    def _assemble(
        self, study: Study, output: StudyOutput, request: HeatmapRequest, meta: Metadata
    ) -> Prediction:
        given = tuple(study)
        rule, answer = find_rule(meta, given), answer_by(meta, given, output.logits)
        branches: dict[str, BranchAnswer] = {m: answer_by(meta, (m,), output.logits) for m in given}
        heatmaps = self.forward_pass.make_heatmaps(study, output, request)
        shown = CLASSES[output.class_index]
        doubts: Iterable[Notice] = ()
        # the levels are of images that are called positive
        if request.pass_method is not None and answer.label != CLASSES[1 - POSITIVE]:
            drawn = {m: part for m, part in output.evidence.items() if heatmaps[m].any()}
            doubts = find_heat_warnings(study, request, output.class_index, drawn, output.second)
        checked = self.classifier is not None
        return Prediction(
            label=UNDETERMINED if disagree(branches) else answer.label,
            probabilities=answer.probabilities,
            branches=branches,
            modalities=given,
            heatmaps=heatmaps,
            heatmap_class=shown,
            images={m: image.preview for m, image in study.items()},
            warnings=(*find_warnings(meta, answer, branches, heatmaps, shown, checked=checked), *doubts),
            checkpoint=dataclasses.replace(self.info, decision_threshold=rule.threshold),
            evidence=rule.evidence,
            heat_location={m: measured for m in study if (measured := meta.heat_location[m]) is not None},
            positives={m: sources for m in study if (sources := read_positive_sources(self.meta, m))},
            heatmap_method=request.method,
            heatmap_layer=request.layer,
            heatmap_scale=request.scale,
            heatmap_grids=self.forward_pass.find_grids(tuple(heatmaps), request),
            abstain_zone=rule.abstain_zone,
            supported_probability=rule.supported_probability,
            **describe_lungs(study),
        )


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000.0, 1)
