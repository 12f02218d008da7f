"""The study report as a PDF of one or two A4 pages, made in memory.

The page is drawn top down from blocks. Where somewhat smaller images bring all of them on one page
they are smaller; else the last blocks move to a second page whole. Should a page be too full all
the same, it is drawn smaller: there is never a third.
"""

from __future__ import annotations

import threading
from io import BytesIO
from typing import Any

from reportlab.lib.pagesizes import A4
from reportlab.lib.units import mm
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Flowable, Spacer

from covid_mm.config import CLASS_TITLES, CLASSES, POSITIVE, RESEARCH_USE
from covid_mm.ui.model_tab import format_share
from covid_mm.ui.report import UNDETERMINED, Reading, Report, describe_agreement
from covid_mm.ui.report_images import compose_images
from covid_mm.ui.report_parts import (
    BODY,
    BOLD,
    COLOURS,
    INNER,
    MISSING,
    REGULAR,
    SIDE,
    Block,
    ProbabilityBar,
    arrange,
    make_printable,
    register_fonts,
    write,
    write_heading,
)
from covid_mm.ui.result import (
    NEAR_THRESHOLD,
    count_studies,
    format_probability,
    format_threshold,
    join_modalities,
)

TITLE = "Chest CT and X-ray: study report"
WIDTH, HEIGHT = A4  # points
TOP, BOTTOM = 31 * mm, 17 * mm
ROOM = HEIGHT - TOP - BOTTOM
GAP = 9.0  # points between two blocks
NO_BREAK = "\N{NO-BREAK SPACE}"
ROUNDING = 0.01  # points that sums of heights may be off
FRAME_HEIGHTS = {1: (230.0, 180.0), 2: (165.0, 112.0)}  # points, by the rows of images: at most, at least
TONES = {CLASSES[POSITIVE]: "positive", CLASSES[1 - POSITIVE]: "normal", UNDETERMINED: "warn"}

_drawing = threading.Lock()  # ReportLab's fonts are shared by all documents of the process


def render_pdf(report: Report) -> bytes:
    """The report as PDF bytes, the same for the same report.

    A4, one or two pages whatever the report holds. Fonts are embedded, the text can be extracted,
    and the document's properties name neither a user nor a machine.
    """
    with _drawing:
        register_fonts()
        return _draw(report)


def _draw(report: Report) -> bytes:
    buffer = BytesIO()
    canvas = Canvas(buffer, pagesize=A4, invariant=1, pageCompression=1, lang="en", initialFontName=REGULAR)
    canvas.setTitle(TITLE)
    canvas.setSubject(RESEARCH_USE)
    for name in (canvas.setAuthor, canvas.setCreator, canvas.setProducer):
        name("covid_mm")
    canvas.setDateFormatter(lambda *_: report.date.strftime("D:%Y%m%d%H%M%SZ"))
    canvas.setViewerPreference("DisplayDocTitle", "true")
    pages = _paginate(canvas, report)
    for number, blocks in enumerate(pages, start=1):
        _draw_margins(canvas, report, number, len(pages))
        _draw_blocks(canvas, blocks)
        canvas.showPage()
    canvas.save()
    return buffer.getvalue()


def _compose(report: Report, frame_height: float) -> list[Block]:
    """The blocks in reading order, with images in frames of this height."""
    blocks = [
        _compose_answer(report),
        _compose_notices(report),
        compose_images(report, frame_height),
        _compose_readings(report),
        _compose_note(report),
        _compose_origin(report),
    ]
    return [block for block in blocks if block]


def _paginate(canvas: Canvas, report: Report) -> list[list[Block]]:
    """One page where it can be, else two: lists of blocks."""
    rows = len(report.analysis.views) if report.prediction.heatmaps else 1
    most, least = FRAME_HEIGHTS[rows]
    blocks = _compose(report, most)
    excess = _total(canvas, blocks) - ROOM
    if excess <= 0.0:
        return [blocks]
    if excess <= rows * (most - least):
        return [_compose(report, most - excess / rows - ROUNDING)]
    fitting = [count for count in range(1, len(blocks)) if _total(canvas, blocks[:count]) <= ROOM]
    count = fitting[-1] if fitting else 1
    return [blocks[:count], blocks[count:]]


def _total(canvas: Canvas, blocks: list[Block]) -> float:
    """Height of blocks one below another, points."""
    return sum(_measure(canvas, block) for block in blocks) + GAP * (len(blocks) - 1)


def _measure(canvas: Canvas, block: Block) -> float:
    return sum(float(part.wrapOn(canvas, INNER, ROOM)[1]) for part in block)


def _draw_blocks(canvas: Canvas, blocks: list[Block]) -> None:
    height = _total(canvas, blocks)
    canvas.saveState()
    canvas.translate(SIDE, HEIGHT - TOP)
    if height > ROOM:
        canvas.scale(ROOM / height, ROOM / height)
    top = 0.0
    for block in blocks:
        for part in block:
            top -= part.wrapOn(canvas, INNER, ROOM)[1]
            part.drawOn(canvas, 0, top)
        top -= GAP
    canvas.restoreState()


def _draw_margins(canvas: Canvas, report: Report, number: int, pages: int) -> None:
    """Head and foot of a page: title, date, the research notice, the page's number."""
    canvas.setFillColor(COLOURS["ink"])
    canvas.setFont(BOLD, 15)
    canvas.drawString(SIDE, HEIGHT - 16.5 * mm, TITLE)
    canvas.setFont(REGULAR, BODY)
    canvas.setFillColor(COLOURS["soft"])
    canvas.drawRightString(WIDTH - SIDE, HEIGHT - 16.5 * mm, f"{report.date:%Y-%m-%d %H:%M:%S} UTC")
    canvas.setFillColor(COLOURS["warn-ground"])
    canvas.rect(SIDE, HEIGHT - 26.5 * mm, INNER, 6 * mm, stroke=0, fill=1)
    canvas.setFillColor(COLOURS["warn"])
    canvas.rect(SIDE, HEIGHT - 26.5 * mm, 2, 6 * mm, stroke=0, fill=1)
    canvas.setFont(BOLD, BODY)
    canvas.drawString(SIDE + 8, HEIGHT - 24.6 * mm, f"{RESEARCH_USE} Not a medical device.")
    canvas.setStrokeColor(COLOURS["line"])
    canvas.setLineWidth(0.6)
    canvas.line(SIDE, BOTTOM - 4 * mm, WIDTH - SIDE, BOTTOM - 4 * mm)
    canvas.setFillColor(COLOURS["soft"])
    canvas.setFont(REGULAR, 7.5)
    name = make_printable(report.prediction.checkpoint.name)[:60]
    canvas.drawString(
        SIDE, BOTTOM - 8 * mm, f"covid_mm {report.versions.get('covid_mm', '')}, checkpoint {name}"
    )
    canvas.drawRightString(WIDTH - SIDE, BOTTOM - 8 * mm, f"Page {number} of {pages}")


def _compose_answer(report: Report) -> Block:
    prediction = report.prediction
    used = join_modalities(prediction.modalities)
    source = (
        f"Answer from {used} together" if len(prediction.modalities) > 1 else f"Answer from the {used} alone"
    )
    if prediction.label == UNDETERMINED:
        source = "No answer"
    tone = TONES[prediction.label]
    words: list[Flowable] = [
        write(source, size=8, colour="soft"),
        write(CLASS_TITLES[prediction.label], size=17, colour=tone, bold=True),
        Spacer(0, 3),
    ]
    code, agreement = describe_agreement(prediction)
    words.append(write(agreement, bold=code == "disagree", colour="warn" if code == "disagree" else "ink"))
    figures: list[Flowable] = [write("No probability: see the reasons below.", colour="warn")]
    if prediction.probabilities:
        rows = [
            [
                write(CLASS_TITLES[name]),
                write(
                    format_probability(prediction.probabilities[name], count_studies(prediction)),
                    size=13,
                    colour=TONES[name],
                    bold=True,
                ),
            ]
            for name in CLASSES
        ]
        table = arrange(rows, [92, 58], ("VALIGN", (0, 0), (-1, -1), "MIDDLE"))
        figures = [write("Calibrated probability", size=8, colour="soft"), Spacer(0, 2), table]
    panel = arrange(
        [[words, figures]],
        [INNER - 172, 172],
        ("BACKGROUND", (0, 0), (-1, -1), COLOURS[f"{tone}-ground"]),
        ("LINEBEFORE", (0, 0), (0, -1), 3, COLOURS[tone]),
        ("VALIGN", (0, 0), (-1, -1), "MIDDLE"),
        ("LEFTPADDING", (0, 0), (-1, -1), 11),
        ("RIGHTPADDING", (0, 0), (0, 0), 8),
        ("TOPPADDING", (0, 0), (-1, -1), 6),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 7),
    )
    return [panel]


def _compose_notices(report: Report) -> Block:
    notices = report.prediction.warnings
    if not notices:
        return []
    rows = [[write("!", bold=True, colour="warn"), write(notice.message)] for notice in notices]
    table = arrange(rows, [12, INNER - 12], ("TOPPADDING", (0, 0), (-1, -1), 1.5))
    return [write_heading("Reasons" if report.prediction.label == UNDETERMINED else "Notices"), table]


def _compose_readings(report: Report) -> Block:
    if all(reading.probability is None for reading in report.readings):
        return []
    positive = CLASS_TITLES[CLASSES[POSITIVE]]
    widths = [INNER - 98 - 88 - 46 - 86 - 86, 98, 88, 46, 86, 86]
    titles = ["", "Says", f"Probability of {positive}", "Threshold", "Sensitivity", "Specificity"]
    rows: list[list[Any]] = [[write(title, size=7.6, colour="soft") for title in titles]]
    for reading in report.readings:
        rows.append(
            [
                write(reading.title, size=8.4, bold=reading.answers),
                write(_describe_label(reading), size=8.4, bold=reading.answers, colour=TONES[reading.label]),
                _draw_probability(reading, widths[2] - 10),
                write(format_threshold(reading.threshold), size=8.4),
                _write_share(reading.measured["sensitivity"]),
                _write_share(reading.measured["specificity"]),
            ]
        )
    table = arrange(
        rows,
        widths,
        ("LEFTPADDING", (0, 0), (-1, -1), 0),
        ("RIGHTPADDING", (0, 0), (-1, -1), 5),
        ("TOPPADDING", (0, 0), (-1, -1), 2.5),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 3),
        ("VALIGN", (0, 1), (-1, -1), "MIDDLE"),
        ("VALIGN", (0, 0), (-1, 0), "BOTTOM"),
        ("LINEBELOW", (0, 0), (-1, -1), 0.5, COLOURS["line"]),
    )
    return [
        write_heading("What each reading says, and how well it read the validation images"),
        table,
        Spacer(0, 3),
        write(_explain_threshold(report), size=8, colour="soft"),
    ]


def _explain_threshold(report: Report) -> str:
    positive = CLASS_TITLES[CLASSES[POSITIVE]]
    answering = report.answering
    if answering is None:
        words = ["No threshold was applied: there is no answer."]
    else:
        words = [
            f"Answered by {answering.title}: called {positive} from a probability of"
            f" {format_threshold(answering.threshold)} on."
        ]
        accuracy = answering.measured["accuracy"]
        words.append(
            f"Accuracy on validation: {format_share(accuracy).replace(' ', NO_BREAK)}."
            if accuracy
            else "Its accuracy at this threshold was not measured."
        )
    if any(share for reading in report.readings for share in reading.measured.values()):
        words.append("In brackets: 95 % intervals.")
    return " ".join([*words, report.protocol]).strip()


def _compose_note(report: Report) -> Block:
    if not report.note:
        return []
    block = [write_heading("Note"), write(report.note)]
    lacking = make_printable(report.note).count(MISSING) - report.note.count(MISSING)
    if lacking:
        what = "one character" if lacking == 1 else f"{lacking} characters"
        block += [
            Spacer(0, 2),
            write(f"{MISSING} stands for {what} that this document cannot print.", size=7.8, colour="soft"),
        ]
    return block


def _compose_origin(report: Report) -> Block:
    info = report.prediction.checkpoint
    names = {"covid_mm": "covid_mm", "tensorflow": "TensorFlow", "keras": "Keras", "python": "Python"}
    facts = {
        "Checkpoint": info.name,
        "SHA-256 of the weights": info.sha256,
        "Network": info.pair,
        "Trained on": f"{info.trained_on} ({info.trained_at[:10]})" if info.trained_at else info.trained_on,
        "Software": ", ".join(f"{names.get(k, k)} {v}" for k, v in report.versions.items()),
    }
    rows = [[write(name, size=8, colour="soft"), write(fact, size=8)] for name, fact in facts.items() if fact]
    table = arrange(rows, [112, INNER - 112], ("TOPPADDING", (0, 0), (-1, -1), 1))
    return [write_heading("Network and software"), table]


def _describe_label(reading: Reading) -> str:
    text = CLASS_TITLES[reading.label]
    if reading.probability is None or abs(reading.probability - reading.threshold) >= NEAR_THRESHOLD:
        return text
    side = "below" if reading.probability < reading.threshold else "above"
    return f"{text}, just {side} the threshold"


def _draw_probability(reading: Reading, width: float) -> list[Flowable] | Flowable:
    if reading.probability is None:
        return write("none", size=8.4)
    bar = ProbabilityBar(reading.probability, reading.threshold, TONES[reading.label], width)
    return [
        write(format_probability(reading.probability, reading.studies), size=8.4, bold=reading.answers),
        bar,
    ]


def _write_share(share: dict[str, Any] | None) -> Flowable:
    first, bracket, rest = format_share(share).partition(" (")
    return write(f"{first}\n({rest}" if bracket else first, size=7.8)
