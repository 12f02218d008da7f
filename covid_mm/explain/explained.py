"""What a pass through the network gives, answer and heatmaps, whatever computes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from covid_mm.config import Modality
from covid_mm.errors import CheckpointError
from covid_mm.explain.method_table import PassMethod

Progress = Callable[[float], None]  # is told shares 0..1

PREDICTED = -1  # as a class index: explain the class that the answer names


@dataclass(frozen=True)
class Explained:
    """What one call gives for n studies.

    logits: head name (`fused`, or a modality's own) -> float32 (n, 2).
    classes: int32 (n,), the class whose evidence was measured.
    evidence: modality -> float32 (n, side, side) >= 0, not yet on a scale; in logit units by a method
    of FIXED_SCALE_METHODS.
    second: as evidence, by `heat_checks.second_method`, from the same pass.
    contents: modality -> float32 (n, d), what the content check reads; empty without one.
    """

    logits: dict[str, NDArray[np.float32]]
    classes: NDArray[np.int32]
    evidence: dict[Modality, NDArray[np.float32]]
    second: dict[Modality, NDArray[np.float32]]
    contents: dict[Modality, NDArray[np.float32]]


class AnswerFunction(Protocol):
    """The compiled forward pass with heatmaps for one set of modalities, as `explain.grad_cam.GradCam` of grey images.

    modalities: in the network's order.
    """

    modalities: tuple[Modality, ...]

    def explain(
        self,
        images: Mapping[Modality, NDArray[np.float32]],
        classes: NDArray[np.int32],
        content_images: Mapping[Modality, NDArray[np.float32]] | None = None,
        *,
        method: PassMethod | None = None,
    ) -> Explained:
        """Logits and evidence of n studies, images by modality (n, side, side); else as `GradCam.explain`."""


def stretch_map(raw: NDArray[np.float32], title: str) -> NDArray[np.float32]:
    """A map as shares of its own highest value; one without positive values is all zero.

    title: of the image, for the CheckpointError that a value which is no number raises.
    """
    if not np.isfinite(raw).all():
        raise CheckpointError(
            f"The heatmap of the {title} is not a number by this method; choose another method."
        )
    positive = np.maximum(raw, 0.0)
    highest = float(positive.max())
    return np.asarray(positive / highest if highest > 0 else 0 * positive, np.float32)
