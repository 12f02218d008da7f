"""Left-out figures as Markdown tables; those that the page shows too are described in card_tables.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from covid_mm.evaluation.fusion import FusionComparison, FusionRow, title_method
from covid_mm.evaluation.left_out import LeftOutTable
from covid_mm.evaluation.shortcuts import SourceRow
from covid_mm.reporting.card_tables import ACCURACY, CONFIDENCE
from covid_mm.reporting.card_words import HEAD_TITLES
from covid_mm.reporting.card_writer import CARD, make_table
from covid_mm.reporting.markdown import escape_markdown
from covid_mm.reporting.tables import NOT_MEASURED, format_table, percent


def left_out_table(tables: Sequence[LeftOutTable]) -> Markup:
    """One row per left-out collection, then each head's mean: AUC, rates, calibration."""
    rows: list[Mapping[str, Any]] = []
    for table in tables:
        means = table.evidence()
        mean = {"head": table.head, "mean": len(means["collections"]), "worst": table.worst.collection}
        shares = {name: means[name] for name in ("sensitivity", "specificity", "ece")}
        rows += [row.to_dict() for row in table.rows]
        rows.append({**mean, "auc": table.auc.to_dict(), **shares})
    return make_table(ACCURACY, rows, CARD).markdown


def confidence_table(tables: Sequence[LeftOutTable]) -> Markup:
    """One row per left-out collection: how often it sounds sure, and what the abstain zone costs and spares."""
    return make_table(CONFIDENCE, [row.to_dict() for table in tables for row in table.rows], CARD).markdown


def serving_table(tables: Sequence[LeftOutTable]) -> str:
    """One row per head: what the checkpoint takes from the left-out predictions."""
    rows = [
        [
            HEAD_TITLES.get(table.head, table.head),
            f"{table.calibration.temperature:.3f}",
            f"{table.calibration.offset:+.3f}",
            f"{table.threshold:.2f} ({table.threshold_rule})",
            f"{table.zone[0]:.2f} to {table.zone[1]:.2f}",
            percent(table.pooled.coverage),
            percent(table.pooled.error_outside),
            percent(table.supported_probability),
        ]
        for table in tables
    ]
    header = [
        "head",
        "temperature",
        "offset",
        "threshold",
        "abstain zone",
        "answered",
        "wrong outside the zone",
        "supported probability",
    ]
    return format_table(header, rows)


def fusion_table(comparison: FusionComparison) -> str:
    """Markdown: a row per method and kind of pairs."""
    header = ["pairs", "combined by", "count", "log loss", "ECE", "AUC", "distance from independent evidence"]
    return format_table(header, [_cells(row, comparison.better_branch) for row in comparison.rows])


def _cells(row: FusionRow, better: str) -> Sequence[str]:
    title = title_method(row.method) + (" (the better one)" if row.method == better else "")
    return [
        str(escape_markdown(row.pairs)),
        title,
        str(row.count),
        f"{row.log_loss:.3f}",
        percent(row.ece),
        NOT_MEASURED if row.auc is None else f"{row.auc:.3f}",
        f"{row.posterior_difference:.3f}",
    ]


def source_table(rows: Sequence[SourceRow]) -> str:
    """Markdown: a row each, in the order given."""
    cells = [
        [
            str(escape_markdown(row.features)),
            str(escape_markdown(", ".join(row.sources))),
            str(row.images),
            f"{100 * row.accuracy:.1f} %",
            f"{100 * row.chance:.1f} %",
            f"{row.auc:.3f}",
        ]
        for row in rows
    ]
    header = ["features", "sources", "images", "source named rightly", "chance", "AUC (chance 0.5)"]
    return format_table(header, cells)
