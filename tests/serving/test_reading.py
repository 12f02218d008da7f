"""Whole images to what the network reads and what is shown: frames, crops, lungs that are not there."""

from __future__ import annotations

import numpy as np
import pytest
from made_lungs import BOX, FakeSegmenter
from toy_networks import grey_images

from covid_mm.imaging import resize_grey
from covid_mm.imaging.lungs import read_lungs
from covid_mm.serving.reading import make_preview, prepare_studies


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((150, 150), (150, 150)), ((600, 300), (512, 256)), ((100, 2048), (25, 512)), ((1, 4000), (1, 512))],
)
def test_a_preview_keeps_the_aspect_and_is_never_enlarged(shape, expected):
    preview = make_preview(np.full(shape, 99.6, np.float32))
    assert preview.shape == (*expected, 3)
    assert preview.dtype == np.uint8
    assert (preview == 100).all()


def test_a_preview_averages_what_falls_into_a_pixel():
    stripes = np.tile(np.array([0.0, 200.0], np.float32), (1024, 512))
    assert (make_preview(stripes) == 100).all()


def test_without_a_finder_the_whole_image_is_read():
    (grey,) = grey_images(1, 200)
    ((image,),) = (study.values() for study in prepare_studies([{"ct": grey}], 64, None))
    np.testing.assert_array_equal(image.pixels, resize_grey(grey, 64))
    assert image.whole is image.pixels
    assert (image.box, image.lacks_lungs) == (None, False)
    assert image.place(np.ones((64, 64), np.float32)).min() == 1


def test_with_a_finder_the_lungs_are_read_and_placed_back():
    (grey,) = grey_images(1, 200)
    finder = FakeSegmenter()
    (study,) = prepare_studies([{"xray": grey}], 64, finder)
    image = study["xray"]
    region = finder.region
    np.testing.assert_array_equal(image.pixels, read_lungs(grey, region, "xray", 64))
    np.testing.assert_array_equal(image.whole, resize_grey(grey, 64))
    assert image.box == BOX
    placed = image.place(np.ones((64, 64), np.float32))
    assert placed.shape == (200, 200)
    inside = placed[round(BOX[1] * 200) : round(BOX[3] * 200), round(BOX[0] * 200) : round(BOX[2] * 200)]
    assert inside.min() == 1
    assert placed.sum() == inside.size


def test_lungs_are_looked_for_together_and_belong_to_their_study():
    bright, dark = grey_images(1, 80)[0], np.zeros((80, 80), np.float32)
    finder = FakeSegmenter()
    studies = prepare_studies(
        [{"ct": bright}, {"ct": dark, "xray": bright}, {"xray": dark}, {"ct": bright}], 32, finder
    )
    assert sorted(finder.calls) == [("ct", 3), ("xray", 2)]
    lacking = [{m: image.lacks_lungs for m, image in study.items()} for study in studies]
    assert lacking == [{"ct": False}, {"ct": True, "xray": False}, {"xray": True}, {"ct": False}]
