"""The network's architecture, the paper's Figure 2, read off the graph that Keras built."""

from __future__ import annotations

import itertools
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from covid_mm.config import MODALITIES, NetworkConfig
from covid_mm.models.network import Network, build_network
from covid_mm.reporting.figures.canvas import BLUE, FONT_SIZE, GREEN, GREY, ORANGE, make_panels

_HEIGHT = 0.09  # of a box, in the figure's units of 0..1


def draw_architecture(network: Network | None = None) -> Figure:
    """Boxes from the two images down to the probabilities; each backbone is one box.

    network: any network of this project; the default pair without it. Shapes, layer counts and
    weights are its own.
    """
    network = network or build_network(NetworkConfig.pair())
    figure, (axes,) = make_panels(1, columns=1, width=10.5, height=8.6)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_axis_off()
    modalities = network.config.modalities
    positions = dict(zip(modalities, (0.27, 0.73) if len(modalities) == 2 else (0.5,), strict=True))
    for modality, x in positions.items():
        _draw_branch(axes, network, modality, x)
    rows = _head_rows(network)
    top = 0.40
    step = top / len(rows)
    for number, (text, colour) in enumerate(rows):
        y = top - step * (number + 0.5)
        _draw_box(axes, 0.5, y, 0.30, text, colour, height=0.66 * step)
        if number:
            _draw_arrow(axes, (0.5, y + 0.67 * step), (0.5, y + 0.33 * step))
    first = top - step / 2
    for x in positions.values():
        _draw_arrow(axes, (x, 0.505 - _HEIGHT / 2), (0.5 + 0.3 * (x - 0.5), first + 0.33 * step))
    return figure


def describe_shape(tensor: Any) -> str:
    """`5 x 5 x 1024` of a symbolic tensor, the batch left out."""
    return " x ".join(str(side) for side in tensor.shape[1:])


def _draw_branch(axes: Axes, network: Network, modality: Any, x: float) -> None:
    layers = network.branch_layers(modality)
    weights = sum(layer.count_params() for layer in layers)
    backbone = network.backbone(modality)
    last = network.model.get_layer(f"{modality}_features").input
    texts = [
        (
            f"{MODALITIES[modality].title} image\n{describe_shape(network.image_input(modality))}, 0 to 255",
            GREY,
        ),
        (f"scaling as ImageNet weights expect it\n({backbone.scaling})", GREY),
        (
            f"{backbone.title}, {len(layers)} layers with weights,\n{weights / 1e6:.2f} million;"
            f" gives {describe_shape(last)}",
            BLUE,
        ),
        (f"global average pooling\n{describe_shape(network.features(modality))} features", BLUE),
    ]
    ys = (0.95, 0.80, 0.65, 0.505)
    for y, (text, colour) in zip(ys, texts, strict=True):
        _draw_box(axes, x, y, 0.36, text, colour)
    for upper, lower in itertools.pairwise(ys):
        _draw_arrow(axes, (x, upper - _HEIGHT / 2), (x, lower + _HEIGHT / 2))
    if network.config.is_concatenated:
        side = 0.12 if x < 0.5 else 0.88
        own = network.model.get_layer(f"{modality}_probabilities").output
        text = f"{MODALITIES[modality].title} alone:\nlinear head, softmax\n{describe_shape(own)}"
        _draw_box(axes, side, 0.2, 0.2, text, ORANGE, height=0.12)
        _draw_arrow(axes, (x - 0.15 if x < 0.5 else x + 0.15, 0.505 - _HEIGHT / 2), (side, 0.26))


def _head_rows(network: Network) -> list[tuple[str, str]]:
    model = network.model
    rows = []
    if network.config.is_concatenated:
        joined = model.get_layer("concatenated").output
        rows.append((f"concatenation\n{describe_shape(joined)} features", GREEN))
    hidden = model.get_layer("fully_connected")
    rows.append((f"fully connected, ReLU\n{describe_shape(hidden.output)}", GREEN))
    rows.append((f"dropout {model.get_layer('dropout').rate:g}", GREEN))
    logits = model.get_layer("probabilities").output
    rows.append((f"logits, softmax: {describe_shape(logits)}\nnormal, COVID-19 pneumonia", GREEN))
    return rows


def _draw_box(
    axes: Axes, x: float, y: float, width: float, text: str, colour: str, height: float = _HEIGHT
) -> None:
    box = FancyBboxPatch(
        (x - width / 2, y - height / 2),
        width,
        height,
        boxstyle="round,pad=0,rounding_size=0.012",
        facecolor="white",
        edgecolor=colour,
        linewidth=1.8,
    )
    axes.add_patch(box)
    axes.text(x, y, text, ha="center", va="center", fontsize=FONT_SIZE)


def _draw_arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    axes.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": GREY, "linewidth": 1.2})
