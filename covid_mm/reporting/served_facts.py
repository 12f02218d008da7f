"""Tables and limits of the served recipe's card, beside its left-out part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from markupsafe import Markup

from covid_mm.config import CLASSES, MODALITIES, REFUSAL_TITLES
from covid_mm.errors import Message
from covid_mm.evaluation.intervals import Proportion
from covid_mm.reporting.front_matter import is_non_commercial
from covid_mm.reporting.markdown import escape_markdown
from covid_mm.reporting.tables import NOT_MEASURED, format_proportion, format_table

FEW_PATIENTS = 30
INDEPENDENCE = (
    "The two images are taken as independent evidence; of one patient on one day they are not wholly"
    " independent, so the combined probability is then too sure."
)


def non_commercial(meta: dict[str, Any]) -> list[str]:
    """Training collections that may not be used commercially, with their licences."""
    return [
        f"{part['title']} ({part['licence']})"
        for part in meta["data"]
        if part["use"] == "training" and is_non_commercial(part["licence"])
    ]


def worst_refusals(rows: list[dict[str, Any]]) -> list[str]:
    """A part of a sentence per reason that occurs: the collection with most, and the share."""
    facts = []
    for kind, title in REFUSAL_TITLES.items():
        counted = [row for row in rows if row.get(kind) is not None and row["images"]]
        if not counted:
            continue
        worst = max(counted, key=lambda row: row[kind] / row["images"])
        share = _share(worst[kind], worst["images"])
        facts.append(
            f"{title} most often in {worst['collection']}, {share}" if worst[kind] else f"{title} never"
        )
    return facts


def _share(count: int | None, total: int) -> str:
    return NOT_MEASURED if count is None or not total else format_proportion(Proportion.of(count, total))


def external_table(rows: list[dict[str, Any]]) -> Markup:
    """One row per collection whose classes come from different places."""
    cells = [
        [
            MODALITIES[row["modality"]].title,
            escape_markdown(row["collection"]),
            str(row["images"]),
            f"{row['auc']:.4f} ({row['auc_low']:.4f} to {row['auc_high']:.4f})",
            f"{100 * row['sensitivity']:.1f} %",
            f"{100 * row['specificity']:.1f} %",
        ]
        for row in rows
    ]
    header = ["", "collection", "images", "AUC (95 % interval)", "sensitivity", "specificity"]
    return Markup(format_table(header, cells))


def training_table(training: dict[str, Any]) -> Markup:
    """The recipe's values, a column per modality; a value of no modality stands in every column."""
    columns: list[str] = [m for m in MODALITIES if isinstance(training.get(m), Mapping)]
    shared = {key: value for key, value in training.items() if key not in columns}
    values = {m: dict(_flatten({**shared, **training[m]})) for m in columns}
    if not columns:
        columns, values = ["all"], {"all": dict(_flatten(shared))}
    names = dict.fromkeys(name for m in columns for name in values[m])
    rows = [
        [str(escape_markdown(name)), *(str(escape_markdown(values[m].get(name, "-"))) for m in columns)]
        for name in names
    ]
    return Markup(format_table(["setting", *(MODALITIES[m].title for m in columns)], rows))


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        elif isinstance(value, list) and all(isinstance(part, Mapping) for part in value):
            for number, part in enumerate(value, 1):
                yield from _flatten(part, f"{prefix}{key}.{number}.")
        else:
            yield f"{prefix}{key}", value


def describe_limits(meta: Mapping[str, Any]) -> list[dict[str, str]]:
    """What to know before believing a figure, as far as the data listed make it so: `title` and `text` of each.

    For meta.json: the card shows these sentences, and the page too, by what they were made from where that says the
    same.
    """
    listed: list[dict[str, Any]] = meta["data"]
    used = [part for part in listed if part["use"] == "training"]
    limits: list[tuple[str, str]] = [
        (
            "Labels.",
            "They are those of the collections' makers: some from a laboratory test, some from how the image looks,"
            " and nobody has read them again here. Normal means no pneumonia, not a healthy person; other lung"
            " diseases, which a clinic sees every day, are of neither class and get one of the two names all the same,"
            " or undetermined.",
        )
    ]
    if _has(meta, "ct"):
        limits.append(
            (
                "One slice stands for a scan.",
                "The collections' makers chose the slices; no volume is read.",
            )
        )
        both = [p["title"] for p in used if p["modality"] == "ct" and _has_both_classes(p)]
        limits.append(
            (
                "Few CT hospitals.",
                Message(
                    "CT collections with both classes: {count} ({names}). The mean over left-out CT collections is a"
                    " mean of these: it can say that something fails, hardly that it holds everywhere.",
                    count=len(both),
                    names=", ".join(both) or "none",
                ),
            )
        )
    for part in used:
        if part["patients"] and part["patients"] <= FEW_PATIENTS:
            limits.append(
                (
                    "Few patients.",
                    Message(
                        "{title} has only {count} patients, so its figures rest on these few, however many images"
                        " there are.",
                        title=part["title"],
                        count=part["patients"],
                    ),
                )
            )
        elif not part["patients"]:
            limits.append(
                (
                    "Unknown patients.",
                    Message(
                        "{title} names no patients: an interval takes each of its images for a patient of its own, and"
                        " is too narrow where there are several of one.",
                        title=part["title"],
                    ),
                )
            )
    if _has(meta, "xray"):
        limits.append(
            (
                "X-ray positives",
                "mean what each collection calls so: typical appearance in SIIM-FISABIO-RSNA, so faint or early disease"
                " is not among them."
                if _names(used, "siim")
                else "mean what each collection calls so.",
            )
        )
    if _names(listed, "coronahack"):
        limits.append(
            (
                "CoronaHack shows children,",
                "and nearly all of its positives are bacterial and viral pneumonia, not COVID-19; the paper calls them"
                " COVID-19.",
            )
        )
    if len(meta["network"]["branches"]) > 1:
        limits.append(
            (
                "Pairs are not patients.",
                f"A CT slice and an X-ray were paired by their labels, never of one patient. {INDEPENDENCE}",
            )
        )
    limits.append(
        (
            "Collections were left out one at a time.",
            "The recipe was settled with their figures in view; a hospital that nobody has looked at yet may be worse"
            " than the worst row.",
        )
    )
    return [{"title": title, "text": text} for title, text in limits]


def _has_both_classes(part: dict[str, Any]) -> bool:
    return bool(min(part["counts"][name] for name in CLASSES) > 0)


def _has(meta: Mapping[str, Any], modality: str) -> bool:
    return any(m == modality for m, _ in meta["network"]["branches"])


def _names(parts: list[dict[str, Any]], word: str) -> bool:
    return any(word in f"{part['name']} {part['title']}".lower() for part in parts)
