from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from trees import make_dataset

from covid_mm.config import DataConfig
from covid_mm.datasets import load_split, save_split, split_dataset
from covid_mm.datasets.index import count_labels
from covid_mm.errors import DataError, UsageError

PAPER = DataConfig()


@pytest.mark.parametrize(
    ("counts", "train", "validation"),
    [
        ((1243, 1257), (884, 866), (359, 391)),  # Table I: 1,750 and 750
        ((1229, 1252), (874, 863), (355, 389)),  # the CT data set as Kaggle has it
        ((40, 40), (28, 28), (12, 12)),
        ((3, 2), (2, 1), (1, 1)),
    ],
)
def test_paper_counts(counts: tuple[int, int], train: tuple[int, int], validation: tuple[int, int]) -> None:
    dataset = make_dataset(counts)
    split = split_dataset(dataset, PAPER)
    assert count_labels(split.train) == train
    assert count_labels(split.validation) == validation
    assert set(split.train) | set(split.validation) == set(dataset.records)
    assert not set(split.train) & set(split.validation)


def test_the_seed_decides_and_the_order_of_files_does_not() -> None:
    dataset = make_dataset((50, 50))
    split = split_dataset(dataset, PAPER)
    assert split_dataset(dataset, PAPER) == split
    assert split_dataset(dataset, DataConfig(seed=1)).hash != split.hash
    turned = dataclasses.replace(dataset, records=dataset.records[::-1])
    assert split_dataset(turned, PAPER).hash == split.hash
    assert split.train == tuple(record for record in dataset.records if record in set(split.train))


def test_the_hash_is_the_same_on_every_machine() -> None:
    """Published with each checkpoint: it may not change with Python, numpy or this code."""
    digest = "728dd5288720916c0b8a47f4036ed014fb746ab68a1ecc70843e73350ffaf8b9"
    assert split_dataset(make_dataset((5, 4)), PAPER).hash == digest


@pytest.mark.parametrize("protocol", ["paper", "grouped"])
def test_too_few_images_are_an_error(protocol: str) -> None:
    with pytest.raises(DataError, match="1 image of the class normal"):
        split_dataset(make_dataset((1, 9)), DataConfig(split=protocol), np.zeros((10, 150, 150), np.float32))  # type: ignore[arg-type]


def test_an_unknown_protocol_is_an_error() -> None:
    with pytest.raises(UsageError, match="paper or grouped"):
        split_dataset(make_dataset((9, 9)), DataConfig(split="random"))  # type: ignore[arg-type]


def test_saved_and_loaded(tmp_path: Path) -> None:
    datasets = {"ct": make_dataset((9, 9), "ct"), "xray": make_dataset((7, 8), "xray")}
    splits = {modality: split_dataset(dataset, PAPER) for modality, dataset in datasets.items()}
    save_split(tmp_path / "split.json", splits)  # type: ignore[arg-type]
    assert load_split(tmp_path / "split.json", datasets) == splits  # type: ignore[arg-type]
    assert [path.name for path in tmp_path.iterdir()] == ["split.json"]
    content = json.loads((tmp_path / "split.json").read_text())["splits"]["ct"]
    assert content["counts"]["train"] == {"normal": 6, "covid19_pneumonia": 6}
    assert content["hash"] == splits["ct"].hash


def _move_one(content: dict) -> None:
    content["splits"]["ct"]["validation"].append(content["splits"]["ct"]["train"].pop())


def _repeat_one(content: dict) -> None:
    content["splits"]["ct"]["train"].append(content["splits"]["ct"]["train"][0])


def _rename_one(content: dict) -> None:
    content["splits"]["ct"]["train"][0] = "0/absent.png"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_move_one, "hash does not match"),
        (_repeat_one, "hash does not match"),
        (_rename_one, "0/absent.png"),
        (lambda content: content.update(format=99), "format 99"),
        (lambda content: content.pop("splits"), "not a split file"),
        (lambda content: content["splits"].update(xray=content["splits"]["ct"]), "none were found"),
        (lambda content: content["splits"].update(ct=[1]), "not a split file"),
    ],
)
def test_a_changed_file_is_noticed(change: Callable[[dict], None], words: str, tmp_path: Path) -> None:
    datasets = {"ct": make_dataset((9, 9))}
    path = tmp_path / "split.json"
    save_split(path, {"ct": split_dataset(datasets["ct"], PAPER)})
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=words):
        load_split(path, datasets)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "[]", "{", "null", "\x00"])
def test_a_file_of_something_else_is_an_error(text: str, tmp_path: Path) -> None:
    path = tmp_path / "split.json"
    path.write_text(text)
    with pytest.raises(DataError, match="not a split file"):
        load_split(path, {})
    with pytest.raises(DataError, match="can't be read"):
        load_split(tmp_path / "absent.json", {})
