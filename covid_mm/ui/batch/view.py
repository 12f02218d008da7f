"""A batch as the page shows it: what was paired, the progress, one table row per study. HTML and words only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

from covid_mm.config import CLASS_TITLES, CLASSES, MODALITIES, POSITIVE
from covid_mm.serving.batch import COLUMNS, Row, format_line
from covid_mm.serving.pairing import Pairing
from covid_mm.serving.prediction import UNDETERMINED, BranchAnswer, CheckpointInfo, Prediction
from covid_mm.ui.i18n.language import ENGLISH, Texts
from covid_mm.ui.pictures import draw_outlines, make_thumbnail
from covid_mm.ui.study.evidence import format_probability
from covid_mm.ui.study.warnings import shorten_warning
from covid_mm.ui.templates import render_template

LEFT_OUT_SHOWN = 50  # files; more are counted

RULE = (
    "Name the two images of one study alike: <code>&lt;study&gt;_ct</code> for the CT slice and"
    " <code>&lt;study&gt;_xray</code> for the X-ray, each with its ending. So <code>patient7_ct.png</code> and"
    " <code>patient7_xray.dcm</code> are the study <code>patient7</code>. Either image may be missing."
)
MANIFEST_RULE = (
    "Files with other names: add a CSV manifest with the columns <code>study</code>, <code>ct</code> and"
    " <code>xray</code>, which says for each study what its files are called. A column <code>label</code> (normal,"
    " covid19_pneumonia) and perhaps <code>patient</code> tests the network on your own images."
)
PRIVACY = (
    "Uploads are deleted from the server when the run has ended, when cleared, and after 30 minutes."
    " Each row stays in the list beside the slots, with its images, until it is deleted there or not used for 30"
    " minutes. File names are shown to you only."
)
PAIRING_HEAD = ("Study", "CT", "X-ray", "Remarks")
RESULT_HEAD = (
    "Study",
    "Images",
    "Answer",
    "Probability",
    "CT alone",
    "X-ray alone",
    "Remarks",
)
UNSORTED = ("Images", "Remarks")
NO_ANSWER = "No answer"
CAPTION = "Calibrated probability of {label}. Decision threshold {threshold} %. Checkpoint {name}, {sha256}."


def describe_progress(outcomes: Sequence[str], total: int, seconds: float, texts: Texts = ENGLISH) -> str:
    """`12 of 40 studies done: 10 answered, 1 undetermined, 1 failed, about 2 minutes left`.

    outcomes: of each study that is done, as `Row.outcome`. seconds: since the first study began.
    """
    done = len(outcomes)
    many = "{done} of {total} studies done" if total != 1 else "{done} of {total} study done"
    text = texts(many, done=done, total=total)
    if done:
        counts = {name: outcomes.count(name) for name in ("answered", UNDETERMINED, "failed")}
        text += texts(": {answered} answered, {undetermined} undetermined, {failed} failed", **counts)
    if not 0 < done < total:
        return text
    left = seconds / done * (total - done)
    if left < 10:
        return texts("{text}, a few seconds left", text=text)
    if left < 90:
        return texts("{text}, about {left} seconds left", text=text, left=round(left / 10) * 10)
    return texts("{text}, about {left} minutes left", text=text, left=round(left / 60))


def describe_pairing(pairing: Pairing, texts: Texts = ENGLISH) -> str:
    """`3 studies: 2 with both images, 1 with one; 1 cannot be answered`, for the heading and screen readers."""
    both = sum(len(study.files) == 2 for study in pairing.studies)
    one = sum(len(study.files) == 1 for study in pairing.studies)
    bad = sum(bool(study.error) for study in pairing.studies)
    total = len(pairing.studies)
    text = texts("{total} study: " if total == 1 else "{total} studies: ", total=total)
    text += texts("{count} with both images", count=both)
    if one:
        text += texts(", {count} with one image", count=one)
    if bad:
        text += texts(", {count} that cannot be answered", count=bad)
    if pairing.left_out:
        text += texts("; {files} left out", files=_count_files(len(pairing.left_out), texts))
    return text


def render_pairing(pairing: Pairing, texts: Texts = ENGLISH) -> str:
    """The table of what was found, before anything runs, and the files that belong to no study."""
    more = len(pairing.left_out) - LEFT_OUT_SHOWN
    return render_template(
        "batch/pairing.html",
        texts,
        summary=describe_pairing(pairing, texts),
        left_out=pairing.left_out[:LEFT_OUT_SHOWN],
        more=texts("and {files} more", files=_count_files(more, texts)) if more > 0 else "",
        head=[texts.title(name) for name in PAIRING_HEAD],
        modalities={m: texts.title(MODALITIES[m].title) for m in MODALITIES},
        studies=[(one, _capital(texts.sentence(one.error or one.remark))) for one in pairing.studies],
    )


def render_run_head(total: int, checkpoint: CheckpointInfo, texts: Texts = ENGLISH) -> str:
    """Progress bar and the empty result table; the page's script fills it row by row."""
    caption = texts(
        CAPTION,
        label=texts(CLASS_TITLES[CLASSES[POSITIVE]]),
        threshold=f"{100 * checkpoint.decision_threshold:g}",
        name=checkpoint.name,
        sha256=checkpoint.sha256[:12],
    )
    columns = [(texts.title(name), name not in UNSORTED) for name in RESULT_HEAD]
    filters = {
        "": texts("All"),
        "disagree": texts("CT and X-ray disagree"),
        UNDETERMINED: texts(CLASS_TITLES[UNDETERMINED]),
        "wrong": texts("Otherwise than labelled"),
        "failed": texts(NO_ANSWER),
    }
    return render_template(
        "batch/results.html", texts, total=total, caption=caption, columns=columns, filters=filters
    )


def csv_head() -> str:
    """The first line of the CSV, that of `python -m covid_mm batch`."""
    return format_line(COLUMNS)


def describe_row(row: Row, remark: str = "", texts: Texts = ENGLISH, number: int = 0) -> dict[str, str]:
    """`html` for the table and `line` for the CSV; the rest as for `render_row`."""
    return {"html": render_row(row, remark, texts, number), "line": format_line(row.to_cells())}


def render_row(row: Row, remark: str = "", texts: Texts = ENGLISH, number: int = 0) -> str:
    """One study as a table row.

    remark: what was said of the study before the run. number: its own in the session's list, which it is opened by;
    0 where it is in none.
    """
    prediction = row.prediction
    _, images, answer, *probabilities, remarks = (texts.title(name) for name in RESULT_HEAD)
    label = prediction.label if prediction else ""
    return render_template(
        "batch/row.html",
        texts,
        study=row.study,
        number=number,
        flags=" ".join(_list_flags(row)),
        labelled=texts("labelled {label}", label=texts(CLASS_TITLES[row.truth])) if row.truth else "",
        label=label,
        title=texts(CLASS_TITLES[label] if prediction else NO_ANSWER),
        head={"images": images, "answer": answer, "remarks": remarks},
        thumbnails=_list_thumbnails(prediction, texts) if prediction else (),
        probabilities=[
            (name, *cell)
            for name, cell in zip(probabilities, _list_probabilities(prediction, texts), strict=True)
        ],
        error=_capital(texts.sentence(row.error)),
        remarks="; ".join(_list_remarks(prediction, remark, texts)) if prediction else "",
        worth=_describe_worth(prediction, texts) if prediction and prediction.probabilities else "",
    )


def render_problem(sentence: str, texts: Texts = ENGLISH) -> str:
    """One sentence in the place of the table."""
    return f'<div class="mm-error" role="alert"><h2>{texts("No run")}</h2><p>{escape(sentence)}</p></div>'


def _list_probabilities(
    prediction: Prediction | None, texts: Texts
) -> Iterator[tuple[float | None, str, bool]]:
    """Of the answer, then of each image alone: probability, how it is shown, whether it is the named class's."""
    answers: list[BranchAnswer | None] = [None] * (1 + len(MODALITIES))
    if prediction is not None:
        fused = BranchAnswer(prediction.label, prediction.probabilities, prediction.supported_probability)
        answers = [fused, *(prediction.branches.get(m) for m in MODALITIES)]
    for number, answer in enumerate(answers):
        value = answer.probabilities.get(CLASSES[POSITIVE]) if answer else None
        if answer is None or value is None:
            yield None, "", False
        else:
            shown = format_probability(value, answer.supported_probability, texts)
            yield value, shown, number == 0 and answer.label in answer.probabilities


def _describe_worth(prediction: Prediction, texts: Texts) -> str:
    """What the row's probability is worth on left-out images, in short."""
    evidence = prediction.evidence
    if evidence is None:
        return texts("Not measured on hospitals never seen in training.")
    return texts(
        "On hospitals never seen in training: AUC {auc}, sensitivity {sensitivity}, specificity {specificity}.",
        auc=texts.number(evidence.auc, 2),
        sensitivity=texts.percent(evidence.sensitivity, 0),
        specificity=texts.percent(evidence.specificity, 0),
    )


def _list_thumbnails(prediction: Prediction, texts: Texts) -> Iterator[dict[str, Any]]:
    """The study's images with what was read in them, drawn in memory."""
    for modality in MODALITIES:
        if modality in prediction.images:
            yield {
                **vars(make_thumbnail(prediction.images[modality][..., 0])),
                "title": texts.title(MODALITIES[modality].title),
                "outline": draw_outlines(prediction, modality),
            }


def _list_flags(row: Row) -> Iterator[str]:
    """What the table is filtered by."""
    yield row.outcome
    if row.prediction and row.prediction.has_warning("branches_disagree"):
        yield "disagree"
    if row.is_wrong:
        yield "wrong"


def _list_remarks(prediction: Prediction, remark: str, texts: Texts) -> list[str]:
    """What was said before the run, unless no answer came of it, then the warnings in short."""
    first = [_capital(texts.sentence(remark))] if remark and prediction.probabilities else []
    warnings = [one for one in prediction.warnings if not (one.code == "single_modality" and remark)]
    return [
        _capital(text) for text in (*first, *(shorten_warning(one, prediction, texts) for one in warnings))
    ]


def _count_files(count: int, texts: Texts) -> str:
    return texts("{count} file" if count == 1 else "{count} files", count=count)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def describe_study(row: Row) -> dict[str, Any]:
    """The API's object of one study: the fields of `predict --json` without pictures, `scan` in short, and `error`."""
    prediction = row.prediction.to_dict() if row.prediction else {}
    scan = row.prediction.scan if row.prediction else None
    return {
        "study": row.study,
        "label": prediction.get("label"),
        "probabilities": prediction.get("probabilities", {}),
        "branches": prediction.get("branches", {}),
        "modalities": prediction.get("modalities", []),
        "warnings": prediction.get("warnings", []),
        "lungs": prediction.get("lungs", {}),
        "evidence": prediction.get("evidence"),
        "scan": scan.summarise() if scan else None,
        "error": row.error or None,
    }
