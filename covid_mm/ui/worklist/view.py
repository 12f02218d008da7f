"""The list and what it opens, in words and HTML: rows for worklist.js, a study as it was answered, two side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from covid_mm.config import CLASS_TITLES, CLASSES, MODALITIES, POSITIVE, RESEARCH_USE
from covid_mm.reporting.card_words import HEAD_TITLES
from covid_mm.serving.batch import Row
from covid_mm.serving.prediction import UNDETERMINED, Prediction
from covid_mm.ui.i18n.language import ENGLISH, Texts
from covid_mm.ui.pictures import draw_outlines, make_preview, make_thumbnail
from covid_mm.ui.report.content import NOTE_LENGTH
from covid_mm.ui.study.analysis import Analysis, make_analysis
from covid_mm.ui.study.evidence import format_probability
from covid_mm.ui.study.heatmaps import describe_map
from covid_mm.ui.study.images import SLOT_TITLES
from covid_mm.ui.study.result import join_modalities, render_analysis
from covid_mm.ui.study.slot_choice import SliceChoice, describe_choice
from covid_mm.ui.study.warnings import list_warnings, word_warning
from covid_mm.ui.templates import render_template
from covid_mm.ui.worklist.packing import pack_analysis
from covid_mm.ui.worklist.store import FILES_GONE, WorklistLimits
from covid_mm.ui.worklist.studies import ListedStudy, Thumbnail

NO_ANSWER = "No answer"
FAILED = "failed"  # the filter for studies without an answer
POSITIVE_CLASS = CLASSES[POSITIVE]
PRIVACY = (
    "Kept for you alone: in the server's memory the answer, pictures of at most 512 pixels, maps, your note and a batch"
    " study's name; in its private folder the image files, {size} MB at most, the oldest going first. Deleted when you"
    " close this tab, by Delete, after 30 minutes without use, and when the server ends. A reload keeps it."
)
NOT_KEPT = (
    "Pictures and maps of this study had to make room for newer ones; its answer stays in the list. For the rest,"
    " analyse it again."
)
SCRIPT_TEXTS = {  # of worklist.js
    "many": "{shown} of {total} studies",
    "one": "1 study",
    "gone": "This list was deleted, as it was not used for 30 minutes. New studies begin a new one.",
    "unanswered": "The server did not answer; it may be busy. Try again.",
    "making": "Making the reports… {size} MB",
    "sure": "Press again to delete the whole list.",
    "remove": "Delete {name} from the list",
    "none": "No study fits.",
    "compare": "Choose a study",
    "saved": "Note kept with the study.",
}


def list_analysis(analysis: Analysis, images: Mapping[str, Any] | None = None) -> ListedStudy:
    """A study of the slots as a row of the list. images: modality -> uint8 (height, width, 3) for thumbnails."""
    prediction = analysis.prediction
    return ListedStudy(
        label=prediction.label,
        probability=prediction.probabilities.get(POSITIVE_CLASS),
        supported=prediction.supported_probability,
        disagree=prediction.has_warning("branches_disagree"),
        thumbnails=tuple(_list_thumbnails(prediction.images if images is None else images)),
        packed=pack_analysis(analysis),
        meta=analysis.meta,
        network=prediction.checkpoint.name,
    )


def list_row(row: Row, meta: Mapping[str, Any], run: int) -> ListedStudy:
    """A batch's study as a row of the list. meta: of the checkpoint that answered. run: the number of its run."""
    prediction = row.prediction
    common = {"name": row.study, "run": run, "truth": row.truth, "meta": meta}
    if prediction is None:
        return ListedStudy(error=row.error, **common)  # type: ignore[arg-type]
    previews = {m: make_preview(pixels[..., 0].astype("float32")) for m, pixels in prediction.images.items()}
    listed = list_analysis(make_analysis(prediction, previews, meta))
    return ListedStudy(**{**vars(listed), **common})


def describe_row(study: ListedStudy, texts: Texts = ENGLISH) -> dict[str, Any]:
    """What worklist.js draws a row from: plain texts, numbers and thumbnails.

    flags: what filters go by: the label or `failed`, and `disagree`, `wrong`.
    """
    flags = [study.label or FAILED, *(["disagree"] if study.disagree else [])]
    status = [texts("CT and X-ray disagree")] if study.disagree else []
    if study.is_wrong:
        flags.append("wrong")
        status.append(texts("labelled {label}", label=texts(CLASS_TITLES[study.truth])))
    if study.error:
        status.append(texts.sentence(study.error))
    elif study.packed is None:
        status.append(texts("answer only, without pictures and maps"))
    return {
        "number": study.number,
        "name": name_study(study, texts),
        "run": study.run,
        "added": round(study.added * 1000),
        "label": study.label,
        "title": texts(CLASS_TITLES[study.label] if study.label else NO_ANSWER),
        "value": study.probability,
        "shown": texts("COVID-19: {shown}", shown=_format(study.probability, study.supported, texts))
        if study.probability is not None
        else "",
        "status": "; ".join(status),
        "flags": flags,
        "note": study.note,
        "opens": study.packed is not None,
        "thumbnails": [
            asdict(one) | {"title": texts.title(MODALITIES[one.modality].title)} for one in study.thumbnails
        ],
    }


def name_study(study: ListedStudy, texts: Texts = ENGLISH) -> str:
    """Its owner's name, or its number where it has none."""
    return study.name or texts("Study {number}", number=study.number)


def render_panel(texts: Texts = ENGLISH, limits: WorklistLimits = WorklistLimits()) -> str:  # noqa: B008 (frozen)
    """The list before it has a study. limits: of what it keeps."""
    filters = {
        "": texts("All"),
        "disagree": texts("CT and X-ray disagree"),
        **{name: texts(CLASS_TITLES[name]) for name in (UNDETERMINED, POSITIVE_CLASS, CLASSES[0])},
        "wrong": texts("Otherwise than labelled"),
        FAILED: texts(NO_ANSWER),
    }
    orders = {
        "newest": texts("Newest first"),
        "name": texts("By name"),
        "title": texts("By answer"),
        "value": texts("By probability"),
    }
    words = {key: texts(text) for key, text in SCRIPT_TEXTS.items()}
    return render_template(
        "worklist/panel.html",
        texts,
        filters=filters,
        orders=orders,
        words=words,
        privacy=texts(PRIVACY, size=f"{limits.visitor_file_bytes / 2**20:g}"),
    )


def render_study(study: ListedStudy, analysis: Analysis | None, texts: Texts = ENGLISH) -> str:
    """A study of the list as it was answered, with its note and reports; without its answer, the reason."""
    missing = texts.sentence(study.error) if study.error else texts(NOT_KEPT)
    return render_template(
        "worklist/study.html",
        texts,
        title=name_study(study, texts),
        number=study.number,
        time=_format_time(study),
        truth=texts(CLASS_TITLES[study.truth]) if study.truth else "",
        result=render_analysis(analysis, texts) if analysis else None,
        remark=texts(FILES_GONE) if analysis and study.files is None else "",
        missing=missing,
        note=study.note,
        most=NOTE_LENGTH,
    )


def describe_files(study: ListedStudy) -> dict[str, Any] | None:
    """For worklist.js: modality -> the choice that its file was read with; None where its files are gone."""
    if study.files is None:
        return None
    return {m: describe_choice(study.files.choices.get(m, SliceChoice())) for m in study.files.paths}


def render_comparison(pairs: list[tuple[ListedStudy, Analysis]], texts: Texts = ENGLISH) -> str:
    """Two studies side by side: each head's probability and its change, then image by image, warnings last."""
    first, second = (analysis.prediction for _, analysis in pairs)
    modalities = [m for m in MODALITIES if any(m in analysis.previews for _, analysis in pairs)]
    return render_template(
        "worklist/comparison.html",
        texts,
        research_use=RESEARCH_USE,
        studies=[_describe_side(study, analysis, texts) for study, analysis in pairs],
        heads=list(_compare_heads(first, second, texts)),
        modalities=[
            (m, texts(SLOT_TITLES[m]), [_describe_image(analysis, m, texts) for _, analysis in pairs])
            for m in modalities
        ],
    )


def _describe_side(study: ListedStudy, analysis: Analysis, texts: Texts) -> dict[str, Any]:
    prediction = analysis.prediction
    return {
        "name": name_study(study, texts),
        "time": _format_time(study),
        "label": prediction.label,
        "title": texts(CLASS_TITLES[prediction.label]),
        "source": join_modalities(prediction.modalities, texts),
        "warnings": [word_warning(one, texts) for one in list_warnings(prediction)],
        "note": study.note,
        "checkpoint": prediction.checkpoint.name,
    }


def _compare_heads(
    first: Prediction, second: Prediction, texts: Texts
) -> Iterator[tuple[str, str, str, str]]:
    """(head's title, probability there, probability here, change in points) of each head that either study has."""
    for head, title in HEAD_TITLES.items():
        values = [_read_head(prediction, head) for prediction in (first, second)]
        if any(values):
            shown = [_format(*value, texts) if value else "-" for value in values]
            change = ""
            if values[0] and values[1] and not any(_is_cut(*value) for value in values if value):
                points = round(100 * values[1][0]) - round(100 * values[0][0])
                change = texts("{points} points", points=f"{points:+d}") if points else texts("no change")
            yield texts(title), shown[0], shown[1], change


def _read_head(prediction: Prediction, head: str) -> tuple[float, float] | None:
    """(probability, the highest that is shown) of one head; None where it did not answer."""
    if head in MODALITIES:
        branch = prediction.branches.get(head)
        value = branch.probabilities.get(POSITIVE_CLASS) if branch else None
        return None if branch is None or value is None else (value, branch.supported_probability)
    value = prediction.probabilities.get(POSITIVE_CLASS) if len(prediction.modalities) > 1 else None
    return None if value is None else (value, prediction.supported_probability)


def _is_cut(value: float, supported: float) -> bool:
    """Whether a probability is shown as `over` or `under` what is supported: a change from it has no number."""
    return not 1 - supported < value < supported


def _describe_image(analysis: Analysis, modality: str, texts: Texts) -> dict[str, Any] | None:
    """One study's image and its map; None where the study has no such image."""
    if modality not in analysis.previews:
        return None
    prediction = analysis.prediction
    heat = describe_map(
        prediction.heatmaps.get(modality),
        texts(SLOT_TITLES[modality]),
        prediction.heatmap_class,
        analysis.kind,
        texts,
    )
    return {
        "preview": analysis.previews[modality],
        "map": heat,
        "outline": draw_outlines(prediction, modality),
    }


def _list_thumbnails(images: Mapping[str, Any]) -> Iterator[Thumbnail]:
    for modality in MODALITIES:
        if modality in images:
            small = make_thumbnail(images[modality][..., 0])
            yield Thumbnail(modality, small.url, small.width, small.height)


def _format(value: float | None, supported: float, texts: Texts) -> str:
    return "" if value is None else format_probability(value, supported, texts)


def _format_time(study: ListedStudy) -> str:
    """For the browser, which writes it in the visitor's own time."""
    return datetime.fromtimestamp(study.added, UTC).isoformat(timespec="seconds")
