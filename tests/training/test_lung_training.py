"""Training the lung segmenter: varied samples stay true to their masks, and a few steps learn something."""

from __future__ import annotations

import dataclasses
import json
from functools import cache

import numpy as np
import pytest
import tensorflow as tf
from made_crops import make_collection
from PIL import Image

from covid_mm.datasets.index import Collection, CollectionImage
from covid_mm.datasets.phantoms import make_study
from covid_mm.errors import DataError
from covid_mm.models.lung_segmenter import build_segmenter
from covid_mm.training.lung_samples import (
    LUNG_BOXES,
    find_lung_samples,
    make_phantom_samples,
    mark_dark_samples,
    measure_raggedness,
)
from covid_mm.training.lungs import (
    LungSample,
    SegmenterConfig,
    box_loss,
    fit_segmenter,
    mask_loss,
    vary_sample,
)

BOXES = ((0.1, 0.2, 0.4, 0.8), (0.6, 0.2, 0.9, 0.8))


@cache
def phantom(seed: int = 1, modality: str = "ct") -> LungSample:
    study = make_study(seed % 2, seed, size=96)
    return LungSample(getattr(study, modality), getattr(study, f"{modality}_lungs"))


def vary(sample, modality="ct", seed=0):
    return vary_sample(sample, modality, np.random.default_rng(seed))


@pytest.mark.parametrize("modality", ["ct", "xray"])
def test_a_varied_sample_has_the_segmenters_shapes(modality):
    for seed in range(6):
        image, mask, boxes = vary(phantom(), modality, seed)
        assert image.shape == (128, 128)
        assert mask.shape == (64, 64)
        assert boxes.shape == (2, 64, 64)
        assert image.dtype == mask.dtype == boxes.dtype == np.float32
        assert 0.0 <= image.min() < image.max() <= 1.0
        assert 0.0 <= mask.min() <= mask.max() <= 1.0
        assert mask.mean() > 0.02
        assert not boxes.any()


def test_one_generator_gives_one_sample():
    first, second, other = vary(phantom()), vary(phantom()), vary(phantom(), seed=1)
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert not np.array_equal(first[0], other[0])


@pytest.mark.parametrize("modality", ["ct", "xray"])
def test_the_mask_moves_with_the_image(modality):
    mask = np.zeros((90, 120), bool)
    mask[20:70, 25:55] = True
    sample = LungSample(np.where(mask, 220, 40).astype(np.uint8), mask)
    for seed in range(20):
        image, moved, _ = vary(sample, modality, seed)
        moved = np.kron(moved, np.ones((2, 2)))
        inside, outside = image[moved > 0.9], image[moved < 0.1]
        assert np.median(inside) > np.median(outside) + 0.3


def test_boxes_move_with_the_image_where_there_is_no_mask():
    grey = np.full((100, 100), 30, np.uint8)
    for x0, y0, x1, y1 in BOXES:
        grey[round(100 * y0) : round(100 * y1), round(100 * x0) : round(100 * x1)] = 200
    for seed in range(10):
        image, mask, boxes = vary(LungSample(grey, None, BOXES), "xray", seed)
        assert not mask.any()
        assert boxes[0].any()
        assert boxes[1].any()
        covered = np.kron(boxes.max(axis=0), np.ones((2, 2)))
        # the page round the image may be white
        assert np.median(image[covered > 0.9]) > np.percentile(image[covered < 0.1], 10) + 0.3


def test_an_image_without_lungs_can_be_learned_from():
    image, mask, boxes = vary(LungSample(np.full((50, 60), 9, np.uint8), np.zeros((50, 60), bool)))
    assert np.isfinite(image).all()
    assert not mask.any()
    assert not boxes.any()


def test_losses_prefer_the_truth():
    mask = np.zeros((1, 64, 64), np.float32)
    mask[0, 13:51, 6:26] = 1.0
    boxes = np.stack([mask, np.zeros_like(mask)], axis=1)
    right, wrong, nothing = 40 * mask - 20, 20 - 40 * mask, np.full_like(mask, -20)
    for loss, truth in ((mask_loss, mask), (box_loss, boxes)):
        values = [
            float(loss(tf.constant(logits), tf.constant(truth))[0]) for logits in (right, wrong, nothing)
        ]
        assert values[0] == pytest.approx(0.0, abs=0.01)
        assert min(values[1:]) > 0.3


def test_a_few_steps_learn_and_are_the_same_each_time():
    samples = [phantom(seed) for seed in range(6)] + [LungSample(phantom(7).image, None, BOXES, 0.5)]
    config = SegmenterConfig(steps=8, learning_rate=2e-2, seed=4)
    network = fit_segmenter(samples, "ct", config)
    images, masks, _ = (
        np.stack(part) for part in zip(*(vary(samples[i], seed=i) for i in range(6)), strict=True)
    )
    before, after = (
        float(tf.reduce_mean(mask_loss(model(images[..., None], training=True)[..., 0], masks)))
        for model in (build_segmenter(4), network)
    )
    assert after < 0.9 * before
    short = SegmenterConfig(steps=2, seed=4)  # more of them sum in another order now and then
    first, second = (fit_segmenter(samples, "ct", short).get_weights() for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_phantoms_come_with_their_masks():
    seen = []
    samples = make_phantom_samples("xray", 2, lambda *step: seen.append(step))
    assert seen == [(1, 2), (2, 2)]
    assert sum(sample.weight for sample in samples) == pytest.approx(0.3)
    for sample in samples:
        assert sample.mask is not None
        assert sample.image.shape == sample.mask.shape


def write_png(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values, np.uint8)).save(path)
    return path


def test_masks_of_collections_are_found_in_equal_shares(tmp_path):
    collections = []
    for name, count in (("large", 4), ("small", 1)):
        images = []
        for row in range(count):
            study = make_study(0, row, size=48)
            path = write_png(tmp_path / name / f"{row}.png", study.ct)
            mask = write_png(tmp_path / name / f"{row}-lungs.png", 255 * study.ct_lungs)
            images.append(CollectionImage(path, f"{name}/{row}.png", "ct", 0, lung_mask=mask))
        collections.append(Collection(name, "ct", tuple(images), name, "made up", "none"))
    collections.append(make_collection("without-masks", [0, 1]))
    samples = find_lung_samples(tmp_path, collections, "ct")
    assert [sample.weight for sample in samples] == pytest.approx([0.35 / 4] * 4 + [0.35])
    assert samples[0].image.dtype == np.uint8
    assert np.array_equal(samples[0].mask, make_study(0, 0, size=48).ct_lungs)
    assert find_lung_samples(tmp_path, collections[-1:], "ct") == []


def test_slices_without_masks_are_marked_by_their_grey_levels(tmp_path):
    row, column = np.mgrid[0:200, 0:240] / np.array([200, 240])[:, None, None]
    body = np.hypot((row - 0.5) / 0.42, (column - 0.5) / 0.48) < 1
    lungs = (row >= 0.25) & (row < 0.75) & (np.abs(np.abs(column - 0.5) - 0.25) < 0.125)
    healthy = np.where(lungs, 60, np.where(body, 150, 5))
    ragged = np.where(lungs & ((240 * column).astype(int) % 20 < 10) & (row > 0.3), 150, healthy)
    images = []
    for name, picture in (("healthy", healthy), ("ragged", ragged), ("nothing", np.zeros_like(healthy))):
        path = write_png(tmp_path / f"{name}.png", picture)
        images.append(CollectionImage(path, f"{name}.png", "ct", 0))
    (tmp_path / "damaged.png").write_bytes(path.read_bytes()[:40])  # named later, with all others
    images.append(CollectionImage(tmp_path / "damaged.png", "damaged.png", "ct", 0))
    plain = Collection("plain", "ct", tuple(images), "plain", "made up", "none")
    masked = dataclasses.replace(
        plain, name="masked", images=(dataclasses.replace(images[0], lung_mask=images[0].path),)
    )
    samples = mark_dark_samples([plain, masked], "ct")
    (sample,) = samples  # the ragged one is skipped, as where lung is consolidated, and so is what has masks
    assert sample.weight == pytest.approx(0.7)
    assert sample.image.shape == sample.mask.shape == (200, 240)
    assert (sample.mask == lungs).mean() > 0.97
    assert mark_dark_samples([plain], "xray") == []


def test_raggedness_is_the_share_of_narrow_gaps():
    lungs = np.zeros((256, 256), np.bool_)
    assert measure_raggedness(lungs) == 0.0
    lungs[50:150, 20:120] = True
    lungs[50:150, 130:230] = True  # two lungs close to each other are no gap
    assert measure_raggedness(lungs) < 0.01
    lungs[60:70, 20:60] = False
    assert measure_raggedness(lungs) == pytest.approx(400 / 19600, abs=0.005)


def test_lung_boxes_are_read_beside_their_films(tmp_path):
    for name in ("a.png", "b.png", "c.png"):
        write_png(tmp_path / "films" / name, np.arange(400).reshape(20, 20) % 256)
    left, right = list(BOXES[0]), list(BOXES[1])
    entries = {
        "a.png": {"left_lung": left, "right_lung": right},
        "b.png": {"left_lung": None, "right_lung": right},
        "c.png": {"left_lung": None, "right_lung": None},
    }
    (tmp_path / "films" / LUNG_BOXES).write_text(json.dumps(entries))
    samples = find_lung_samples(tmp_path, (), "xray")
    assert [sample.boxes for sample in samples] == [BOXES, (BOXES[1],)]
    assert all(sample.mask is None for sample in samples)
    assert find_lung_samples(tmp_path, (), "ct") == []


@pytest.mark.parametrize("text", ["", "[]", '{"a.png": [1]}', '{"a.png": {"left_lung": ["x"]}}'])
def test_another_file_of_boxes_is_refused(tmp_path, text):
    (tmp_path / LUNG_BOXES).write_text(text)
    with pytest.raises(DataError, match="not a table of lung boxes"):
        find_lung_samples(tmp_path, (), "xray")
