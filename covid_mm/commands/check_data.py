"""List the collections in a folder, what is wrong with them row by row, and what could mislead a network."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from covid_mm.commands import USER_ERROR
from covid_mm.config import CLASSES, MODALITIES, MODALITY_TITLES, Modality
from covid_mm.datasets.collection_audit import CollectionAudit, NearCopies, audit_collections, check_images
from covid_mm.datasets.collections import Collection, CollectionReading, read_collections
from covid_mm.datasets.manifest import OTHER
from covid_mm.errors import DataError

SHOWN = 5  # examples of each finding that are printed; --json has all
_COLUMNS = (
    "collection",
    "kind",
    "normal",
    "COVID-19",
    "other",
    "patients",
    "sites",
    "boxes",
    "lesions",
    "lungs",
)


@dataclass(frozen=True)
class DataCheck:
    """What `check-data` found: problems are (file, row or 0, column, message)."""

    collections: tuple[Collection, ...]
    problems: tuple[tuple[str, int, str, str], ...]
    skipped: tuple[tuple[str, str], ...]
    audits: dict[Modality, CollectionAudit]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "collections": [_summarise(collection) for collection in self.collections],
            "problems": [
                dict(zip(("file", "row", "column", "message"), problem, strict=True))
                for problem in self.problems
            ],
            "skipped": [{"file": file, "reason": reason} for file, reason in self.skipped],
            "audit": {modality: audit.to_dict() for modality, audit in self.audits.items()},
        }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `check-data`."""
    parser.add_argument("data", metavar="DIR", help="folder with collections (docs/data.md), or one of them")
    parser.add_argument("--json", action="store_true", help="print one JSON object with every finding")


def run(options: argparse.Namespace) -> int:
    """Check and print. Returns 0, or 2 where something is wrong."""
    check = check_data(read_collections(Path(options.data)))
    if not check.collections and not check.problems:
        reasons = "".join(f"\n  {file}: {reason}" for file, reason in check.skipped)
        raise DataError(
            f"No collection was found in {options.data}: expected folders with a manifest.csv, or one of the layouts"
            f" in docs/data.md.{reasons}"
        )
    print(json.dumps(check.to_dict(), indent=2) if options.json else describe(check))
    return USER_ERROR if check.problems else 0


def check_data(readings: tuple[CollectionReading, ...]) -> DataCheck:
    """Decode every image of the collections once, and audit them."""
    problems: list[tuple[str, int, str, str]] = []
    signatures = {}
    collections = tuple(reading.collection for reading in readings if reading.collection is not None)
    for reading in readings:
        if reading.error and not reading.skipped:
            problems.append((reading.file, 0, "", reading.error))
        found = [(file, problem.row, problem.column, problem.message) for file, problem in reading.problems]
        if reading.collection is not None:
            checked = check_images(reading.collection)
            signatures[reading.collection.name] = checked.signatures
            found += [
                (reading.file if image.row else image.name, problem.row, problem.column, problem.message)
                for image, problem in checked.problems
            ]
        problems += sorted(found, key=lambda one: (one[0], one[1]))
    audits: dict[Modality, CollectionAudit] = {}
    for modality in MODALITIES:
        members = [collection for collection in collections if collection.modality == modality]
        if members:
            audits[modality] = audit_collections(members, [signatures[member.name] for member in members])
    skipped = tuple((reading.file, reading.error) for reading in readings if reading.skipped)
    return DataCheck(collections, tuple(problems), skipped, audits)


def describe(check: DataCheck) -> str:
    """The table of collections, the problems, and the audit of each modality."""
    parts = [_draw_table(check.collections)] if check.collections else []
    if check.skipped:
        parts.append("Not used:\n" + "\n".join(f"  {file}: {reason}" for file, reason in check.skipped))
    if check.problems:
        count = len(check.problems)
        lines = [f"{count} {'problem' if count == 1 else 'problems'}:"]
        for file, row, column, message in check.problems:
            where = ", ".join(part for part in (file, f"row {row}" if row else "", column) if part)
            lines.append(f"  {where}: {message}")
        parts.append("\n".join(lines))
    else:
        parts.append("No problem in any row; every image and mask can be read.")
    return "\n\n".join([*parts, describe_audits(check.audits)])


def describe_audits(audits: dict[Modality, CollectionAudit]) -> str:
    """The findings of each modality's collections in a few lines."""
    return "\n\n".join(_describe_audit(modality, audit) for modality, audit in audits.items())


def _describe_audit(modality: Modality, audit: CollectionAudit) -> str:
    mixed = [
        f"{one.patient} in {one.collection} ({one.normal} + {one.positive})" for one in audit.mixed_patients
    ]
    shared = [f"{one.patient} ({', '.join(one.collections)})" for one in audit.shared_patients]
    names = audit.names
    inside, across = (
        [copies for copies in audit.near_copies if (copies.first == copies.second) == same]
        for same in (True, False)
    )
    return "\n".join(
        [
            f"{MODALITY_TITLES[modality]} collections",
            f"  of one class only: {', '.join(audit.one_class) or 'none'}",
            f"  guessing the class from the collection's name alone: {names.guess_accuracy:.1%} right, without it"
            f" {names.majority_accuracy:.1%}",
            f"  patients with normal and positive images: {_count_and_show(mixed)}",
            f"  patients' names that several collections use: {_count_and_show(shared)};"
            f" patient not known for {audit.unknown_patients} images",
            f"  near-identical pairs within a collection: {_describe_copies(inside)}",
            f"  near-identical pairs across collections: {_describe_copies(across)}",
        ]
    )


def _describe_copies(found: list[NearCopies]) -> str:
    if not found:
        return "0"
    lines = []
    for copies in found:
        where = copies.first if copies.first == copies.second else f"{copies.first} and {copies.second}"
        first, second, similarity = copies.examples[0]
        first, second = (name.rpartition("/")[2] for name in (first, second))
        lines.append(
            f"\n    {where}: {copies.pairs}, {copies.of_other_labels} of them with different labels"
            f" (for example {first} ~ {second}, {similarity:.3f})"
        )
    return f"{sum(copies.pairs for copies in found)}{''.join(lines)}"


def _count_and_show(findings: list[str]) -> str:
    if not findings:
        return "0"
    more = ", ..." if len(findings) > SHOWN else ""
    return f"{len(findings)} (for example {', '.join(findings[:SHOWN])}{more})"


def _summarise(collection: Collection) -> dict[str, Any]:
    images = collection.images
    return {
        "name": collection.name,
        "title": collection.title,
        "modality": collection.modality,
        "counts": dict(zip((*CLASSES, OTHER), collection.counts, strict=True)),
        "patients": len({image.patient for image in images if image.patient}),
        "sites": len({image.site for image in images if image.site}),
        "boxes": sum(bool(image.boxes) for image in images),
        "lesion_masks": sum(image.lesion_mask is not None for image in images),
        "lung_masks": sum(image.lung_mask is not None for image in images),
        "source": collection.source,
        "licence": collection.licence,
    }


def _draw_table(collections: tuple[Collection, ...]) -> str:
    rows: list[tuple[str, ...]] = [_COLUMNS]
    for collection in collections:
        facts = _summarise(collection)
        numbers = [*facts["counts"].values(), *(facts[key] for key in ("patients", "sites", "boxes"))]
        numbers += [facts["lesion_masks"], facts["lung_masks"]]
        words = [str(number) if number else "-" for number in numbers]
        rows.append((collection.name, MODALITY_TITLES[collection.modality], *words))
    widths = [max(len(row[place]) for row in rows) for place in range(len(_COLUMNS))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place < 2 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
