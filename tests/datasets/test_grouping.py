from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from trees import make_dataset

from covid_mm.config import DataConfig, TableI
from covid_mm.datasets import Dataset, ImageRecord, group_records, split_dataset
from covid_mm.datasets.grouping import join_pairs, largest_group
from covid_mm.datasets.index import count_labels
from covid_mm.datasets.similarity import compute_signatures, find_similar_across, find_similar_pairs
from covid_mm.errors import DataError

GROUPED = DataConfig(split="grouped")


def noise(count: int, seed: int = 0) -> NDArray[np.float32]:
    """Unrelated images (count, 150, 150), coarse enough to survive the reduction."""
    coarse = np.random.default_rng(seed).uniform(0, 255, (count, 30, 30))
    return np.kron(coarse, np.ones((1, 5, 5))).astype(np.float32)


def walk(count: int, seed: int, step: float = 0.35) -> NDArray[np.float32]:
    """Consecutive slices: each is like its neighbours, less so the next but one."""
    steps = noise(count, seed) - 127.5
    images = [steps[0]]
    for change in steps[1:]:
        images.append(images[-1] * np.sqrt(1 - step**2) + change * step)
    return (np.stack(images) + 127.5).astype(np.float32)


def ct_series(lengths: dict[int, list[int]]) -> tuple[Dataset, NDArray[np.float32], list[int]]:
    """Patients of so many slices a class, in file order: data set, images, patient of each."""
    records, images, patients = [], [], []
    for label, counts in lengths.items():
        number = 0
        for count in counts:
            images.append(walk(count, seed=len(images)))
            for _ in range(count):
                number += 1
                name = f"{label}/Slice ({number}).png"
                records.append(ImageRecord(Path(name), "ct", label, name))
                patients.append(len(images))
    dataset = dataclasses.replace(make_dataset((1, 1)), records=tuple(records), in_order=True)
    return dataset, np.concatenate(images), patients


def test_join_pairs_finds_connected_components() -> None:
    groups = join_pairs(7, [(0, 1), (5, 4), (1, 2), (4, 3), (3, 5)])
    assert groups.tolist() == [0, 0, 0, 3, 3, 3, 6]
    assert largest_group(groups) == 3
    assert largest_group(join_pairs(0, [])) == 0


def test_similarity_is_the_correlation() -> None:
    images = noise(3)
    images[1] = images[0] * 0.4 + 30  # brightness and contrast don't count
    signatures = compute_signatures(images)
    assert [(i, j) for i, j, _ in find_similar_pairs(signatures, 0.9)] == [(0, 1)]
    assert next(find_similar_pairs(signatures, 0.9))[2] == pytest.approx(1, abs=1e-5)
    assert not compute_signatures(np.full((1, 150, 150), 80, np.float32)).any()


def test_similar_pairs_in_blocks_are_those_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    signatures = compute_signatures(walk(40, 1))
    whole = [(i, j) for i, j, _ in find_similar_pairs(signatures, 0.7)]
    across = [(i, j) for i, j, _ in find_similar_across(signatures, signatures[:20], 0.7)]
    monkeypatch.setattr("covid_mm.datasets.similarity._ROWS", 7)
    assert sorted((i, j) for i, j, _ in find_similar_pairs(signatures, 0.7)) == sorted(whole)
    assert sorted((i, j) for i, j, _ in find_similar_across(signatures, signatures[:20], 0.7)) == sorted(
        across
    )
    assert len(whole) > 40


def test_slices_of_one_run_are_one_group() -> None:
    dataset, images, patients = ct_series({0: [9] * 8, 1: [7] * 9})
    groups = group_records(dataset, images)
    assert len(set(groups.tolist())) == 17
    assert len(set(zip(groups.tolist(), patients, strict=True))) == 17


def test_slices_between_two_alike_belong_to_them() -> None:
    dataset, images, _ = ct_series({0: [1] * 20, 1: [1] * 20})
    images[6] = images[3] + 0.1 * images[9]
    groups = group_records(dataset, images)
    assert groups[3:7].tolist() == [3] * 4
    assert len(set(groups.tolist())) == 37


def test_far_and_other_numbers_are_not_a_run() -> None:
    dataset, images, _ = ct_series({0: [1] * 20, 1: [1] * 20})
    images[12] = images[3] + 0.7 * images[9]  # correlation about 0.8, nine numbers apart
    assert len(set(group_records(dataset, images).tolist())) == 40
    images[12] = images[3]  # a copy is joined wherever it lies
    groups = group_records(dataset, images)
    assert groups[12] == groups[3]
    assert len(set(groups.tolist())) == 39


def test_without_file_order_only_copies_and_known_patients_are_joined() -> None:
    dataset, images, _ = ct_series({0: [9] * 4, 1: [9] * 4})
    unordered = dataclasses.replace(dataset, in_order=False)
    images = noise(len(images))
    images[5] = images[1]
    records = list(unordered.records)
    for position in (20, 30, 40):
        records[position] = dataclasses.replace(records[position], group="person7")
    groups = group_records(dataclasses.replace(unordered, records=tuple(records)), images)
    assert groups[5] == groups[1] == 1
    assert groups[20] == groups[30] == groups[40] == 20
    assert len(set(groups.tolist())) == len(images) - 3


def test_a_chain_of_strangers_does_not_become_one_group() -> None:
    """All of 60 images alike by 0.95: the thresholds rise until groups are small again."""
    dataset = make_dataset((30, 30))
    images = noise(60) * 0.22 + noise(1, seed=9)
    assert largest_group(join_pairs(60, _alike(images, 0.94))) == 60
    images[7] = images[2]
    groups = group_records(dataset, images)
    assert largest_group(groups) == 2
    assert groups[7] == groups[2]


def _alike(images: NDArray[np.float32], threshold: float) -> list[tuple[int, int]]:
    return [(i, j) for i, j, _ in find_similar_pairs(compute_signatures(images), threshold)]


@pytest.mark.parametrize("seed", range(3))
def test_no_group_is_on_both_sides_and_the_proportions_hold(seed: int) -> None:
    rng = np.random.default_rng(seed)
    dataset, images, _ = ct_series({label: rng.integers(1, 25, 18).tolist() for label in (0, 1)})
    config = DataConfig(split="grouped", seed=seed)
    groups = dict(zip(dataset.records, group_records(dataset, images), strict=True))
    split = split_dataset(dataset, config, images)
    assert not {groups[record] for record in split.train} & {groups[record] for record in split.validation}
    assert set(split.train) | set(split.validation) == set(dataset.records)
    for label, fraction in enumerate(TableI().train_fractions):
        share = count_labels(split.train)[label] / dataset.counts[label]
        assert share == pytest.approx(fraction, abs=0.03)
    assert split == split_dataset(dataset, config, images)
    assert split.hash != split_dataset(dataset, DataConfig(split="grouped", seed=seed + 9), images).hash


def test_patients_of_both_classes_stay_together() -> None:
    people = [f"person{number % 30}" for number in range(120)]
    dataset = make_dataset((60, 60), "xray", people)
    split = split_dataset(dataset, GROUPED, noise(120))
    train, validation = ({record.group for record in side} for side in (split.train, split.validation))
    assert not train & validation
    assert 34 <= len(split.validation) <= 42


def test_few_large_groups_leave_something_on_each_side() -> None:
    dataset = make_dataset((50, 50), "xray", ["a"] * 25 + ["b"] * 25 + ["c"] * 30 + ["d"] * 20)
    split = split_dataset(dataset, GROUPED, noise(100))
    assert all(count_labels(split.train))
    assert all(count_labels(split.validation))


def test_one_group_for_a_class_is_an_error() -> None:
    dataset = make_dataset((50, 50), "xray", ["a"] * 50 + [None] * 50)
    with pytest.raises(DataError, match="class normal"):
        split_dataset(dataset, GROUPED, noise(100))


def test_the_split_does_not_depend_on_the_size_of_the_images(tmp_path: Path) -> None:
    images = walk(24, 3).clip(0, 255).round().astype(np.uint8)
    records = []
    for number, image in enumerate(images):
        path = tmp_path / f"{number}.png"
        Image.fromarray(image).save(path)
        records.append(ImageRecord(path, "ct", number % 2, path.name))
    dataset = dataclasses.replace(make_dataset((1, 1)), records=tuple(records), in_order=True)
    given = split_dataset(dataset, GROUPED, images.astype(np.float32))
    assert split_dataset(dataset, GROUPED).hash == given.hash
    assert split_dataset(dataset, GROUPED, np.zeros((24, 96, 96), np.float32)).hash == given.hash
