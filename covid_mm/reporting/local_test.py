"""A hospital's own test in words: one description, for the shell as text, for the page, and as a PDF.

The words stand in TEXTS; whoever asks hands in a language, which is asked for each of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Protocol

from covid_mm.config import CLASS_TITLES, CLASSES, MODALITIES, POSITIVE, RESEARCH_USE
from covid_mm.evaluation.intervals import Estimate
from covid_mm.evaluation.local_test import HeadTest, LocalTest
from covid_mm.formats import format_percent
from covid_mm.reporting.tables import format_table

FEW = 50  # studies of a class: below, an interval is wider than most differences that matter

TEXTS = {
    "title": "Tested here first",
    "intro": "The network on {labelled} labelled studies of one's own, {date}. Checkpoint {checkpoint}, {sha256}.",
    "here": "{head}, tested here",
    "left_out": "{head}, hospitals never seen",
    "fused": "CT and X-ray combined",
    **{m: f"{one.title} alone" for m, one in MODALITIES.items()},
    "reading": "Reading",
    "studies": "Studies",
    "patients": "{studies} ({positive} positive), {patients} patients",
    "images": "{images} images",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "ece": "Calibration error (ECE)",
    "abstained": "Undetermined",
    "not_measured": "not measured",
    "sure": "{head}: without the undetermined studies sensitivity {sensitivity}, specificity {specificity}.",
    "thresholds": "{head}: {label} from {threshold} on; undetermined from {low} to {high}.",
    "threshold": "{head}: {label} from {threshold} on.",
    "unread": "{failed} labelled studies could not be read, {unanswered} were read and got no probability; they are in"
    " no figure.",
    "method": "In brackets: 95 % intervals; where a patient has several studies, by patients (bootstrap). "
    "Undetermined studies count by their probability, as in the figures of hospitals never seen. Probabilities are as"
    " shown, cut to what is supported.",
    "few": "{head}: fewer than {few} studies of a class. Intervals this wide support no decision; test more.",
    "one_class": "{head}: studies of one class only, so that there is no AUC and half of the picture is missing.",
    "worse": "{head}: here the AUC is lower than on hospitals never seen, and the intervals do not overlap. Do not rely"
    " on this network here.",
    "how": "How it was measured",
    "meaning": "This says how well the network agrees with the labels that were given. It is no approval for use on"
    " patients.",
}


@dataclass(frozen=True)
class LocalTestWords:
    """A local test, worded. head: the table's titles; rows: its cells; remarks: what to know first; notes: the rest."""

    title: str
    intro: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    remarks: tuple[str, ...]
    notes: tuple[str, ...]


class Words(Protocol):
    """A language: texts of TEXTS with their values, and numbers, as the page's `Texts` has them."""

    def __call__(self, text: str, /, **values: Any) -> str:
        """The text in this language, filled in."""

    def number(self, value: float, decimals: int = 0) -> str:
        """A number with this language's marks."""

    def percent(self, share: float, decimals: int | None = None) -> str:
        """A share, 0..1, in percent."""

    def estimate(self, value: float, low: float, high: float, decimals: int | None = None) -> str:
        """A value and its interval: shares in percent, or with decimals the values themselves."""


class EnglishWords:
    """English, in the formats that the page has too."""

    def __call__(self, text: str, /, **values: Any) -> str:
        """The text itself, filled in."""
        return text.format(**values) if values else text

    def number(self, value: float, decimals: int = 0) -> str:
        """`3,000`, `0.91`."""
        return f"{value:,.{decimals}f}"

    def percent(self, share: float, decimals: int | None = None) -> str:
        """`84 %`."""
        return format_percent(share) if decimals is None else f"{100 * share:.{decimals}f} %"

    def estimate(self, value: float, low: float, high: float, decimals: int | None = None) -> str:
        """`84 % (80 to 88 %)`, or with decimals `0.91 (0.89 to 0.93)`."""
        if decimals is not None:
            shown = [self.number(part, decimals) for part in (value, low, high)]
            return "{} ({} to {})".format(*shown)
        shown = [f"{100 * part:.0f}" for part in (value, low, high)]
        return "{} % ({} to {} %)".format(*shown)


ENGLISH = EnglishWords()


def describe_local_test(test: LocalTest, words: Words = ENGLISH) -> LocalTestWords:
    """A test in words, each head's figures above those on hospitals never seen, where it has any."""
    rows = []
    for one in test.heads:
        rows.append(_word_head(one, words))
        if one.head in test.left_out:
            rows.append(_word_left_out(one.head, test.left_out[one.head], words))
    titles = ("reading", "studies", "sensitivity", "specificity")
    return LocalTestWords(
        title=words(TEXTS["title"]),
        intro=words(
            TEXTS["intro"],
            labelled=test.labelled,
            date=test.date[:10],
            checkpoint=test.checkpoint,
            sha256=test.sha256[:12],
        ),
        head=(
            *(words(TEXTS[name]) for name in titles),
            "AUC",
            words(TEXTS["ece"]),
            words(TEXTS["abstained"]),
        ),
        rows=tuple(rows),
        remarks=tuple(_list_remarks(test, words)),
        notes=tuple(_list_notes(test, words)),
    )


def format_local_test(test: LocalTest) -> str:
    """The test as text for the terminal, without a final newline."""
    said = describe_local_test(test)
    table = format_table(said.head, said.rows)
    return "\n".join([said.title, said.intro, "", table, "", *said.remarks, *said.notes])


def draw_local_test(test: LocalTest, words: Words = ENGLISH) -> bytes:
    """The test as a PDF, one A4 page or a few; the same for the same test."""
    from covid_mm.reporting.pdf_text import drawing, register_fonts

    with drawing:
        register_fonts()
        return _draw(describe_local_test(test, words), words(RESEARCH_USE), words(TEXTS["how"]))


def _draw(said: LocalTestWords, research_use: str, how: str) -> bytes:
    from reportlab.lib.pagesizes import A4
    from reportlab.lib.units import mm
    from reportlab.platypus import SimpleDocTemplate, Spacer

    from covid_mm.reporting.pdf_text import COLOURS, INNER, SIDE, arrange, write, write_heading

    widths = [INNER * share for share in (0.22, 0.17, 0.13, 0.13, 0.13, 0.12, 0.10)]
    cells = [[write(title, size=7.6, colour="soft") for title in said.head]]
    cells += [[write(cell, size=8, bold=number == 0) for number, cell in enumerate(row)] for row in said.rows]
    table = arrange(
        cells,
        widths,
        ("RIGHTPADDING", (0, 0), (-1, -1), 5),
        ("TOPPADDING", (0, 0), (-1, -1), 3),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 3),
        ("LINEBELOW", (0, 0), (-1, -1), 0.5, COLOURS["line"]),
    )
    parts: list[Any] = [write(research_use, bold=True, colour="warn"), Spacer(0, 6)]
    parts += [write(said.title, size=17, bold=True), Spacer(0, 4), write(said.intro), Spacer(0, 8)]
    parts += [table, Spacer(0, 8)]
    for remark in said.remarks:
        parts += [write(remark, bold=True, colour="warn"), Spacer(0, 3)]
    parts.append(write_heading(how))
    for note in said.notes:
        parts += [write(note, size=8.2, colour="soft"), Spacer(0, 3)]
    buffer = BytesIO()
    document = SimpleDocTemplate(
        buffer,
        pagesize=A4,
        leftMargin=SIDE - 6,  # ReportLab's frames have 6 points of their own
        rightMargin=SIDE - 6,
        topMargin=16 * mm,
        bottomMargin=16 * mm,
        title=said.title,
        author="covid_mm",
        creator="covid_mm",
        producer="covid_mm",
        subject=research_use,
        invariant=1,
    )
    document.build(parts)
    return buffer.getvalue()


def describe_head(one: HeadTest, words: Words = ENGLISH) -> dict[str, str]:
    """A head's figures, worded one by one, for a sentence beside an answer."""
    return {
        "studies": words.number(one.studies),
        "positive": words.number(one.positive),
        "sensitivity": _format(one.sensitivity, words),
        "specificity": _format(one.specificity, words),
        "auc": _format(one.auc, words, 2),
        "ece": _format(one.ece, words),
        "abstained": _format(one.abstained, words),
    }


def describe_json(test: LocalTest) -> dict[str, Any]:
    """The test as JSON, which `LocalTest.from_dict` reads again, with what it is for."""
    return test.to_dict() | {"research_use": RESEARCH_USE}


def _word_head(one: HeadTest, words: Words) -> tuple[str, ...]:
    said = describe_head(one, words)
    counts = words(TEXTS["patients"], studies=one.studies, positive=one.positive, patients=one.patients)
    name = words(TEXTS["here"], head=words(TEXTS[one.head]))
    return (name, counts, *(said[key] for key in ("sensitivity", "specificity", "auc", "ece", "abstained")))


def _word_left_out(head: str, figures: Mapping[str, Any], words: Words) -> tuple[str, ...]:
    def share(name: str) -> str:
        value = figures.get(name)
        return words(TEXTS["not_measured"]) if value is None else words.percent(float(value), 0)

    area, low, high = (float(figures[name]) for name in ("auc", "auc_low", "auc_high"))
    return (
        words(TEXTS["left_out"], head=words(TEXTS[head])),
        words(TEXTS["images"], images=words.number(int(figures["images"]))),
        share("sensitivity"),
        share("specificity"),
        words.estimate(area, low, high, 2),
        share("ece"),
        "",
    )


def _format(estimate: Estimate | None, words: Words, decimals: int | None = None) -> str:
    if estimate is None:
        return words(TEXTS["not_measured"])
    return words.estimate(estimate.value, estimate.low, estimate.high, decimals)


def _list_remarks(test: LocalTest, words: Words) -> Iterator[str]:
    for one in test.heads:
        head = words(TEXTS[one.head])
        if min(one.normal, one.positive) == 0:
            yield words(TEXTS["one_class"], head=head)
        elif min(one.normal, one.positive) < FEW:
            yield words(TEXTS["few"], head=head, few=FEW)
        known = test.left_out.get(one.head)
        if one.auc and known and one.auc.high < float(known["auc_low"]):
            yield words(TEXTS["worse"], head=head)


def _list_notes(test: LocalTest, words: Words) -> Iterator[str]:
    label = words(CLASS_TITLES[CLASSES[POSITIVE]])
    for one in test.heads:
        head = words(TEXTS[one.head])
        values = {"head": head, "label": label, "threshold": words.percent(one.threshold, 0)}
        if one.zone:
            low, high = (words.percent(bound, 0) for bound in one.zone)
            yield words(TEXTS["thresholds"], **values, low=low, high=high)
            sure = [_format(share, words) for share in (one.sure_sensitivity, one.sure_specificity)]
            yield words(TEXTS["sure"], head=head, sensitivity=sure[0], specificity=sure[1])
        else:
            yield words(TEXTS["threshold"], **values)
    if test.failed or test.unanswered:
        yield words(TEXTS["unread"], failed=test.failed, unanswered=test.unanswered)
    yield words(TEXTS["method"])
    yield words(TEXTS["meaning"])
