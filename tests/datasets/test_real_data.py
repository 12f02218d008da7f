"""The real data sets, where COVID_MM_DATA names them."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from covid_mm.config import DataConfig, Modality
from covid_mm.datasets import Dataset, audit_split, find_datasets, group_records, load_images, split_dataset
from covid_mm.datasets.index import count_labels

pytestmark = pytest.mark.real_data
Loaded = dict[Modality, tuple[Dataset, NDArray[np.float32]]]


@pytest.fixture(scope="module")
def loaded(real_data: Path) -> Loaded:
    datasets = find_datasets(real_data, DataConfig())
    return {modality: (dataset, load_images(dataset.records)) for modality, dataset in datasets.items()}


def test_all_images_are_found(real_data: Path) -> None:
    datasets = find_datasets(real_data, DataConfig(balance=False))
    assert {modality: dataset.counts for modality, dataset in datasets.items()} == {
        "ct": (1229, 1252),
        "xray": (1342, 3937),
    }
    covid19 = find_datasets(real_data, DataConfig(balance=False, positives="covid-19"))
    assert covid19["xray"].counts == (1342, 51)


def test_the_papers_split(loaded: Loaded) -> None:
    counts = {}
    for modality, (dataset, images) in loaded.items():
        assert images.min() >= 0
        assert images.max() <= 255
        split = split_dataset(dataset, DataConfig())
        counts[modality] = (count_labels(split.train), count_labels(split.validation))
    assert counts == {"ct": ((874, 863), (355, 389)), "xray": ((884, 866), (359, 391))}


@pytest.mark.parametrize("modality", ["ct", "xray"])
def test_the_grouped_split_shares_nothing(modality: Modality, loaded: Loaded) -> None:
    dataset, images = loaded[modality]
    started = time.perf_counter()
    split = split_dataset(dataset, DataConfig(split="grouped"), images)
    assert time.perf_counter() - started < 20
    rows = {record.name: row for row, record in enumerate(dataset.records)}
    train, validation = ([rows[record.name] for record in side] for side in (split.train, split.validation))
    groups = group_records(dataset, images)
    assert not set(groups[train]) & set(groups[validation])
    assert np.unique(groups, return_counts=True)[1].max() < 0.05 * len(groups)
    audit = audit_split(split, images[train], images[validation], modality)
    assert (audit.exact_duplicates, audit.near_duplicates, audit.shared_patients) == ((), (), ())
    share = len(split.train) / len(dataset.records)
    assert share == pytest.approx(0.7, abs=0.03)


def test_the_papers_split_shares_patients_and_the_audit_says_so(loaded: Loaded) -> None:
    findings = {}
    for modality, (dataset, images) in loaded.items():
        split = split_dataset(dataset, DataConfig())
        rows = {record.name: row for row, record in enumerate(dataset.records)}
        sides = [images[[rows[r.name] for r in side]] for side in (split.train, split.validation)]
        findings[modality] = audit_split(split, *sides, modality)
    assert len(findings["ct"].near_duplicates) > 100
    assert len(findings["xray"].shared_patients) > 100
    assert findings["ct"].unknown_patients == 2481
