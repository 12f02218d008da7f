"""What other decision thresholds were measured to be worth: a slider over the kept operating points.

On the result it is drawn from left-out images only; the points of the training collections' own
validation images are drawn on the Model tab.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

from covid_mm.config import CLASS_TITLES, CLASSES, POSITIVE
from covid_mm.ui.i18n.language import ENGLISH, Texts
from covid_mm.ui.study.evidence import find_tables

POSITIVE_TITLE, NORMAL_TITLE = CLASS_TITLES[CLASSES[POSITIVE]], CLASS_TITLES[CLASSES[1 - POSITIVE]]

# filled in by the page's script
ANOTHER = "With a threshold of {threshold}: sensitivity {sensitivity}, specificity {specificity}."
THIS_STUDY = "The prediction for this study would be {called}."
SUMMARY = "What another threshold would have meant on {total} images that were left out of training"
INSIDE_SUMMARY = (
    "{title}: another threshold on {total} validation images or pairs, inside the training collections"
)


@dataclass(frozen=True)
class Operating:
    """One head on measured images.

    thresholds: ascending, 0..1; true_positive, false_positive: images called positive at each, of
    `positive` and `negative` images.
    """

    thresholds: tuple[float, ...]
    true_positive: tuple[int, ...]
    false_positive: tuple[int, ...]
    positive: int
    negative: int

    @property
    def total(self) -> int:
        """Images measured."""
        return self.positive + self.negative


def find_operating(meta: Mapping[str, Any], head: str) -> Operating | None:
    """A head's operating points on the validation images; None where meta.json has none that can be used."""
    kept = meta.get("operating_points")
    return _read_points(kept.get(head)) if isinstance(kept, Mapping) else None


def find_left_out(meta: Mapping[str, Any], head: str) -> Operating | None:
    """The same on images of collections that were left out of training."""
    table = dict(find_tables(meta.get("left_out"))).get(head)
    return None if table is None else _read_points(table.get("operating_points"))


def render_operating(
    operating: Operating | None,
    threshold: float,
    texts: Texts = ENGLISH,
    probability: float | None = None,
    title: str = "",
) -> str:
    """A slider over other thresholds, and the sensitivity and specificity there; nothing where nothing was measured.

    probability: of covid19_pneumonia in the study on the page. title: of the head, on the Model tab,
    where there is no study and the points are those of the validation images.
    """
    if operating is None:
        return ""
    points = {
        "thresholds": operating.thresholds,
        "truePositive": operating.true_positive,
        "falsePositive": operating.false_positive,
        "positive": operating.positive,
        "negative": operating.negative,
        "probability": None if probability is None else round(probability, 4),
    }
    summary = texts(SUMMARY, total=f"{operating.total:,}")
    said = texts(ANOTHER)
    if title:
        summary = texts(INSIDE_SUMMARY, title=title, total=f"{operating.total:,}")
    if probability is not None:
        said = f"{said} {texts(THIS_STUDY)}"
    return f"""
<div class="mm-operating">
  <details><summary>{escape(summary)}</summary>
    <label><span>{texts("Threshold")} <output></output></span>
      <input type="range" class="mm-operating-slider" min="1" max="99" step="1" value="{round(100 * threshold)}"
        aria-label="{texts.attribute("Another decision threshold, in percent")}"
        data-points="{escape(json.dumps(points))}" data-text="{escape(said)}"
        data-positive="{escape(texts(POSITIVE_TITLE))}" data-negative="{escape(texts(NORMAL_TITLE))}"/>
    </label>
    <p class="mm-operating-text" role="status"></p>
  </details>
</div>"""


def _read_points(points: Any) -> Operating | None:
    try:
        thresholds, true, false = (
            tuple(points[k]) for k in ("thresholds", "true_positive", "false_positive")
        )
        if not thresholds or not len(thresholds) == len(true) == len(false):
            return None
        return Operating(thresholds, true, false, int(points["positive"]), int(points["negative"]))
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
