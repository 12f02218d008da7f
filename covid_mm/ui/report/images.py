"""The report's images, each beside its overlay with the lungs' outline, and the colour scale below."""

from __future__ import annotations

import base64
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image
from reportlab.platypus import Flowable, Table

from covid_mm.config import CLASS_TITLES, MODALITIES
from covid_mm.explain.overlay import blend_heatmap
from covid_mm.reporting.pdf_text import INNER, Block, arrange, write, write_heading
from covid_mm.ui.i18n.language import ENGLISH, Texts
from covid_mm.ui.pictures import LUNGS_OUTLINE, OPACITY, Preview, find_outlines
from covid_mm.ui.report.content import Report
from covid_mm.ui.report.drawing import ColourBar, ImageFrame
from covid_mm.ui.study.evidence import describe_heat_location
from covid_mm.ui.study.heatmaps import FIXED, NO_EVIDENCE, RELATIVE
from covid_mm.ui.study.images import SLOT_TITLES
from covid_mm.ui.study.series import describe_extent, describe_slice

LEGENDS = {
    FIXED: "{method}: positive evidence for {target}, on a fixed scale that is the same in every study",
    RELATIVE: "{method}: positive evidence for {target}, relative to each map's highest value",
}


def compose_images(report: Report, height: float, texts: Texts = ENGLISH) -> Block:
    """Each image beside its overlay, in frames of this height; the images alone where there is no map."""
    prediction = report.prediction
    pictures = {m: _decode(report.analysis.previews[m]) for m in MODALITIES if m in report.analysis.previews}
    width = (INNER - 8) / 2
    titles = {m: texts("{title}: image", title=texts(SLOT_TITLES[m])) for m in pictures}
    if not prediction.heatmaps:
        frames = [
            (ImageFrame(picture, width, height, "", *find_outlines(prediction, m)), titles[m])
            for m, picture in pictures.items()
        ]
        return [write_heading(texts("Images")), _set_frames(frames, width), *_explain_outlines(report, texts)]
    block: list[Flowable] = [
        write_heading(texts("Images and evidence" if report.prediction.heatmaps else "Images"))
    ]
    for modality, picture in pictures.items():
        evidence = _compose_evidence(report, modality, picture, width, height, texts)
        block.append(_set_frames([(ImageFrame(picture, width, height), titles[modality]), evidence], width))
        kind, location = report.analysis.kind, prediction.heat_location.get(modality)
        said = describe_heat_location(location, kind.method, kind.layer, prediction.heatmap_class, texts)
        block.append(write(said, size=7.8, colour="soft"))
        if modality == "ct" and prediction.scan is not None:
            line = f"{describe_slice(prediction.scan, texts)}. {describe_extent(prediction.scan, texts)}"
            block.append(write(line, size=7.8))
    legend_text = LEGENDS[report.analysis.kind.scale]
    words = texts(legend_text, method=report.method, target=texts(CLASS_TITLES[prediction.heatmap_class]))
    legend = arrange(
        [[ColourBar(128), write(words, size=7.8, colour="soft")]],
        [136, INNER - 136],
        ("VALIGN", (0, 0), (-1, -1), "MIDDLE"),
    )
    return [*block, legend, *_explain_outlines(report, texts)]


def _explain_outlines(report: Report, texts: Texts) -> list[Flowable]:
    """What the lines over the images are; nothing where there are none."""
    if not any(any(find_outlines(report.prediction, m)) for m in report.analysis.previews):
        return []
    key = texts("solid: the lungs as found; dashed: the part that was read")
    return [write(f"{texts(LUNGS_OUTLINE)}: {key}.", size=7.8, colour="soft")]


def _compose_evidence(
    report: Report, modality: str, picture: Image.Image, width: float, height: float, texts: Texts
) -> tuple[ImageFrame, str]:
    """The frame with a modality's overlay, or with words in its place, and its caption."""
    prediction = report.prediction
    heatmap = prediction.heatmaps.get(modality)
    title = texts(SLOT_TITLES[modality])
    if heatmap is None:
        return ImageFrame(None, width, height, texts("No map")), texts("{title}: no map", title=title)
    if not heatmap.any() or prediction.has_warning(f"no_positive_evidence_{modality}"):
        remark = texts(NO_EVIDENCE, target=texts(CLASS_TITLES[prediction.heatmap_class]))
        frame = ImageFrame(picture, width, height, remark, *find_outlines(prediction, modality))
        return frame, f"{title}: {report.method}"
    highest = ""
    if report.analysis.kind.scale == FIXED:
        highest = texts(", highest {value}", value=texts.number(float(heatmap.max()), 2))
    caption = f"{title}: {report.method}{highest}"
    overlay = _lay_over(picture, prediction.draw_heatmap(modality, picture.height, picture.width))
    return ImageFrame(overlay, width, height, "", *find_outlines(prediction, modality)), caption


def _set_frames(frames: list[tuple[ImageFrame, str]], width: float) -> Table:
    """One or two frames side by side, each above its caption."""
    rows = [
        [frame for frame, _ in frames],
        [write(caption, size=7.8, colour="soft") for _, caption in frames],
    ]
    table = arrange(
        rows,
        [width + 8, width][: len(frames)],
        ("TOPPADDING", (0, 1), (-1, 1), 2),
        ("BOTTOMPADDING", (0, 1), (-1, 1), 4),
    )
    return table


def _decode(preview: Preview) -> Image.Image:
    """The preview's pixels, grey; nothing but pixels leaves the file."""
    data = base64.b64decode(preview.url.partition(",")[2])
    with Image.open(BytesIO(data)) as picture:
        return picture.convert("L")


def _lay_over(picture: Image.Image, heatmap: Any) -> Image.Image:
    return Image.fromarray(blend_heatmap(np.asarray(picture.convert("RGB")), heatmap, OPACITY))
