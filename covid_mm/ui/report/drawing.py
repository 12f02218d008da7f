"""What a study's report is drawn with beside text and tables: images with outlines, bars, the colour scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PIL import Image
from reportlab.lib.colors import HexColor
from reportlab.lib.utils import ImageReader
from reportlab.platypus import Flowable

from covid_mm.explain.overlay import draw_colour_bar
from covid_mm.reporting.pdf_text import COLOURS, REGULAR, write


class ImageFrame(Flowable):
    """A picture as large as a black frame lets it be, in its own proportions.

    picture: None leaves the frame empty. remark: words across the frame, where there is no map.
    outlines: closed polygons over the picture, (n, 2) fractions of it from the top left. box: the
    same of a rectangle's corners, x0, y0, x1, y1, drawn dashed.
    """

    def __init__(
        self,
        picture: Image.Image | None,
        width: float,
        height: float,
        remark: str = "",
        outlines: Sequence[Any] = (),
        box: tuple[float, float, float, float] | None = None,
    ) -> None:
        super().__init__()
        self.picture, self.width, self.height, self.remark = picture, width, height, remark
        self.outlines, self.box = outlines, box

    def draw(self) -> None:
        """Frame, picture, remark."""
        canvas = self.canv
        canvas.setFillColor(HexColor("#000000"))
        canvas.rect(0, 0, self.width, self.height, stroke=0, fill=1)
        if self.picture is not None:
            scale = min(self.width / self.picture.width, self.height / self.picture.height)
            width, height = self.picture.width * scale, self.picture.height * scale
            corner = ((self.width - width) / 2, (self.height - height) / 2)
            canvas.drawImage(ImageReader(self.picture), *corner, width, height)
            self._draw_outlines(*corner, width, height)
        if self.remark:
            remark = write(self.remark, size=8, colour="on-accent")
            remark.style.alignment = 1  # centred
            _, height = remark.wrapOn(canvas, self.width - 12, self.height)
            canvas.setFillColor(COLOURS["ink"])
            canvas.rect(0, 0, self.width, height + 7, stroke=0, fill=1)
            remark.drawOn(canvas, 6, 4)

    def _draw_outlines(self, left: float, bottom: float, width: float, height: float) -> None:
        """Polygons and box on the picture, which lies at left and bottom in the frame."""

        def draw(points: Sequence[Any], colour: str, line: float) -> None:
            path = self.canv.beginPath()
            for number, (x, y) in enumerate(points):
                go = path.moveTo if number == 0 else path.lineTo
                go(left + float(x) * width, bottom + (1 - float(y)) * height)
            path.close()
            self.canv.setStrokeColor(HexColor(colour))
            self.canv.setLineWidth(line)
            self.canv.drawPath(path)

        self.canv.saveState()
        self.canv.setLineJoin(1)
        for points in self.outlines:
            draw(points, "#000000", 1.8)  # below, so that the bright line shows on white lungs too
            draw(points, "#59e0ff", 0.8)
        if self.box is not None:
            x0, y0, x1, y1 = self.box
            self.canv.setDash(3, 2.5)
            draw([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], "#ffffff", 0.7)
        self.canv.restoreState()


class ProbabilityBar(Flowable):
    """A probability on a track from 0 to 1, with the threshold as a tick and the abstain zone as a frame."""

    def __init__(
        self,
        value: float,
        threshold: float,
        colour: str,
        width: float,
        height: float = 7,
        zone: tuple[float, float] | None = None,
    ) -> None:
        super().__init__()
        self.value, self.threshold, self.colour, self.zone = value, threshold, colour, zone
        self.width, self.height = width, height

    def draw(self) -> None:
        """Track, bar, zone, tick."""
        canvas, inner = self.canv, self.height - 3
        canvas.setFillColor(COLOURS["ground"])
        canvas.rect(0, 1.5, self.width, inner, stroke=0, fill=1)
        canvas.setFillColor(COLOURS[self.colour])
        canvas.rect(0, 1.5, self.width * self.value, inner, stroke=0, fill=1)
        if self.zone is not None:
            low, high = (self.width * bound for bound in self.zone)
            canvas.setStrokeColor(COLOURS["warn"])
            canvas.setLineWidth(0.8)
            canvas.rect(low, 0.4, high - low, self.height - 0.8, stroke=1, fill=0)
        canvas.setStrokeColor(COLOURS["ink"])
        canvas.setLineWidth(1)
        canvas.line(self.width * self.threshold, 0, self.width * self.threshold, self.height)


class ColourBar(Flowable):
    """The heatmap's scale lying down, 0 left and 1 right."""

    def __init__(self, width: float, height: float = 7) -> None:
        super().__init__()
        self.width, self.height = width, height

    def draw(self) -> None:
        """The bar in the colours of the overlay, with its two ends."""
        bar: Any = ImageReader(Image.fromarray(draw_colour_bar(height=8, width=256)))
        self.canv.drawImage(bar, 10, 0, self.width - 20, self.height)
        self.canv.setFillColor(COLOURS["soft"])
        self.canv.setFont(REGULAR, 7.5)
        self.canv.drawString(2, 0.8, "0")
        self.canv.drawRightString(self.width - 2, 0.8, "1")
