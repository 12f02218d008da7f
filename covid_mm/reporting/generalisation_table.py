"""What the paper's figure becomes, as a table: every network in the paper, here, on other patients, elsewhere."""

from __future__ import annotations

from covid_mm.evaluation.report import BinaryReport
from covid_mm.evaluation.results import Results
from covid_mm.reporting.paper_table import find_paper_row
from covid_mm.reporting.tables import NOT_MEASURED, format_proportion, format_table


def render_generalisation(results: Results) -> list[str]:
    """The section as Markdown parts, its figure linked; empty where no network was measured elsewhere.

    Other sources are measured with the networks of the random split.
    """
    networks = [n for n in results.networks if n.protocol == "paper" and n.external]
    if not networks:
        return []
    most = max(len(network.external) for network in networks)
    rows = []
    for network in networks:
        paper, grouped = find_paper_row(network.name), results.find(network.name, "grouped")
        sources = [f"{name}: {_accuracy_and_auc(report)}" for name, report in network.external.items()]
        rows.append(
            [
                network.name if paper is None else paper.title,
                NOT_MEASURED if paper is None else f"{paper.accuracy:.2f} %",
                format_proportion(network.report.accuracy),
                format_proportion(None if grouped is None else grouped.report.accuracy),
                *sources,
                *[NOT_MEASURED] * (most - len(sources)),
            ]
        )
    header = ["network", "the paper", "the same protocol", "other patients (grouped split)"]
    header += [f"another source, {number + 1}" for number in range(most)]
    return [
        "## What the paper's figure becomes",
        "Accuracy of the nine networks: as the paper gives it, by its protocol here, trained anew so that no patient"
        " is on both sides, and of the random split's networks on images of places that they never saw.",
        format_table(header, rows),
        "![What the paper's figure becomes](generalisation.png)",
    ]


def _accuracy_and_auc(report: BinaryReport) -> str:
    area = NOT_MEASURED if report.auc is None else f"{report.auc.value:.3f}"
    return f"{format_proportion(report.accuracy)}, AUC {area}"
