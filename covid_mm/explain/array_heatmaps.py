"""Heads and heatmaps of the last convolution in NumPy, from the feature maps that a pass through the backbones gave.

All that lies behind the last feature map is small (pooling, one hidden layer, the logits), and the gradient of a logit
there has the closed form that `explain.closed_form` states. The results are those of `explain.grad_cam`, to rounding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from covid_mm.config import CLASSES, Modality, NetworkConfig
from covid_mm.errors import UsageError
from covid_mm.explain.method_table import ATTENTION, GRADIENT_METHODS, PassMethod
from covid_mm.models.heads import FUSED

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Pooled:
    """A branch's last feature map, as features.

    cells (n, c, channels): the map, row by row. shares (n, c): what pooling gives each cell, sum 1.
    attention (channels,): the kernel of the cells' logits, logits (n, c): these; None where pooling is the mean.
    features (n, channels).
    """

    cells: Array
    shares: Array
    attention: Array | None
    logits: Array | None
    features: Array


class ArrayHeads:
    """A network's heads: poolings, branches' own heads and the concatenated one."""

    def __init__(self, config: NetworkConfig, widths: Mapping[Modality, int]) -> None:
        """widths: channels of each branch's last feature map."""
        self._config = config
        self._arrays: Mapping[str, Array] = {}
        self.shapes: dict[str, tuple[int, ...]] = {
            "fully_connected/kernel": (sum(widths.values()), config.head_width),
            "fully_connected/bias": (config.head_width,),
            "logits/kernel": (config.head_width, len(CLASSES)),
            "logits/bias": (len(CLASSES),),
        }
        self._starts: dict[Modality, int] = {}
        start = 0
        for modality, width in widths.items():
            self._starts[modality], start = start, start + width
            if config.pooling == "attention":
                self.shapes[f"{modality}_attention/kernel"] = (1, 1, width, 1)
                self.shapes[f"{modality}_attention/bias"] = (1,)
            if config.is_concatenated:
                self.shapes[f"{modality}_logits/kernel"] = (width, len(CLASSES))
                self.shapes[f"{modality}_logits/bias"] = (len(CLASSES),)

    def set_weights(self, arrays: Mapping[str, Array]) -> None:
        """Take the weights; arrays: at least those of `shapes`."""
        self._arrays = {name: arrays[name] for name in self.shapes}

    def pool(self, modality: Modality, feature_map: Array) -> Pooled:
        """A feature map (n, rows, columns, channels) as features."""
        count, _, _, channels = feature_map.shape
        cells = feature_map.reshape(count, -1, channels)
        if self._config.pooling == "average":
            shares = np.full(cells.shape[:2], 1.0 / cells.shape[1], np.float32)
            return Pooled(cells, shares, None, None, cells.mean(axis=1))
        attention = self._arrays[f"{modality}_attention/kernel"].reshape(channels)
        logits = cells @ attention + self._arrays[f"{modality}_attention/bias"]
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        return Pooled(cells, shares, attention, logits, np.einsum("nc,ncd->nd", shares, cells))

    def branch_logits(self, modality: Modality, features: Array) -> Array:
        """A branch's own logits (n, 2) of its features."""
        if not self._config.is_concatenated:
            return self.fuse([features])[0]
        return self._dense(f"{modality}_logits", features)

    def fuse(self, features: list[Array]) -> tuple[Array, Array]:
        """The concatenated head's logits (n, 2), and which hidden units are on (n, width)."""
        hidden = self._dense("fully_connected", np.concatenate(features, axis=1))
        return self._dense("logits", _rectify(hidden)), (hidden > 0).astype(np.float32)

    def gradient(
        self, modality: Modality, head: str, classes: NDArray[np.int32], active: Array | None
    ) -> Array:
        """Of the chosen classes' logit at a branch's features, (n, channels).

        head: FUSED, with the hidden units that are `active`, or the branch's own.
        """
        if head != FUSED or active is None:
            return np.ascontiguousarray(self._arrays[f"{modality}_logits/kernel"].T[classes])
        start = self._starts[modality]
        first = self._arrays["fully_connected/kernel"]
        width = self.shapes["fully_connected/kernel"][0]
        stop = min([other for other in self._starts.values() if other > start], default=width)
        at_hidden = self._arrays["logits/kernel"].T[classes] * active
        return np.asarray(at_hidden @ first[start:stop].T, np.float32)

    def _dense(self, name: str, values: Array) -> Array:
        return values @ self._arrays[f"{name}/kernel"] + self._arrays[f"{name}/bias"]


def weigh_cells(method: PassMethod, pooled: Pooled, gradient: Array) -> Array:
    """Evidence (n, c) >= 0 of each cell, as `grad_cam.weigh_channels`.

    gradient (n, channels): of the score at the features. The score's gradient at cell i is
    shares_i (gradient + factor_i attention). Raises UsageError for a method that such a pass does not give.
    """
    if method == ATTENTION and pooled.logits is not None:
        return np.asarray(1.0 / (1.0 + np.exp(-pooled.logits)), np.float32)
    if method not in GRADIENT_METHODS:
        raise UsageError(
            f"Heatmap method {method!r} is not made from gradients; expected one of {', '.join(GRADIENT_METHODS)}."
        )
    cells, shares, attention = pooled.cells, pooled.shares, pooled.attention
    along = np.einsum("ncd,nd->nc", cells, gradient)
    factors = np.zeros_like(shares)
    pull = np.zeros_like(gradient[0]) if attention is None else attention
    if attention is not None:
        factors = along - np.sum(gradient * pooled.features, axis=1, keepdims=True)
    if method == "hires_cam":
        return _rectify(shares * (along + factors * (cells @ pull)))
    if method == "grad_cam":
        weights = gradient * shares.sum(axis=1, keepdims=True)
        weights = (weights + np.sum(shares * factors, axis=1, keepdims=True) * pull) / cells.shape[1]
        return _rectify(np.einsum("ncd,nd->nc", cells, weights))
    at_cells = np.maximum(gradient[:, None, :] + factors[..., None] * pull, 0.0)
    if method == "layer_cam":
        return _rectify(shares * np.einsum("ncd,ncd->nc", at_cells, cells))
    at_cells *= shares[..., None]
    square = at_cells**2
    total = cells.sum(axis=1, keepdims=True)
    parts = _divide(square, 2.0 * square + square * at_cells * total)
    parts = _divide(parts, parts.sum(axis=1, keepdims=True))
    weights = np.sum(parts * at_cells, axis=1)
    return _rectify(np.einsum("ncd,nd->nc", cells, weights))


def _rectify(values: Array) -> Array:
    return np.asarray(np.maximum(values, 0.0), np.float32)


def _divide(values: Array, by: Array) -> Array:
    """The quotient, 0 where the divisor is 0."""
    divided: Array = np.divide(
        values, by, out=np.zeros(np.broadcast(values, by).shape, np.float32), where=by != 0
    )
    return divided
