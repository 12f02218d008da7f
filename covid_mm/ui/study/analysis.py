"""From two uploads to an answer or a sentence: what the page and the API share, without any HTML."""

from __future__ import annotations

import dataclasses
import logging
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from covid_mm.config import MODALITIES, ImageLimits
from covid_mm.errors import Cancelled, CovidMMError, ImageError
from covid_mm.evaluation.local_test import HeadTest
from covid_mm.imaging import CtScan
from covid_mm.serving.prediction import Prediction
from covid_mm.serving.scan_rule import apply_scan_fields
from covid_mm.ui.i18n.language import ENGLISH, Texts
from covid_mm.ui.pictures import Preview, encode_png, make_preview
from covid_mm.ui.predictors import PredictorPool, StudyPredictor, Ticket
from covid_mm.ui.study.heatmaps import HeatmapChoice, HeatmapKind
from covid_mm.ui.study.images import (
    READERS,
    SLOT_TITLES,
    SlotUpload,
    StudyImages,
    list_paths,
    read_study,
)
from covid_mm.ui.study.scans import GONE, THUMBNAIL_SIDE, choose_thumbnails, delete_scan, load_scan
from covid_mm.ui.study.slot_choice import SliceChoice

FUSED = "fused"
HEADS = (FUSED, *MODALITIES)  # as meta.json names them

_log = logging.getLogger("covid_mm.ui")


@dataclass(frozen=True)
class Analysis:
    """An answer, and what the page needs to show it.

    previews: modality -> the image for the screen. thresholds: head (`fused`, `ct`, `xray`) -> the
    probability from which it is called positive. kind: what the heatmaps are. meta: the
    checkpoint's meta.json. thumbnails: of a CT scan, number -> picture of its most suspicious slices, the highest
    probability first. own_test: what the head that answers was worth on this hospital's own studies, where tested.
    """

    prediction: Prediction
    previews: dict[str, Preview]
    thresholds: dict[str, float]
    kind: HeatmapKind = field(default_factory=HeatmapKind)
    meta: Mapping[str, Any] = field(default_factory=dict)
    thumbnails: Mapping[int, Preview] = field(default_factory=dict)
    own_test: HeadTest | None = None

    @property
    def head(self) -> str:
        """The head whose answer is the study's."""
        modalities = self.prediction.modalities
        return FUSED if len(modalities) > 1 else modalities[0]


def analyse_study(
    predictor: StudyPredictor,
    ct: SlotUpload,
    xray: SlotUpload,
    limits: ImageLimits = ImageLimits(),  # noqa: B008 (frozen)
    slices: Mapping[str, SliceChoice] | None = None,
    choice: HeatmapChoice = HeatmapChoice(),  # noqa: B008 (frozen)
    **watch: Any,
) -> Analysis:
    """Read the uploads, ask the predictor, and keep the images for the screen.

    Args:
        predictor: answers the study.
        ct, xray: paths of uploads, several for a DICOM series, None where the slot is empty.
        limits: what an image may measure.
        slices: by modality, which slice and window of a DICOM file to read.
        choice: which heatmaps.
        watch: `progress` and `cancelled` for a slow heatmap.

    Raises:
        CovidMMError: one sentence, which names the slot and no path.
    """
    return answer_study(predictor, read_study(ct, xray, limits, slices), choice, **watch)


def answer_study(
    predictor: StudyPredictor,
    study: StudyImages,
    choice: HeatmapChoice = HeatmapChoice(),  # noqa: B008 (frozen)
    **watch: Any,
) -> Analysis:
    """As analyse_study, of a study that was read already."""
    options: dict[str, Any] = choice.options | watch
    if study.scan:
        return _answer_scan(predictor, study, options)
    prediction = predictor.predict(ct=study.images.get("ct"), xray=study.images.get("xray"), **options)
    return make_analysis(prediction, study.previews, predictor.meta)


def _answer_scan(predictor: StudyPredictor, study: StudyImages, options: dict[str, Any]) -> Analysis:
    """A study whose CT is a whole scan, or one slice chosen from it."""
    choice = study.choice
    scan = load_scan(study.scan, choice.series)
    if scan is None:
        raise ImageError(GONE).about(SLOT_TITLES["ct"])
    if choice.window is not None:
        options["windows"] = {"ct": choice.window}
    if choice.alone and choice.frame is not None:
        options["frames"] = {"ct": choice.frame}
    prediction = predictor.predict(ct=scan, xray=study.images.get("xray"), **options)
    shown = prediction.slice if prediction.slice is not None else choice.frame or 0
    previews = {"ct": make_preview(scan.render(shown, choice.window)), **study.previews}
    analysis = make_analysis(prediction, previews, predictor.meta)
    return dataclasses.replace(analysis, thumbnails=draw_thumbnails(scan, prediction, choice))


def draw_thumbnails(scan: CtScan, prediction: Prediction, choice: SliceChoice) -> dict[int, Preview]:
    """Small pictures of the most suspicious slices, by number, the highest probability first."""
    chosen = choose_thumbnails([one.probability for one in prediction.slices])
    return {
        index: make_preview(scan.render(index, choice.window), longest=THUMBNAIL_SIDE) for index in chosen
    }


def make_analysis(prediction: Prediction, previews: dict[str, Preview], meta: Mapping[str, Any]) -> Analysis:
    """An answer with what the page needs beside it. previews: modality -> image. meta: the checkpoint's meta.json."""
    if prediction.scan is not None:
        meta = apply_scan_fields(meta)
    kind = HeatmapKind(prediction.heatmap_method, prediction.heatmap_layer, prediction.heatmap_scale)
    known = meta.get("decision_threshold", {})
    thresholds = {head: known.get(head, prediction.checkpoint.decision_threshold) for head in HEADS}
    return Analysis(prediction, previews, thresholds, kind, meta)


def analyse_uploads(
    networks: PredictorPool,
    network: str | None,
    ct: SlotUpload,
    xray: SlotUpload,
    limits: ImageLimits,
    slices: Mapping[str, SliceChoice] | None = None,
    choice: HeatmapChoice = HeatmapChoice(),  # noqa: B008 (frozen)
    ticket: Ticket | None = None,
    read: Callable[[float], None] | None = None,
    **watch: Any,
) -> Analysis:
    """As analyse_study, by a network of the pool, as soon as it is loaded and free.

    network: a checkpoint's name, None for the default. ticket: for the networks' queue, None for its end. read:
    gets the share of a scan's slices that were read. The images are read before the lock is taken, in a process
    beside this one. Raises RuntimeError too, where the network can't be loaded.
    """
    with ticket or networks.queue.join() as mine:
        mine.wait()
        study = READERS.run(read_study, ct, xray, limits, slices)
        predictor = networks.choose(network).get()
        with networks.lock.hold():
            if mine.is_left():
                raise Cancelled("Nobody waits for this study any more.")
            if study.scan:
                watch = {"cancelled": mine.is_left, "progress": read, **watch}
            return answer_study(predictor, study, choice, **watch)


def delete_uploads(*uploads: SlotUpload) -> None:
    """Remove uploads from the disk, where they still are."""
    for upload in uploads:
        delete_scan(list_paths(upload))
        for path in list_paths(upload):
            Path(path).unlink(missing_ok=True)


def describe_prediction(prediction: Prediction) -> dict[str, Any]:
    """The JSON object of the API: `Prediction.to_dict` with each heatmap as a grey PNG data URL.

    A pixel of 0 means no evidence, 255 the top of the fixed scale; null where there is none at all.
    """
    maps = {
        modality: encode_png(np.rint(heatmap * 255.0).astype(np.uint8))
        for modality, heatmap in prediction.heatmaps.items()
        if heatmap.any()
    }
    return prediction.to_dict(maps)


def explain_error(error: Exception, texts: Texts = ENGLISH) -> str:
    """One sentence for the user.

    What the package raises on purpose is already one. Anything else is logged here, with its
    traceback, under an id; the user gets the id only, so no path or value leaves the server.
    """
    if isinstance(error, CovidMMError):
        return texts.sentence(error.message)
    token = secrets.token_hex(4)
    _log.error("error %s", token, exc_info=error)
    return texts("Something went wrong on the server; its log has the details under {token}.", token=token)
