"""The results page and the terminal's table: counts, intervals, the paper beside, and plain verdicts."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
from made_results import ERRORS, NORMAL, POSITIVE, make_costs, make_network, make_report, make_results

from covid_mm.config import NetworkConfig
from covid_mm.evaluation.intervals import difference_interval
from covid_mm.reporting.imagenet_gain import EARLIER, read_earlier
from covid_mm.reporting.paper_table import PAPER_TABLE
from covid_mm.reporting.results_tables import (
    compare_with_paper,
    compare_with_singles,
    render_results,
    summarise_results,
    title_network,
)
from covid_mm.reporting.tables import format_proportion

TOTAL = NORMAL + POSITIVE
PAIR = NetworkConfig.pair()


def wilson(successes: int, total: int) -> tuple[float, float]:
    """Per cent: the two roots of (p - x)^2 = z^2 x (1 - x) / n, which is how Wilson defines his bounds."""
    share, z = successes / total, 1.959963984540054
    a, b, c = 1 + z * z / total, -(2 * share + z * z / total), share * share
    root = math.sqrt(b * b - 4 * a * c)
    return 100 * (-b - root) / (2 * a), 100 * min((-b + root) / (2 * a), 1)


def say(successes: int, total: int) -> str:
    """A share as every table says it."""
    low, high = wilson(successes, total)
    return f"{successes}/{total} = {100 * successes / total:.2f} % ({low:.2f} to {high:.2f})"


def read_table(text: str, first: str) -> list[list[str]]:
    """The cells of the Markdown table whose header begins with `first`, the header left out."""
    lines = text.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"| {first} |"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def cut(text: str, title: str) -> str:
    """The section below a heading of the second level."""
    _, _, rest = text.partition(f"\n## {title}\n")
    assert rest, f"no section {title}"
    return rest.partition("\n## ")[0]


@pytest.fixture(scope="module")
def page() -> str:
    return render_results(make_results())


@pytest.mark.parametrize(("index", "title"), [(0, "paper's random split"), (1, "grouped split")])
def test_table_three_has_counts_intervals_and_the_papers_figures(page, index, title):
    rows = {row[0]: row[1:] for row in read_table(cut(page, f"Table III, {title}"), "network")}
    assert list(rows) == [paper.title for paper in PAPER_TABLE]
    for paper in PAPER_TABLE:
        missed, false_alarms = ERRORS[paper.name][index]
        cells = rows[paper.title]
        assert cells[:6] == [
            say(TOTAL - missed - false_alarms, TOTAL),
            f"{paper.accuracy:.2f}",
            say(POSITIVE - missed, POSITIVE),
            f"{paper.sensitivity:.2f}",
            say(NORMAL - false_alarms, NORMAL),
            f"{paper.specificity:.2f}",
        ]
        auc = make_report(missed, false_alarms).auc
        assert cells[6] == f"{auc.value:.4f} ({auc.low:.4f} to {auc.high:.4f})"


def test_each_row_names_its_initial_weights_and_what_was_trained(page):
    section = cut(page, "Table III, paper's random split")
    rows = {row[0]: row[1:] for row in read_table(section, "network | initial weights")}
    assert len(rows) == 9
    assert rows["DenseNet121 and MobileNet"] == [
        "CT: weights of densenet121; X-ray: weights of mobilenet",
        "the head, backbones frozen; 3 epochs of 100 steps of 32; best epoch 2 of 3",
        "8.1 million",
    ]
    assert section.count("python train.py --single vgg16\n") == 1  # named once, though two networks use it


@pytest.mark.parametrize(
    ("errors", "verdict", "intervals"),
    [
        ((5, 3), "it beats or equals both of its single networks", "the intervals overlap"),
        ((6, 3), "it beats or equals both of its single networks", "the intervals overlap"),  # as its X-ray
        ((7, 3), "it does NOT reach its better single network", "the intervals overlap"),
        ((60, 60), "it does NOT reach its better single network", "the intervals do not overlap"),
    ],
)
def test_a_pair_is_compared_with_its_better_single_network(errors, verdict, intervals):
    pair = dataclasses.replace(make_network(PAIR), report=make_report(*errors))
    sentence = compare_with_singles(make_results(), pair)
    assert verdict in sentence
    assert f"{intervals})." in sentence
    correct = TOTAL - sum(errors)
    assert f"({say(correct, TOTAL)} together, MobileNet (X-ray) alone {say(741, TOTAL)};" in sentence


def test_intervals_apart_are_said_when_the_pair_wins_too():
    results = make_results(
        networks=(
            make_network(PAIR),
            *(
                dataclasses.replace(make_network(NetworkConfig.single(b, m)), report=make_report(60, 60))
                for m, b in PAIR.branches
            ),
        )
    )
    sentence = compare_with_singles(results, results.networks[0])
    assert "as the paper claims" in sentence
    assert "do not overlap" in sentence


def test_singles_of_the_other_split_are_not_compared_with():
    results = make_results("grouped")
    sentence = compare_with_singles(results, make_network(PAIR, "paper"))
    assert "not all of its single networks are here to compare" in sentence


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        ((0, 0), "reaches the paper's 99.87 %, which of 750 studies leaves 1 wrong (0 wrong)."),
        ((1, 0), "reaches the paper's 99.87 %, which of 750 studies leaves 1 wrong (1 wrong)."),
        ((1, 1), "misses the paper's 99.87 %, which of 750 studies leaves 1 wrong, by 1 study (2 wrong)."),
        ((2, 2), "misses the paper's 99.87 %, which of 750 studies leaves 1 wrong, by 3 studies (4 wrong)."),
    ],
)
def test_what_is_missing_to_the_papers_accuracy_is_counted(errors, expected):
    pair = dataclasses.replace(make_network(PAIR), report=make_report(*errors))
    assert compare_with_paper(pair) == f"DenseNet121 and MobileNet {expected}"


def test_a_network_that_the_paper_has_not_is_said_to_be_one():
    stranger = dataclasses.replace(make_network(PAIR), name="vgg16-vgg16")
    assert title_network("vgg16-vgg16") == "vgg16-vgg16"
    assert compare_with_paper(stranger) == "vgg16-vgg16: the paper has no such network."
    text = render_results(make_results(networks=(stranger,)))
    assert "| vgg16-vgg16 |" in text
    assert "| n/a |" in text


def test_verdicts_stand_below_the_table_of_their_split(page):
    paper, grouped = (cut(page, f"Table III, {s}") for s in ("paper's random split", "grouped split"))
    assert paper.count("as the paper claims") == 2
    assert "- Xception and InceptionV3, paper's random split: it does NOT reach" in paper
    assert "DenseNet121 and MobileNet misses the paper's 99.87 %" in paper
    assert "misses the paper's" not in grouped  # another question: the paper has no such split
    assert grouped.count("grouped split: it ") == 3


def test_the_papers_optimism_is_the_difference_of_the_splits(page):
    section = cut(page, "The paper's optimism")
    rows = {row[0]: row[1:] for row in read_table(section, "network")}
    assert len(rows) == 9
    for paper in PAPER_TABLE:
        ours, theirs = (TOTAL - sum(errors) for errors in ERRORS[paper.name])
        difference = f"{100 * (ours - theirs) / TOTAL:+.2f}"
        assert rows[paper.title] == [say(ours, TOTAL), say(theirs, TOTAL), difference]
    assert rows["DenseNet121 (CT)"][2] == "+9.20"
    assert rows["MobileNet (X-ray)"][2] == "-0.27"
    assert "flatters" in section
    assert "optimism" not in render_results(make_results("paper"))


def test_the_four_possibilities_say_who_called_what_positive(page):
    rows = read_table(cut(page, "Table III, paper's random split"), "network | true labels")
    assert len(rows) == 12
    default = [row[1:] for row in rows if row[0] == "DenseNet121 and MobileNet"]
    assert default == [
        ["both normal", "100", say(1, 100), say(8, 100), say(2, 100)],
        ["both positive", "100", say(99, 100), say(97, 100), say(98, 100)],
        ["CT positive, X-ray normal", "100", say(41, 100), say(96, 100), say(3, 100)],
        ["CT normal, X-ray positive", "100", say(77, 100), say(9, 100), say(95, 100)],
    ]


def test_images_of_other_sources_have_a_table_of_their_own(page):
    rows = read_table(
        cut(page, "Table III, paper's random split").partition("### Images of other sources")[2], "network"
    )
    assert [row[0] for row in rows] == [
        f"{title} (X-ray): other-xray" for title in ("VGG16", "MobileNet", "InceptionV3")
    ]
    assert rows[0][1:5] == ["30 + 25", say(32, 55), say(22, 25), say(10, 30)]
    assert "Images of other sources" not in cut(page, "Table III, grouped split")


def test_table_one_stands_beside_the_papers(page):
    rows = read_table(cut(page, "Data"), "Table I")
    assert rows[0] == ["the paper, each modality", "random", "884", "866", "359", "391"]
    assert [row[:2] for row in rows[1:]] == [
        [f"{title}: made-up {m}", split]
        for split in ("paper's random split", "grouped split")
        for title, m in (("CT", "ct"), ("X-ray", "xray"))
    ]
    assert rows[1][2:] == ["884", "866", "359", "391"]


def test_what_concatenation_costs(page):
    section = cut(page, "What concatenation costs")
    (header,) = (line for line in section.splitlines() if line.startswith("|  |"))
    assert header.count("ratio") == 2
    assert "| DenseNet121 and MobileNet | 100 s | 125 s | 0.80 | 20.0 ms | 25.0 ms | 0.80 |" in section
    assert "| ResNet50 and VGG16 | 300 s | 310 s | 0.97 | 40.0 ms | 44.0 ms | 0.91 |" in section
    assert "3.0 times the training time and 2.0 times the time of one study" in section


def test_costs_that_were_not_measured_are_not_said():
    assert "concatenation costs" not in render_results(make_results(costs={}))
    costs = make_costs()
    half = {kind: rows[1:] for kind, rows in costs.items()}
    text = render_results(make_results(costs=half))
    assert "| DenseNet121 and MobileNet | 100 s |" in text
    assert "times the training time" not in text
    nothing = make_costs()
    nothing["training"][1]["singles_seconds"] = nothing["training"][1]["pair_seconds"] = 0.0
    assert "| 0 s | 0 s | 0.00 |" in render_results(make_results(costs=nothing))


def test_wall_times_say_what_was_reused(page):
    rows = read_table(cut(page, "Wall time"), "split")
    assert rows[:3] == [
        ["paper's random split", "all", "images read, split and decoded", "", "3.0"],
        ["paper's random split", "ResNet50 (CT)", "heads fitted", "", "12.5"],
        *[
            [
                "paper's random split",
                "ResNet50 (CT)",
                "ResNet50 features",
                "from an earlier run or network",
                "0.1",
            ]
        ],
    ]
    assert len(rows) == 6


def test_the_page_says_what_it_is(page):
    assert "Research use only, not for diagnosis." in page
    assert "- a note on the grouped split" in page
    assert "```\npython train.py --pair all --split paper\n" in page
    assert "51 of its 3,937 are COVID-19" in page
    assert "Synthetic phantoms" not in page
    assert "**Synthetic phantoms, not patients" in render_results(make_results(synthetic=True))


def test_the_terminals_table_is_straight():
    lines = summarise_results(make_results()).splitlines()
    assert len(lines) == 19
    columns = ("split", "accuracy", "95 % interval", "AUC", "paper")
    starts = [lines[0].index(name) for name in columns]
    for line in lines[1:]:
        assert all(line[start - 2 : start] == "  " and line[start] != " " for start in starts), line
    low, high = wilson(746, TOTAL)
    row = lines[2].split("  ")
    assert [cell.strip() for cell in row if cell][:4] == [
        *("densenet121-mobilenet", "paper", "746/750 = 99.47 %", f"{low:.2f} to {high:.2f}")
    ]
    assert lines[2].endswith("99.87")
    assert lines[11].startswith("densenet121-mobilenet  grouped")


def test_what_could_not_be_measured_is_said_so():
    network = make_network(NetworkConfig.single("vgg16", "xray"))
    bare = dataclasses.replace(network.report, sensitivity=None, auc=None)
    results = make_results(networks=(dataclasses.replace(network, report=bare),))
    assert summarise_results(results).splitlines()[1].count("n/a") == 2
    (row,) = read_table(render_results(results), "network")
    assert (row[3], row[7]) == ("n/a", "n/a")


def test_what_imagenet_buys_is_a_difference_with_its_interval(tmp_path):
    now = make_results(
        networks=tuple(
            dataclasses.replace(n, training={"restored_epoch": "last"}) for n in make_results().networks
        )
    )
    then = make_results(
        networks=(
            dataclasses.replace(
                make_network(PAIR),
                report=make_report(30, 20),
                initial_weights={
                    m: {"kind": "random", "origin": "random weights", "commands": []} for m in ("ct", "xray")
                },
            ),
        )
    )
    assert read_earlier(tmp_path) is None
    assert "What ImageNet buys" not in render_results(now)
    folder = tmp_path / EARLIER
    folder.mkdir()
    (folder / "results.json").write_text(json.dumps(then.to_dict()))
    text = render_results(now, read_earlier(tmp_path))
    section = cut(text, "What ImageNet buys")
    assert "\n### What ImageNet buys, paper's random split\n" in section
    assert "grouped" not in section  # there is nothing to compare with there
    (row,) = read_table(section, "network | from ImageNet")
    theirs = then.networks[0].report.accuracy
    assert row[:3] == [
        "DenseNet121 and MobileNet",
        format_proportion(find_pair(now)),
        format_proportion(theirs),
    ]
    low, high = difference_interval(find_pair(now), theirs)
    change = find_pair(now).value - theirs.value
    assert row[3] == "CT: random weights; X-ray: random weights"
    assert row[4] == f"{100 * change:+.2f} ({100 * low:+.2f} to {100 * high:+.2f})"
    assert low < change < high


def find_pair(results):
    return results.find(PAIR.name, "paper").report.accuracy


def test_an_epoch_chosen_on_the_validation_images_is_said():
    chosen = "The best epoch was chosen on the validation images that the figures are of: "
    results = make_results()
    assert f"- {chosen}all networks.\n" in render_results(results)
    first, *others = (
        dataclasses.replace(n, training=n.training | {"kept_epoch": "last"}) for n in results.networks
    )
    last = make_results(networks=(first, *others))
    assert chosen not in render_results(last)
    assert "; epoch 2 of 3" in render_results(last)
    mixed = make_results(networks=(results.networks[0], *others))
    assert f"- {chosen}ResNet50 and VGG16 (paper's random split).\n" in render_results(mixed)


def test_a_row_goes_from_the_paper_to_another_source():
    assert "What the paper's figure becomes" not in render_results(
        make_results(networks=(make_network(PAIR),))
    )
    elsewhere = {"one hospital": make_report(40, 100), "another": make_report(100, 200)}
    pair = make_network(PAIR, external=elsewhere)
    single = make_network(NetworkConfig.single("mobilenet", "xray"), external={"films": make_report(9, 9)})
    page = render_results(make_results(networks=(pair, single, make_network(PAIR, "grouped"))))
    rows = read_table(cut(page, "What the paper's figure becomes"), "network | the paper")
    first, second = ERRORS[PAIR.name]
    areas = [f", AUC {report.auc.value:.3f}" for report in elsewhere.values()]
    assert rows[0] == [
        "DenseNet121 and MobileNet",
        "99.87 %",
        say(TOTAL - sum(first), TOTAL),
        say(TOTAL - sum(second), TOTAL),
        f"one hospital: {say(TOTAL - 140, TOTAL)}{areas[0]}",
        f"another: {say(TOTAL - 300, TOTAL)}{areas[1]}",
    ]
    assert rows[1][3] == "n/a"  # not trained on the grouped split
    assert rows[1][5] == "n/a"  # measured on one other source only
