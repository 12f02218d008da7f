"""Left-out figures as Markdown tables."""

from __future__ import annotations

from collections.abc import Sequence

from covid_mm.config import MODALITIES, SHORTCUT_TITLES, join_titles
from covid_mm.evaluation.fusion import FusionComparison, FusionRow, title_method
from covid_mm.evaluation.heat_location import HeatRow
from covid_mm.evaluation.intervals import Proportion
from covid_mm.evaluation.left_out import CollectionRow, LeftOutTable
from covid_mm.evaluation.shortcuts import ShortcutRow, SourceRow
from covid_mm.reporting.tables import NOT_MEASURED, format_estimate, format_proportion, format_table

HEAD_TITLES = {"fused": f"{join_titles(MODALITIES)} combined"} | {
    m: one.title for m, one in MODALITIES.items()
}


def left_out_table(tables: Sequence[LeftOutTable]) -> str:
    """One row a left-out collection, then each head's mean: AUC, rates, calibration."""
    rows = []
    for table in tables:
        title = HEAD_TITLES.get(table.head, table.head)
        rows += [
            [
                title,
                _name(row),
                f"{row.normal} + {row.positive} of {row.patients}",
                format_estimate(row.auc),
                format_proportion(row.sensitivity),
                format_proportion(row.specificity),
                f"{row.brier:.3f}",
                percent(row.ece),
                percent(row.positive_ece),
            ]
            for row in table.rows
        ]
        means = table.evidence()
        rows.append(
            [
                title,
                f"**mean of {len(means['collections'])}** (worst: {table.worst.collection})",
                str(means["images"]),
                f"**{format_estimate(table.auc)}**",
                percent(means["sensitivity"]),
                percent(means["specificity"]),
                NOT_MEASURED,
                percent(means["ece"]),
                NOT_MEASURED,
            ]
        )
    header = [
        "head",
        "left out",
        "normal + positive, of patients",
        "AUC (95 % interval by patient)",
        "sensitivity",
        "specificity",
        "Brier",
        "ECE",
        "ECE of the positive class",
    ]
    return format_table(header, rows)


def confidence_table(tables: Sequence[LeftOutTable]) -> str:
    """One row a left-out collection: how often it sounds sure, and what the abstain zone costs and spares."""
    rows = [
        [
            HEAD_TITLES.get(table.head, table.head),
            _name(row),
            format_proportion(row.false_alarms),
            format_proportion(row.over_99),
            _short(row.over_supported),
            format_proportion(row.right_over_supported),
            f"{row.zone[0]:.2f} to {row.zone[1]:.2f}",
            _short(row.coverage),
            percent(row.error_outside),
            percent(row.error_inside),
        ]
        for table in tables
        for row in table.rows
    ]
    header = [
        "head",
        "left out",
        "false alarms",
        "false alarms over 99 %",
        "at least the supported probability",
        "of these right",
        "abstain zone (from the others)",
        "answered",
        "wrong outside the zone",
        "wrong inside",
    ]
    return format_table(header, rows)


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


def percent(value: float | None) -> str:
    """`12.3 %`; `n/a` for None. value: 0..1."""
    return NOT_MEASURED if value is None else f"{100 * value:.1f} %"


def _short(share: Proportion) -> str:
    return f"{share.successes}/{share.total} = {percent(share.value)}"


def _name(row: CollectionRow) -> str:
    return f"{row.collection} (calibrated on itself)" if row.is_own_calibration else row.collection


def heat_table(rows: Sequence[HeatRow]) -> str:
    """Markdown: a row each, in the order given."""
    header = [
        "method",
        "layer",
        "collection",
        "images",
        "hottest point on a lesion (95 % interval)",
        "chance",
        "heat on lesions",
        "hottest point in lungs",
        "heat in lungs",
    ]
    cells = [
        [
            row.method,
            row.layer,
            row.collection,
            str(row.images),
            f"{percent(row.hit)} ({100 * row.hit_low:.1f} to {100 * row.hit_high:.1f})",
            percent(row.chance),
            percent(row.heat_share),
            percent(row.in_lungs_hit),
            percent(row.in_lungs_share),
        ]
        for row in rows
    ]
    return format_table(header, cells)


def fusion_table(comparison: FusionComparison) -> str:
    """Markdown: a row each method and kind of pairs."""
    header = ["pairs", "combined by", "count", "log loss", "ECE", "AUC", "distance from independent evidence"]
    return format_table(header, [_cells(row, comparison.better_branch) for row in comparison.rows])


def _cells(row: FusionRow, better: str) -> Sequence[str]:
    title = title_method(row.method) + (" (the better one)" if row.method == better else "")
    return [
        row.pairs,
        title,
        str(row.count),
        f"{row.log_loss:.3f}",
        percent(row.ece),
        NOT_MEASURED if row.auc is None else f"{row.auc:.3f}",
        f"{row.posterior_difference:.3f}",
    ]


def shortcut_table(rows: Sequence[ShortcutRow]) -> str:
    """Markdown: a row each, in the order given."""
    cells = [
        [
            SHORTCUT_TITLES.get(row.test, row.test),
            row.collection,
            str(row.images),
            f"{row.auc:.3f} ({row.low:.3f} to {row.high:.3f})",
        ]
        for row in rows
    ]
    return format_table(["test", "left out", "images", "AUC (95 % interval by patient)"], cells)


def source_table(rows: Sequence[SourceRow]) -> str:
    """Markdown: a row each, in the order given."""
    cells = [
        [
            row.features,
            ", ".join(row.sources),
            str(row.images),
            f"{100 * row.accuracy:.1f} %",
            f"{100 * row.chance:.1f} %",
            f"{row.auc:.3f}",
        ]
        for row in rows
    ]
    header = ["features", "sources", "images", "source named rightly", "chance", "AUC (chance 0.5)"]
    return format_table(header, cells)
