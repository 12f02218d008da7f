"""What other decision thresholds were measured to be worth: a slider over operating points.

On the result it is drawn from left-out images only; the points of the training collections' own
validation images are drawn on the Model tab.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from covid_mm.evaluation.operating_points import OperatingPoints
from covid_mm.formats import ALMOST
from covid_mm.ui.i18n.language import ENGLISH, Texts
from covid_mm.ui.study.evidence import find_tables
from covid_mm.ui.templates import render_template

# filled in by the page's script
ANOTHER = "With a threshold of {threshold}: sensitivity {sensitivity}, specificity {specificity}."
THIS_STUDY = "The prediction for this study would be {called}."
SUMMARY = "What another threshold would have meant on {total} images that were left out of training"
INSIDE_SUMMARY = (
    "{title}: another threshold on {total} validation images or pairs, inside the training collections"
)


def find_operating(meta: Mapping[str, Any], head: str) -> OperatingPoints | None:
    """A head's operating points on the validation images; None where meta.json has none that can be used."""
    by_head = meta.get("operating_points")
    return _read_points(by_head.get(head)) if isinstance(by_head, Mapping) else None


def find_left_out(meta: Mapping[str, Any], head: str) -> OperatingPoints | None:
    """The same on images of collections that were left out of training."""
    table = dict(find_tables(meta.get("left_out"))).get(head)
    return None if table is None else _read_points(table.get("operating_points"))


def render_operating(
    operating: OperatingPoints | None,
    threshold: float,
    texts: Texts = ENGLISH,
    probability: float | None = None,
    title: str = "",
    supported: float = 1.0,
) -> Markup:
    """A slider over other thresholds, and the sensitivity and specificity there; nothing where nothing was measured.

    probability: of covid19_pneumonia in the study on the page. title: of the head, on the Model tab,
    where there is no study and the points are those of the validation images.
    supported: the highest probability that is shown, beyond which no threshold can be tried on a study.
    """
    if operating is None:
        return Markup()
    total = texts.number(operating.positive + operating.negative)
    sentence = texts(ANOTHER) if probability is None else f"{texts(ANOTHER)} {texts(THIS_STUDY)}"
    points = {
        "thresholds": operating.thresholds,
        "truePositive": operating.true_positive,
        "falsePositive": operating.false_positive,
        "positive": operating.positive,
        "negative": operating.negative,
        "probability": None if probability is None else round(probability, 4),
    }
    return render_template(
        "study/operating_point.html",
        texts,
        summary=texts(INSIDE_SUMMARY, title=title, total=total) if title else texts(SUMMARY, total=total),
        percent=round(100 * threshold),
        least=max(1, math.ceil(100 * (1 - supported) - ALMOST)),
        most=min(99, math.floor(100 * supported + ALMOST)),
        points=json.dumps(points),
        sentence=sentence,
    )


def _read_points(values: Any) -> OperatingPoints | None:
    try:
        points = OperatingPoints.from_dict(
            {f.name: values[f.name] for f in dataclasses.fields(OperatingPoints)}
        )
        lengths = {len(part) for part in (points.thresholds, points.true_positive, points.false_positive)}
        int(points.positive), int(points.negative)
    except (KeyError, TypeError, ValueError):
        return None
    return points if len(lengths) == 1 and points.thresholds else None
