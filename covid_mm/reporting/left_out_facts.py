"""What the prose about left-out collections says: each mean with its worst row, from the tables' numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from covid_mm.config import MODALITIES, SHORTCUT_TITLES
from covid_mm.evaluation.fusion import FusionComparison
from covid_mm.evaluation.heat_location import HeatRow
from covid_mm.evaluation.left_out import CollectionRow, LeftOutTable
from covid_mm.evaluation.shortcuts import ShortcutRow, SourceRow
from covid_mm.reporting.card_words import HEAD_TITLES
from covid_mm.reporting.tables import format_estimate, format_proportion, percent

# the tests that leave a network nothing to see of the lungs, nor of their outline
NO_LUNGS_SEEN = ("blank_hull", "border_beyond_lungs")
# those that leave their size and shape, or what of them reaches into the border
OUTLINE_SEEN = ("blank_lungs", "border_only")


@dataclass(frozen=True)
class Worst:
    """A collection and its figure, as text."""

    collection: str
    figure: str


@dataclass(frozen=True)
class HeadFacts:
    """One head's means over its two-class collections and its worst rows, as text.

    false_alarms: the collection with most, one-class ones too, None without normal images;
    sure_alarms: with most over 99 %, None where none is. zone: None where the head always answers.
    own: collections that were calibrated on themselves.
    """

    title: str
    collections: int
    images: int
    auc: str
    sensitivity: str
    specificity: str
    ece: str
    worst_auc: Worst
    worst_auc_excludes_chance: bool
    worst_sensitivity: Worst
    worst_specificity: Worst
    worst_ece: Worst
    false_alarms: Worst | None
    sure_alarms: Worst | None
    least_answered: Worst
    worst_outside: Worst | None
    threshold: str
    zone: tuple[str, str] | None
    supported: str
    own: tuple[str, ...]


@dataclass(frozen=True)
class HeatFacts:
    """How one collection's served heatmaps point, as text. verdict: beside the level of chance."""

    collection: str
    images: int
    hit: str
    chance: str
    verdict: str


@dataclass(frozen=True)
class LeftOutFacts:
    """Everything that the left-out part says. telling: tests without lungs whose interval lies above 0.5.

    highest: the test without lungs of the highest AUC; outlined: of those that leave their outline or
    edge. sources: where the source is named best.
    """

    tables: tuple[LeftOutTable, ...]
    heads: tuple[HeadFacts, ...]
    heat: tuple[HeatFacts, ...]
    heat_rows: tuple[HeatRow, ...]
    shortcuts: tuple[ShortcutRow, ...]
    telling: tuple[str, ...]
    highest: str | None
    outlined: str | None
    source_rows: tuple[SourceRow, ...]
    sources: str | None
    faithfulness: tuple[dict[str, Any], ...]
    fusion: FusionComparison | None
    fusion_says: str | None
    notes: tuple[str, ...]


def read_left_out(meta: dict[str, Any]) -> LeftOutFacts | None:
    """The facts of meta.json's `left_out`; None where it was not measured.

    Raises:
        KeyError, TypeError, ValueError: parts of another form.
    """
    if not meta.get("left_out"):
        return None
    values: dict[str, Any] = meta["left_out"]
    tables = tuple(LeftOutTable.from_dict(part) for part in values["heads"])
    heat = tuple(HeatRow.from_dict(row) for row in values.get("heatmaps") or ())
    shortcuts = tuple(ShortcutRow.from_dict(row) for row in values.get("shortcuts") or ())
    blind, outlined = (
        [row for row in shortcuts if row.test in tests] for tests in (NO_LUNGS_SEEN, OUTLINE_SEEN)
    )
    sources = tuple(SourceRow.from_dict(row) for row in values.get("sources") or ())
    fusion = FusionComparison.from_dict(values["fusion"]) if values.get("fusion") else None
    served = (meta.get("heatmap_method", "grad_cam"), meta.get("heatmap_layer", "coarse"))
    return LeftOutFacts(
        tables=tables,
        heads=tuple(_read_head(table) for table in tables),
        heat=tuple(_read_heat(row) for row in heat if (row.method, row.layer) == served),
        heat_rows=heat,
        shortcuts=shortcuts,
        telling=tuple(_name_test(row) for row in blind if row.low > 0.5),
        highest=_name_highest(blind),
        outlined=_name_highest(outlined),
        source_rows=sources,
        sources=_name_source(max(sources, key=lambda row: row.accuracy - row.chance)) if sources else None,
        faithfulness=tuple(values.get("faithfulness") or ()),
        fusion=fusion,
        fusion_says=_read_fusion(fusion) if fusion else None,
        notes=tuple(values.get("notes") or ()),
    )


def _read_head(table: LeftOutTable) -> HeadFacts:
    means, rows = table.evidence(), table.two_class_rows
    low, high = table.zone
    worst = table.worst
    return HeadFacts(
        title=HEAD_TITLES.get(table.head, table.head),
        collections=len(rows),
        images=means["images"],
        auc=format_estimate(table.auc),
        sensitivity=percent(means["sensitivity"]),
        specificity=percent(means["specificity"]),
        ece=percent(means["ece"]),
        worst_auc=Worst(worst.collection, format_estimate(worst.auc)),
        worst_auc_excludes_chance=worst.auc is not None and worst.auc.low > 0.5,
        worst_sensitivity=_least(
            rows, lambda r: r.sensitivity.value if r.sensitivity else 1.0, _show("sensitivity")
        ),
        worst_specificity=_least(
            rows, lambda r: r.specificity.value if r.specificity else 1.0, _show("specificity")
        ),
        worst_ece=_least(rows, lambda r: -(r.ece or 0.0), lambda r: percent(r.ece)),
        false_alarms=_most(table.rows, "false_alarms"),
        sure_alarms=_most([row for row in table.rows if row.over_99 and row.over_99.successes], "over_99"),
        least_answered=_least(table.rows, lambda r: r.coverage.value, _show("coverage")),
        worst_outside=_worst_outside(table.rows),
        threshold=f"{table.threshold:.2f}",
        zone=(percent(low), percent(high)) if low < high else None,
        supported=percent(table.supported_probability),
        own=tuple(row.collection for row in rows if row.is_own_calibration),
    )


def _least(
    rows: Sequence[CollectionRow],
    key: Callable[[CollectionRow], float],
    show: Callable[[CollectionRow], str],
) -> Worst:
    row = min(rows, key=key)
    return Worst(row.collection, show(row))


def _show(share: str) -> Callable[[CollectionRow], str]:
    return lambda row: format_proportion(getattr(row, share))


def _most(rows: Sequence[CollectionRow], share: str) -> Worst | None:
    """The row whose share, such as `false_alarms`, is greatest; None where no row has it."""
    measured = [row for row in rows if getattr(row, share) is not None]
    return _least(measured, lambda row: -getattr(row, share).value, _show(share)) if measured else None


def _worst_outside(rows: Sequence[CollectionRow]) -> Worst | None:
    measured = [row for row in rows if row.error_outside is not None]
    if not measured:
        return None
    return _least(measured, lambda row: -(row.error_outside or 0.0), lambda row: percent(row.error_outside))


def _read_heat(row: HeatRow) -> HeatFacts:
    verdict = "not told apart from chance"
    if row.hit_low > row.chance:
        verdict = "above chance"
    elif row.hit_high < row.chance:
        verdict = Markup("**below chance**")
    return HeatFacts(
        collection=row.collection,
        images=row.images,
        hit=f"{percent(row.hit)} ({percent(row.hit_low)} to {percent(row.hit_high)})",
        chance=percent(row.chance),
        verdict=verdict,
    )


def _name_highest(rows: Sequence[ShortcutRow]) -> str | None:
    return _name_test(max(rows, key=lambda row: row.auc)) if rows else None


def _name_test(row: ShortcutRow) -> str:
    title = SHORTCUT_TITLES.get(row.test, row.test)
    return f"{title}, {row.collection}: {row.auc:.3f} ({row.low:.3f} to {row.high:.3f})"


def _name_source(row: SourceRow) -> str:
    return (
        f"of {row.images} {row.features}, {percent(row.accuracy)} are traced to the right one of"
        f" {len(row.sources)} (by chance {percent(row.chance)})"
    )


def _read_fusion(comparison: FusionComparison) -> str:
    fused, better = (comparison.find(m, "agreeing") for m in ("fused", comparison.better_branch))
    title = MODALITIES[comparison.better_branch].title
    apart = comparison.find("fused", "disagreeing").posterior_difference
    text = (
        f"On {fused.count} agreeing pairs of left-out images the fused head's log loss is {fused.log_loss:.3f},"
        f" that of the better branch alone ({title}) {better.log_loss:.3f}"
    )
    if fused.auc is not None and better.auc is not None:
        text += f"; AUC {fused.auc:.3f} against {better.auc:.3f}"
    gain = (
        "combining helps there" if fused.log_loss < better.log_loss else "**combining does not help there**"
    )
    return Markup(
        f"{text}: {gain}. On disagreeing pairs its probability is {apart:.3f} away in the mean from that of two"
        " independent pieces of evidence."
    )


def heat_titles(meta: dict[str, Any]) -> list[tuple[str, dict[str, Any] | None]]:
    """Each modality's `heat_location`, None where it was not measured."""
    measured = meta.get("heat_location") or {}
    present = [m for m, _ in meta["network"]["branches"]]
    return [(MODALITIES[m].title, measured.get(m)) for m in MODALITIES if m in present]
