"""What `check-data` and `audit` print: collections, their problems, and what could mislead a network."""

from __future__ import annotations

from covid_mm.config import MODALITIES, Modality
from covid_mm.datasets import SplitAudit
from covid_mm.datasets.collection_audit import CollectionAudit, DataCheck, NearCopies, summarise_collection
from covid_mm.datasets.collections import Collection

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


def describe_check(check: DataCheck) -> str:
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


def describe_split(title: str, audit: SplitAudit, protocol: str) -> str:
    """The findings of one modality in a few lines."""
    near = [f"{p.train} ~ {p.validation} ({p.similarity:.3f})" for p in audit.near_duplicates]
    exact = [f"{p.train} = {p.validation}" for p in audit.exact_duplicates]
    patients = [f"{p.group} ({p.train} + {p.validation})" for p in audit.shared_patients]
    sources = audit.sources
    lines = [
        f"{title}, {protocol} split",
        f"  exact copies on both sides: {_count_and_show(exact)}",
        f"  near-identical pairs across the sides: {_count_and_show(near)}",
        f"  patients or studies on both sides: {_count_and_show(patients)};"
        f" patient not known for {audit.unknown_patients} images",
        f"  guessing the class from the source alone: {sources.guess_accuracy:.1%} right, without it"
        f" {sources.majority_accuracy:.1%}; sources of one class only: {', '.join(sources.one_sided) or 'none'}",
    ]
    return "\n".join(lines)


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
            f"{MODALITIES[modality].title} collections",
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


def _describe_copies(near_copies: list[NearCopies]) -> str:
    if not near_copies:
        return "0"
    lines = []
    for copies in near_copies:
        where = copies.first if copies.first == copies.second else f"{copies.first} and {copies.second}"
        first, second, similarity = copies.examples[0]
        first, second = (name.rpartition("/")[2] for name in (first, second))
        lines.append(
            f"\n    {where}: {copies.pairs}, {copies.of_other_labels} of them with different labels"
            f" (for example {first} ~ {second}, {similarity:.3f})"
        )
    return f"{sum(copies.pairs for copies in near_copies)}{''.join(lines)}"


def _count_and_show(findings: list[str]) -> str:
    if not findings:
        return "0"
    more = ", ..." if len(findings) > SHOWN else ""
    return f"{len(findings)} (for example {', '.join(findings[:SHOWN])}{more})"


def _draw_table(collections: tuple[Collection, ...]) -> str:
    rows: list[tuple[str, ...]] = [_COLUMNS]
    for collection in collections:
        facts = summarise_collection(collection)
        numbers = [*facts["counts"].values(), *(facts[key] for key in ("patients", "sites", "boxes"))]
        numbers += [facts["lesion_masks"], facts["lung_masks"]]
        words = [str(number) if number else "-" for number in numbers]
        rows.append((collection.name, MODALITIES[collection.modality].title, *words))
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
