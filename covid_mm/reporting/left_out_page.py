"""results/left-out.md: what the networks are worth somewhere new, rendered from its JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from covid_mm.evaluation.fusion import FusionComparison
from covid_mm.evaluation.heat_location import HeatRow
from covid_mm.evaluation.left_out import LeftOutTable
from covid_mm.evaluation.shortcuts import ShortcutRow, SourceRow
from covid_mm.files import write_atomically
from covid_mm.reporting.card_tables import HEAT, SHORTCUTS
from covid_mm.reporting.card_writer import CARD, make_table
from covid_mm.reporting.left_out_tables import (
    confidence_table,
    fusion_table,
    left_out_table,
    serving_table,
    source_table,
)

_INTRODUCTION = """\
Each collection (CT) or group of scanners (X-ray) was left out in turn: a network was trained on the others,
its calibration, threshold and abstain zone were chosen on the others, and this one was only scored."""


def render_left_out(results: dict[str, Any]) -> str:
    """The page as Markdown; a part that was not measured has no section.

    Args:
        results: `heads` (a list of LeftOutTable dicts, at least one), and, where measured, `command`,
            `created`, `machine` (str), `notes` (list of str), `figures` (dict of title and file name),
            `shortcuts` (ShortcutRow dicts), `sources` (SourceRow dicts), `heatmaps` (HeatRow dicts),
            `fusion` (a FusionComparison dict).

    Raises:
        KeyError, TypeError, ValueError: parts of another form.
    """
    tables = [LeftOutTable.from_dict(part) for part in results["heads"]]
    sections = [f"# Left-out collections\n\n{_INTRODUCTION}"]
    facts = [
        f"- {name}: `{results[name]}`" for name in ("command", "created", "machine") if results.get(name)
    ]
    sections += ["\n".join(facts)] if facts else []
    sections.append(
        "## Accuracy on a collection never seen\n\nIn brackets: 95 % intervals, by patient for an AUC."
        f"\n\n{left_out_table(tables)}"
    )
    if any(row.is_own_calibration for table in tables for row in table.rows):
        sections[-1] += (
            "\n\nWhere no other collection has both classes, a row is calibrated on itself, which flatters"
            " its sensitivity, specificity, Brier score and ECE; its AUC does not depend on it."
        )
    if pictures := results.get("figures"):
        sections.append("\n\n".join(f"![{title}]({name})" for title, name in pictures.items()))
    sections.append(
        "## How sure it sounds, and when it does not answer\n\nFalse alarms: normal images called positive;"
        f" of these, those over 99 %.\n\n{confidence_table(tables)}"
    )
    sections.append(
        "## What the checkpoint takes from this\n\nThe calibration is fitted on all collections with both"
        " classes, each weighted alike, as at a prevalence of one half; threshold, zone and supported"
        " probability on the same, each calibrated on the others. The combined odds are the sum of calibrated ones"
        f" and are not fitted again.\n\n{serving_table(tables)}"
    )
    if rows := results.get("shortcuts"):
        table = make_table(SHORTCUTS, [ShortcutRow.from_dict(row).to_dict() for row in rows], CARD).markdown
        sections.append(f"## Shortcuts\n\nWithout lungs the AUC should be near 0.5.\n\n{table}")
    if rows := results.get("sources"):
        sources = source_table([SourceRow.from_dict(row) for row in rows])
        sections.append(f"### The source, named from the features\n\n{sources}")
    if rows := results.get("heatmaps"):
        table = make_table(HEAT, [HeatRow.from_dict(row).to_dict() for row in rows], CARD).markdown
        sections.append(
            "## Heat on the lesion\n\nChance is the share of the frame that the lesions cover; a map without"
            f" heat counts as a miss.\n\n{table}"
        )
    if fusion := results.get("fusion"):
        sections.append(
            "## CT and X-ray combined\n\nPairs of left-out images. A disagreeing pair is held to positive if"
            " either image is; the last column is the mean distance of the probability from that of two"
            f" independent pieces of evidence.\n\n{fusion_table(FusionComparison.from_dict(fusion))}"
        )
    if notes := results.get("notes"):
        sections.append("## Notes\n\n" + "\n".join(f"- {note}" for note in notes))
    return "\n\n".join(sections) + "\n"


LEFT_OUT_JSON = "left-out.json"


LEFT_OUT_PAGE = "left-out.md"


def write_left_out(folder: Path, left_out: dict[str, Any]) -> None:
    """The left-out figures as JSON, as a page, and drawn."""
    from covid_mm.reporting.figures.canvas import save_figure
    from covid_mm.reporting.figures.left_out import draw_left_out_aucs, draw_reliability

    tables = [LeftOutTable.from_dict(part) for part in left_out["heads"]]
    figures = {"left-out-auc": draw_left_out_aucs(tables)}
    figures |= {f"reliability-{table.head}": draw_reliability(table) for table in tables}
    titles = {"left-out-auc": "AUC on collections never seen"}
    named = {titles.get(name, f"Calibration, {name.split('-')[-1]}"): f"{name}.png" for name in figures}
    for name, figure in figures.items():
        save_figure(figure, folder, name)
    page = left_out | {"figures": named}
    write_atomically(folder / LEFT_OUT_JSON, (json.dumps(page, indent=1) + "\n").encode())
    write_atomically(folder / LEFT_OUT_PAGE, render_left_out(page).encode())
