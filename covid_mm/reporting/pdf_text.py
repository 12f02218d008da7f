"""What documents are written with: fonts, text, headings and tables, in the project's colours.

ReportLab keeps fonts in a registry of its own, by name; the names here are this project's.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from reportlab.lib.colors import HexColor
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.platypus import Flowable, Paragraph, Table

from covid_mm.reporting.palette import LIGHT

FONTS = Path(__file__).parent / "fonts"
REGULAR, BOLD = "covid-mm-regular", "covid-mm-bold"
MISSING = "□"  # drawn for each character that the font lacks
BODY = 8.8  # points
SIDE = 16 * mm
INNER = A4[0] - 2 * SIDE  # points, the text's width
COLOURS = {name: HexColor(value) for name, value in LIGHT.items()}

drawing = threading.Lock()  # ReportLab's fonts are shared by all documents of the process
Block = Sequence[Flowable]  # parts that stay together, one below another, each INNER wide at most


def register_fonts() -> None:
    """Make the report's fonts known to ReportLab: DejaVu Sans Condensed, embedded as subsets."""
    for name, file in ((REGULAR, "report-regular.ttf"), (BOLD, "report-bold.ttf")):
        if name not in pdfmetrics.getRegisteredFontNames():
            pdfmetrics.registerFont(TTFont(name, str(FONTS / file)))
    pdfmetrics.registerFontFamily(REGULAR, normal=REGULAR, bold=BOLD, italic=REGULAR, boldItalic=BOLD)


def make_printable(text: str) -> str:
    """The text with MISSING for each character that the font has no picture of; line ends stay."""
    known = _known_characters()
    return "".join(sign if ord(sign) in known or sign == "\n" else MISSING for sign in text)


def write(text: str, *, size: float = BODY, colour: str = "ink", bold: bool = False) -> Paragraph:
    """Plain text as a paragraph: nothing in it is markup, its line ends are kept."""
    markup = escape(make_printable(text)).replace("\n", "<br/>")
    style = ParagraphStyle(
        "report",
        fontName=BOLD if bold else REGULAR,
        fontSize=size,
        leading=round(size * 1.32, 1),
        textColor=COLOURS[colour],
    )
    return Paragraph(markup, style)


def write_heading(title: str) -> Table:
    """A block's heading above a fine line."""
    table = arrange([[write(title, size=9.4, bold=True)]], [INNER], ("BOTTOMPADDING", (0, 0), (-1, -1), 3))
    return table


def arrange(rows: list[list[Any]], widths: list[float], *commands: tuple[Any, ...]) -> Table:
    """A table in the report's font, without padding and aligned at the top where commands say nothing."""
    whole = ((0, 0), (-1, -1))
    sides = ("LEFTPADDING", "RIGHTPADDING", "TOPPADDING", "BOTTOMPADDING")
    table = Table(rows, colWidths=widths)
    plain = [("FONTNAME", *whole, REGULAR), ("VALIGN", *whole, "TOP"), *((side, *whole, 0) for side in sides)]
    table.setStyle([*plain, *commands])
    return table


@cache
def _known_characters() -> frozenset[int]:
    register_fonts()
    faces = [pdfmetrics.getFont(name).face for name in (REGULAR, BOLD)]
    return frozenset(faces[0].charToGlyph) & frozenset(faces[1].charToGlyph)
