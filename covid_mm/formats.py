"""How measured figures are rounded and written: for page, PDF, JSON, CSV and shell alike.

Left out, a head's probabilities are off by 4 to 8 % in the mean, its AUC and shares by one or two hundredths (95 %
intervals): a third decimal would say nothing.
"""

from __future__ import annotations

import math
from typing import Literal

MOST_SURE = 0.99  # the highest probability that is ever named, whatever a checkpoint says it supports
ALMOST = 1e-6  # a probability that was clipped to the cap may miss it by a rounding
Bound = Literal["", "over", "under"]


def round_probability(value: float, supported: float = 1.0) -> float:
    """A probability, 0..1, to whole percents, and none surer than left-out predictions support.

    supported: the highest probability, 0.5..1, that they support.
    """
    return bound_probability(value, supported)[1] / 100


def bound_probability(value: float, supported: float = 1.0) -> tuple[Bound, int]:
    """A probability in whole percents; `over` or `under` where it reaches the highest, or lowest, that is supported."""
    most = min(round(100 * MOST_SURE), math.floor(100 * supported + ALMOST))
    cap = min(supported, MOST_SURE)
    if value >= cap - ALMOST and value > 0.5:
        return "over", most
    if value <= 1 - cap + ALMOST and value < 0.5:
        return "under", 100 - most
    return "", round(value * 100)


def round_share(value: float) -> float:
    """An AUC or a share, 0..1, to hundredths."""
    return round(value, 2)


def format_percent(value: float) -> str:
    """A share, 0..1, in percent, with one decimal where it has one: `48 %`."""
    percent = f"{value * 100:.1f}"
    return f"{percent.removesuffix('.0')} %"


def flatten_text(text: str, instead: str = " ") -> str:
    """A text on one line: letters that cannot be printed, line ends too, become another one."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else instead for letter in text)
