"""Training the lung segmenter: masks where somebody drew them, boxes where there are only those.

Slices learn from masks of real slices and of phantoms. Films learn their lungs' shape from
phantoms, and their place from radiologists' boxes through projections: in every row and column of
a box some pixel is lung, and outside all boxes none (Tian et al., "BoxInst", CVPR 2021, eq. 2).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from covid_mm.config import MODALITIES, Modality
from covid_mm.imaging.lungs import Box
from covid_mm.models.lung_segmenter import SEGMENTER_CELLS, SEGMENTER_SIDE, build_segmenter
from covid_mm.training.steps import compile_steps, cosine_rate

MAX_BOXES = 2  # lungs of a film
_BATCH = 16
_WARM_UP = 50  # steps until the learning rate is reached


@dataclass(frozen=True)
class LungSample:
    """One image to learn from.

    image: uint8 or float32 grey (h, w). mask: bool (h, w), or None. boxes: of each lung, fractions
    x0, y0, x1, y1; read only where there is no mask. weight: how often it is drawn, relative to others.
    """

    image: NDArray[np.generic]
    mask: NDArray[np.bool_] | None
    boxes: tuple[Box, ...] = ()
    weight: float = 1.0


@dataclass(frozen=True)
class SegmenterConfig:
    """How the segmenter is trained; 2,000 steps of 16 take about six minutes on two cores."""

    steps: int = 2000
    learning_rate: float = 2e-3
    seed: int = 0


def fit_segmenter(
    samples: Sequence[LungSample],
    modality: Modality,
    config: SegmenterConfig = SegmenterConfig(),
    progress: Callable[[int, float], None] | None = None,
) -> keras.Model:
    """A `build_segmenter` network trained on samples; the same for the same samples and seed.

    progress(step, loss) is called after every 100 steps.
    """
    network = build_segmenter(config.seed)
    optimizer = keras.optimizers.AdamW(config.learning_rate, weight_decay=1e-4)
    optimizer.build(network.trainable_variables)

    def loss(outputs: list[Any], masks: Any, known: Any, boxes: Any) -> Any:
        logits = outputs[0][..., 0]
        return ops.mean(known * mask_loss(logits, masks) + (1.0 - known) * box_loss(logits, boxes))

    steps = compile_steps(network, optimizer, loss, lambda images: images[..., None], training=True)
    weights = np.array([sample.weight for sample in samples], np.float64)
    rng = np.random.default_rng([config.seed, 7])
    for number in range(config.steps):
        chosen = rng.choice(len(samples), _BATCH, p=weights / weights.sum())
        rows = [vary_sample(samples[i], modality, rng) for i in chosen]
        images, masks, boxes = (np.stack(part) for part in zip(*rows, strict=True))
        known = np.array([samples[i].mask is not None for i in chosen], np.float32)
        rate = np.array([cosine_rate(number, config.steps, config.learning_rate, _WARM_UP)], np.float32)
        (value,) = steps.run(rate, tuple(part[None] for part in (images, masks, known, boxes)))
        if progress is not None and (number + 1) % 100 == 0:
            progress(number + 1, float(value))
    steps.write()
    return network


def vary_sample(
    sample: LungSample, modality: Modality, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """One varied copy: image (128, 128) 0..1, mask (64, 64) 0..1, boxes (2, 64, 64) 0..1 (zero: none).

    Varied are what hospitals differ in: field of view (from a tight crop of the lungs to a body in a
    wide frame, round fields, black, grey and white borders), turns, window, gamma, noise, blur, text in the corners.
    """
    height, width = sample.image.shape
    target = _extent(sample)
    matrix = _draw_frame(target, modality, rng)
    middle = float(np.median(sample.image.astype(np.float32)))
    image = _warp(sample.image, matrix, SEGMENTER_SIDE, float(rng.choice([0.0, 0.0, middle, 255.0])))
    mask = np.zeros((SEGMENTER_CELLS, SEGMENTER_CELLS), np.float32)
    boxes = np.zeros((MAX_BOXES, SEGMENTER_CELLS, SEGMENTER_CELLS), np.float32)
    if sample.mask is not None:
        mask = _warp(sample.mask.astype(np.float32), matrix, SEGMENTER_SIDE, 0.0)
        mask = cv2.resize(mask, (SEGMENTER_CELLS, SEGMENTER_CELLS), interpolation=cv2.INTER_AREA)
    else:
        for number, box in enumerate(sample.boxes[:MAX_BOXES]):
            drawn = np.zeros((height, width), np.float32)
            x0, x1 = (round(v * width) for v in (box[0], box[2]))
            y0, y1 = (round(v * height) for v in (box[1], box[3]))
            drawn[y0:y1, x0:x1] = 1.0
            moved = _warp(drawn, matrix, SEGMENTER_SIDE, 0.0)
            boxes[number] = cv2.resize(
                moved, (SEGMENTER_CELLS, SEGMENTER_CELLS), interpolation=cv2.INTER_AREA
            )
    return _vary_grey(image, modality, rng), mask, boxes


def _extent(sample: LungSample) -> Box:
    """The lungs' box as fractions; the whole image where there are none."""
    if sample.mask is not None and sample.mask.any():
        rows, columns = np.flatnonzero(sample.mask.any(axis=1)), np.flatnonzero(sample.mask.any(axis=0))
        height, width = sample.mask.shape
        return columns[0] / width, rows[0] / height, (columns[-1] + 1) / width, (rows[-1] + 1) / height
    if sample.boxes:
        edges = np.array(sample.boxes)
        return (*edges[:, :2].min(axis=0), *edges[:, 2:].max(axis=0))
    return 0.1, 0.1, 0.9, 0.9


def _draw_frame(target: Box, modality: Modality, rng: np.random.Generator) -> NDArray[np.float64]:
    """A random frame round the lungs, as the matrix from its pixels (0..128) to fractions of the image."""
    x0, y0, x1, y1 = target
    kind = rng.random()
    if kind < 0.3:  # the image as it is, a little moved
        left, top, right, bottom = (rng.normal(0, 0.03, 4) + np.array([0, 0, 1, 1])).tolist()
    elif kind < 0.7:  # a crop between the lungs' box, cut into a little, and the whole image
        near = rng.uniform(-0.04, 1.0, 4)
        left, top = x0 * (1 - near[0]), y0 * (1 - near[1])
        right, bottom = x1 + (1 - x1) * near[2], y1 + (1 - y1) * near[3]
    else:  # a wider frame, as on the page of a document or a screen
        left, top = -rng.uniform(0, 0.25, 2)
        right, bottom = 1 + rng.uniform(0, 0.25, 2)
    centre = np.array([(left + right) / 2, (top + bottom) / 2])
    wide, high = right - left, bottom - top
    is_slice = MODALITIES[modality].kind == "slice"
    if is_slice and rng.random() < 0.5:
        wide = -wide  # conventions of display differ
    if is_slice and rng.random() < 0.08:
        high = -high  # prone, or read from below
    angle = np.deg2rad(rng.normal(0, 4))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    scale = np.diag([wide / SEGMENTER_SIDE, high / SEGMENTER_SIDE])
    linear = scale @ turn
    offset = centre - linear @ np.full(2, SEGMENTER_SIDE / 2)
    return np.vstack([np.hstack([linear, offset[:, None]]), [0.0, 0.0, 1.0]])


def _warp(
    image: NDArray[np.generic], frame: NDArray[np.float64], side: int, border: float
) -> NDArray[np.float32]:
    height, width = image.shape
    matrix = np.diag([float(width), float(height), 1.0]) @ frame
    values = np.ascontiguousarray(image, np.float32)
    shrink = max(np.abs(np.linalg.norm(matrix[:2, :2], axis=0)).max(), 1.0)
    if shrink > 1.6:  # no aliasing
        values = cv2.GaussianBlur(values, (0, 0), 0.4 * shrink)
    return np.asarray(
        cv2.warpAffine(
            values,
            matrix[:2],
            (side, side),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=border,
        ),
        np.float32,
    )


def _vary_grey(
    image: NDArray[np.float32], modality: Modality, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Window, gamma, noise, blur, round field of view and text, then the segmenter's own grey scale."""
    low, high = np.percentile(image, [1, 99])
    values = np.clip((image - low) / max(float(high - low), 1e-3), 0.0, 1.0)
    is_slice = MODALITIES[modality].kind == "slice"
    if is_slice:
        start, stop = rng.uniform(-0.3, 0.35), rng.uniform(0.6, 1.3)
    else:
        start, stop = rng.uniform(-0.2, 0.15), rng.uniform(0.75, 1.2)
    values = np.clip((values - start) / (stop - start), 0.0, 1.0)
    values = np.power(values, np.exp(rng.uniform(-0.5, 0.5)))
    if is_slice and rng.random() < 0.25:  # a round field of view
        rows, columns = np.mgrid[-1 : 1 : SEGMENTER_SIDE * 1j, -1 : 1 : SEGMENTER_SIDE * 1j]
        values = np.where(np.hypot(rows, columns) > rng.uniform(0.9, 1.15), 0.0, values)
    if rng.random() < 0.3:
        values = cv2.GaussianBlur(values, (0, 0), rng.uniform(0.3, 1.2))
    values = values + rng.normal(0, rng.uniform(0, 0.05), values.shape)
    canvas = np.ascontiguousarray(values, np.float32)
    if rng.random() < 0.3:
        corner = (int(rng.integers(0, 100)), int(rng.choice([12, 20, 110, 122])))
        letters = "".join(rng.choice([*"LRABCP0123"], int(rng.integers(1, 5))))
        ink = np.zeros(canvas.shape, np.uint8)
        cv2.putText(ink, letters, corner, cv2.FONT_HERSHEY_SIMPLEX, float(rng.uniform(0.25, 0.6)), 255)
        canvas = np.where(ink > 127, np.float32(rng.random() < 0.8), canvas)
    low, high = np.percentile(canvas, [1, 99])
    return np.asarray(np.clip((canvas - low) / max(float(high - low), 1e-3), 0.0, 1.0), np.float32)


def mask_loss(logits: Any, masks: Any) -> Any:
    """Cross-entropy plus the soft Dice loss, per image (n,)."""
    entropy = ops.mean(ops.binary_crossentropy(masks, logits, from_logits=True), axis=(1, 2))
    shares = ops.sigmoid(logits)
    overlap = 2.0 * ops.sum(shares * masks, axis=(1, 2)) + 1.0
    total = ops.sum(shares, axis=(1, 2)) + ops.sum(masks, axis=(1, 2)) + 1.0
    return entropy + (1.0 - overlap / total)


def box_loss(logits: Any, boxes: Any) -> Any:
    """Projections of each box, and nothing outside all of them, per image (n,)."""
    inside = ops.max(boxes, axis=1)
    outside = ops.mean(
        (1.0 - inside) * ops.binary_crossentropy(ops.zeros_like(logits), logits, from_logits=True),
        axis=(1, 2),
    )
    shares = ops.sigmoid(logits)[:, None] * boxes
    loss = 2.0 * outside
    for axis in (2, 3):
        asked, given = ops.max(boxes, axis=axis), ops.max(shares, axis=axis)
        overlap = 2.0 * ops.sum(asked * given, axis=2) + 1.0
        total = ops.sum(ops.square(asked) + ops.square(given), axis=2) + 1.0
        loss += 0.5 * ops.mean(1.0 - overlap / total, axis=1)
    return loss
