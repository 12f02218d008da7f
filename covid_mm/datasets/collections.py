"""Which collections lie under a folder: each can be trained on, or left out and measured on."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from covid_mm.config import CLASSES, MODALITIES, DataConfig, Modality
from covid_mm.datasets.coronahack import find_coronahack
from covid_mm.datasets.folders import find_class_folders, find_plain_folders
from covid_mm.datasets.index import Collection, CollectionImage, Dataset, walk_folders
from covid_mm.datasets.manifest import MANIFEST, NotOurManifest, RowProblem, read_manifest
from covid_mm.datasets.sarscov2 import find_sarscov2
from covid_mm.datasets.siim import IMAGES, is_siim, read_siim
from covid_mm.errors import DataError

__all__ = [
    "Collection",
    "CollectionImage",
    "CollectionReading",
    "find_collections",
    "find_external",
    "read_collections",
    "site_groups",
]

SOURCES = "sources"  # a folder of collections, beside those that lie right under the root
EVALUATION_ONLY = "external-"  # folders of such names are measured on, never collected
_NAMED_AT_MOST = 20


@dataclass(frozen=True)
class CollectionReading:
    """What reading one folder gave: a collection, or the reason why there is none, and its rows' problems.

    file: the table that the rows are numbered in, relative to the root. skipped: no collection is
    meant to be here, `error` says why. is_layout: it is one of what `find_datasets` finds.
    """

    file: str
    collection: Collection | None
    problems: tuple[tuple[str, RowProblem], ...] = ()
    error: str = ""
    skipped: bool = False
    is_layout: bool = False


def find_collections(root: Path, config: DataConfig | None = None) -> dict[Modality, tuple[Collection, ...]]:
    """The collections under `root`, a modality each time, possibly none of one.

    Recognised are folders with a `manifest.csv` at, right under, or under `sources/` of the root, the
    Kaggle layout of SIIM-FISABIO-RSNA in the same places, and what `find_datasets` finds (names
    `sarscov2-ct`, `coronahack`, `folder-ct`, `folder-xray`). Folders named `external-...` are left out.
    config: which CoronaHack films; by default all of them.

    Raises:
        DataError: `root` is no folder, holds no collection, two of one name, or rows that are wrong:
            all of them are named, up to 20.
    """
    readings = read_collections(root, config)
    wrong = [
        f"{reading.file}: {reading.error}" for reading in readings if reading.error and not reading.skipped
    ]
    wrong += [
        f"{file}, row {problem.row}{f', {problem.column}' if problem.column else ''}: {problem.message}"
        for reading in readings
        for file, problem in reading.problems
    ]
    if wrong:
        more = f"\n  and {len(wrong) - _NAMED_AT_MOST} more" if len(wrong) > _NAMED_AT_MOST else ""
        raise DataError(
            f"{len(wrong)} {'problem' if len(wrong) == 1 else 'problems'} in the collections of {root}; repair"
            " them, python -m covid_mm check-data lists all:\n  " + "\n  ".join(wrong[:_NAMED_AT_MOST]) + more
        )
    collections = [reading.collection for reading in readings if reading.collection is not None]
    if not collections:
        raise DataError(
            f"No collection was found in {root}: expected folders with a {MANIFEST}, or one of the layouts in"
            " docs/data.md."
        )
    return {
        modality: tuple(collection for collection in collections if collection.modality == modality)
        for modality in MODALITIES
    }


def find_external(folder: Path, modality: Modality) -> Dataset:
    """The images of one modality in a folder that is only measured on: a collection's, or two class folders.

    Raises:
        DataError: it is neither, or lacks one of the classes.
    """
    if not is_siim(folder) and not (folder / MANIFEST).is_file():
        return find_class_folders(folder, modality)
    try:
        return find_class_folders(folder, modality)  # with a table of its own beside them
    except DataError:
        collections = find_collections(folder)[modality]
    if len(collections) != 1 or not collections[0].has_both_classes:
        raise DataError(
            f"{folder.name} holds no collection of {MODALITIES[modality].title} images with both classes; name a"
            " folder that does, or one with two class folders."
        )
    return collections[0].to_dataset()


def read_collections(root: Path, config: DataConfig | None = None) -> tuple[CollectionReading, ...]:
    """As `find_collections`, but with each folder's problems instead of an error for all.

    Raises:
        DataError: `root` is no folder.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"The data folder {root} does not exist; give the folder that holds the collections.")
    config = config or DataConfig(balance=False)
    readings: list[CollectionReading] = []
    taken: list[Path] = []
    for folder in _list_candidates(root):
        if folder != root and folder.name.startswith(EVALUATION_ONLY):
            path = folder.relative_to(root).as_posix()
            readings.append(CollectionReading(path, None, error="left out: to measure on only", skipped=True))
        elif is_siim(folder):
            taken.append(folder)
            readings.append(_read_siim(folder, root))
        elif (folder / MANIFEST).is_file():
            reading = _read_manifest(folder, root)
            readings.append(reading)
            if not reading.skipped:
                taken.append(folder)
    readings = [*_read_layouts(root, config, taken), *readings]
    return tuple(_refuse_doubles(readings))


def site_groups(collection: Collection, count: int = 3) -> dict[str, int]:
    """Each site's group, 0 to `count` - 1: groups of about equally many labelled images, both classes in each.

    Deterministic: the largest site first, each into the smallest group. Images without a site, "",
    belong to the last group.

    Raises:
        DataError: there are too few sites, or too few with one of the classes.
    """
    counts: dict[str, list[int]] = {}
    for image in collection.images:
        tally = counts.setdefault(image.site, [0, 0])
        if image.label is not None:
            tally[image.label] += 1
    if count < 1 or len(counts.keys() - {""}) < count:
        raise DataError(
            f"{collection.name} can't be dealt into {count} groups of sites: it names {len(counts.keys() - {''})}."
        )
    groups: dict[str, int] = {}
    loads = [0] * count
    if "" in counts:
        groups[""] = count - 1
        loads[-1] = sum(counts[""])
    for site in sorted(counts.keys() - {""}, key=lambda name: (-sum(counts[name]), name)):
        groups[site] = min(range(count), key=lambda group: (loads[group], group))
        loads[groups[site]] += sum(counts[site])
    _spread_classes(groups, counts, count, collection.name)
    return groups


def _spread_classes(groups: dict[str, int], counts: dict[str, list[int]], count: int, name: str) -> None:
    """Move the smallest sites that mend it into groups without one of the classes."""

    def holders(group: int, label: int) -> list[str]:
        return [site for site, own in groups.items() if own == group and counts[site][label]]

    for group in range(count):
        for label in range(len(CLASSES)):
            if holders(group, label):
                continue
            movable = [
                site
                for other in range(count)
                if other != group
                for site in holders(other, label)
                if site
                and all(holders(other, kind) != [site] for kind in range(len(CLASSES)) if counts[site][kind])
            ]
            if not movable:
                raise DataError(
                    f"{name} can't be dealt into {count} groups of sites that hold both classes: too few sites have"
                    f" images of the class {CLASSES[label]}; take fewer groups."
                )
            groups[min(movable, key=lambda one: (sum(counts[one]), one))] = group


def _list_candidates(root: Path) -> Iterator[Path]:
    yield root
    for parent in (root, root / SOURCES):
        if parent.is_dir():
            folders = walk_folders(parent, depth=1)
            next(folders)
            yield from folders


def _read_manifest(folder: Path, root: Path) -> CollectionReading:
    file = (folder / MANIFEST).relative_to(root).as_posix()
    try:
        collection, problems = read_manifest(folder / MANIFEST, root)
    except NotOurManifest as error:
        return CollectionReading(file, None, error=str(error), skipped=True)
    except DataError as error:
        return CollectionReading(file, None, error=str(error))
    if not collection.images and not problems:
        return CollectionReading(file, None, error="lists no image; add a row per image")
    return CollectionReading(file, collection, tuple((file, problem) for problem in problems))


def _read_siim(folder: Path, root: Path) -> CollectionReading:
    prefix = folder.relative_to(root)
    file = (prefix / IMAGES).as_posix()
    try:
        collection, problems = read_siim(folder, root)
    except DataError as error:
        return CollectionReading(file, None, error=str(error))
    return CollectionReading(
        file, collection, tuple(((prefix / part.file).as_posix(), part.problem) for part in problems)
    )


def _read_layouts(root: Path, config: DataConfig, taken: list[Path]) -> Iterator[CollectionReading]:
    """The two Kaggle sets and the plain folders, but for what lies in folders that were taken already."""
    folders = [
        folder
        for folder in walk_folders(root)
        if not any(part.startswith(EVALUATION_ONLY) for part in folder.relative_to(root).parts)
        and not any(other == folder or other in folder.parents for other in taken if other != root)
    ]
    finders: tuple[tuple[str, Callable[[], list[Dataset]]], ...] = (
        ("sarscov2-ct", lambda: find_sarscov2(folders, config)),
        ("coronahack", lambda: find_coronahack(folders, config)),
        ("folder", lambda: find_plain_folders(folders)),
    )
    for name, find in finders:
        try:
            datasets = find()
        except DataError as error:
            yield CollectionReading(name, None, error=str(error), is_layout=True)
            continue
        for dataset in datasets:
            if any(other in dataset.records[0].path.parents for other in taken if other != root):
                continue
            title = f"{name}-{dataset.modality}" if name == "folder" else name
            path = Path(os.path.commonpath([record.path for record in dataset.records])).relative_to(root)
            yield CollectionReading(path.as_posix(), _from_dataset(title, dataset, root), is_layout=True)


def _from_dataset(name: str, dataset: Dataset, root: Path) -> Collection:
    return Collection(
        name=name,
        modality=dataset.modality,
        images=tuple(
            CollectionImage(
                path=record.path,
                name=record.path.relative_to(root).as_posix(),
                modality=record.modality,
                label=record.label,
                patient=record.group or "",
                site=record.source or "",
            )
            for record in dataset.records
        ),
        title=dataset.name,
        source=dataset.source,
        licence=dataset.licence,
        in_order=dataset.in_order,
    )


def _refuse_doubles(readings: list[CollectionReading]) -> Iterator[CollectionReading]:
    """Two collections of one name could not be told apart: the later one is an error."""
    files: dict[str, str] = {}
    for reading in readings:
        if reading.collection is not None:
            first = files.setdefault(reading.collection.name, reading.file)
            if first != reading.file:
                message = (
                    f"{first} is a collection named {reading.collection.name} already; rename or remove one."
                )
                reading = dataclasses.replace(reading, collection=None, error=message)
        yield reading
