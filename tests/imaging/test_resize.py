from __future__ import annotations

import numpy as np
import pytest

from covid_mm.errors import ImageError
from covid_mm.imaging import resize_grey, resize_image, to_network_input


def test_shape_type_and_equal_channels() -> None:
    image = resize_image(np.random.default_rng(0).uniform(0, 255, (40, 90)).astype(np.float32))
    assert image.shape == (150, 150, 3)
    assert image.dtype == np.float32
    assert np.ptp(image, axis=2).max() == 0


def test_the_square_itself_is_kept() -> None:
    grey = np.random.default_rng(0).uniform(0, 255, (150, 150)).astype(np.float32)
    np.testing.assert_array_equal(resize_grey(grey, 150), grey)


def test_fine_stripes_are_averaged_not_aliased() -> None:
    stripes = np.tile(np.array([0.0, 255.0], np.float32), (600, 300))  # 600 x 600, period of 2 pixels
    inner = resize_grey(stripes, 150)[5:-5, 5:-5]
    np.testing.assert_allclose(inner, 127.5, atol=4)


def test_overshoot_is_cut_back_to_the_range() -> None:
    edge = np.zeros((20, 20), np.float32)
    edge[:, 10:] = 255
    resized = resize_grey(edge, 150)
    assert resized.min() == 0
    assert resized.max() == 255


def test_the_aspect_ratio_is_not_kept() -> None:
    halves = np.zeros((10, 200), np.float32)
    halves[:, 100:] = 255
    resized = resize_grey(halves, 150)
    assert resized[:, :70].max() == 0
    assert resized[:, 80:].min() == 255


@pytest.mark.parametrize("shape", [(5,), (5, 5, 3), (0, 5)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ImageError, match="height, width"):
        resize_image(np.zeros(shape, np.float32))


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_greys_become_three_equal_channels(dtype: type) -> None:
    greys = np.random.default_rng(0).uniform(0, 255, (2, 5, 4)).astype(dtype)
    images = to_network_input(greys)
    assert (images.shape, images.dtype) == ((2, 5, 4, 3), np.float32)
    for channel in range(3):
        np.testing.assert_array_equal(images[..., channel], greys)
