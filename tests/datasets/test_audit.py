from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from trees import make_dataset

from covid_mm.config import DataConfig
from covid_mm.datasets import ImageRecord, Split, audit_split, split_dataset
from covid_mm.datasets.audit import tally_sources

PLANTED = 10


def noise(count: int, seed: int) -> NDArray[np.float32]:
    coarse = np.random.default_rng(seed).uniform(0, 255, (count, 30, 30))
    return np.kron(coarse, np.ones((1, 5, 5))).astype(np.float32)


@pytest.fixture
def planted() -> tuple[Split, NDArray[np.float32], NDArray[np.float32]]:
    """60 single-film patients, 10 copied images and 10 shared patients across the split."""
    dataset = make_dataset((30, 30), "xray", [f"person{number}" for number in range(60)])
    split = split_dataset(dataset, DataConfig())
    train, validation = noise(len(split.train), 1), noise(len(split.validation), 2)
    validation[:PLANTED] = train[5 : 5 + PLANTED]
    shared = tuple(
        dataclasses.replace(record, group=split.train[20 + number].group) if number < PLANTED else record
        for number, record in enumerate(split.validation[::-1])
    )[::-1]
    return dataclasses.replace(split, validation=shared), train, validation


def test_ten_copies_and_ten_patients_are_twenty_findings(
    planted: tuple[Split, NDArray[np.float32], NDArray[np.float32]],
) -> None:
    split, train, validation = planted
    audit = audit_split(split, train, validation, "xray")
    assert len(audit.exact_duplicates) + len(audit.shared_patients) == 2 * PLANTED
    assert {(pair.train, pair.validation) for pair in audit.exact_duplicates} == {
        (split.train[5 + number].name, split.validation[number].name) for number in range(PLANTED)
    }
    assert [patient.group for patient in audit.shared_patients] == sorted(
        str(record.group) for record in split.train[20 : 20 + PLANTED]
    )
    assert all((patient.train, patient.validation) == (1, 1) for patient in audit.shared_patients)
    assert audit.near_duplicates == ()
    assert audit.unknown_patients == 0


def test_near_copies_are_found_apart_from_exact_ones(
    planted: tuple[Split, NDArray[np.float32], NDArray[np.float32]],
) -> None:
    split, train, validation = planted
    validation[:4] = train[5:9] * 0.9 + 10 + noise(4, 3) * 0.05
    audit = audit_split(split, train, validation, "xray")
    assert len(audit.exact_duplicates) == PLANTED - 4
    assert {pair.validation for pair in audit.near_duplicates} == {
        record.name for record in split.validation[:4]
    }
    similarities = [pair.similarity for pair in audit.near_duplicates]
    assert similarities == sorted(similarities, reverse=True)
    assert 0.98 <= min(similarities) <= max(similarities) < 1


def test_a_clean_split_has_no_findings() -> None:
    split = split_dataset(make_dataset((30, 30)), DataConfig())
    audit = audit_split(split, noise(len(split.train), 1), noise(len(split.validation), 2), "ct")
    assert (audit.exact_duplicates, audit.near_duplicates, audit.shared_patients) == ((), (), ())
    assert audit.unknown_patients == 60


def test_the_findings_are_plain_json(
    planted: tuple[Split, NDArray[np.float32], NDArray[np.float32]],
) -> None:
    content = json.loads(json.dumps(audit_split(*planted, "xray").to_dict()))
    assert len(content["exact_duplicates"]) == PLANTED
    assert content["shared_patients"][0]["validation"] == 1
    assert content["sources"]["counts"] == {"not known": {"normal": 30, "covid19_pneumonia": 30}}


def films(source: str | None, normal: int, positive: int) -> list[ImageRecord]:
    return [
        ImageRecord(Path("a.png"), "xray", label, f"{source}{label}{number}", source=source)
        for label, count in enumerate((normal, positive))
        for number in range(count)
    ]


def test_a_source_that_gives_the_class_away() -> None:
    tally = tally_sources(films("hospital A", 40, 0) + films("hospital B", 0, 40))
    assert tally.counts == {"hospital A": (40, 0), "hospital B": (0, 40)}
    assert tally.one_sided == ("hospital A", "hospital B")
    assert tally.guess_accuracy == 1
    assert tally.majority_accuracy == 0.5


def test_a_source_that_tells_nothing() -> None:
    tally = tally_sources(films("hospital A", 30, 20) + films(None, 15, 10))
    assert tally.one_sided == ()
    assert tally.guess_accuracy == tally.majority_accuracy == 0.6
    assert tally_sources([]).guess_accuracy == 0
