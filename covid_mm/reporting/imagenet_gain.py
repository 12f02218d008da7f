"""What ImageNet's weights buy: the same nine networks trained from them and, earlier, without them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from covid_mm.config import MODALITIES, SplitProtocol
from covid_mm.evaluation.intervals import difference_interval
from covid_mm.evaluation.results import RESULTS_NAME, NetworkResult, Results, read_results
from covid_mm.reporting.paper_table import find_paper_row
from covid_mm.reporting.tables import format_proportion, format_table

EARLIER = "random-weights"  # in the results folder: a results.json of networks that began without ImageNet


def read_earlier(folder: Path) -> Results | None:
    """The earlier networks of a results folder, None where it keeps none. Raises DataError for a damaged file."""
    return read_results(folder / EARLIER) if (folder / EARLIER / RESULTS_NAME).exists() else None


def render_gain(results: Results, earlier: Results | None, titles: Mapping[SplitProtocol, str]) -> list[str]:
    """The section as Markdown parts: a table a split; empty where there is nothing to compare.

    titles: of the splits, by protocol.
    """
    parts: list[str] = []
    for protocol in results.protocols:
        pairs = [
            (network, before)
            for network in results.networks
            if network.protocol == protocol
            and earlier is not None
            and (before := earlier.find(network.name, protocol)) is not None
        ]
        if pairs:
            parts += [f"### What ImageNet buys, {titles[protocol]}", _gain_table(pairs)]
    if not parts:
        return []
    return [
        "## What ImageNet buys",
        "The same networks on the same split as they were trained before ImageNet's weights could be had here:"
        f" the whole of those results is in `{EARLIER}/`. The difference is in points of accuracy; its 95 % interval"
        " takes the two as independent (Newcombe), which is too wide for answers on the same images, not too"
        " narrow. Both trainings differ in their stages too, and VGG16 began from the same edge detector in both, so"
        " its difference is what fine-tuning gave.",
        *parts,
    ]


def _gain_table(pairs: list[tuple[NetworkResult, NetworkResult]]) -> str:
    rows = []
    for now, before in pairs:
        ours, theirs = now.report.accuracy, before.report.accuracy
        low, high = difference_interval(ours, theirs)
        paper = find_paper_row(now.name)
        starts = [f"{MODALITIES[m].title}: {start['origin']}" for m, start in before.initial_weights.items()]
        rows.append(
            [
                now.name if paper is None else paper.title,
                format_proportion(ours),
                format_proportion(theirs),
                "; ".join(starts),
                f"{100 * (ours.value - theirs.value):+.2f} ({100 * low:+.2f} to {100 * high:+.2f})",
            ]
        )
    return format_table(["network", "from ImageNet", "before", "began then from", "difference, points"], rows)
