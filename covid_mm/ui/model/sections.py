"""Sections of the model card and the tables that they are made of: collections, refusals, content check, networks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from covid_mm.config import MODALITIES, VALIDATION_IMAGES
from covid_mm.errors import Message
from covid_mm.explain.method_table import METHODS
from covid_mm.reporting.card_tables import CONTENT_CHECK
from covid_mm.reporting.card_words import CONTENT_CHECK as CONTENT_CHECK_TEXT
from covid_mm.reporting.card_writer import Table, Writer, make_table
from covid_mm.ui.i18n.language import Texts
from covid_mm.ui.study.evidence import LAYER_TITLES


@dataclass(frozen=True)
class Row:
    """Parts of a section side by side."""

    parts: Sequence[Part]


Part: TypeAlias = "str | Table | Row"  # of a section: a paragraph of text, Markup as it is, a table, a row


class PageWriter(Writer):
    """The card's words in the page's language, figures rounded, without detail."""

    detailed = False

    def __init__(self, texts: Texts) -> None:
        self._texts = texts

    def word(self, text: str, **values: object) -> str:
        """Translated."""
        return self._texts(text, **values)

    def sentence(self, text: str) -> str:
        """Translated where it is known."""
        return self._texts.sentence(text)

    def data(self, text: object) -> str:
        """As it is: the template escapes."""
        return str(text)

    def name(self, kind: str, value: str) -> str:
        """A method's or a layer's title."""
        return METHODS[value].title if kind == "method" else self._texts(LAYER_TITLES[value])  # type: ignore[index]

    def number(self, value: float, decimals: int = 0, rounded: int | None = None) -> str:
        """With this language's marks."""
        return self._texts.number(value, decimals if rounded is None else rounded)

    def percent(self, share: float | None) -> str:
        """`3.1 %`."""
        return self._texts("none") if share is None else self._texts.percent(share)

    def share(self, share: Mapping[str, Any] | None) -> str:
        """`740/744 = 99 % (99 to 100 %)`."""
        if share is None:
            return self._texts("not measured")
        return f"{share['successes']}/{share['total']} = {self.rate(share)}"

    def rate(self, estimate: Mapping[str, Any] | float | None) -> str:
        """`84 % (80 to 88 %)`."""
        if not isinstance(estimate, Mapping):
            return self.percent(estimate)
        return self._texts.estimate(estimate["value"], estimate["low"], estimate["high"])

    def estimate(self, estimate: Mapping[str, Any] | None, decimals: int = 4, rounded: int = 3) -> str:
        """`0.912 (0.887 to 0.934)`."""
        if estimate is None:
            return self._texts("none")
        return self._texts.estimate(estimate["value"], estimate["low"], estimate["high"], rounded)


SHORTCUT_NOTE = (
    "AUC on left-out collections when the lungs, or all but the lungs, are taken away. A network that reads the lungs"
    " alone would have 0.5 without them and their outline; what is above is read from the surroundings. The outline"
    " alone, that is how much lung is seen dark, tells of disease too."
)


def list_parts(table: Table, *notes: str) -> list[Part]:
    """A table and what stands below it; nothing where it has no row."""
    return [table, *(note for note in notes if note)] if table.rows else []


def list_content_check(
    described: Mapping[str, Any] | None, data: Iterable[Mapping[str, Any]], texts: Texts
) -> list[Part]:
    """A table of the images it was measured on. described, data: of meta.json; empty without."""
    if not described:
        return []
    own = {name: name for name in (Message(VALIDATION_IMAGES, name=part["name"]) for part in data)}
    rows = [part | {"images": own.get(part["images"], part["images"])} for part in described["measured"]]
    return [
        texts(CONTENT_CHECK_TEXT, **described["trained_on"]),
        make_table(CONTENT_CHECK, rows, PageWriter(texts)),
    ]


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
            PageWriter(texts).share(by_protocol[p]["report"]["accuracy"] if p in by_protocol else None)
            for p in protocols
        )
        rows.append([title, *cells])
    note = texts(
        "Trained and measured by the paper's protocol (random split) and with no patient on both sides (grouped"
        " split). What each began from, and the paper's own figures, stand in results/README.md."
    )
    header = [texts("Network"), *(f"{texts('Accuracy')}, {texts(PROTOCOLS[p])}" for p in protocols)]
    return [Table(header, rows), note]
