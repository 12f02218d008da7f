"""Whole CT scans in a model card: how slices become one answer, and what that is worth on scans never seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from covid_mm.evaluation.intervals import Estimate, Proportion
from covid_mm.reporting.card_words import HEAD_TITLES
from covid_mm.reporting.tables import NOT_MEASURED, format_proportion, format_table, percent


def describe_scans(meta: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the card says of scans; None where meta.json has no field `scan`. meta: the object of meta.json.

    share: of a scan's lung slices whose mean is its answer, in percent. collections, heads, lesions: Markdown tables,
    the last empty where phantoms were not measured. bodies: how many phantoms without a lesion.
    """
    scan = meta.get("scan")
    if scan is None:
        return None
    measured = scan["measured"]
    phantoms = measured.get("phantoms")
    return {
        "share": f"{scan['share']:.0%}".replace("%", " %"),
        "collections": Markup(_collection_table(measured, scan["share"])),
        "heads": Markup(_head_table(scan["heads"])),
        "lesions": Markup(_lesion_table(phantoms)) if phantoms else "",
        "bodies": phantoms["bodies"] if phantoms else 0,
    }


def choose_phantoms(phantoms: Mapping[str, Any], share: float) -> dict[str, Any]:
    """Of what `benchmarks/scans.py` measured at every share of slices, the row of the share that is served."""
    (row,) = (row for row in phantoms["rules"] if row["share"] == share)
    return {"bodies": phantoms["bodies"], "auc": row["auc"], "bands": row["bands"]}


def _collection_table(measured: Mapping[str, Any], share: float) -> str:
    """One row per collection: its scans, and how the served rule, calibrated on the others, did on them."""
    rule = f"mean of the top {share:.0%}"
    figures = {row["collection"]: row for row in measured["rules"] if row["rule"] == rule}
    rows = []
    for part in measured["scans"]:
        row = figures.get(part["collection"], {})
        rows.append(
            [
                part["collection"],
                str(part["positive"]),
                f"{part['normal']} ({part['normal_parts']})",
                f"{part['slices']} ({part['most_slices']})",
                _format_auc(row.get("auc")),
                _format_share(row.get("sensitivity")),
                _format_share(row.get("specificity")),
            ]
        )
    header = [
        "left out",
        "positive scans",
        "normal scans (parts of a patient)",
        "slices, median (most)",
        "AUC (95 % interval)",
        "sensitivity",
        "specificity",
    ]
    return format_table(header, rows)


def _head_table(heads: Mapping[str, Mapping[str, Any]]) -> str:
    """One row per head: the calibration of scans, and its figures over all left-out collections."""
    rows = []
    for head, part in heads.items():
        evidence = part["evidence"]
        low, high = part["abstain_zone"]
        rows.append(
            [
                HEAD_TITLES.get(head, head),
                f"{evidence['images']} {evidence['unit']}",
                f"{evidence['auc']:.3f} ({evidence['auc_low']:.3f} to {evidence['auc_high']:.3f})",
                percent(evidence["sensitivity"]),
                percent(evidence["specificity"]),
                percent(evidence["ece"]),
                f"{part['temperature']:.3f}",
                f"{part['offset']:+.3f}",
                f"{part['threshold']:.2f}",
                f"{low:.2f} to {high:.2f}",
                percent(part["supported_probability"]),
            ]
        )
    header = [
        "head",
        "measured on",
        "AUC (95 % interval)",
        "sensitivity",
        "specificity",
        "calibration error",
        "temperature",
        "offset",
        "threshold",
        "abstain zone",
        "supported probability",
    ]
    return format_table(header, rows)


def _lesion_table(phantoms: Mapping[str, Any]) -> str:
    """One row per range of lesion volumes: which share of such phantoms was found."""
    *ranges, last = phantoms["bands"]
    names = [f"{band['from_ml']} to {band['to_ml']} ml" for band in ranges] + [
        f"more than {last['from_ml']} ml"
    ]
    rows = [[name, _format_share(band["found"])] for name, band in zip(names, phantoms["bands"], strict=True)]
    return format_table(["lesions together", "found (95 % interval)"], rows)


def _format_auc(values: Mapping[str, Any] | None) -> str:
    if values is None:
        return NOT_MEASURED
    auc = Estimate.from_dict(values)
    return f"{auc.value:.3f} ({auc.low:.3f} to {auc.high:.3f})"


def _format_share(values: Mapping[str, Any] | None) -> str:
    return format_proportion(None if values is None else Proportion.from_dict(values))
