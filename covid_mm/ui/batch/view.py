"""A batch as the page shows it: what was paired, the progress, one table row per study. HTML and words only."""

from __future__ import annotations

from html import escape
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from covid_mm.config import CLASS_TITLES, CLASSES, MODALITIES, MODALITY_TITLES, POSITIVE
from covid_mm.serving.batch import COLUMNS, Row, format_line
from covid_mm.serving.pairing import LeftOut, Pairing, Study
from covid_mm.serving.prediction import CheckpointInfo, Prediction
from covid_mm.ui.i18n.language import ENGLISH, Texts
from covid_mm.ui.pictures import draw_outlines, encode_png
from covid_mm.ui.study.evidence import format_probability
from covid_mm.ui.study.warnings import shorten_warning
from covid_mm.ui.templates import read_icon

THUMBNAIL = 56  # pixels of the longer side; a row's two pictures take about 8 kB
LEFT_OUT_SHOWN = 50  # files; more are counted

RULE = (
    "Name the two images of one study alike: <code>&lt;study&gt;_ct</code> for the CT slice and"
    " <code>&lt;study&gt;_xray</code> for the X-ray, each with its ending. So <code>patient7_ct.png</code> and"
    " <code>patient7_xray.dcm</code> are the study <code>patient7</code>. Either image may be missing."
)
MANIFEST_RULE = (
    "Files with other names: add a CSV manifest with the columns <code>study</code>, <code>ct</code> and"
    " <code>xray</code>, which says for each study what its files are called."
)
PRIVACY = (
    "Uploads are deleted from the server when the run has ended, when cleared, and after 30 minutes."
    " File names are shown to you only."
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


def describe_progress(done: int, total: int, seconds: float, texts: Texts = ENGLISH) -> str:
    """`12 of 40 studies answered, about 2 minutes left`. seconds: since the first study began."""
    many = "{done} of {total} studies answered" if total != 1 else "{done} of {total} study answered"
    text = texts(many, done=done, total=total)
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
    rows = "".join(_render_pair(study, texts) for study in pairing.studies)
    head = "".join(f'<th scope="col" role="columnheader">{texts.title(name)}</th>' for name in PAIRING_HEAD)
    return f"""
<section class="mm-batch-paired" aria-label="{texts.attribute("What was paired")}">
  <h2>{texts("Found before the run")}</h2>
  <p class="mm-batch-summary">{escape(describe_pairing(pairing, texts))}.</p>
  {_render_left_out(pairing.left_out, texts)}
  <div class="mm-batch-scroll" tabindex="0" role="region" aria-label="{texts.attribute("Studies found")}">
    <table role="table"><caption class="mm-sr">{texts("Studies found among the files")}</caption>
      <thead role="rowgroup"><tr role="row">{head}</tr></thead><tbody role="rowgroup">{rows}</tbody></table>
  </div>
</section>"""


def render_run_head(total: int, checkpoint: CheckpointInfo, texts: Texts = ENGLISH) -> str:
    """Progress bar and the empty result table; the page's script fills it row by row."""
    head = "".join(_render_column(name, texts) for name in RESULT_HEAD)
    caption = texts(
        CAPTION,
        label=texts(CLASS_TITLES[CLASSES[POSITIVE]]),
        threshold=f"{100 * checkpoint.decision_threshold:g}",
        name=checkpoint.name,
        sha256=checkpoint.sha256[:12],
    )
    return f"""
<section class="mm-batch-run" aria-label="{texts.attribute("Results")}">
  <div class="mm-batch-top">
    <div class="mm-batch-progress">
      <progress max="{total}" value="0" aria-label="{texts.attribute("Studies answered")}"></progress>
      <p class="mm-batch-count"></p>
    </div>
    <button type="button" class="mm-batch-download" disabled>{texts("Download CSV")}</button>
  </div>
  <div class="mm-batch-scroll" tabindex="0" role="region" aria-label="{texts.attribute("Results, study by study")}">
    <table class="mm-batch-table" role="table">
      <caption>{escape(caption)}</caption>
      <thead role="rowgroup"><tr role="row">{head}</tr></thead><tbody role="rowgroup"></tbody></table>
  </div>
</section>"""


def csv_head() -> str:
    """The first line of the CSV, that of `python -m covid_mm batch`."""
    return format_line(COLUMNS)


def describe_row(row: Row, remark: str = "", texts: Texts = ENGLISH) -> dict[str, str]:
    """`html` for the table and `line` for the CSV. remark: what was said of the study before the run."""
    return {"html": render_row(row, remark, texts), "line": format_line(row.to_cells())}


def render_row(row: Row, remark: str = "", texts: Texts = ENGLISH) -> str:
    """One study as a table row; `data-sort` of a cell is what it is sorted by."""
    prediction = row.prediction
    label = prediction.label if prediction else ""
    title = texts(CLASS_TITLES[label] if prediction else NO_ANSWER)
    fused = prediction.probabilities if prediction else {}
    alone = (
        {m: prediction.branches[m].probabilities for m in MODALITIES if m in prediction.branches}
        if prediction
        else {}
    )
    most = {m: prediction.branches[m].supported_probability for m in alone} if prediction else {}
    _, images, answer, probability, ct, xray, remarks = (escape(texts.title(name)) for name in RESULT_HEAD)
    cells = [
        f'<th scope="row" role="rowheader" data-sort="{escape(row.study)}">{escape(row.study)}</th>',
        f'<td role="cell" data-head="{images}" class="mm-batch-images">{_render_thumbnails(prediction, texts)}</td>',
        f'<td role="cell" data-head="{answer}" data-sort="{escape(title)}">'
        f'<span class="mm-batch-answer" data-label="{escape(label)}">{escape(title)}</span></td>',
        _render_probability(
            probability,
            fused,
            prediction.supported_probability if prediction else 1.0,
            texts,
            strong=label in fused,
        ),
        _render_probability(ct, alone.get("ct", {}), most.get("ct", 1.0), texts),
        _render_probability(xray, alone.get("xray", {}), most.get("xray", 1.0), texts),
        f'<td role="cell" data-head="{remarks}" class="mm-batch-remarks">{_render_remarks(row, remark, texts)}'
        f"{_render_evidence(prediction, texts)}</td>",
    ]
    return f'<tr role="row" data-failed="{str(bool(row.error)).lower()}">{"".join(cells)}</tr>'


def render_problem(sentence: str, texts: Texts = ENGLISH) -> str:
    """One sentence in the place of the table."""
    return f'<div class="mm-error" role="alert"><h2>{texts("No run")}</h2><p>{escape(sentence)}</p></div>'


def _render_pair(study: Study, texts: Texts) -> str:
    cells = "".join(
        f'<td role="cell" data-head="{escape(texts.title(MODALITY_TITLES[m]))}">'
        f"{_render_presence(m in study.files, texts)}</td>"
        for m in MODALITIES
    )
    remark = texts.sentence(_capital(study.error or study.remark))
    kind = ' class="mm-batch-bad"' if study.error else ""
    shown = f"<span{kind}>{escape(remark)}</span>" if remark else ""
    return (
        f'<tr role="row"><th scope="row" role="rowheader">{escape(study.name)}</th>{cells}'
        f'<td role="cell" data-head="{escape(texts.title(PAIRING_HEAD[-1]))}">{shown}</td></tr>'
    )


def _render_presence(there: bool, texts: Texts) -> str:
    kind, text = ("there", texts("there")) if there else ("not", texts("none"))
    return f'<span class="mm-batch-{kind}">{text}</span>'


def _render_left_out(left_out: tuple[LeftOut, ...], texts: Texts) -> str:
    if not left_out:
        return ""
    items = "".join(
        f"<li><b>{escape(one.name)}</b>: {escape(texts.sentence(one.reason))}</li>"
        for one in left_out[:LEFT_OUT_SHOWN]
    )
    if (more := len(left_out) - LEFT_OUT_SHOWN) > 0:
        items += f"<li>{texts('and {files} more', files=_count_files(more, texts))}</li>"
    return f'<div class="mm-batch-left"><h3>{texts("Left out, as not understood")}</h3><ul>{items}</ul></div>'


def _render_column(name: str, texts: Texts) -> str:
    if name in UNSORTED:
        return f'<th scope="col" role="columnheader">{texts.title(name)}</th>'
    return (
        '<th scope="col" role="columnheader" aria-sort="none"><button type="button" class="mm-batch-sort">'
        f'{texts.title(name)}<i aria-hidden="true"></i></button></th>'
    )


def _render_probability(
    head: str, probabilities: dict[str, float], supported: float, texts: Texts, *, strong: bool = False
) -> str:
    value = probabilities.get(CLASSES[POSITIVE])
    if value is None:
        return (
            f'<td role="cell" data-head="{head}" data-sort="" class="mm-batch-number">'
            f'<span aria-hidden="true">–</span><span class="mm-sr">{texts("none")}</span></td>'  # noqa: RUF001 (a dash)
        )
    text = format_probability(value, supported, texts)
    shown = f"<b>{escape(text)}</b>" if strong else escape(text)
    return f'<td role="cell" data-head="{head}" data-sort="{value:.6f}" class="mm-batch-number">{shown}</td>'


def _render_evidence(prediction: Prediction | None, texts: Texts) -> str:
    """What the row's probability is worth on left-out images, in short; nothing without a probability."""
    if prediction is None or not prediction.probabilities:
        return ""
    evidence = prediction.evidence
    if evidence is None:
        words = texts("Not measured on hospitals never seen in training.")
    else:
        words = texts(
            "On hospitals never seen in training: AUC {auc}, sensitivity {sensitivity}, specificity {specificity}.",
            auc=f"{evidence.auc:.2f}",
            sensitivity=f"{100 * evidence.sensitivity:.0f} %",
            specificity=f"{100 * evidence.specificity:.0f} %",
        )
    return f'<small class="mm-batch-worth">{escape(words)}</small>'


def _render_thumbnails(prediction: Prediction | None, texts: Texts) -> str:
    """The study's images with what was read in them, drawn in memory; nothing where there was no answer."""
    if prediction is None:
        return ""
    pictures = []
    for modality in MODALITIES:
        if modality in prediction.images:
            url, width, height = _shrink(prediction.images[modality][..., 0])
            title = escape(texts.title(MODALITY_TITLES[modality]))
            pictures.append(
                f'<span class="mm-batch-thumb" style="--ratio:{width}/{height}">'
                f'<img src="{url}" alt="{title}"/>{draw_outlines(prediction, modality)}</span>'
            )
    return "".join(pictures)


def _shrink(grey: NDArray[np.uint8]) -> tuple[str, int, int]:
    """A picture of THUMBNAIL pixels on its longer side, in its own proportions: data URL, width, height."""
    scale = THUMBNAIL / max(grey.shape)
    height, width = (max(1, round(side * scale)) for side in grey.shape)
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return encode_png(cv2.resize(grey, (width, height), interpolation=method)), width, height


def _render_remarks(row: Row, remark: str, texts: Texts) -> str:
    if row.error:
        error = escape(texts.sentence(_capital(row.error)))
        return f'<span class="mm-batch-bad">{read_icon("warning")}{error}</span>'
    prediction = row.prediction
    shown = [
        shorten_warning(one, prediction, texts)
        for one in (prediction.warnings if prediction else ())
        if prediction and not (one.code == "single_modality" and remark)
    ]
    refused = (
        prediction is not None and not prediction.probabilities
    )  # then the remark, "answered from", is not true
    first = [texts.sentence(_capital(remark))] if remark and not refused else []
    return escape("; ".join(_capital(text) for text in first + shown))


def _count_files(count: int, texts: Texts) -> str:
    return texts("{count} file" if count == 1 else "{count} files", count=count)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def describe_study(row: Row) -> dict[str, Any]:
    """The API's object of one study: the fields of `predict --json` that need no picture, and `error`."""
    prediction = row.prediction.to_dict() if row.prediction else {}
    return {
        "study": row.study,
        "label": prediction.get("label"),
        "probabilities": prediction.get("probabilities", {}),
        "branches": prediction.get("branches", {}),
        "modalities": prediction.get("modalities", []),
        "warnings": prediction.get("warnings", []),
        "lungs": prediction.get("lungs", {}),
        "evidence": prediction.get("evidence"),
        "error": row.error or None,
    }
