"""What the paper's figure becomes: one line per network, from the paper to images of other hospitals."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from matplotlib.figure import Figure

from covid_mm.config import DEFAULT_PAIR, MODALITIES, join_titles
from covid_mm.evaluation.intervals import Proportion
from covid_mm.evaluation.results import NetworkResult, Results
from covid_mm.reporting.figures.canvas import BLUE, FONT_SIZE, GREEN, GREY, ORANGE, make_panels
from covid_mm.reporting.paper_table import find_paper_row

COLOURS = {"pair": BLUE} | dict(zip(MODALITIES, (ORANGE, GREEN), strict=False))
KINDS = {"pair": f"{join_titles(MODALITIES)} together"} | {
    m: f"{one.title} alone" for m, one in MODALITIES.items()
}
_STEPS = ("the paper,\nTable III", "the same protocol,\nhere", "other patients\n(grouped split)")


def trace_network(results: Results, network: NetworkResult) -> list[Proportion | None]:
    """A network's accuracy on the random split, on other patients, and on each other source in turn.

    network: of the random split. The second is of the network trained anew on the grouped split; None
    where it is not there.
    """
    grouped = results.find(network.name, "grouped")
    elsewhere = [report.accuracy for report in network.external.values()]
    return [network.report.accuracy, None if grouped is None else grouped.report.accuracy, *elsewhere]


def draw_generalisation(results: Results) -> Figure | None:
    """Accuracy of every network in the paper, here, on other patients and from other sources.

    None where no network of the random split was measured on another source.
    """
    networks = [n for n in results.networks if n.protocol == "paper" and n.external]
    if not networks:
        return None
    sources = _name_sources(networks)
    figure, (axes,) = make_panels(1, columns=1, width=9.6, height=5.4)
    axes.axhline(50, color=GREY, linewidth=0.8, linestyle=":")
    axes.text(-0.3, 50.6, "tossing a coin", color=GREY, fontsize=FONT_SIZE - 2)
    named: set[str] = set()
    for network in networks:
        kind = "pair" if network.is_concatenated else network.branches[0][0]
        paper, steps = find_paper_row(network.name), trace_network(results, network)
        values = [None if paper is None else paper.accuracy]
        values += [None if step is None else 100 * step.value for step in steps]
        columns = [column for column, value in enumerate(values) if value is not None]
        heights = [value for value in values if value is not None]
        chosen = network.name == DEFAULT_PAIR
        axes.plot(
            columns,
            heights,
            color=COLOURS[kind],
            linewidth=3.4 if chosen else 1.4,
            alpha=1.0 if chosen else 0.75,
            marker="o",
            markersize=7 if chosen else 4,
            label=None if kind in named else KINDS[kind],
            zorder=3 if chosen else 2,
        )
        named.add(kind)
        if chosen:
            for column, height in zip(columns, heights, strict=True):
                # elsewhere the lines come from above, so the label stands aside
                inside = column < len(_STEPS)
                axes.annotate(
                    f"{height:.2f} %" if inside else f"{height:.0f} %",
                    (column, height),
                    (0, 9) if inside else (10, -4),
                    textcoords="offset points",
                    ha="center" if inside else "left",
                    fontweight="bold",
                    color=COLOURS[kind],
                )
    names = (textwrap.fill(name, 24, break_on_hyphens=False) for name in sources)
    titles = [*_STEPS, *(f"another source:\n{name}" for name in names)]
    axes.set_xticks(range(len(titles)), titles)
    axes.set_xlim(-0.35, len(titles) - 0.5)
    axes.set_ylim(20, 106)
    axes.set_ylabel("accuracy, %")
    axes.legend(frameon=False, loc="lower left", title=f"thick: {_title_pair()}", alignment="left")
    return figure


def _title_pair() -> str:
    """The default pair as the paper prints it."""
    row = find_paper_row(DEFAULT_PAIR)
    return DEFAULT_PAIR if row is None else row.title


def _name_sources(networks: Sequence[NetworkResult]) -> list[str]:
    """The other sources, as the network that reads most of them names them."""
    widest = max(networks, key=lambda network: (network.is_concatenated, len(network.external)))
    return list(widest.external)
