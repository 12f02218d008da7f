"""The decision threshold on the page: what it was measured to be worth, and what another would have meant."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

from covid_mm.config import CLASS_TITLES, CLASSES, POSITIVE
from covid_mm.ui.card_parts import format_share
from covid_mm.ui.language import ENGLISH, Texts

POSITIVE_TITLE, NORMAL_TITLE = CLASS_TITLES[CLASSES[POSITIVE]], CLASS_TITLES[CLASSES[1 - POSITIVE]]


ANOTHER = (  # filled in by the page's script
    "With a threshold of {threshold}, on the same studies: sensitivity {sensitivity}, specificity"
    " {specificity}. This study would be called {called}."
)
MEASURED = "Measured on {total} validation images or pairs at this threshold (95 % intervals):"


@dataclass(frozen=True)
class Operating:
    """One head on the validation studies.

    thresholds: ascending, 0..1; true_positive, false_positive: studies called positive at each, of
    `positive` and `negative` studies. measured: accuracy, sensitivity and specificity at the
    decision threshold, as meta.json keeps a share; empty where they were not measured there.
    """

    thresholds: tuple[float, ...]
    true_positive: tuple[int, ...]
    false_positive: tuple[int, ...]
    positive: int
    negative: int
    measured: Mapping[str, Mapping[str, Any] | None]


def find_operating(meta: Mapping[str, Any], head: str, threshold: float) -> Operating | None:
    """What meta.json says of a head's operating points; None where it says nothing usable."""
    try:
        points = meta["operating_points"][head]
        thresholds, true, false = (
            tuple(points[k]) for k in ("thresholds", "true_positive", "false_positive")
        )
        if not thresholds or not len(thresholds) == len(true) == len(false):
            return None
        report = meta.get("metrics", {}).get("validation", {}).get(head, {})
        same = report.get("threshold") == threshold
        shares = {key: report.get(key) for key in ("accuracy", "sensitivity", "specificity")} if same else {}
        return Operating(thresholds, true, false, int(points["positive"]), int(points["negative"]), shares)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def render_operating(
    operating: Operating | None, threshold: float, probability: float, texts: Texts = ENGLISH
) -> str:
    """The threshold's measured worth in words, and a slider over the other thresholds.

    probability: of covid19_pneumonia in this study. Nothing where nothing was measured.
    """
    if operating is None:
        return ""
    points = {
        "thresholds": operating.thresholds,
        "truePositive": operating.true_positive,
        "falsePositive": operating.false_positive,
        "positive": operating.positive,
        "negative": operating.negative,
        "probability": round(probability, 4),
    }
    total = operating.positive + operating.negative
    shares = [
        f"<div><dt>{texts(name)}</dt><dd>{escape(format_share(share, texts))}</dd></div>"
        for name, share in (
            ("Accuracy", operating.measured.get("accuracy")),
            ("Sensitivity", operating.measured.get("sensitivity")),
            ("Specificity", operating.measured.get("specificity")),
        )
        if share is not None
    ]
    measured = (
        f"<dl>{''.join(shares)}</dl>" if shares else f"<p>{texts('Not measured at this threshold.')}</p>"
    )
    return f"""
<div class="mm-operating">
  <p>{texts(MEASURED, total=total)}</p>
  {measured}
  <details><summary>{texts("What another threshold would have meant")}</summary>
    <label><span>{texts("Threshold")} <output></output></span>
      <input type="range" class="mm-operating-slider" min="1" max="99" step="1" value="{round(100 * threshold)}"
        aria-label="{texts("Another decision threshold, in percent")}" data-points="{escape(json.dumps(points))}"
        data-text="{escape(texts(ANOTHER))}"
        data-positive="{escape(texts(POSITIVE_TITLE))}" data-negative="{escape(texts(NORMAL_TITLE))}">
    </label>
    <p class="mm-operating-text" role="status"></p>
  </details>
</div>"""
