"""The figures: each as PNG and SVG, with labels that are text and the numbers that were measured."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from made_results import ERRORS, NORMAL, POSITIVE, make_report, make_results
from PIL import Image
from toy_networks import make_network, toy_backbones

from covid_mm.config import CLASSES, MODALITIES, NetworkConfig
from covid_mm.evaluation.results import Results
from covid_mm.models.network import build_network
from covid_mm.reporting.figures import draw_results
from covid_mm.reporting.figures.architecture import draw_architecture
from covid_mm.reporting.figures.canvas import save_figure
from covid_mm.reporting.figures.generalisation import draw_generalisation
from covid_mm.reporting.figures.results import (
    draw_confusion_matrices,
    draw_examples,
    draw_possibilities,
    draw_roc_curves,
    draw_training_curves,
)
from covid_mm.reporting.results_tables import render_results

SPLITS = ("paper", "grouped")
PAIR = ("densenet121-mobilenet", "ct-densenet121", "xray-mobilenet")
EXAMPLES = {(m, c): np.random.default_rng(3).uniform(0, 255, (30, 30)) for m in MODALITIES for c in CLASSES}


def choose(*names: str, protocol: str = "paper") -> list:
    """Results of these networks, in this order."""
    results = make_results()
    return [results.find(name, protocol) for name in names]


def read_texts(path: Path) -> list[str]:
    """What an SVG says, a string a line of text; fails where it is no XML."""
    root = ElementTree.parse(path).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    return ["".join(part.itertext()).strip() for part in root.iter("{http://www.w3.org/2000/svg}text")]


def read_figure(figure: object, folder: Path) -> str:
    """A figure's texts as its SVG has them, one line after another."""
    save_figure(figure, folder, "figure")
    return "\n".join(read_texts(folder / "figure.svg"))


@pytest.fixture(scope="module")
def small_results() -> Results:
    """One pair with its two single networks on the paper's split, the pair alone on the other."""
    return make_results(networks=(*choose(*PAIR), *choose(PAIR[0], protocol="grouped")))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory, small_results) -> Path:
    """The folder with every figure of them."""
    folder = tmp_path_factory.mktemp("figures")
    with toy_backbones():
        draw_results(small_results, folder, examples=EXAMPLES, examples_are="made up")
    return folder


def test_every_figure_is_a_picture_and_a_drawing_with_text(drawn):
    names = {path.stem for path in drawn.iterdir()}
    both = {
        f"{kind}-{split}" for kind in ("figure-3", "roc", "training", "possibilities") for split in SPLITS
    }
    assert names == both | {"figure-1-data", "figure-2-architecture", "figure-4-paper", "generalisation"}
    assert {path.name for path in drawn.iterdir()} == {
        f"{n}.{kind}" for n in names for kind in ("png", "svg")
    }
    for name in names:
        with Image.open(drawn / f"{name}.png") as image:
            assert min(image.size) > 200, name
            assert len(np.unique(np.asarray(image.convert("L")))) > 20, name  # not blank
        assert len([text for text in read_texts(drawn / f"{name}.svg") if text]) >= 6, name


def test_the_page_links_to_every_figure_and_to_no_other(drawn, small_results):
    linked = [part.partition(")")[0] for part in render_results(small_results).split("](")[1:]]
    ours = [name for name in linked if name != "figure-4-grouped.png"]  # no single network on that split here
    assert sorted(ours) == sorted(path.name for path in drawn.glob("*.png"))


def test_the_same_numbers_give_the_same_bytes(tmp_path):
    for name in ("first", "second"):
        save_figure(draw_confusion_matrices(choose(PAIR[0])), tmp_path, name)
    for kind in ("png", "svg"):
        assert (tmp_path / f"first.{kind}").read_bytes() == (tmp_path / f"second.{kind}").read_bytes()


def test_confusion_matrices_show_counts_and_shares(tmp_path):
    text = read_figure(draw_confusion_matrices(choose("densenet121-mobilenet", "ct-xception")), tmp_path)
    lines = text.splitlines()
    for name in ("densenet121-mobilenet", "ct-xception"):
        missed, false_alarms = ERRORS[name][0]
        for count, of in ((missed, POSITIVE), (POSITIVE - missed, POSITIVE), (false_alarms, NORMAL)):
            assert str(count) in lines
            assert f"{100 * count / of:.1f} %" in lines
        assert f"accuracy {100 * (750 - missed - false_alarms) / 750:.2f} %" in lines
    for label in ("truly", "called", "normal", "pneumonia", "DenseNet121", "and MobileNet", "Xception (CT)"):
        assert label in lines


def test_a_confusion_matrix_has_its_rows_and_columns_in_place():
    figure = draw_confusion_matrices(choose("ct-xception"))
    (axes,) = figure.axes
    cells = {(t.get_position()[1], t.get_position()[0]): t.get_text().split("\n")[0] for t in axes.texts}
    missed, false_alarms = ERRORS["ct-xception"][0]
    counts = (NORMAL - false_alarms, false_alarms, missed, POSITIVE - missed)
    assert cells == {(row, column): str(counts[2 * row + column]) for row in (0, 1) for column in (0, 1)}
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("called", "truly")
    shown = np.asarray(axes.images[0].get_array())
    np.testing.assert_allclose(shown.sum(axis=1), 1)


def test_roc_curves_name_their_area_with_its_interval(tmp_path):
    networks = choose(*PAIR)
    figure = draw_roc_curves(networks)
    assert [axes.get_title() for axes in figure.axes] == ["concatenated", "CT alone", "X-ray alone"]
    for axes, network in zip(figure.axes, networks, strict=True):
        line = axes.lines[1]  # after the diagonal
        assert tuple(line.get_xdata()) == network.roc.false_positive_rate
        assert tuple(line.get_ydata()) == network.roc.true_positive_rate
    text = read_figure(figure, tmp_path)
    auc = networks[1].report.auc
    assert f"AUC {auc.value:.4f} ({auc.low:.4f} to {auc.high:.4f})" in text
    assert "1 - specificity" in text


def test_curves_without_an_area_or_of_one_kind_alone_are_drawn():
    (network,) = choose("xray-vgg16")
    without = dataclasses.replace(network, report=dataclasses.replace(network.report, auc=None))
    (axes,) = draw_roc_curves([without]).axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["VGG16"]


def test_training_curves_show_every_epoch_and_the_best():
    (network,) = choose("xray-vgg16")
    loss, accuracy = draw_training_curves([network]).axes
    for axes, key in ((loss, "loss"), (accuracy, "accuracy")):
        training, validation, best = axes.lines
        assert list(training.get_xdata()) == [1, 2, 3]
        assert list(training.get_ydata()) == [row[key] for row in network.history]
        assert list(validation.get_ydata()) == [row[f"val_{key}"] for row in network.history]
        assert set(best.get_xdata()) == {network.best_epoch}
        assert axes.get_title().endswith(key)
    assert [text.get_text() for text in loss.get_legend().get_texts()] == [
        *("training", "validation", "best epoch")
    ]


def test_possibilities_are_bars_with_intervals():
    (pair,) = choose("densenet121-mobilenet")
    (axes,) = draw_possibilities([pair]).axes
    heights = [bar.get_height() for bar in axes.patches]
    expected = [
        100 * getattr(part, name).value
        for part in pair.possibilities
        for name in ("called_positive", "ct_called_positive", "xray_called_positive")
    ]
    assert heights == pytest.approx(expected)
    ends = sorted(y for bars in axes.collections for line in bars.get_segments() for y in line[:, 1])
    shares = [
        getattr(part, name)
        for part in pair.possibilities
        for name in ("called_positive", "ct_called_positive", "xray_called_positive")
    ]
    assert ends == pytest.approx(sorted(100 * end for share in shares for end in (share.low, share.high)))
    assert [label.get_text() for label in axes.get_xticklabels()][2] == "CT positive\nX-ray normal"


def test_examples_stand_beside_their_histograms(tmp_path):
    black = dict.fromkeys(EXAMPLES, np.zeros((10, 10)))
    figure = draw_examples(make_results("paper"), black, "synthetic phantom")
    assert len(figure.axes) == 12
    own, mean = figure.axes[1], figure.axes[2]
    assert own.patches[0].get_data().values[0] == 100  # all pixels in the darkest bin
    np.testing.assert_allclose(mean.patches[0].get_data().values, 100 / 64)
    text = read_figure(figure, tmp_path)
    for label in ("CT: Normal", "X-ray: COVID-19 pneumonia", "(synthetic phantom)", "% of pixels"):
        assert label in text
    assert "mean of 884 training images" in text
    assert "mean of 866 training images" in text


def test_the_architecture_is_read_off_the_graph(small_backbones, tmp_path):
    network = make_network(size=75, head_width=20, dropout=0.25)
    text = read_figure(draw_architecture(network), tmp_path)
    channels = network.features("ct").shape[-1]
    evidence = network.evidence("ct")
    for label in (
        "75 x 75 x 3, 0 to 255",
        f"gives {' x '.join(map(str, evidence.shape[1:]))}",
        f"{channels} features",
        f"{2 * channels} features",
        "dropout 0.25",
        "fully connected, ReLU",
        "X-ray alone:",
    ):
        assert label in text, label
    assert "\n20\n" in text  # the width of the fully connected layer
    for modality, title in (("ct", "DenseNet121"), ("xray", "MobileNet")):
        assert f"{title}, {len(network.branch_layers(modality))} layers with weights," in text


def test_a_single_network_has_one_column_and_no_concatenation(small_backbones, tmp_path):
    network = build_network(NetworkConfig.single("vgg16", "xray", image_size=60))
    text = read_figure(draw_architecture(network), tmp_path)
    assert "VGG16" in text
    assert "CT" not in text
    assert "concatenation" not in text


def test_one_line_a_network_goes_from_the_paper_to_other_hospitals(tmp_path):
    elsewhere = {"one hospital": make_report(40, 100), "another": make_report(100, 200)}
    networks = [dataclasses.replace(n, external=elsewhere) for n in choose(*PAIR)]
    results = make_results(networks=(*networks, *choose(PAIR[0], protocol="grouped")))
    (axes,) = draw_generalisation(results).axes
    lines = [line for line in axes.lines if len(line.get_xdata()) > 2]
    pair = networks[0]
    share = [pair.report.accuracy, results.find(PAIR[0], "grouped").report.accuracy]
    share += [report.accuracy for report in elsewhere.values()]
    assert list(lines[0].get_ydata()) == pytest.approx([99.87, *(100 * part.value for part in share)])
    assert list(lines[1].get_xdata()) == [0, 1, 3, 4]  # never trained on the grouped split
    text = read_figure(draw_generalisation(results), tmp_path)
    for words in ("99.87 %", f"{100 * share[0].value:.2f} %", "one hospital", "CT alone", "X-ray alone"):
        assert words in text
    assert draw_generalisation(make_results(networks=choose(PAIR[0]))) is None
