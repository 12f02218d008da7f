"""Phantom studies: the same on each call, honest about what differs, readable as a data set."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from covid_mm.config import CLASSES, MODALITIES, DataConfig
from covid_mm.datasets import check_readable, find_datasets
from covid_mm.datasets.phantoms import make_image, make_study, write_phantoms
from covid_mm.errors import CovidMMError, DataError, UsageError

SEEDS = (3, 11, 29)


@pytest.fixture(scope="module")
def twins():
    """(healthy, diseased) studies of the same bodies."""
    return [(make_study(0, seed), make_study(1, seed)) for seed in SEEDS]


def same(one, other):
    fields = ("ct", "xray", "ct_lesions", "xray_lesions", "ct_lungs", "xray_lungs")
    return [np.array_equal(getattr(one, name), getattr(other, name)) for name in fields]


@pytest.mark.parametrize("label", [0, 1])
def test_a_study_is_the_same_on_each_call_and_leaves_the_global_generator_alone(label):
    state = np.random.get_state()[1].copy()  # noqa: NPY002 - to see that nothing uses it
    first, second = make_study(label, 5, size=96), make_study(label, 5, size=96)
    assert all(same(first, second))
    assert first.label == label
    assert np.array_equal(state, np.random.get_state()[1])  # noqa: NPY002


def test_one_picture_alone_is_the_studys():
    study = make_study(1, 5, size=96)
    for modality in MODALITIES:
        assert np.array_equal(make_image(1, 5, modality, size=96), getattr(study, modality))


@pytest.mark.parametrize("size", [32, 150, 300])
def test_shapes_and_types(size):
    study = make_study(1, 7, size=size)
    for name in ("ct", "xray"):
        image, mask, lungs = (getattr(study, f"{name}{part}") for part in ("", "_lesions", "_lungs"))
        assert image.shape == mask.shape == lungs.shape == (size, size)
        assert image.dtype == np.uint8
        assert mask.dtype == lungs.dtype == np.bool_
        assert image.std() > 30


def test_bodies_differ(twins):
    for modality in MODALITIES:
        images = [getattr(healthy, modality).astype(float) for healthy, _ in twins]
        assert np.abs(images[0] - images[1]).mean() > 10
        assert np.abs(images[1] - images[2]).mean() > 10


def test_without_lesions_both_labels_give_the_same_images(twins):
    """Nothing but the lesions tells the classes apart: no marker, no framing, no exposure."""
    for seed, (healthy, _) in zip(SEEDS, twins, strict=True):
        assert all(same(healthy, make_study(1, seed, lesion_strength=0.0)))


def test_masks_only_where_there_is_disease(twins):
    for healthy, diseased in twins:
        assert not healthy.ct_lesions.any()
        assert not healthy.xray_lesions.any()
        assert 0.005 < diseased.ct_lesions.mean() < 0.6
        assert 0.005 < diseased.xray_lesions.mean() < 0.6


def test_ct_lesions_lie_in_lung(twins):
    for healthy, diseased in twins:
        there = healthy.ct[diseased.ct_lesions]  # what the same place looks like without disease
        assert np.median(there) < 110
        assert (there < 150).mean() > 0.8  # the rest is vessels and noise


def test_lesions_brighten_both_images(twins):
    for healthy, diseased in twins:
        for name, least in (("ct", 30), ("xray", 5)):
            mask = getattr(diseased, f"{name}_lesions")
            change = getattr(diseased, name).astype(float) - getattr(healthy, name)
            assert change[mask].mean() > least
            assert change[mask].mean() > change[~mask].mean() + least / 2


def test_the_body_around_the_lungs_is_untouched_on_ct(twins):
    for healthy, diseased in twins:
        solid = healthy.ct > 190
        change = np.abs(diseased.ct.astype(float) - healthy.ct)[solid]
        assert np.median(change) == 0


def test_film_shows_dark_lungs_and_a_heart_to_the_right_of_the_picture(twins):
    for healthy, _ in twins:
        film = healthy.xray.astype(float)
        middle, lung = film[75:130, 105:120].mean(), film[75:130, 45:75].mean()
        assert middle > lung + 40
        assert film[:, :6].mean() < middle
    film = np.mean([healthy.xray for healthy, _ in twins], axis=0)
    assert film[110:140, 125:165].mean() > film[110:140, 59:99].mean() + 5


@pytest.mark.parametrize(
    ("label", "seed", "options"),
    [
        (2, 0, {}),
        (-1, 0, {}),
        (0, -1, {}),
        (0, 0, {"size": 31}),
        (1, 0, {"lesion_strength": 1.1}),
        (1, 0, {"lesion_strength": float("nan")}),
    ],
)
def test_wrong_arguments_are_named(label, seed, options):
    with pytest.raises(UsageError, match=r"expected|needs"):
        make_study(label, seed, **options)


def test_written_phantoms_are_a_data_set(tmp_path):
    seen = []
    write_phantoms(tmp_path, per_class=2, seed=4, size=64, progress=lambda *step: seen.append(step))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    for modality in MODALITIES:
        for name in CLASSES:
            files = sorted((tmp_path / modality / name).iterdir())
            assert len(files) == 2
            for path in files:
                with Image.open(path) as image:
                    image.load()
                    assert (image.format, image.mode, image.size) == ("PNG", "L", (64, 64))
    datasets = find_datasets(tmp_path, DataConfig())
    assert set(datasets) == set(MODALITIES)
    for dataset in datasets.values():
        assert sorted(record.label for record in dataset.records) == [0, 0, 1, 1]
        check_readable(dataset.records)


def test_both_modalities_of_a_study_share_a_name_and_classes_share_no_body(tmp_path):
    write_phantoms(tmp_path, per_class=2, seed=4, size=32)
    names = {name: sorted(path.name for path in (tmp_path / "ct" / name).iterdir()) for name in CLASSES}
    for name in CLASSES:
        assert names[name] == sorted(path.name for path in (tmp_path / "xray" / name).iterdir())
    assert not set(names["normal"]) & set(names["covid19_pneumonia"])


def test_writing_again_keeps_what_is_there_and_adds_the_rest(tmp_path):
    write_phantoms(tmp_path, per_class=1, seed=4, size=32)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.png")}
    lost = min(before)
    content = lost.read_bytes()
    lost.unlink()
    write_phantoms(tmp_path, per_class=1, seed=4, size=32)
    assert lost.read_bytes() == content
    # the study's other image was drawn again with it; the other study was not touched
    untouched = [path for path in before if path.name != lost.name]
    assert [path.stat().st_mtime_ns for path in untouched] == [before[path] for path in untouched]
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == set(before)


def test_seeds_give_other_phantoms(tmp_path):
    for seed in (0, 1):
        write_phantoms(tmp_path / str(seed), per_class=1, seed=seed, size=32)
    files = [sorted((tmp_path / seed).rglob("*.png")) for seed in ("0", "1")]
    assert all(a.read_bytes() != b.read_bytes() for a, b in zip(*files, strict=True))


def test_writing_says_what_is_wrong(tmp_path):
    with pytest.raises(UsageError, match="at least one"):
        write_phantoms(tmp_path, per_class=0)
    (tmp_path / "ct").write_text("a file where a folder belongs")
    with pytest.raises(DataError, match="could not be written") as caught:
        write_phantoms(tmp_path, per_class=1, size=32)
    assert isinstance(caught.value, CovidMMError)


@pytest.mark.parametrize("modality", MODALITIES)
def test_lung_masks_name_the_lungs_in_health_and_disease(twins, modality):
    """Two dark regions, the same whatever the label, with the lesions in them."""
    for healthy, diseased in twins:
        image, lungs = getattr(healthy, modality).astype(float), getattr(healthy, f"{modality}_lungs")
        assert lungs.shape == image.shape
        assert lungs.dtype == np.bool_
        assert 0.08 < lungs.mean() < 0.65
        assert np.median(image[lungs]) + 40 < np.percentile(image[~lungs], 75)
        left, right = lungs[:, : lungs.shape[1] // 2], lungs[:, lungs.shape[1] // 2 :]
        assert min(left.mean(), right.mean()) > 0.03
        same_lungs = getattr(diseased, f"{modality}_lungs") == lungs
        assert same_lungs.mean() > 0.995
        lesions = getattr(diseased, f"{modality}_lesions")
        assert lungs[lesions].mean() > 0.8
