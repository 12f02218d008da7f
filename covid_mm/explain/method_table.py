"""The heatmap methods and layers by name: the one table that page, commands and checkpoints read.

No network is loaded by importing it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from covid_mm.config import Pooling
from covid_mm.errors import UsageError

MethodName = Literal["grad_cam", "grad_cam_plus_plus", "score_cam", "layer_cam", "hires_cam", "attention"]
FixedScaleMethod = Literal["grad_cam", "hires_cam", "layer_cam", "attention"]
GradientMethod = Literal["grad_cam", "hires_cam", "layer_cam", "grad_cam_plus_plus"]
PassMethod = Literal["grad_cam", "hires_cam", "layer_cam", "grad_cam_plus_plus", "attention"]
LayerChoice = Literal["coarse", "fine"]

LAYERS: tuple[LayerChoice, ...] = get_args(LayerChoice)
FIXED_SCALE_METHODS: tuple[FixedScaleMethod, ...] = get_args(FixedScaleMethod)
GRADIENT_METHODS: tuple[GradientMethod, ...] = get_args(GradientMethod)
PASS_METHODS: tuple[PassMethod, ...] = get_args(PassMethod)  # those of gradients first
ATTENTION: Literal["attention"] = "attention"
ATTENTION_LAYER: LayerChoice = "coarse"


@dataclass(frozen=True)
class Method:
    """One way to make a heatmap. slow: takes a second or more a study on a laptop. source: article.

    PASS_METHODS come with the answer, from one pass through the network. A checkpoint may name one
    of FIXED_SCALE_METHODS as its own: their values are logits, those of `attention` probabilities, so that
    they can be drawn on a scale which is the same for every image.

    `attention` is for networks with attention pooling, at the last convolution: the sigmoid of each cell's
    attention logit, which training held to radiologists' boxes and masks, times the lungs' share of the cell. It
    shows where in the lungs the branch sees a lesion, so it is of the positive class only.
    """

    name: MethodName
    title: str
    slow: bool
    source: str


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("grad_cam", "Grad-CAM", False, "Selvaraju et al., ICCV 2017"),
        Method("grad_cam_plus_plus", "Grad-CAM++", False, "Chattopadhay et al., WACV 2018"),
        Method("score_cam", "Faster Score-CAM", True, "Wang et al., CVPR Workshops 2020"),
        Method("layer_cam", "Layer-CAM", False, "Jiang et al., IEEE TIP 2021"),
        Method("hires_cam", "HiResCAM", False, "Draelos and Carin, arXiv 2011.08891, 2020"),
        Method("attention", "Attention map", False, "Ilse et al., ICML 2018"),
    )
}


def find_method(name: str) -> Method:
    """The method of this name. Raises UsageError for any other name."""
    if name not in METHODS:
        raise UsageError(f"Heatmap method {name!r} is not known; choose one of {', '.join(METHODS)}.")
    return METHODS[name]


def list_methods(pooling: Pooling) -> tuple[MethodName, ...]:
    """The methods that a network of this pooling has, in the order in which they are offered."""
    return tuple(m.name for m in METHODS.values() if m.name != ATTENTION or pooling == "attention")


def list_pass_methods(pooling: Pooling) -> tuple[PassMethod, ...]:
    """Those of them that come with the answer."""
    return tuple(name for name in PASS_METHODS if name in list_methods(pooling))


def check_layer(layer: str) -> None:
    """Raise UsageError for a layer that is neither `coarse` nor `fine`."""
    if layer not in LAYERS:
        raise UsageError(f"Heatmap layer {layer!r} is not known; choose {' or '.join(LAYERS)}.")
