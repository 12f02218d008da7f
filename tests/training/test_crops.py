"""Lung crops of a collection of phantoms: what serving reads, kept and made anew, what cannot be read named."""

from __future__ import annotations

import dataclasses
import os

import numpy as np
import pytest
from made_lungs import BOX, FakeSegmenter
from PIL import Image

from covid_mm.datasets.index import Collection, CollectionImage
from covid_mm.datasets.phantoms import make_study
from covid_mm.errors import DataError
from covid_mm.imaging import read_grey, to_network_input
from covid_mm.imaging.lungs import cut_map, read_lungs
from covid_mm.training.appearance import ROOM
from covid_mm.training.crops import OTHER, lesion_mask, make_crops

SIZE = 40
SIDE = round(SIZE * (1 + 2 * ROOM))
STUDIES = [make_study(label, seed, size=48) for seed, label in enumerate((0, 1, 1))]


class Weights:
    """What a segmenter's network is to a cache: its weights."""

    def __init__(self, value: float) -> None:
        self.value = value

    def get_weights(self) -> list[np.ndarray]:
        return [np.full(3, self.value, np.float32)]


class Segmenter(FakeSegmenter):
    def __init__(self, value: float = 1.0) -> None:
        super().__init__()
        self.networks = {"ct": Weights(value), "xray": Weights(value)}


@pytest.fixture
def collection(tmp_path):
    """A normal slice, a positive one with its lesion mask, one with boxes, one dark, one of neither class."""
    folder = tmp_path / "slices"
    folder.mkdir()
    pictures = [*(study.ct for study in STUDIES), np.zeros((30, 60), np.uint8), STUDIES[0].ct]
    for number, pixels in enumerate(pictures):
        Image.fromarray(pixels).save(folder / f"{number}.png")
    mask = folder / "lesions.png"
    Image.fromarray(255 * STUDIES[1].ct_lesions.astype(np.uint8)).save(mask)
    further = [{}, {"lesion_mask": mask}, {"boxes": ((0.3, 0.4, 0.5, 0.6),)}, {}, {}]
    images = tuple(
        CollectionImage(folder / f"{number}.png", f"slices/{number}.png", "ct", label, **more)
        for number, (label, more) in enumerate(zip((0, 1, 1, 1, None), further, strict=True))
    )
    return Collection("slices", "ct", images, "slices", "made up", "none")


def same(first, second):
    names = [field.name for field in dataclasses.fields(first)]
    return all(np.array_equal(getattr(first, name), getattr(second, name)) for name in names)


def test_crops_are_what_serving_reads(collection):
    seen = []
    segmenter = Segmenter()
    crops = make_crops(collection, segmenter, SIZE, progress=lambda *step: seen.append(step))
    assert seen == [(5, 5)]
    assert crops.wide.shape == crops.targets.shape == (5, SIDE, SIDE)
    assert crops.exact.shape == (5, SIZE, SIZE)
    assert crops.labels.tolist() == [0, 1, 1, 1, OTHER]
    assert crops.has_lungs.tolist() == [True, True, True, False, True]
    assert crops.located.tolist() == [True, True, True, False, False]
    assert crops.boxes[0] == pytest.approx(BOX)
    grey = read_grey(collection.images[1].path)
    for part, room in ((crops.exact, 0.0), (crops.wide, ROOM)):
        expected = read_lungs(grey, segmenter.region, "ct", SIZE, room)
        assert np.abs(part[1] - expected).max() <= 0.5
    expected = cut_map(segmenter.region.lungs.astype(np.float32), BOX, SIZE, ROOM)
    assert np.abs(crops.lungs[1] / 255 - expected).max() < 0.01
    for part in (crops.exact, crops.wide, crops.lungs, crops.targets, crops.boxes):
        assert not part[3].any()  # no lungs, no crop


def test_targets_lie_in_the_frame_of_the_wide_crop(collection):
    crops = make_crops(collection, Segmenter(), SIZE)
    assert not crops.targets[[0, 4]].any()
    expected = cut_map(STUDIES[1].ct_lesions.astype(np.float32), BOX, SIZE, ROOM)
    assert np.abs(crops.targets[1] / 255 - expected).max() < 0.01
    boxed = crops.targets[2] > 127
    rows, columns = np.flatnonzero(boxed.any(axis=1)), np.flatnonzero(boxed.any(axis=0))
    edge, scale = (SIDE - SIZE) / 2, SIZE / (BOX[3] - BOX[1])
    assert rows[0] == pytest.approx(edge + (0.4 - BOX[1]) * scale, abs=1.5)
    assert rows[-1] == pytest.approx(edge + (0.6 - BOX[1]) * scale, abs=1.5)
    assert columns[0] == pytest.approx(edge + (0.3 - BOX[0]) * SIZE / (BOX[2] - BOX[0]), abs=1.5)


def test_what_is_known_of_lesions():
    image = CollectionImage(None, "a", "xray", 1)
    assert lesion_mask(image, 10, 20) is None
    assert not lesion_mask(dataclasses.replace(image, label=0), 10, 20).any()
    mask = lesion_mask(
        dataclasses.replace(image, boxes=((0.5, 0.2, 1.0, 0.4), (0.0, 0.9, 0.01, 0.91))), 10, 20
    )
    assert mask.shape == (10, 20)
    assert mask[2:4, 10:].all()
    assert mask.sum() == 21  # a box smaller than a pixel still has one


def test_crops_are_kept_until_something_changes(collection, tmp_path):
    cache = tmp_path / "cache"
    segmenter = Segmenter()
    first = make_crops(collection, segmenter, SIZE, cache)
    assert len(segmenter.calls) == 1
    assert same(make_crops(collection, segmenter, SIZE, cache), first)
    assert len(segmenter.calls) == 1
    assert [path.suffix for path in cache.iterdir()] == [".npz"]
    # a damaged file is made anew
    (cached,) = cache.iterdir()
    whole = cached.read_bytes()
    for damage in (b"", whole[: len(whole) // 2], b"PK\x03\x04 not an archive"):
        cached.write_bytes(damage)
        assert same(make_crops(collection, segmenter, SIZE, cache), first)
    assert len(segmenter.calls) == 4
    # so is everything for another segmenter, size, file or label
    other = Segmenter(2.0)
    make_crops(collection, other, SIZE, cache)
    make_crops(collection, other, SIZE + 8, cache)
    os.utime(collection.images[0].path, ns=(1, 1))
    make_crops(collection, other, SIZE, cache)
    relabelled = dataclasses.replace(collection.images[0], label=1)
    changed = dataclasses.replace(collection, images=(relabelled, *collection.images[1:]))
    assert make_crops(changed, other, SIZE, cache).labels[0] == 1
    assert len(other.calls) == 4


@pytest.mark.parametrize("has_cache", [False, True])
def test_every_image_that_cannot_be_read_is_named(collection, tmp_path, has_cache):
    collection.images[0].path.write_bytes(b"no image")
    collection.images[2].path.write_bytes(collection.images[2].path.read_bytes()[:50])
    collection.images[4].path.unlink()
    with pytest.raises(DataError, match="3 images of slices can't be read") as caught:
        make_crops(collection, Segmenter(), SIZE, tmp_path / "cache" if has_cache else None)
    assert all(f"slices/{number}.png" in str(caught.value) for number in (0, 2, 4))
    assert "slices/1.png" not in str(caught.value)
    assert not (tmp_path / "cache").exists()


def test_three_equal_channels_reach_the_network():
    exact = np.random.default_rng(0).integers(0, 256, (2, 9, 9), dtype=np.uint8)
    values = to_network_input(exact)
    assert values.shape == (2, 9, 9, 3)
    assert values.dtype == np.float32
    assert all(np.array_equal(values[..., channel], exact) for channel in range(3))


def test_without_a_segmenter_whole_images_are_kept(collection):
    crops = make_crops(collection, None, SIZE)
    assert crops.has_lungs.all()
    assert np.array_equal(crops.boxes, np.tile(np.float32([0, 0, 1, 1]), (5, 1)))
    edge = (SIDE - SIZE) // 2
    assert np.array_equal(crops.wide[:, edge : edge + SIZE, edge : edge + SIZE], crops.exact)
    # the lesions lie where they lie in the image
    target = crops.targets[1, edge : edge + SIZE, edge : edge + SIZE] > 127
    expected = np.asarray(Image.fromarray(STUDIES[1].ct_lesions).resize((SIZE, SIZE)))
    assert (target == expected).mean() > 0.97
