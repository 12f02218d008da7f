"""The phantom's body: tissue where it belongs, one body on every grid, fields with known moments."""

from __future__ import annotations

import numpy as np
import pytest

from covid_mm.datasets.thorax.anatomy import (
    Anatomy,
    cage_outline,
    diaphragm,
    lung_distance,
    skin_distance,
    skin_outline,
)
from covid_mm.datasets.thorax.body import Patient, sample_body
from covid_mm.datasets.thorax.canvas import Grid, Painter
from covid_mm.datasets.thorax.lungs import Lesions, Vessels
from covid_mm.datasets.thorax.pictures import blur
from covid_mm.datasets.thorax.waves import Waves


@pytest.fixture(scope="module", params=[0, 8])
def anatomy(request):
    return Anatomy.draw(np.random.default_rng(request.param))


@pytest.fixture(scope="module")
def patient(anatomy):
    return Patient.draw(np.random.default_rng(1), anatomy, None)


def sick(patient, level=0.0, strength=1.0):
    lesions = Lesions.draw(np.random.default_rng(2), patient.anatomy, level, strength)
    return Patient(patient.anatomy, patient.wobble, patient.texture, patient.vessels, lesions)


def plane(z, edge=1.4):
    axis = np.linspace(-200, 200, 161)
    return Grid.of(axis, axis, np.array([z]), edge)


def at(volume, grid, x, y):
    column, row = np.abs(grid.x - x).argmin(), np.abs(grid.y - y).argmin()
    return volume[0, row, column]


def test_tissues_lie_where_they_belong(patient):
    grid = plane(-30.0)
    body = sample_body(patient, grid)
    assert at(body.hu, grid, -195, -195) == -1000  # room air
    assert -950 < at(body.hu, grid, -80, 10) < -700  # right lung
    assert -950 < at(body.hu, grid, 100, 30) < -700  # left lung
    assert at(body.lungs, grid, -80, 10) > 0.9
    assert 0 < at(body.hu, grid, 20, -20) < 260  # heart, with or without contrast medium
    assert at(body.lungs, grid, 20, -20) < 0.05
    assert body.hu.max() > 300  # bone
    assert body.hu.min() >= -1010
    assert np.isfinite(body.hu).all()
    assert body.hu.dtype == body.lungs.dtype == body.lesions.dtype == np.float32


def test_nothing_floats_outside_the_skin(patient):
    for z in (-60.0, 0.0, 40.0):  # below the arms
        grid = plane(z)
        outside = skin_distance(patient.anatomy, *grid.coordinates(grid.everywhere)) < -2
        assert sample_body(patient, grid).hu[outside].max() < -990


def test_liver_and_neck_hold_no_lung(patient):
    for z in (-185.0, 150.0):
        assert sample_body(patient, plane(z)).lungs.max() < 0.01


def test_lungs_taper_towards_the_apex(patient):
    areas = [sample_body(patient, plane(z)).lungs.sum() for z in (0.0, 70.0, 105.0)]
    assert areas[0] > areas[1] > areas[2] > 0


def test_the_right_dome_of_the_diaphragm_is_the_higher(patient):
    anatomy = patient.anatomy
    sides = np.array([-66.0, 66.0], np.float32) * anatomy.width
    right, left = diaphragm(anatomy, sides, np.full(2, -14 * anatomy.depth, np.float32))
    assert right > left
    assert sample_body(patient, plane(float(right) - 12)).lungs[0, 80, 52] < 0.05  # liver at x -70
    assert sample_body(patient, plane(float(right) + 30)).lungs[0, 80, 46] > 0.9


def test_a_plane_of_the_volume_is_the_plane_itself(patient):
    """CT and X-ray see one body: a grid's other points change nothing."""
    axis = np.linspace(-150, 150, 61)
    levels = np.array([-40.0, 0.0, 40.0])
    volume = sample_body(sick(patient), Grid.of(axis, axis, levels, 3.0))
    for index, z in enumerate(levels):
        alone = sample_body(sick(patient), Grid.of(axis, axis, np.array([z]), 3.0))
        np.testing.assert_allclose(volume.hu[index], alone.hu[0], atol=0.5)
        np.testing.assert_allclose(volume.lesions[index], alone.lesions[0], atol=1e-3)


def test_lesions_change_lung_and_nothing_else(patient):
    grid = plane(0.0)
    healthy, diseased = sample_body(patient, grid), sample_body(sick(patient), grid)
    outside = healthy.lungs == 0
    np.testing.assert_allclose(healthy.hu[outside], diseased.hu[outside], atol=0.01)
    assert (diseased.hu >= healthy.hu - 0.01).all()  # lesions only ever densify
    assert not diseased.lesions[healthy.lungs == 0].any()
    core = diseased.hu[diseased.lesions > 0.8]
    assert len(core) > 20
    assert -750 < np.median(core) < 100


def test_lesions_lie_mostly_at_the_back(anatomy):
    shares = []
    for seed in range(20):
        lesions = Lesions.draw(np.random.default_rng(seed), anatomy, 0.0, 1.0)
        shares.append((lesions.centres[:, 1] > 0).mean())
    assert np.mean(shares) > 0.6


def test_strength_scales_lesions_down_to_none(patient):
    grid = plane(0.0)
    amounts = [sample_body(sick(patient, strength=s), grid).lesions.sum() for s in (0.0, 0.5, 1.0)]
    assert amounts[0] == 0
    assert amounts[1] == pytest.approx(amounts[2] / 2, rel=1e-3)


def test_vessels_stay_in_the_lungs_beyond_the_hilum(anatomy):
    vessels = Vessels.draw(np.random.default_rng(3), anatomy)
    assert vessels.points.shape == (len(vessels.radii), 3)
    assert len(vessels.radii) > 1000
    assert 0 < vessels.radii.min() < vessels.radii.max() < 10
    far = np.abs(vessels.points[:, 0]) > 60
    assert (lung_distance(anatomy, vessels.points[far]) > 0).mean() > 0.99


def test_skin_encloses_the_chest(anatomy):
    z = np.linspace(-180, 110, 40, dtype=np.float32)
    inner, outer = cage_outline(anatomy, z), skin_outline(anatomy, z)
    assert (outer[0] > inner[0]).all()
    assert (outer[1] > inner[1]).all()


def test_waves_have_mean_zero_and_deviation_one():
    axis = np.arange(0, 400, 10.0)
    fields = [
        Waves.draw(np.random.default_rng(seed), 12.0).sample(Grid.of(axis, axis, axis, 3.0))
        for seed in range(3)
    ]
    assert np.mean(fields) == pytest.approx(0, abs=0.05)
    assert np.std(fields) == pytest.approx(1, abs=0.1)


def test_waves_equal_the_sum_they_stand_for():
    waves = Waves.draw(np.random.default_rng(0), 9.0, count=5)
    grid = Grid.of(np.array([1.0, 4.0]), np.array([2.0]), np.array([-3.0]), 1.0)
    point = np.array([4.0, 2.0, -3.0])
    expected = np.cos(point @ waves.numbers + waves.phases).sum() * np.sqrt(2 / 5)
    assert waves.sample(grid)[0, 0, 1] == pytest.approx(expected, abs=1e-4)


def test_waves_finer_than_the_grid_average_out():
    waves, axis = Waves.draw(np.random.default_rng(0), 2.0), np.arange(5.0)
    assert not waves.sample(Grid.of(axis, axis, axis, 3.0)).any()
    assert waves.sample(Grid.of(axis, axis, axis, 1.0)).any()


def test_painted_shapes_have_their_volume():
    axis = np.linspace(-20, 20, 81)
    pitch = axis[1] - axis[0]
    grid = Grid.of(axis, axis, axis, 0.5)
    for paint, volume in (
        (lambda p: p.ellipsoid((0, 0, 0), (10, 10, 10), 0.0), 4 / 3 * np.pi * 1000),
        (lambda p: p.capsule((-8, 0, 0), (8, 0, 0), 5.0, 0.0), np.pi * 25 * 16 + 4 / 3 * np.pi * 125),
    ):
        painter = Painter(grid)
        paint(painter)
        assert ((painter.hu + 1000).sum() / 1000 * pitch**3) == pytest.approx(volume, rel=0.02)


def test_blur_keeps_an_even_image_and_smooths_noise():
    even = np.full((20, 30), 7.0, np.float32)
    np.testing.assert_allclose(blur(even, 3.0), even, rtol=1e-5)
    noise = np.random.default_rng(0).normal(size=(40, 40)).astype(np.float32)
    assert blur(noise, 2.0).std() < 0.3 * noise.std()
    assert blur(noise, 0.0) is noise
