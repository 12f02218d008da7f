"""Whole phantom scans: the same body with more or less of it diseased."""

from __future__ import annotations

import numpy as np
import pytest

from covid_mm.datasets.phantom_scans import make_phantom_scan
from covid_mm.errors import UsageError


def test_the_same_body_with_lesions_of_a_growing_extent():
    scans = [
        make_phantom_scan(3, patches, size=size, spacing=40.0, side=48)
        for patches, size in ((0, 1.0), (1, 0.5), (1, 1.0), (6, 1.0), (99, 1.0))
    ]
    volumes = [part.lesion_ml for part in scans]
    assert volumes[0] == 0.0
    assert volumes == sorted(volumes)
    assert len(set(volumes)) == 5
    assert len({round(part.lung_ml) for part in scans}) == 1
    assert 2000 < scans[0].lung_ml < 8000
    healthy, sick = (np.stack(part.scan.slices) for part in (scans[0], scans[-1]))
    assert healthy.dtype == np.int16
    assert healthy.min() >= -1024
    assert sick.mean() > healthy.mean()
    assert scans[0].scan.positions == (-110.0, -70.0, -30.0, 10.0, 50.0, 90.0, 130.0)


def test_the_same_arguments_give_the_same_scan():
    first, second = (make_phantom_scan(5, 2, spacing=50.0, side=32) for _ in range(2))
    np.testing.assert_array_equal(np.stack(first.scan.slices), np.stack(second.scan.slices))


@pytest.mark.parametrize("change", [{"seed": -1}, {"patches": -1}, {"spacing": 0.5}, {"side": 8}])
def test_scans_that_cannot_be_drawn(change):
    with pytest.raises(UsageError, match="phantom scan"):
        make_phantom_scan(**({"seed": 0, "patches": 0} | change))
