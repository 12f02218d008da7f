"""Answers studies from one checkpoint: loaded once, warmed up, safe to call from any thread."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covid_mm.config import (
    CLASS_TITLES,
    CLASSES,
    MODALITY_TITLES,
    POSITIVE,
    Modality,
)
from covid_mm.errors import CheckpointError, UsageError
from covid_mm.explain.grad_cam import PREDICTED, Explained, GradCam, find_layer
from covid_mm.explain.method_table import LayerChoice, MethodName, find_method
from covid_mm.explain.methods import BranchExplainer, Progress
from covid_mm.imaging import ImageHeader, ImageSource, WindowSettings, read_header, read_image
from covid_mm.models.judge import Judge
from covid_mm.models.network import FUSED, Network
from covid_mm.serving.checkpoint import DEFAULT_CHECKPOINT, load_checkpoint, load_judge
from covid_mm.serving.explanation import Explanation
from covid_mm.serving.gate import UNJUDGED, check_contents
from covid_mm.serving.header import contradicting_slots, describe_contradictions
from covid_mm.serving.metadata import Metadata
from covid_mm.serving.prediction import BranchAnswer, CheckpointInfo, Notice, Prediction

FAINTEST = 0.02  # of the heatmap's scale: below it nothing could be seen, so the map is empty and says so
BATCH = 16  # studies a forward pass in predict_batch

UNDETERMINED = "undetermined"
_NONE: Mapping[Modality, Any] = MappingProxyType({})

Images = dict[Modality, NDArray[np.float32]]


def load_predictor(checkpoint: str | Path | None = None) -> Predictor:
    """The predictor of a checkpoint folder; of the default pair's without an argument.

    Raises CheckpointError where it is missing, damaged or not understood.
    """
    place = DEFAULT_CHECKPOINT if checkpoint is None else Path(checkpoint)
    network, meta = load_checkpoint(place)
    return Predictor(network, meta, load_judge(place, network, meta))


class Predictor:
    """Answers from one network: the fused answer, each modality's own, and the heatmaps."""

    def __init__(self, network: Network, meta: Metadata, judge: Judge | None = None) -> None:
        """Take a loaded network; the compiled functions are traced when first needed or by warm_up.

        judge: of image content; without one every image is answered, with a notice that says so.
        """
        self.network = network
        self.metadata = meta
        self.judge = judge
        self._functions: dict[tuple[Modality, ...], GradCam] = {}
        self._explainers: dict[tuple[Modality, ...], BranchExplainer] = {}
        self._tracing = threading.Lock()

    @property
    def meta(self) -> dict[str, Any]:
        """The whole meta.json."""
        return self.metadata.raw

    @property
    def info(self) -> CheckpointInfo:
        """What travels with each answer."""
        meta = self.metadata
        return CheckpointInfo(
            name=meta.name,
            sha256=meta.sha256,
            pair=meta.network.name,
            trained_on=meta.trained_on,
            trained_at=meta.trained_at,
            decision_threshold=meta.threshold[meta.heads[0]],
            validation_studies=meta.validation_studies,
        )

    def warm_up(self) -> None:
        """Trace and run every compiled function once, so that the first study does not wait."""
        modalities = self.network.config.modalities
        for combination in dict.fromkeys([modalities, *((m,) for m in modalities)]):
            self._answer([{m: self._blank() for m in combination}], PREDICTED)

    def predict(
        self,
        ct: ImageSource | None = None,
        xray: ImageSource | None = None,
        *,
        heatmap_class: str | None = None,
        windows: Mapping[Modality, WindowSettings | str] | None = None,
        frames: Mapping[Modality, int] | None = None,
    ) -> Prediction:
        """Answer one study of a CT slice, an X-ray, or both.

        heatmap_class: the class whose evidence the heatmaps show; the answer's own without it.
        windows, frames: how a DICOM file is read, by modality, see `imaging.read_grey`. A file
        whose header contradicts its slot leaves the study undetermined.
        Raises ImageError for an image that cannot be read, UsageError for no image or a modality
        that this network does not read, CheckpointError where the network gives no number.
        """
        started = time.perf_counter()
        index = self._class_index(heatmap_class)
        images = self._read(ct, xray, windows or {}, frames or {})
        wrong = contradicting_slots(_read_headers(ct, xray))
        decoded = time.perf_counter()
        if wrong:
            prediction = self._refuse(images, describe_contradictions(wrong))
        else:
            (prediction,) = self._answer([images], index)
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
        method: MethodName = "grad_cam",
        layer: LayerChoice = "coarse",
        heatmap_class: str | None = None,
        windows: Mapping[Modality, WindowSettings | str] | None = None,
        frames: Mapping[Modality, int] | None = None,
        progress: Progress | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Explanation:
        """The heatmaps of one study by a method of `explain.methods`, the study as for predict.

        layer: `coarse` for the last convolution, `fine` for an earlier one. Grad-CAM of the coarse
        layer is predict's own, on the fixed scale; all others are relative to their highest value.
        Raises what predict raises, UsageError for a study that is not answered, and Cancelled.
        """
        chosen = find_method(method)
        for modality in self.network.config.modalities:
            find_layer(self.network, modality, layer)
        answer = self.predict(ct, xray, heatmap_class=heatmap_class, windows=windows, frames=frames)
        if answer.label == UNDETERMINED:
            raise UsageError(f"There is no heatmap without an answer. {answer.warnings[0].message}")
        shown = answer.heatmap_class
        if (method, layer) == ("grad_cam", "coarse"):
            return Explanation(method, chosen.title, layer, shown, "fixed", answer.heatmaps)
        combination = tuple(m for m in self.network.config.modalities if m in answer.modalities)
        with self._tracing:
            if combination not in self._explainers:
                self._explainers[combination] = BranchExplainer(self.network, combination)
        images = self._read(ct, xray, windows or {}, frames or {})
        maps = self._explainers[combination].explain(
            {m: image[None] for m, image in images.items()},
            self._class_index(shown),
            method=method,
            layer=layer,
            progress=progress,
            cancelled=cancelled,
        )
        return Explanation(method, chosen.title, layer, shown, "relative", maps)

    def predict_batch(
        self,
        studies: Iterable[tuple[ImageSource | None, ImageSource | None]],
        *,
        heatmap_class: str | None = None,
    ) -> list[Prediction]:
        """Answer studies (ct, xray) together, with the same values as one by one.

        Raises what predict raises, for the first study that cannot be answered.
        """
        index = self._class_index(heatmap_class)
        read: list[Images] = []
        answers: dict[int, Prediction] = {}
        for row, (ct, xray) in enumerate(studies):
            read.append(self._read(ct, xray))
            wrong = contradicting_slots(_read_headers(ct, xray))
            if wrong:
                answers[row] = self._refuse(read[row], describe_contradictions(wrong))
        for combination in dict.fromkeys(tuple(images) for images in read):
            rows = [n for n, images in enumerate(read) if tuple(images) == combination and n not in answers]
            for start in range(0, len(rows), BATCH):
                chunk = rows[start : start + BATCH]
                began = time.perf_counter()
                predictions = self._answer([read[row] for row in chunk], index)
                each = _milliseconds((time.perf_counter() - began) / len(chunk))
                for row, prediction in zip(chunk, predictions, strict=True):
                    prediction.timing_ms.update(network=each, total=each)
                    answers[row] = prediction
        return [answers[row] for row in range(len(read))]

    def _read(
        self,
        ct: ImageSource | None,
        xray: ImageSource | None,
        windows: Mapping[Modality, WindowSettings | str] = _NONE,
        frames: Mapping[Modality, int] = _NONE,
    ) -> Images:
        given: dict[Modality, ImageSource | None] = {"ct": ct, "xray": xray}
        size = self.network.config.image_size
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
            m: read_image(source, size=size, window=windows.get(m), frame=frames.get(m))
            for m, source in present.items()
        }

    def _refuse(self, images: Images, notices: tuple[Notice, ...]) -> Prediction:
        """No answer, and why."""
        return Prediction(
            label=UNDETERMINED,
            probabilities={},
            branches={m: BranchAnswer(UNDETERMINED, {}) for m in images},
            modalities=tuple(images),
            heatmaps={},
            heatmap_class=CLASSES[POSITIVE],
            images={m: np.rint(image).astype(np.uint8) for m, image in images.items()},
            warnings=notices,
            checkpoint=self.info,
        )

    def _answer(self, studies: Sequence[Images], class_index: int) -> list[Prediction]:
        """Run studies of one combination of modalities through their compiled function."""
        combination = tuple(studies[0])
        function = self._function(combination)
        explained = function.explain(
            {m: np.stack([images[m] for images in studies]) for m in combination},
            np.full(len(studies), class_index, dtype=np.int32),
        )
        for head, logits in explained.logits.items():
            if not np.isfinite(logits).all():
                raise CheckpointError(
                    f"The {head} output of checkpoint {self.metadata.name} is not a number; it cannot be"
                    " used: put back the published weights, or train again."
                )
        return [
            self._refuse(images, refusal)
            if (refusal := self._find_refusal(explained, row))
            else self._assemble(function, images, explained, row)
            for row, images in enumerate(studies)
        ]

    def _find_refusal(self, explained: Explained, row: int) -> tuple[Notice, ...]:
        """Why a study is not answered, by what its images show."""
        if self.judge is None:
            return ()
        return check_contents(
            {m: self.judge.judge(m, part[row : row + 1])[0] for m, part in explained.contents.items()}
        )

    def _assemble(self, function: GradCam, images: Images, explained: Explained, row: int) -> Prediction:
        answers: dict[str, BranchAnswer] = {
            self._head(name): self._judge(self._head(name), logits[row])
            for name, logits in explained.logits.items()
        }
        head = self._head(function.target)
        modalities = function.modalities
        branches: dict[str, BranchAnswer] = {m: answers[m] for m in modalities if m in answers}
        heatmaps: dict[str, NDArray[np.float32]] = {
            m: self._scale_evidence(explained.evidence[m][row], self.metadata.heatmap_scale[head][m])
            for m in modalities
        }
        shown = CLASSES[int(explained.classes[row])]
        return Prediction(
            label=answers[head].label,
            probabilities=answers[head].probabilities,
            branches=branches,
            modalities=modalities,
            heatmaps=heatmaps,
            heatmap_class=shown,
            images={m: np.rint(image).astype(np.uint8) for m, image in images.items()},
            warnings=tuple(self._notices(branches, heatmaps, shown)),
            checkpoint=self.info,
        )

    def _judge(self, head: str, logits: NDArray[np.float32]) -> BranchAnswer:
        """Calibrated probabilities and the label that the head's threshold gives."""
        difference = float(logits[POSITIVE] - logits[1 - POSITIVE]) / self.metadata.temperature[head]
        positive = _sigmoid(difference)
        probabilities: dict[str, float] = {CLASSES[1 - POSITIVE]: 1.0 - positive, CLASSES[POSITIVE]: positive}
        called = positive >= self.metadata.threshold[head]
        return BranchAnswer(CLASSES[POSITIVE if called else 1 - POSITIVE], probabilities)

    @staticmethod
    def _scale_evidence(evidence: NDArray[np.float32], scale: float) -> NDArray[np.float32]:
        """Evidence in logit units as 0..1 on the checkpoint's fixed scale; all zero where too faint."""
        scaled = np.clip(evidence / np.float32(scale), 0.0, 1.0).astype(np.float32)
        return scaled if float(scaled.max()) >= FAINTEST else np.zeros_like(scaled)

    def _notices(
        self, branches: dict[str, BranchAnswer], heatmaps: dict[str, NDArray[np.float32]], shown: str
    ) -> Iterable[Notice]:
        names = {m: answer.label for m, answer in branches.items()}
        if len(set(names.values())) > 1:
            said = " and ".join(f"the {MODALITY_TITLES[m]} alone {CLASS_TITLES[n]}" for m, n in names.items())
            yield Notice(
                "branches_disagree",
                f"The two images disagree: {said}. The network was trained on agreeing pairs only, so its"
                " fused answer is least reliable here.",
            )
        if len(heatmaps) == 1 and self.network.config.is_concatenated:
            (only,) = heatmaps
            yield Notice(
                "single_modality",
                f"Answered from the {MODALITY_TITLES[only]} alone; the other image was not given.",
            )
        for modality, heatmap in heatmaps.items():
            if not heatmap.any():
                yield Notice(
                    f"no_positive_evidence_{modality}",
                    f"The network found no positive evidence for {CLASS_TITLES[shown]} on the"
                    f" {MODALITY_TITLES[modality]}, so its heatmap is empty.",
                )
        if self.judge is None:
            yield Notice(
                UNJUDGED,
                "This checkpoint has no judge of image content: whatever the images show, they are answered.",
            )
        if self.metadata.synthetic:
            yield Notice(
                "synthetic_checkpoint",
                "This checkpoint was trained on synthetic phantoms, not on patients: its answer means nothing"
                " for a person.",
            )

    def _function(self, combination: tuple[Modality, ...]) -> GradCam:
        with self._tracing:  # two threads must not trace the same function at once
            if combination not in self._functions:
                whole = combination == self.network.config.modalities
                head = self._head(FUSED if whole else combination[0])
                threshold = self.metadata.threshold[head]
                margin = self.metadata.temperature[head] * math.log(threshold / (1.0 - threshold))
                judging = None if self.judge is None else self.judge.branch
                self._functions[combination] = GradCam(
                    self.network, combination, positive_margin=margin, judging_branch=judging
                )
            return self._functions[combination]

    def _head(self, target: str) -> str:
        """The name under which meta.json keeps a head: a single network's only head is its modality's."""
        if target == FUSED and not self.network.config.is_concatenated:
            return self.network.config.modalities[0]
        return target

    def _class_index(self, name: str | None) -> int:
        if name is None:
            return PREDICTED
        if name not in CLASSES:
            raise UsageError(f"Class {name!r} is not known; choose {' or '.join(CLASSES)}.")
        return [*CLASSES].index(name)

    def _blank(self) -> NDArray[np.float32]:
        size = self.network.config.image_size
        return np.zeros((size, size, 3), dtype=np.float32)


def _read_headers(ct: ImageSource | None, xray: ImageSource | None) -> dict[Modality, ImageHeader | None]:
    given: dict[Modality, ImageSource | None] = {"ct": ct, "xray": xray}
    return {m: read_header(source) for m, source in given.items() if source is not None}


def _sigmoid(value: float) -> float:
    """Logistic function without overflow."""
    if value >= 0:
        return 1.0 / (1.0 + math.exp(-value))
    return math.exp(value) / (1.0 + math.exp(value))


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000.0, 1)


def _join(modalities: Iterable[str]) -> str:
    return " and ".join(MODALITY_TITLES[m] for m in modalities)
