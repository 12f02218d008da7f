"""Does the network use what the map shows? Deletion, insertion, and the sanity check with random weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from covid_mm.errors import DataError, UsageError
from covid_mm.evaluation.heat_location import check_heatmap

# (n, h, w) or (n, h, w, c) images -> (n,) scores of the class that the map explains
ScoreFunction = Callable[[NDArray[np.float32]], ArrayLike]


@dataclass(frozen=True)
class ScoreCurve:
    """Score against the share of pixels changed, hottest first; area: under it, by trapezoids.

    Of a deletion a small area is good, of an insertion a large one.
    """

    shares: tuple[float, ...]
    scores: tuple[float, ...]
    area: float


@dataclass(frozen=True)
class SanityCheck:
    """Rank correlation of maps of the trained and of a random network, mean over images, -1..1.

    Near 0 the maps depend on what was learned. constant: images where one of the two maps is flat,
    which has no rank correlation; they count as 0.
    """

    correlation: float
    images: int
    constant: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"correlation": self.correlation, "images": self.images, "constant": self.constant}


def deletion_curve(
    score_fn: ScoreFunction,
    image: NDArray[Any],
    heatmap: ArrayLike,
    steps: int = 20,
    fill: ArrayLike = 0.0,
) -> ScoreCurve:
    """Replace the hottest pixels first by `fill`, and watch the score fall.

    Args:
        score_fn: called once with all steps + 1 images.
        image: (h, w) or (h, w, c); not changed.
        heatmap: (h, w), 0 or more; equally hot pixels go in reading order.
        steps: equal shares of the pixels, at least 1.
        fill: a number, or an image like the first (blurred, for example).

    Raises:
        DataError: shapes that do not fit, or scores that are not one an image.
        UsageError: no step.
    """
    start = np.asarray(image, dtype=np.float32)
    return _curve(score_fn, start, _make_fill(fill, start), heatmap, steps)


def insertion_curve(
    score_fn: ScoreFunction,
    image: NDArray[Any],
    heatmap: ArrayLike,
    steps: int = 20,
    fill: ArrayLike = 0.0,
) -> ScoreCurve:
    """Begin with `fill`, bring the hottest pixels back first; see `deletion_curve`."""
    end = np.asarray(image, dtype=np.float32)
    return _curve(score_fn, _make_fill(fill, end), end, heatmap, steps)


def mean_area(curves: Sequence[ScoreCurve]) -> float:
    """Mean area of many images' curves. Raises DataError without any."""
    if not curves:
        raise DataError("Expected at least one curve, but there is none.")
    return float(np.mean([curve.area for curve in curves]))


def compare_with_random(trained: Sequence[ArrayLike], random: Sequence[ArrayLike]) -> SanityCheck:
    """Spearman's correlation of each image's map with that of a network of random weights.

    Source: Adebayo et al., Sanity checks for saliency maps, NeurIPS 2018.

    Raises:
        DataError: no image, other counts, or maps of different shapes.
    """
    from scipy.stats import spearmanr

    if len(trained) != len(random) or not trained:
        raise DataError(
            f"Expected as many maps of the trained as of the random network, but got {len(trained)} and"
            f" {len(random)}."
        )
    values, constant = [], 0
    for first, second in zip(trained, random, strict=True):
        one, other = check_heatmap(first), check_heatmap(second)
        if one.shape != other.shape:
            raise DataError(f"Expected two maps of one shape, but got {one.shape} and {other.shape}.")
        if np.ptp(one) == 0 or np.ptp(other) == 0:
            constant += 1
            values.append(0.0)
        else:
            values.append(float(spearmanr(one.ravel(), other.ravel()).statistic))
    return SanityCheck(correlation=float(np.mean(values)), images=len(values), constant=constant)


def _curve(
    score_fn: ScoreFunction,
    start: NDArray[np.float32],
    end: NDArray[np.float32],
    heatmap: ArrayLike,
    steps: int,
) -> ScoreCurve:
    if steps < 1:
        raise UsageError(f"A curve needs at least 1 step, but {steps} were asked for.")
    heat = check_heatmap(heatmap)
    if start.shape[:2] != heat.shape or start.ndim not in (2, 3):
        raise DataError(
            f"Expected an image of the map's height and width {heat.shape}, but its shape is {start.shape}."
        )
    order = np.argsort(-heat.ravel(), kind="stable")
    counts = np.round(np.linspace(0, heat.size, steps + 1)).astype(np.int64)
    images = np.empty((steps + 1, *start.shape), dtype=np.float32)
    for number, count in enumerate(counts):
        changed = np.zeros(heat.size, dtype=np.bool_)
        changed[order[:count]] = True
        mask = changed.reshape(heat.shape + (1,) * (start.ndim - 2))
        images[number] = np.where(mask, end, start)
    scores = np.asarray(score_fn(images), dtype=np.float64)
    if scores.shape != (steps + 1,):
        raise DataError(f"Expected {steps + 1} scores, one an image, but got shape {scores.shape}.")
    shares = counts / heat.size
    return ScoreCurve(tuple(shares.tolist()), tuple(scores.tolist()), float(np.trapezoid(scores, shares)))


def _make_fill(fill: ArrayLike, image: NDArray[np.float32]) -> NDArray[np.float32]:
    values = np.asarray(fill, dtype=np.float32)
    if values.ndim and values.shape != image.shape:
        raise DataError(
            f"Expected a number or an image of shape {image.shape} to fill with, but got {values.shape}."
        )
    return np.broadcast_to(values, image.shape)
