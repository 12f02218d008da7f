"""The study report as a PDF of one or two A4 pages, made in memory.

The page is drawn top down from blocks. Where somewhat smaller images bring all of them on one page
they are smaller; else the last blocks move to a second page whole. Should a page be too full all
the same, it is drawn smaller: there is never a third.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any

from reportlab.lib.pagesizes import A4
from reportlab.lib.units import mm
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Flowable, Spacer

from covid_mm.config import CLASS_TITLES, CLASSES, POSITIVE, RESEARCH_USE
from covid_mm.reporting.pdf_text import (
    BODY,
    BOLD,
    COLOURS,
    INNER,
    MISSING,
    REGULAR,
    SIDE,
    Block,
    arrange,
    drawing,
    make_printable,
    register_fonts,
    write,
    write_heading,
)
from covid_mm.serving.prediction import UNDETERMINED, Evidence
from covid_mm.ui.i18n.language import ENGLISH, Texts
from covid_mm.ui.report.content import Reading, Report, describe_agreement
from covid_mm.ui.report.drawing import ProbabilityBar
from covid_mm.ui.report.images import compose_images
from covid_mm.ui.study.evidence import (
    INDEPENDENT,
    OTHER_DISEASES,
    describe_evidence,
    describe_meanings,
    describe_own_test,
    find_bar_end,
    format_probability,
)
from covid_mm.ui.study.result import NEAR_THRESHOLD, join_modalities
from covid_mm.ui.study.warnings import find_reasons, list_warnings, word_reason, word_warning

TITLE = "Chest CT and X-ray: study report"
INCONCLUSIVE = "Chest CT and X-ray: inconclusive report"  # of a study that names no class
WIDTH, HEIGHT = A4  # points
TOP, BOTTOM = 31 * mm, 17 * mm
ROOM = HEIGHT - TOP - BOTTOM
GAP = 9.0  # points between two blocks
ROUNDING = 0.01  # points that sums of heights may be off
FRAME_HEIGHTS = {1: (230.0, 180.0), 2: (165.0, 112.0)}  # points, by the rows of images: at most, at least
TONES = {CLASSES[POSITIVE]: "positive", CLASSES[1 - POSITIVE]: "normal", UNDETERMINED: "warn"}


def render_pdf(report: Report, texts: Texts = ENGLISH) -> bytes:
    """The report as PDF bytes in a language, the same for the same report.

    A4, one or two pages whatever the report holds. Fonts are embedded, the text can be extracted,
    and the document's properties name neither a user nor a machine.
    """
    with drawing:
        register_fonts()
        return _draw(report, texts)


def _draw(report: Report, texts: Texts) -> bytes:
    buffer = BytesIO()
    canvas = Canvas(
        buffer, pagesize=A4, invariant=1, pageCompression=1, lang=texts.language, initialFontName=REGULAR
    )
    canvas.setTitle(_find_title(report, texts))
    canvas.setSubject(texts(RESEARCH_USE))
    for name in (canvas.setAuthor, canvas.setCreator, canvas.setProducer):
        name("covid_mm")
    canvas.setDateFormatter(lambda *_: report.date.strftime("D:%Y%m%d%H%M%SZ"))
    canvas.setViewerPreference("DisplayDocTitle", "true")
    pages = _paginate(canvas, report, texts)
    for number, blocks in enumerate(pages, start=1):
        _draw_margins(canvas, report, texts, number, len(pages))
        _draw_blocks(canvas, blocks)
        canvas.showPage()
    canvas.save()
    return buffer.getvalue()


def _find_title(report: Report, texts: Texts) -> str:
    return texts(INCONCLUSIVE if report.is_inconclusive else TITLE)


def _compose(report: Report, texts: Texts, frame_height: float) -> list[Block]:
    """The blocks in reading order, with images in frames of this height."""
    blocks = [
        _compose_answer(report, texts),
        _compose_warnings(report, texts),
        compose_images(report, frame_height, texts),
        _compose_readings(report, texts),
        _compose_note(report, texts),
        _compose_origin(report, texts),
    ]
    return [block for block in blocks if block]


def _paginate(canvas: Canvas, report: Report, texts: Texts) -> list[list[Block]]:
    """One page where it can be, else two: lists of blocks."""
    rows = len(report.analysis.previews) if report.prediction.heatmaps else 1
    most, least = FRAME_HEIGHTS[rows]
    blocks = _compose(report, texts, most)
    excess = _total(canvas, blocks) - ROOM
    if excess <= 0.0:
        return [blocks]
    if excess <= rows * (most - least):
        return [_compose(report, texts, most - excess / rows - ROUNDING)]
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


def _draw_margins(canvas: Canvas, report: Report, texts: Texts, number: int, pages: int) -> None:
    """Head and foot of a page: title, date, the research notice, the page's number."""
    canvas.setFillColor(COLOURS["ink"])
    canvas.setFont(BOLD, 15)
    canvas.drawString(SIDE, HEIGHT - 16.5 * mm, _find_title(report, texts))
    canvas.setFont(REGULAR, BODY)
    canvas.setFillColor(COLOURS["soft"])
    canvas.drawRightString(WIDTH - SIDE, HEIGHT - 16.5 * mm, f"{report.date:%Y-%m-%d %H:%M:%S} UTC")
    canvas.setFillColor(COLOURS["warn-ground"])
    canvas.rect(SIDE, HEIGHT - 26.5 * mm, INNER, 6 * mm, stroke=0, fill=1)
    canvas.setFillColor(COLOURS["warn"])
    canvas.rect(SIDE, HEIGHT - 26.5 * mm, 2, 6 * mm, stroke=0, fill=1)
    canvas.setFont(BOLD, BODY)
    canvas.drawString(SIDE + 8, HEIGHT - 24.6 * mm, f"{texts(RESEARCH_USE)} {texts('Not a medical device.')}")
    canvas.setStrokeColor(COLOURS["line"])
    canvas.setLineWidth(0.6)
    canvas.line(SIDE, BOTTOM - 4 * mm, WIDTH - SIDE, BOTTOM - 4 * mm)
    canvas.setFillColor(COLOURS["soft"])
    canvas.setFont(REGULAR, 7.5)
    name = make_printable(report.prediction.checkpoint.name)[:60]
    canvas.drawString(
        SIDE,
        BOTTOM - 8 * mm,
        texts(
            "covid_mm {version}, checkpoint {name}", version=report.versions.get("covid_mm", ""), name=name
        ),
    )
    page = texts("Page {number} of {pages}", number=number, pages=pages)
    canvas.drawRightString(WIDTH - SIDE, BOTTOM - 8 * mm, page)


def _compose_answer(report: Report, texts: Texts) -> Block:
    prediction = report.prediction
    used = join_modalities(prediction.modalities, texts)
    several = len(prediction.modalities) > 1
    source = texts("Answer from {used} combined" if several else "Answer from the {used} alone", used=used)
    if not prediction.probabilities:
        source = texts("No answer")
    tone = TONES[prediction.label]
    words: list[Flowable] = [
        write(source, size=8, colour="soft"),
        write(texts(CLASS_TITLES[prediction.label]), size=17, colour=tone, bold=True),
        Spacer(0, 3),
    ]
    reasons = [write(word_reason(notice, texts)) for notice in find_reasons(prediction)]
    code, agreement = describe_agreement(prediction, texts)
    if code == "disagree":
        words += [write(agreement, bold=True, colour="warn"), *reasons]
    else:
        words += [*reasons, write(agreement)]
    figures: list[Flowable] = [write(texts("No probability: see the reasons below."), colour="warn")]
    if prediction.probabilities:
        names = CLASSES if prediction.label in CLASSES else CLASSES[POSITIVE:]  # small where it abstains
        size = 13.0 if prediction.label in CLASSES else BODY
        supported = prediction.supported_probability
        rows = [
            [
                write(texts(CLASS_TITLES[name])),
                write(
                    format_probability(prediction.probabilities[name], supported, texts),
                    size=size,
                    colour=TONES[name] if prediction.label in CLASSES else "ink",
                    bold=True,
                ),
            ]
            for name in names
        ]
        table = arrange(rows, [92, 58], ("VALIGN", (0, 0), (-1, -1), "MIDDLE"))
        figures = [write(texts("Calibrated probability"), size=8, colour="soft"), Spacer(0, 2), table]
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
    if not prediction.probabilities:
        return [panel]
    worth = [write(describe_evidence(prediction.evidence, texts), bold=prediction.evidence is None)]
    if report.analysis.own_test:
        worth.append(write(describe_own_test(report.analysis.own_test, texts)))
    worth += [write(meaning, size=8, colour="soft") for meaning in describe_meanings(prediction, texts)]
    if prediction.label == CLASSES[POSITIVE]:
        worth.append(write(texts(OTHER_DISEASES), size=8, colour="soft"))
    if several:
        worth.append(write(texts(INDEPENDENT), size=8, colour="soft"))
    return [panel, Spacer(0, 5), *worth]


def _compose_warnings(report: Report, texts: Texts) -> Block:
    warnings = list_warnings(report.prediction)
    if not warnings:
        return []
    words = [word_warning(notice, texts) for notice in warnings]
    rows = [[write("!", bold=True, colour="warn"), write(sentence)] for sentence in words]
    table = arrange(rows, [12, INNER - 12], ("TOPPADDING", (0, 0), (-1, -1), 1.5))
    title = "Warnings" if report.prediction.probabilities else "Reasons"
    return [write_heading(texts(title)), table]


def _compose_readings(report: Report, texts: Texts) -> Block:
    if all(reading.probability is None for reading in report.readings):
        return []
    probability = texts("Probability of {label}", label=texts(CLASS_TITLES[CLASSES[POSITIVE]]))
    widths = [INNER - 98 - 88 - 52 - 84 - 48 - 48, 98, 88, 52, 84, 48, 48]
    titles = [
        "",
        texts("Prediction"),
        probability,
        texts("Threshold"),
        "AUC",
        *(texts(t) for t in ("Sensitivity", "Specificity")),
    ]
    rows: list[list[Any]] = [[write(title, size=7.6, colour="soft") for title in titles]]
    for reading in report.readings:
        rows.append(
            [
                write(texts(reading.title), size=8.4, bold=reading.answers),
                write(
                    _describe_label(reading, texts),
                    size=8.4,
                    bold=reading.answers,
                    colour=TONES[reading.label],
                ),
                _draw_probability(reading, widths[2] - 10, texts),
                _write_threshold(reading, texts),
                *_write_evidence(reading.evidence, texts),
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
        write_heading(
            texts("What each reading says, and how well it read images that were left out of training")
        ),
        table,
        Spacer(0, 3),
        write(_explain_threshold(report, texts), size=8, colour="soft"),
    ]


def _explain_threshold(report: Report, texts: Texts) -> str:
    answering = report.answering
    if answering is None:
        return texts("No threshold was applied: there is no answer.")
    words = [
        texts(
            "Answered by {title}: {label} from a probability of {threshold} on.",
            title=texts(answering.title),
            label=texts(CLASS_TITLES[CLASSES[POSITIVE]]),
            threshold=texts.percent(answering.threshold),
        )
    ]
    if any(reading.zone for reading in report.readings):
        words.append(texts("Framed on the bar and in brackets: the zone in which it names neither class."))
    return " ".join(words)


def _compose_note(report: Report, texts: Texts) -> Block:
    if not report.note:
        return []
    block = [write_heading(texts("Note")), write(report.note)]
    lacking = make_printable(report.note).count(MISSING) - report.note.count(MISSING)
    if lacking:
        one = "{mark} stands for one character that this document cannot print."
        many = "{mark} stands for {count} characters that this document cannot print."
        remark = texts(one if lacking == 1 else many, mark=MISSING, count=lacking)
        block += [Spacer(0, 2), write(remark, size=7.8, colour="soft")]
    return block


def _compose_origin(report: Report, texts: Texts) -> Block:
    info = report.prediction.checkpoint
    names = {"covid_mm": "covid_mm", "tensorflow": "TensorFlow", "keras": "Keras", "python": "Python"}
    trained_on = texts.sentence(info.trained_on)
    facts = {
        "Checkpoint": info.name,
        "SHA-256 of the weights": info.sha256,
        "Network": info.pair,
        "Trained on": f"{trained_on} ({info.trained_at[:10]})" if info.trained_at else trained_on,
        "Software": ", ".join(f"{names.get(k, k)} {v}" for k, v in report.versions.items()),
    }
    rows = [
        [write(texts(name), size=8, colour="soft"), write(fact, size=8)]
        for name, fact in facts.items()
        if fact
    ]
    table = arrange(rows, [112, INNER - 112], ("TOPPADDING", (0, 0), (-1, -1), 1))
    return [write_heading(texts("Network and software")), table]


def _describe_label(reading: Reading, texts: Texts) -> str:
    text = texts(CLASS_TITLES[reading.label])
    if reading.probability is None or reading.label == UNDETERMINED:
        return text
    if abs(reading.probability - reading.threshold) >= NEAR_THRESHOLD:
        return text
    below = reading.probability < reading.threshold
    return text + texts(", just below the threshold" if below else ", just above the threshold")


def _draw_probability(reading: Reading, width: float, texts: Texts) -> list[Flowable] | Flowable:
    if reading.probability is None:
        return write(texts("none"), size=8.4)
    tone = TONES[reading.label]
    end = find_bar_end(reading.probability, reading.label, reading.zone)
    bar = ProbabilityBar(end, reading.threshold, tone, width, zone=reading.zone)
    shown = format_probability(reading.probability, reading.supported, texts)
    return [write(shown, size=8.4, bold=reading.answers), bar]


def _write_threshold(reading: Reading, texts: Texts) -> Flowable:
    text = texts.percent(reading.threshold)
    if reading.zone is not None:
        text += f"\n({texts.interval(*reading.zone)})"
    return write(text, size=7.8)


def _write_evidence(evidence: Evidence | None, texts: Texts) -> list[Flowable]:
    """AUC with its interval, sensitivity, specificity of a head on left-out images."""
    if evidence is None:
        return [write(texts("not measured"), size=7.8), write("", size=7.8), write("", size=7.8)]
    auc = texts.estimate(evidence.auc, evidence.auc_low, evidence.auc_high, 2).replace(" (", "\n(")
    shares = (texts.percent(share, 0) for share in (evidence.sensitivity, evidence.specificity))
    return [write(auc, size=7.8), *(write(s, size=7.8) for s in shares)]
