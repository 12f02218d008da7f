"""Example studies for the page: synthetic phantoms, drawn anew at each start, never files."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass

from covid_mm.config import CLASS_TITLES, CLASSES
from covid_mm.ui.i18n.language import ENGLISH, Texts
from covid_mm.ui.pictures import encode_png
from covid_mm.ui.predictors import run_in_thread
from covid_mm.ui.templates import render_template


@dataclass(frozen=True)
class Example:
    """One study. ct, xray: data URLs of PNG images. made_as: the class it was drawn as."""

    ct: str
    xray: str
    made_as: str


def draw_examples(seeds: tuple[tuple[int, int], ...] = ((0, 11), (1, 12), (1, 23))) -> tuple[Example, ...]:
    """Two or three studies; seeds: (label, seed) each. About half a second per study."""
    from covid_mm.datasets.phantoms import make_study  # in the drawing thread, not before the page

    studies = [(label, make_study(label, seed)) for label, seed in seeds]
    return tuple(
        Example(encode_png(study.ct), encode_png(study.xray), CLASS_TITLES[CLASSES[label]])
        for label, study in studies
    )


class ExampleStudies:
    """The example studies, drawn once in a thread, so that the page need not wait for them."""

    def __init__(self) -> None:
        self._future: Future[tuple[Example, ...]] = Future()

    def start(self) -> None:
        """Begin to draw; returns at once."""
        run_in_thread(self._future, draw_examples, "example-studies")

    def get(self) -> tuple[Example, ...]:
        """The studies, as soon as they are drawn; none where that failed."""
        return () if self._future.exception() else self._future.result()


def render_examples(examples: tuple[Example, ...], texts: Texts = ENGLISH) -> str:
    """The examples as buttons, or placeholders while there are none."""
    return render_template("study/examples.html", texts, examples=examples)
