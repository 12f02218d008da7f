"""A network's heads and what their logits say; importing it loads no Keras."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from covid_mm.config import POSITIVE

FUSED = "fused"  # the concatenated head; a branch's own head has its modality's name


def find_margins(logits: NDArray[Any]) -> NDArray[Any]:
    """How far the positive logit lies above the normal one: (n,) of logits (n, 2)."""
    margins: NDArray[Any] = logits[:, POSITIVE] - logits[:, 1 - POSITIVE]
    return margins
