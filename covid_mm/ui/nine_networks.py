"""The card's section on the paper's nine networks, from results/results.json."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from covid_mm.config import MODALITY_TITLES
from covid_mm.ui.card_parts import format_share, render_table
from covid_mm.ui.language import Texts

RESULTS = Path(__file__).resolve().parents[2] / "results" / "results.json"
PROTOCOLS = {"paper": "random split", "grouped": "grouped split"}


def read_networks(place: Path = RESULTS) -> Sequence[Mapping[str, Any]]:
    """The networks measured by `train.py --pair all`; none where there is no such file or it is no results."""
    try:
        document = json.loads(place.read_text(encoding="utf-8"))
        networks = [] if document["synthetic"] else document["networks"]
        return [network for network in networks if network["protocol"] in PROTOCOLS]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def render_networks(networks: Sequence[Mapping[str, Any]], texts: Texts) -> str:
    """Accuracy of each network on each split; empty without any."""
    if not networks:
        return ""
    protocols = [p for p in PROTOCOLS if any(network["protocol"] == p for network in networks)]
    rows = []
    for name in dict.fromkeys(network["name"] for network in networks):
        found = {network["protocol"]: network for network in networks if network["name"] == name}
        branches = next(iter(found.values()))["branches"]
        title = " + ".join(f"{backbone} ({texts(MODALITY_TITLES[m])})" for m, backbone in branches)
        cells = (
            format_share(found[p]["report"]["accuracy"], texts) if p in found else texts("not measured")
            for p in protocols
        )
        rows.append([title, *cells])
    note = texts(
        "Trained and measured by the paper's protocol (random split) and with no patient on both sides (grouped"
        " split). What each began from, and the paper's own figures, stand in results/README.md."
    )
    header = [texts("Network"), *(f"{texts('Accuracy')}, {texts(PROTOCOLS[p])}" for p in protocols)]
    return f"{render_table(header, rows)}<p>{note}</p>"
