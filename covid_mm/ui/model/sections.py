"""Sections of the model card and the tables that they are made of: collections, refusals, content check, networks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from covid_mm.config import (
    CLASS_TITLES,
    CLASSES,
    MODALITIES,
    REFUSAL_TITLES,
    SHORTCUT_TITLES,
    VALIDATION_IMAGES,
)
from covid_mm.errors import Message
from covid_mm.reporting.card_words import CONTENT_CHECK, HELD_OUT
from covid_mm.ui.i18n.language import ENGLISH, Texts


@dataclass(frozen=True)
class Table:
    """A table with row headings. header: a cell per column; rows: as many cells each, the first is the heading."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Row:
    """Parts of a section side by side."""

    parts: Sequence[Part]


Part: TypeAlias = "str | Table | Row"  # of a section: a paragraph of text, Markup as it is, a table, a row


def format_share(share: Mapping[str, Any] | None, texts: Texts = ENGLISH) -> str:
    """`740/744 = 99 % (99 to 100 %)`, as meta.json keeps a share."""
    if share is None:
        return texts("not measured")
    estimate = texts.estimate(share["value"], share["low"], share["high"])
    return f"{share['successes']}/{share['total']} = {estimate}"


def format_interval(estimate: Mapping[str, Any] | None, texts: Texts, decimals: int | None = None) -> str:
    """`84 % (80 to 88 %)`, or with decimals `0.912 (0.887 to 0.934)`; none where it was not measured."""
    if estimate is None:
        return texts("none")
    return texts.estimate(estimate["value"], estimate["low"], estimate["high"], decimals)


COLLECTIONS_HEAD = (
    "Collection",
    "Used for",
    *(CLASS_TITLES[name] for name in CLASSES),
    "Other",
    "Patients",
    "Licence",
)
REFUSALS_HEAD = ("Collection", "Images")
SHORTCUTS_HEAD = ("Collection", "What is left of the image", "Images")
SHORTCUT_NOTE = (
    "AUC on left-out collections when the lungs, or all but the lungs, are taken away. A network that reads the lungs"
    " alone would have 0.5 without them; what is above is read from the surroundings or from the lungs' outline."
)


def list_collections(data: Iterable[Mapping[str, Any]], texts: Texts) -> list[Part]:
    """A row for each collection of `meta["data"]`, as the recipe served writes it."""
    rows = [
        [
            texts.title(MODALITIES[part["modality"]].title),
            part["title"],
            texts("training ({count} images)", count=texts.number(part["trained"]))
            if part["use"] == "training"
            else texts("evaluation only"),
            *(texts.number(part["counts"].get(name, 0)) for name in (*CLASSES, "other")),
            texts.number(part["patients"]) if part["patients"] else texts("not known"),
            part["licence"],
        ]
        for part in data
    ]
    header = ["", *(texts(title) for title in COLLECTIONS_HEAD)]
    return [Table(header, rows), texts(HELD_OUT)] if rows else []


def list_refusals(refusals: Iterable[Mapping[str, Any]], texts: Texts) -> list[Part]:
    """A row for each collection of `meta["refusals"]`: how many images get no answer, and why."""
    rows = [
        [
            texts.title(MODALITIES[row["modality"]].title),
            row["collection"],
            texts.number(row["images"]),
            *(texts.number(row[kind]) for kind in REFUSAL_TITLES),
        ]
        for row in refusals
    ]
    header = ["", *(texts.title(title) for title in (*REFUSALS_HEAD, *REFUSAL_TITLES.values()))]
    return [Table(header, rows)] if rows else []


def list_shortcuts(left_out: Mapping[str, Any], texts: Texts) -> list[Part]:
    """A row for each collection and test of `meta["left_out"]["shortcuts"]`."""
    rows = [
        [
            row["collection"],
            texts.title(SHORTCUT_TITLES.get(row["test"], row["test"])),
            texts.number(row["images"]),
            format_interval({"value": row["auc"], "low": row["low"], "high": row["high"]}, texts, 3),
        ]
        for row in left_out.get("shortcuts", ())
    ]
    header = [*(texts(title) for title in SHORTCUTS_HEAD), "AUC"]
    return [Table(header, rows), texts(SHORTCUT_NOTE)] if rows else []


NEITHER = "neither"


def list_content_check(
    described: Mapping[str, Any] | None, data: Iterable[Mapping[str, Any]], texts: Texts
) -> list[Part]:
    """A table of the images it was measured on. described, data: `judge` and `data` of meta.json; empty without."""
    if not described:
        return []
    learned = described["trained_on"]
    intro = texts(CONTENT_CHECK, **learned)
    rows = []
    own = {name: name for name in (Message(VALIDATION_IMAGES, name=part["name"]) for part in data)}
    for part in described["measured"]:
        refused = part["total"] - part["outcomes"]["answered"]
        share = f"{refused}/{part['total']} = {texts.percent(refused / part['total'])}"
        verdict = "wrongly" if part["kind"] == part["slot"] else "rightly"
        kind = texts("neither") if part["kind"] == NEITHER else texts(MODALITIES[part["kind"]].title)
        slot = texts(MODALITIES[part["slot"]].title)
        rows.append(
            [texts.sentence(own.get(part["images"], part["images"])), kind, slot, f"{share} {texts(verdict)}"]
        )
    header = [texts(name) for name in ("Images", "they are", "in the slot for", "not answered")]
    return [intro, Table(header, rows)]


RESULTS = Path(__file__).resolve().parents[3] / "results" / "results.json"
PROTOCOLS = {"paper": "random split", "grouped": "grouped split"}


def read_networks(path: Path = RESULTS) -> Sequence[Mapping[str, Any]]:
    """The networks measured by `train.py --pair all`; none where there is no such file or it is no results."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        networks = [] if document["synthetic"] else document["networks"]
        return [network for network in networks if network["protocol"] in PROTOCOLS]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def list_networks(networks: Sequence[Mapping[str, Any]], texts: Texts) -> list[Part]:
    """Accuracy of each network on each split; empty without any."""
    if not networks:
        return []
    protocols = [p for p in PROTOCOLS if any(network["protocol"] == p for network in networks)]
    rows = []
    for name in dict.fromkeys(network["name"] for network in networks):
        by_protocol = {network["protocol"]: network for network in networks if network["name"] == name}
        branches = next(iter(by_protocol.values()))["branches"]
        title = " + ".join(f"{backbone} ({texts(MODALITIES[m].title)})" for m, backbone in branches)
        cells = (
            format_share(by_protocol[p]["report"]["accuracy"], texts)
            if p in by_protocol
            else texts("not measured")
            for p in protocols
        )
        rows.append([title, *cells])
    note = texts(
        "Trained and measured by the paper's protocol (random split) and with no patient on both sides (grouped"
        " split). What each began from, and the paper's own figures, stand in results/README.md."
    )
    header = [texts("Network"), *(f"{texts('Accuracy')}, {texts(PROTOCOLS[p])}" for p in protocols)]
    return [Table(header, rows), note]
