"""results/README.md and the terminal's summary, drawn from results.json alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from covid_mm.config import (
    CLASS_TITLES,
    CLASSES,
    DEFAULT_PAIR,
    MODALITIES,
    PAIRS,
    RESEARCH_USE,
    SplitProtocol,
    TableI,
    read_restored_epoch,
)
from covid_mm.evaluation.metrics import ConfusionMatrix
from covid_mm.evaluation.results import (
    POSSIBILITY_TITLES,
    PROTOCOL_TITLES,
    InferenceCost,
    NetworkResult,
    Results,
    TrainingCost,
)
from covid_mm.reporting.card_tables import metrics_table
from covid_mm.reporting.generalisation_table import render_generalisation
from covid_mm.reporting.imagenet_gain import render_gain
from covid_mm.reporting.paper_table import find_paper_row
from covid_mm.reporting.tables import format_estimate, format_proportion, format_table

LIMITS = (
    "X-ray positives are CoronaHack's pneumonia films, mostly bacterial and viral pneumonia of children; 51 of"
    " its 3,937 are COVID-19. The paper calls them COVID-19, and its protocol is what is reproduced.",
    "In the paper's random split slices of one patient lie on both sides; the grouped split keeps patients and"
    " clusters of like slices together.",
    "A CT slice and an X-ray are paired because they bear the same label, not because they are of one patient:"
    " two independent looks at the label, which flatters every concatenated network.",
    "The temperature was fitted on the validation images that the figures are of; it changes no answer.",
)
CHOSEN_EPOCH = "The best epoch was chosen on the validation images that the figures are of: {networks}."


def render_results(results: Results, earlier: Results | None = None) -> str:
    """The whole results page as Markdown, figures linked. earlier: the networks without ImageNet's weights."""
    parts = [
        "# The paper's nine networks, reproduced",
        f"{RESEARCH_USE} This is research software, not a medical device.",
        *(
            ["**Synthetic phantoms, not patients: this means nothing for a person.**"]
            if results.synthetic
            else []
        ),
        f"Made {results.created} on {results.machine}, seed {results.seed}, by",
        f"```\n{results.command}\n```",
        "Everything here is drawn from `results.json`; `python -m covid_mm figures DIR` draws it again.",
        "How to read it:\n\n"
        + "\n".join(f"- {limit}" for limit in (*LIMITS, *_name_chosen(results), *results.notes)),
    ]
    for protocol in results.protocols:
        parts += _render_protocol(results, protocol)
    parts += [*render_generalisation(results), *_compare_protocols(results)]
    parts += [*render_gain(results, earlier, PROTOCOL_TITLES)]
    parts += ["## Data", _data_table(results)]
    parts += ["![Examples and histograms](figure-1-data.png)", "![Architecture](figure-2-architecture.png)"]
    parts += [*_costs(results), "## Wall time", _steps_table(results)]
    return "\n\n".join(parts) + "\n"


def _name_chosen(results: Results) -> list[str]:
    """Which networks' epoch was chosen on the images that they are measured on; none keeping the last."""
    chosen = [n for n in results.networks if read_restored_epoch(n.training) == "best"]
    if len(chosen) == len(results.networks):
        return [CHOSEN_EPOCH.format(networks="all networks")]
    names = dict.fromkeys(f"{title_network(n.name)} ({PROTOCOL_TITLES[n.protocol]})" for n in chosen)
    return [CHOSEN_EPOCH.format(networks=", ".join(names))] if chosen else []


def summarise_results(results: Results) -> str:
    """A plain table of all networks for the terminal."""
    header = ("network", "split", "accuracy", "95 % interval", "sensitivity", "specificity", "AUC", "paper")
    rows: list[tuple[str, ...]] = [header]
    for network in results.networks:
        report, paper = network.report, find_paper_row(network.name)
        rows.append(
            (
                network.name,
                network.protocol,
                f"{report.counts.correct}/{report.counts.total} = {100 * report.accuracy.value:.2f} %",
                f"{100 * report.accuracy.low:.2f} to {100 * report.accuracy.high:.2f}",
                *(
                    "n/a" if share is None else f"{100 * share.value:.2f}"
                    for share in (report.sensitivity, report.specificity)
                ),
                "n/a" if report.auc is None else f"{report.auc.value:.4f}",
                "n/a" if paper is None else f"{paper.accuracy:.2f}",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(line.rstrip() for line in lines)


def title_network(name: str) -> str:
    """A network's name as the paper prints it."""
    paper = find_paper_row(name)
    return name if paper is None else paper.title


def compare_with_singles(results: Results, network: NetworkResult) -> str:
    """One sentence: does a concatenated network beat or equal both its single ones, as the paper claims?"""
    singles = [results.find("-".join(branch), network.protocol) for branch in network.branches]
    measured = [single for single in singles if single is not None]
    title = f"{title_network(network.name)}, {PROTOCOL_TITLES[network.protocol]}:"
    ours = network.report.accuracy
    if len(measured) < len(network.branches):
        return f"{title} {format_proportion(ours)}; not all of its single networks are here to compare."
    best = max(measured, key=lambda single: single.report.accuracy.value)
    theirs = best.report.accuracy
    sides = (
        f"{format_proportion(ours)} together, {title_network(best.name)} alone {format_proportion(theirs)}"
    )
    if ours.value >= theirs.value:
        verdict = "it beats or equals both of its single networks, as the paper claims"
    else:
        verdict = "it does NOT reach its better single network, against the paper's claim"
    apart = ours.low > theirs.high or theirs.low > ours.high
    intervals = "the intervals do not overlap" if apart else "the intervals overlap"
    return f"{title} {verdict} ({sides}; {intervals})."


def compare_with_paper(network: NetworkResult) -> str:
    """One sentence: by how many studies a network misses, reaches or passes the paper's accuracy."""
    paper = find_paper_row(network.name)
    counts = network.report.counts
    title = title_network(network.name)
    if paper is None:
        return f"{title}: the paper has no such network."
    needed = _errors_allowed(paper.counts, counts.total)
    errors = counts.total - counts.correct
    asked = f"the paper's {paper.accuracy:.2f} %, which of {counts.total} studies leaves {needed} wrong"
    if errors > needed:
        more = errors - needed
        return f"{title} misses {asked}, by {more} {'study' if more == 1 else 'studies'} ({errors} wrong)."
    return f"{title} reaches {asked} ({errors} wrong)."


def _errors_allowed(paper: ConfusionMatrix, total: int) -> int:
    """Wrong answers among `total` that round to the paper's accuracy."""
    return round((paper.total - paper.correct) / paper.total * total)


def _render_protocol(results: Results, protocol: SplitProtocol) -> list[str]:
    networks = [network for network in results.networks if network.protocol == protocol]
    pairs = [network for network in networks if network.is_concatenated]
    verdicts = [compare_with_singles(results, network) for network in pairs]
    if protocol == "paper":
        verdicts += [compare_with_paper(network) for network in pairs if network.name == DEFAULT_PAIR]
    parts = [
        f"## Table III, {PROTOCOL_TITLES[protocol]}",
        _table_three(networks),
        "\n".join(f"- {verdict}" for verdict in verdicts),
        "What each began from and what of it was trained:",
        _weights_table(networks),
        f"![Confusion matrices of the concatenated networks](figure-3-{protocol}.png)",
        f"![Confusion matrices of the single networks](figure-4-{protocol}.png)",
        f"![ROC curves](roc-{protocol}.png)",
        f"![Training curves](training-{protocol}.png)",
    ]
    if any(network.possibilities for network in pairs):
        parts += [
            f"### The four possibilities, {PROTOCOL_TITLES[protocol]}",
            "Validation images paired anew, each at most once per row, and the share called positive at the"
            " operating threshold (95 % interval). Training pairs always agreed, so no network saw a disagreeing one"
            " in training.",
            _possibilities_table(pairs),
            f"![Four possibilities](possibilities-{protocol}.png)",
        ]
    external = {
        f"{title_network(network.name)}: {name}": report
        for network in networks
        for name, report in network.external.items()
    }
    if external:
        parts += [
            f"### Images of other sources, networks of the {PROTOCOL_TITLES[protocol]}",
            "Never trained on. Pairs are of one class, each image at most once.",
            metrics_table(external),
        ]
    return parts


def _table_three(networks: Iterable[NetworkResult]) -> str:
    rows = []
    for network in networks:
        report, paper = network.report, find_paper_row(network.name)
        rows.append(
            [
                title_network(network.name),
                format_proportion(report.accuracy),
                _paper_cell(paper, lambda row: row.accuracy),
                "n/a" if report.sensitivity is None else format_proportion(report.sensitivity),
                _paper_cell(paper, lambda row: row.sensitivity),
                "n/a" if report.specificity is None else format_proportion(report.specificity),
                _paper_cell(paper, lambda row: row.specificity),
                "n/a" if report.auc is None else format_estimate(report.auc),
            ]
        )
    measures = ("accuracy", "sensitivity", "specificity")
    header = ["network", *(cell for m in measures for cell in (f"{m} (95 % interval)", "paper, %")), "AUC"]
    return format_table(header, rows)


def _paper_cell(paper: object, choose: Callable[..., float]) -> str:
    return "n/a" if paper is None else f"{choose(paper):.2f}"


def _weights_table(networks: Iterable[NetworkResult]) -> str:
    rows = []
    for network in networks:
        starts = [
            f"{MODALITIES[modality].title}: {weights['origin']}"
            for modality, weights in network.initial_weights.items()
        ]
        word = "epoch" if read_restored_epoch(network.training) == "last" else "best epoch"
        best = f"{word} {network.best_epoch} of {len(network.history)}"
        rows.append(
            [
                title_network(network.name),
                "; ".join(starts),
                f"{network.trained}; {best}",
                f"{network.parameters / 1e6:.1f} million",
            ]
        )
    commands = dict.fromkeys(
        command
        for network in networks
        for weights in network.initial_weights.values()
        for command in weights["commands"]
    )
    table = format_table(["network", "initial weights", "trained here", "weights"], rows)
    if not commands:
        return table
    lines = "\n".join(commands)
    return f"{table}\n\nThe commands that made those weights, oldest first for each:\n\n```\n{lines}\n```"


def _possibilities_table(pairs: Iterable[NetworkResult]) -> str:
    rows = [
        [
            title_network(network.name),
            POSSIBILITY_TITLES[part.kind],
            str(part.studies),
            format_proportion(part.called_positive),
            format_proportion(part.ct_called_positive),
            format_proportion(part.xray_called_positive),
        ]
        for network in pairs
        for part in network.possibilities
    ]
    positive = f"called {CLASS_TITLES[CLASSES[1]]}"
    header = [
        "network",
        "true labels",
        "pairs",
        f"{positive} together",
        "by the CT alone",
        "by the X-ray alone",
    ]
    return format_table(header, rows)


def _compare_protocols(results: Results) -> list[str]:
    rows = []
    for network in results.networks:
        grouped = results.find(network.name, "grouped")
        if network.protocol != "paper" or grouped is None:
            continue
        ours, theirs = network.report.accuracy, grouped.report.accuracy
        rows.append(
            [
                title_network(network.name),
                format_proportion(ours),
                format_proportion(theirs),
                f"{100 * (ours.value - theirs.value):+.2f}",
            ]
        )
    if not rows:
        return []
    return [
        "## The paper's optimism",
        "The same networks with no patient and no cluster of like slices on both sides. The difference is what"
        " the paper's split flatters them by, as far as both were trained alike; the commands above tell where"
        " they were not.",
        format_table(["network", "paper's split", "grouped split", "difference, points"], rows),
    ]


def _data_table(results: Results) -> str:
    table = TableI()
    paper = [
        str(table.train_normal),
        str(table.train_positive),
        str(table.normal - table.train_normal),
        str(table.positive - table.train_positive),
    ]
    rows = [["the paper, each modality", "random", *paper]]
    rows += [
        [
            f"{MODALITIES[part.modality].title}: {part.name}",
            PROTOCOL_TITLES[part.protocol],
            *map(str, (*part.train, *part.validation)),
        ]
        for part in results.data
    ]
    header = [
        "Table I",
        "split",
        "training normal",
        "training positive",
        "validation normal",
        "validation positive",
    ]
    return format_table(header, rows)


def _costs(results: Results) -> list[str]:
    training = {row["pair"]: row for row in results.costs.get("training", [])}
    inference = {row["pair"]: row for row in results.costs.get("inference", [])}
    if not training:
        return []
    rows = []
    for name in (pair for pair in PAIRS if pair in training and pair in inference):
        time, answer = training[name], inference[name]
        rows.append(
            [
                title_network(name),
                f"{time['pair_seconds']:.0f} s",
                f"{time['singles_seconds']:.0f} s",
                f"{time['pair_seconds'] / max(time['singles_seconds'], 1e-9):.2f}",
                f"{answer['pair_ms']:.1f} ms",
                f"{answer['singles_ms']:.1f} ms",
                f"{answer['pair_ms'] / max(answer['singles_ms'], 1e-9):.2f}",
            ]
        )
    header = ["", "training, pair", "its two singles", "ratio", "one study, pair", "its two singles", "ratio"]
    return [
        "## What concatenation costs",
        "The paper says that two single networks together take about as long as their concatenation. Training:"
        " the backbones' outputs, which both ways need once, and the fits. One study: the compiled forward"
        f" pass, median. {_compare_pairs(training, inference)}",
        format_table(header, rows),
    ]


def _compare_pairs(training: dict[str, TrainingCost], inference: dict[str, InferenceCost]) -> str:
    ours, other = DEFAULT_PAIR, "resnet50-vgg16"
    if not {ours, other} <= training.keys() & inference.keys():
        return ""
    trained = training[other]["pair_seconds"] / max(training[ours]["pair_seconds"], 1e-9)
    answered = inference[other]["pair_ms"] / max(inference[ours]["pair_ms"], 1e-9)
    return (
        f"{title_network(other)} against {title_network(ours)}, which the paper recommends as the faster:"
        f" {trained:.1f} times the training time and {answered:.1f} times the time of one study."
    )


def _steps_table(results: Results) -> str:
    rows = [
        [
            PROTOCOL_TITLES[step.protocol] if step.protocol else "",
            title_network(step.network) if step.network else "all",
            step.name,
            "from an earlier run or network" if step.reused else "",
            f"{step.seconds:.1f}",
        ]
        for step in results.steps
    ]
    return format_table(["split", "network", "step", "reused", "seconds"], rows)
