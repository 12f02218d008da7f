"""Records, data sets and collections, and what finding them under a root folder needs."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from covid_mm.config import CLASSES, Modality, TableI
from covid_mm.errors import DataError

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg"})
SEARCH_DEPTH = 3  # folders below the root: Kaggle's archives put up to two of the same name around one


@dataclass(frozen=True)
class ImageRecord:
    """One image of a data set.

    label: index into CLASSES. name: posix path within its data set, the same on every machine.
    group: patient or study, None where it is not known. source: hospital or collection that it came
    from, None where it is not known.
    """

    path: Path
    modality: Modality
    label: int
    name: str
    group: str | None = None
    source: str | None = None


@dataclass(frozen=True)
class Dataset:
    """All images of one modality, with what a reader must know about them.

    records: in an order that depends on names only. source: where the images come from. in_order:
    images whose file numbers are close are often of one patient.
    """

    name: str
    modality: Modality
    records: tuple[ImageRecord, ...]
    licence: str
    caveats: tuple[str, ...]
    source: str
    in_order: bool = False

    @property
    def counts(self) -> tuple[int, int]:
        """Images per class, in the order of CLASSES."""
        return count_labels(self.records)


@dataclass(frozen=True)
class CollectionImage:
    """One image of a collection; "", None and () mean not known.

    name: posix path below the folder that was searched, unique there. label: index into CLASSES, None
    for `other`: neither class. site: hospital or scanner. boxes: x0, y0, x1, y1 of opacities, fractions
    of width and height. lesion_mask, lung_mask: files of 0 and 255 in the image's frame.
    row: of the table that lists it, as a spreadsheet numbers it; 0 without a table.
    """

    path: Path
    name: str
    modality: Modality
    label: int | None
    patient: str = ""
    site: str = ""
    view: str = ""
    boxes: tuple[tuple[float, float, float, float], ...] = ()
    lesion_mask: Path | None = None
    lung_mask: Path | None = None
    row: int = 0


@dataclass(frozen=True)
class Collection:
    """Images of one modality from one place, which training can learn from or leave out as a whole.

    source: where it comes from, in words. in_order: as in Dataset.
    """

    name: str
    modality: Modality
    images: tuple[CollectionImage, ...]
    title: str
    source: str
    licence: str
    in_order: bool = False

    @property
    def counts(self) -> tuple[int, int, int]:
        """Normal, positive and other images."""
        labels = [image.label for image in self.images]
        return (labels.count(0), labels.count(1), labels.count(None))

    @property
    def has_both_classes(self) -> bool:
        """Whether it holds normal and positive images."""
        return min(self.counts[:2]) > 0

    def to_dataset(self) -> Dataset:
        """The labelled images as a data set: patient as group, site as source."""
        return Dataset(
            name=self.title,
            modality=self.modality,
            records=tuple(
                ImageRecord(
                    image.path,
                    self.modality,
                    image.label,
                    image.name,
                    image.patient or None,
                    image.site or self.name,
                )
                for image in self.images
                if image.label is not None
            ),
            licence=self.licence,
            caveats=(),
            source=self.source,
            in_order=self.in_order,
        )


def count_labels(records: Iterable[ImageRecord]) -> tuple[int, int]:
    """Images per class, in the order of CLASSES."""
    labels = [record.label for record in records]
    return (labels.count(0), labels.count(1))


def natural_key(name: str) -> tuple[tuple[int, str], ...]:
    """Sort key by which `Covid (10)` follows `Covid (9)`."""
    parts = ((int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name))
    return (*parts, (-2, name))


def list_images(folder: Path) -> list[Path]:
    """The PNG and JPEG files right in `folder`, naturally sorted; hidden and empty files are left out."""
    try:
        with os.scandir(folder) as entries:
            names = [
                entry.name
                for entry in entries
                if not entry.name.startswith(".")
                and os.path.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES
                and entry.is_file()
                and entry.stat().st_size > 0
            ]
    except OSError:
        return []
    return [folder / name for name in sorted(names, key=natural_key)]


def walk_folders(root: Path, depth: int = SEARCH_DEPTH) -> Iterator[Path]:
    """`root` and the folders below it, nearest first, without hidden ones and `__MACOSX`."""
    level = [root]
    for _ in range(depth + 1):
        yield from level
        level = [child for folder in level for child in _list_folders(folder)]


def child_folder(folder: Path, name: str) -> Path | None:
    """The folder of exactly this name, letter case included on every file system."""
    return next((child for child in _list_folders(folder) if child.name == name), None)


def rank_by_seed(records: Sequence[ImageRecord], seed: int, purpose: str) -> list[int]:
    """Positions of `records` in a random order that depends on seed, purpose and names only.

    A hash instead of a generator: the order of the files and numpy's version don't matter, and a
    file more or less leaves the others where they are.
    """

    def key(position: int) -> bytes:
        return hashlib.sha256(f"{purpose}/{seed}/{records[position].name}".encode()).digest()

    return sorted(range(len(records)), key=key)


def choose_balanced(
    records: tuple[ImageRecord, ...], seed: int, *, proportional: bool, table: TableI | None = None
) -> tuple[ImageRecord, ...]:
    """A seeded choice of at most Table I's 1,243 normal and 1,257 positive images, order kept.

    proportional: where one class has fewer, take so many fewer of the other too.
    """
    totals = (table or TableI()).totals
    counts = count_labels(records)
    share = min(1.0, *(have / want for have, want in zip(counts, totals, strict=True)))
    chosen: set[int] = set()
    for label in range(len(CLASSES)):
        count = round(totals[label] * share) if proportional else totals[label]
        order = [i for i in rank_by_seed(records, seed, "choice") if records[i].label == label]
        chosen.update(order[:count])
    return tuple(record for i, record in enumerate(records) if i in chosen)


def require_both_classes(records: Iterable[ImageRecord], where: str) -> None:
    """Refuse a data set in which a class has no image.

    Raises:
        DataError: naming the missing class.
    """
    for name, count in zip(CLASSES, count_labels(records), strict=True):
        if count == 0:
            raise DataError(f"{where} holds no image of the class {name}; both classes are needed.")


def _list_folders(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            names = [
                entry.name
                for entry in entries
                if not entry.name.startswith(".") and entry.name != "__MACOSX" and entry.is_dir()
            ]
    except OSError:
        return []
    return [folder / name for name in sorted(names, key=natural_key)]
