"""Which images train and which validate, and keeping that decision in a file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covid_mm.config import CLASSES, DataConfig, Modality, SplitProtocol, TableI
from covid_mm.datasets.grouping import group_records
from covid_mm.datasets.index import Dataset, ImageRecord, count_labels, rank_by_seed
from covid_mm.errors import DataError, UsageError
from covid_mm.files import write_atomically

FORMAT = 1  # of the file that save_split writes


@dataclass(frozen=True)
class Split:
    """The two sides, each in the data set's order."""

    protocol: SplitProtocol
    seed: int
    train: tuple[ImageRecord, ...]
    validation: tuple[ImageRecord, ...]

    @property
    def hash(self) -> str:
        """SHA-256 over the sorted names with their sides: equal for equal splits on any machine."""
        lines = [f"train\t{record.name}" for record in self.train]
        lines += [f"validation\t{record.name}" for record in self.validation]
        return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Protocol, seed, hash, counts per class and the two file lists, for JSON."""
        return {
            "protocol": self.protocol,
            "seed": self.seed,
            "hash": self.hash,
            "counts": {
                side: dict(zip(CLASSES, count_labels(records), strict=True))
                for side, records in (("train", self.train), ("validation", self.validation))
            },
            "train": [record.name for record in self.train],
            "validation": [record.name for record in self.validation],
        }


def split_dataset(dataset: Dataset, config: DataConfig, images: NDArray[np.float32] | None = None) -> Split:
    """Divide a data set by `config.split` and `config.seed`.

    `paper`: each class at random, in Table I's proportions (884 of 1,243 and 866 of 1,257 train),
    so that 1,750 train and 750 validate where there are 2,500. Patients fall on both sides.

    `grouped`: the same proportions as nearly as the groups allow, with every group of
    `grouping.group_records` (patients, near-identical images, runs of CT slices) on one side.
    images: what `load_images` gives for the data set's records, read by this protocol only; where
    it is absent or not at 150 x 150, the files are decoded again.

    Raises:
        DataError: where a class has too few images, or groups, for two sides.
    """
    if config.split == "paper":
        trains = _choose_by_class(dataset, config.seed)
    elif config.split == "grouped":
        trains = _choose_by_group(dataset, config.seed, group_records(dataset, images))
    else:
        raise UsageError(f"Split {config.split!r} is not known; expected paper or grouped.")
    records = dataset.records
    return Split(
        protocol=config.split,
        seed=config.seed,
        train=tuple(record for i, record in enumerate(records) if i in trains),
        validation=tuple(record for i, record in enumerate(records) if i not in trains),
    )


def save_split(path: Path, splits: Mapping[Modality, Split]) -> None:
    """Write the file lists of all modalities as JSON."""
    content = {"format": FORMAT, "splits": {name: split.to_dict() for name, split in splits.items()}}
    write_atomically(path, (json.dumps(content, indent=1) + "\n").encode())


def load_split(path: Path, datasets: Mapping[Modality, Dataset]) -> dict[Modality, Split]:
    """Read what save_split wrote, with the records of `datasets` (found with the same DataConfig).

    Raises:
        DataError: where the file is missing, malformed, changed, or names images that are not there.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise DataError(f"{path.name} is a split file of format {content['format']}; expected {FORMAT}.")
        return {
            modality: _restore(path.name, modality, entry, datasets)
            for modality, entry in content["splits"].items()
        }
    except OSError as error:
        raise DataError(f"The split file {path.name} can't be read: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path.name} is not a split file, or is damaged; make the split again.") from error


def _restore(file: str, modality: str, entry: dict[str, Any], datasets: Mapping[Modality, Dataset]) -> Split:
    dataset = next((candidate for name, candidate in datasets.items() if name == modality), None)
    if dataset is None:
        raise DataError(f"{file} splits {modality} images, but none were found; give the folder with them.")
    by_name = {record.name: record for record in dataset.records}
    names = [*entry["train"], *entry["validation"]]
    absent = [name for name in names if name not in by_name]
    if absent:
        raise DataError(
            f"{file} names {len(absent)} {modality} images that are not among those found (the first:"
            f" {absent[0]}); use the data and options that it was made with."
        )
    split = Split(
        protocol=entry["protocol"],
        seed=int(entry["seed"]),
        train=tuple(by_name[name] for name in entry["train"]),
        validation=tuple(by_name[name] for name in entry["validation"]),
    )
    if len(set(names)) != len(names) or split.hash != entry["hash"]:
        raise DataError(f"{file} was changed after it was written: its hash does not match; split again.")
    return split


def _choose_by_class(dataset: Dataset, seed: int) -> set[int]:
    """Positions that train under the paper's protocol."""
    records = dataset.records
    order = rank_by_seed(records, seed, "split")
    trains: set[int] = set()
    for label, count in enumerate(_count_training(dataset)):
        trains.update([position for position in order if records[position].label == label][:count])
    return trains


def _choose_by_group(dataset: Dataset, seed: int, groups: NDArray[np.int64]) -> set[int]:
    """Positions that train when whole groups are dealt out.

    Groups come in a seeded order, twice: first one validates where it fits into what Table I's
    proportions leave open in each class, then where it brings the counts nearer to them.
    """
    records = dataset.records
    labels = np.array([record.label for record in records])
    members: dict[int, list[int]] = {}
    for position in rank_by_seed(records, seed, "split"):
        members.setdefault(int(groups[position]), []).append(position)
    sizes = {
        group: np.bincount(labels[positions], minlength=len(CLASSES)) for group, positions in members.items()
    }
    totals = np.bincount(labels, minlength=len(CLASSES))
    missing = totals - np.array(_count_training(dataset))  # still to be validated, a class
    validates: set[int] = set()
    for exactly in (True, False):
        for group, size in sizes.items():
            fits = (size <= missing).all() or not exactly
            if group not in validates and fits and np.abs(missing - size).sum() < np.abs(missing).sum():
                validates.add(group)
                missing = missing - size
    for label, name in enumerate(CLASSES):
        of_class = [group for group in sizes if sizes[group][label]]
        if not any(group in validates for group in of_class):
            validates.add(min(of_class, key=lambda group: int(sizes[group].sum())))
        if all(group in validates for group in of_class):
            raise DataError(
                f"{dataset.name} can't be split by groups: {len(of_class)} group of images that belong"
                f" together hold all of the class {name}; use the paper's split or more patients."
            )
    return {p for group, positions in members.items() if group not in validates for p in positions}


def _count_training(dataset: Dataset) -> list[int]:
    """Training images per class by Table I's proportions, at least one on each side."""
    counts = []
    for label, (count, fraction) in enumerate(zip(dataset.counts, TableI().train_fractions, strict=True)):
        if count < 2:
            raise DataError(
                f"{dataset.name} has {count} image of the class {CLASSES[label]}; a split needs at least 2"
                " of each class."
            )
        counts.append(min(max(round(count * fraction), 1), count - 1))
    return counts
