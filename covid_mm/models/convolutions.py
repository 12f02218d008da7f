"""Networks for serving as lists of convolutions, without Keras: their weights' names and shapes, and a graph of them.

`keras.applications` builds a network in seconds; these lists are there at once. A batch norm that follows a
convolution is folded into its kernel, so the graph has a tenth of the operations and runs faster. Images are grey: the
kernel of the first convolution, over three equal channels each scaled in its own way, becomes one over the grey and a
channel of ones. The tests hold each list to what Keras builds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from covid_mm.config import CHANNELS
from covid_mm.models.lung_segmenter import SEGMENTER_SIDE, SEGMENTER_WIDTHS

Activation = Literal["", "Relu", "Relu6"]
Padding = Literal["SAME"] | tuple[int, int]  # as TensorFlow pads, or zeros before and behind, both ways
Shapes = dict[str, tuple[int, ...]]

_DENSENET_BLOCKS = {"conv2": 6, "conv3": 12, "conv4": 24, "conv5": 16}
_DENSENET_GROWTH = 32
_MOBILENET_FILTERS = (64, 128, 128, 256, 256, *[512] * 6, 1024, 1024)  # behind each depthwise convolution
_MOBILENET_HALVING = (2, 4, 6, 12)  # depthwise convolutions that halve the image
_MOBILENET_EARLY = range(1, 6)
_HALF = 127.5  # what brings 0..255 to -1..1
_NORM = ("gamma", "beta", "moving_mean", "moving_variance")
Array = NDArray[np.float32]
Arrays = Mapping[str, Array]


class ConvolutionGraph(Protocol):
    """What a library offers to build and run these networks: its own kind of tensor stands for each feature map.

    Maps are (n, rows, columns, channels) where they go in and come out, whatever the library's order is.
    """

    def image(self, side: int, channels: int) -> Any:
        """An input (n, side, side, channels), float32."""

    def convolve(
        self,
        source: Any,
        kernel: Array,
        offset: Array,
        *,
        stride: int,
        padding: Padding,
        activation: Activation,
    ) -> Any:
        """By a kernel (rows, columns, in, out); an offset (out,) is added."""

    def convolve_depthwise(
        self,
        source: Any,
        kernel: Array,
        offset: Array,
        *,
        stride: int,
        padding: Padding,
        activation: Activation,
    ) -> Any:
        """Each channel by its own kernel, (rows, columns, channels); an offset (channels,) is added."""

    def scale(self, source: Any, factors: Array, offsets: Array, activation: Activation) -> Any:
        """Each channel multiplied and added to, by (channels,)."""

    def max_pool(self, source: Any, size: int, stride: int, around: int) -> Any:
        """The greatest value of squares of a map that has no negative ones, with zeros around."""

    def average_pool(self, source: Any, size: int, stride: int) -> Any:
        """The mean value of squares that lie within the map."""

    def join(self, first: Any, second: Any) -> Any:
        """The channels of both."""

    def enlarge(self, source: Any, side: int) -> Any:
        """To side x side, bilinear by the centres of pixels."""

    def sigmoid(self, source: Any) -> Any:
        """Of logits."""

    def moments(self, source: Any) -> tuple[Any, Any]:
        """Mean and standard deviation of each channel over the map, (n, 1, 1, channels)."""

    def run(self, feeds: Mapping[Any, Array], fetches: Sequence[Any]) -> list[Array]:
        """Values of the fetches; only what they depend on is computed. Raises ValueError for a wrong shape."""


@dataclass(frozen=True)
class ChannelScaling:
    """How a network scales each channel of an image 0..255 before its first convolution."""

    factors: NDArray[np.float64]
    offsets: NDArray[np.float64]

    def fold_into(self, kernel: Array) -> Array:
        """A kernel (rows, columns, 3, out) over scaled channels as one over what `Convolutions.grey_and_ones` gives."""
        grey = np.einsum("rcio,i->rco", kernel, _HALF * self.factors)
        ones = np.einsum("rcio,i->rco", kernel, _HALF * self.factors + self.offsets)
        return np.stack([grey, ones], axis=2).astype(np.float32)


@dataclass(frozen=True)
class Convolutions:
    """A network being described: `weights` are its arrays' shapes by name, `steps` what is done, in order.

    Each method takes and returns names of feature maps; `channels` has how many channels each has. The first is
    `image`, grey.
    """

    epsilon: float
    weights: Shapes = field(default_factory=dict)
    steps: list[Callable[[dict[str, Any], ConvolutionGraph, Arrays], Any]] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    channels: dict[str, int] = field(default_factory=lambda: {"image": 1})

    def convolve(
        self,
        name: str,
        source: str,
        filters: int,
        size: int,
        *,
        stride: int = 1,
        padding: Padding = "SAME",
        norm: str = "",
        activation: Activation = "",
        bias: bool = False,
        scaling: ChannelScaling | None = None,
    ) -> str:
        """A convolution with its bias, the batch norm of another name, and an activation behind it.

        scaling: of a network's first convolution, whose source is what `grey_and_ones` gives.
        """
        read = self.channels[source] if scaling is None else CHANNELS
        self.weights[f"{name}/kernel"] = (size, size, read, filters)
        if bias:
            self.weights[f"{name}/bias"] = (filters,)
        if norm:
            self._normed(norm, filters)

        def step(maps: dict[str, Any], graph: ConvolutionGraph, arrays: Arrays) -> Any:
            kernel = arrays[f"{name}/kernel"]
            if scaling is not None:
                kernel = scaling.fold_into(kernel)
            offset = arrays[f"{name}/bias"] if bias else np.zeros(filters, np.float32)
            if norm:
                scale, shift = self._fold(norm, arrays)
                kernel, offset = kernel * scale, offset * scale + shift
            return graph.convolve(
                maps[source], kernel, offset, stride=stride, padding=padding, activation=activation
            )

        return self._keep(norm or name, filters, step)

    def convolve_depthwise(self, name: str, source: str, *, stride: int, padding: Padding) -> str:
        """A 3 x 3 convolution of each channel for itself, its batch norm, and Relu6."""
        channels = self.channels[source]
        self.weights[f"{name}/kernel"] = (3, 3, channels, 1)
        self._normed(f"{name}_bn", channels)

        def step(maps: dict[str, Any], graph: ConvolutionGraph, arrays: Arrays) -> Any:
            scale, shift = self._fold(f"{name}_bn", arrays)
            kernel = arrays[f"{name}/kernel"][..., 0] * scale
            return graph.convolve_depthwise(
                maps[source], kernel, shift, stride=stride, padding=padding, activation="Relu6"
            )

        return self._keep(f"{name}_bn", channels, step)

    def normalise(self, name: str, source: str) -> str:
        """A batch norm of its own, and Relu."""
        self._normed(name, self.channels[source])

        def step(maps: dict[str, Any], graph: ConvolutionGraph, arrays: Arrays) -> Any:
            return graph.scale(maps[source], *self._fold(name, arrays), "Relu")

        return self._keep(name, self.channels[source], step)

    def grey_and_ones(self) -> str:
        """The image as -1..1, and a channel of ones, for what the channels' offsets add where nothing is padded."""

        def step(maps: dict[str, Any], graph: ConvolutionGraph, _: Arrays) -> Any:
            kernel, offset = np.array([[[[1 / _HALF, 0.0]]]], np.float32), np.array([-1.0, 1.0], np.float32)
            return graph.convolve(maps["image"], kernel, offset, stride=1, padding=(0, 0), activation="")

        return self._keep("grey and ones", 2, step)

    def max_pool(self, source: str, size: int, around: int) -> str:
        """The greatest value of squares of a map without negative ones, zeros around, at half the resolution."""
        return self._keep(
            f"{source} pooled",
            self.channels[source],
            lambda maps, graph, _: graph.max_pool(maps[source], size, 2, around),
        )

    def average_pool(self, source: str, size: int) -> str:
        """The mean value of squares, at half the resolution."""
        return self._keep(
            f"{source} pooled",
            self.channels[source],
            lambda maps, graph, _: graph.average_pool(maps[source], size, 2),
        )

    def join(self, name: str, first: str, second: str) -> str:
        """The channels of both."""

        return self._keep(
            name,
            self.channels[first] + self.channels[second],
            lambda maps, graph, _: graph.join(maps[first], maps[second]),
        )

    def enlarge(self, source: str, side: int) -> str:
        """To side x side, bilinear."""

        return self._keep(
            f"{source} enlarged",
            self.channels[source],
            lambda maps, graph, _: graph.enlarge(maps[source], side),
        )

    def build(
        self, graph: ConvolutionGraph, arrays: Arrays, image: Any, needed: Sequence[str] = ()
    ) -> dict[str, Any]:
        """Feature maps by name, (n, rows, columns, channels), of images (n, side, side, channels).

        needed: up to the last of these; all without.
        """
        maps = {"image": image}
        for name, step in zip(self.names, self.steps, strict=True):
            if needed and maps.keys() >= set(needed):
                break
            maps[name] = step(maps, graph, arrays)
        return maps

    def _keep(self, name: str, channels: int, step: Callable[..., Any]) -> str:
        self.names.append(name)
        self.steps.append(step)
        self.channels[name] = channels
        return name

    def _normed(self, name: str, channels: int) -> None:
        self.weights.update({f"{name}/{part}": (channels,) for part in _NORM})

    def _fold(self, name: str, arrays: Arrays) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """What a batch norm multiplies with, and adds."""
        gamma, beta, mean, variance = (arrays[f"{name}/{part}"].astype(np.float64) for part in _NORM)
        scale = gamma / np.sqrt(variance + self.epsilon)
        return scale.astype(np.float32), (beta - mean * scale).astype(np.float32)


@dataclass(frozen=True)
class BackboneList:
    """A backbone's list.

    last: the feature map that is pooled, where Grad-CAM looks. fed: what its last block reads. early: what the early
    layers give, by their names in Keras. scaling: of pixels. All as `models.backbones` names them.
    """

    convolutions: Convolutions
    last: str
    fed: str
    early: Mapping[str, str]
    scaling: str


def list_densenet121(prefix: str, output_stride: int) -> BackboneList:
    """DenseNet121 as `keras.applications` builds it, on grey pixels 0..255."""
    net = Convolutions(epsilon=1.001e-5)
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    values = net.convolve(
        f"{prefix}conv1_conv",
        net.grey_and_ones(),
        *(64, 7),
        stride=2,
        padding=(3, 3),
        norm=f"{prefix}conv1_bn",
        activation="Relu",
        scaling=ChannelScaling(1.0 / (255.0 * deviation), -mean / deviation),
    )
    values = net.max_pool(values, 3, 1)
    fed, early = values, dict[str, str]()
    for number, (name, blocks) in enumerate(_DENSENET_BLOCKS.items(), start=2):
        fed = values
        for block in range(1, blocks + 1):
            label = f"{prefix}{name}_block{block}"
            inner = net.convolve(
                f"{label}_1_conv",
                net.normalise(f"{label}_0_bn", values),
                *(4 * _DENSENET_GROWTH, 1),
                norm=f"{label}_1_bn",
                activation="Relu",
            )
            grown = net.convolve(f"{label}_2_conv", inner, _DENSENET_GROWTH, 3)
            values = net.join(f"{label}_concat", values, grown)
        if name != "conv5":
            label = f"{prefix}pool{number}"
            values = net.normalise(f"{label}_bn", values)
            if name != "conv4" or output_stride == 32:
                # Keras pools behind the convolution: the same, for four times the products
                values = net.average_pool(values, 2)
            values = net.convolve(f"{label}_conv", values, net.channels[values] // 2, 1)
            if number < 4:
                early[f"pool{number}_pool"] = values
    return BackboneList(net, net.normalise(f"{prefix}bn", values), fed, early, "torch")


def list_mobilenet(prefix: str, output_stride: int) -> BackboneList:
    """MobileNet as `keras.applications` builds it, on grey pixels 0..255."""
    net = Convolutions(epsilon=1e-3)
    values = net.convolve(
        f"{prefix}conv1",
        net.grey_and_ones(),
        *(32, 3),
        stride=2,
        norm=f"{prefix}conv1_bn",
        activation="Relu6",
        scaling=ChannelScaling(np.full(CHANNELS, 1 / _HALF), np.full(CHANNELS, -1.0)),
    )
    fed, early = values, dict[str, str]()
    for number, filters in enumerate(_MOBILENET_FILTERS, start=1):
        if number == _MOBILENET_HALVING[-1]:
            fed = values
        halved = number in _MOBILENET_HALVING
        fine = halved and number == _MOBILENET_HALVING[-1] and output_stride == 16
        values = net.convolve_depthwise(
            f"{prefix}conv_dw_{number}",
            values,
            stride=2 if halved and not fine else 1,
            padding=(0, 1) if halved and not fine else "SAME",
        )
        values = net.convolve(
            f"{prefix}conv_pw_{number}",
            values,
            *(filters, 1),
            norm=f"{prefix}conv_pw_{number}_bn",
            activation="Relu6",
        )
        if number in _MOBILENET_EARLY:
            early[f"conv_pw_{number}_relu"] = values
    return BackboneList(net, values, fed, early, "tf")


LISTED: dict[str, Callable[[str, int], BackboneList]] = {
    "densenet121": list_densenet121,
    "mobilenet": list_mobilenet,
}


def list_segmenter() -> tuple[Convolutions, str]:
    """The lung segmenter of `models.lung_segmenter`, and the name of its logits; arrays by their number's name."""
    net = Convolutions(epsilon=1e-3)
    count = 0

    def convolve(source: str, width: int, stride: int = 1) -> str:
        nonlocal count
        count += 1
        return net.convolve(
            f"conv{count}", source, width, 3, stride=stride, norm=f"norm{count}", activation="Relu"
        )

    side = SEGMENTER_SIDE // 2
    values = convolve("image", SEGMENTER_WIDTHS[0], 2)
    levels = []
    for width in SEGMENTER_WIDTHS[1:]:
        values = convolve(values, net.channels[values])
        levels.append((values, side))
        values, side = convolve(values, width, 2), side // 2
    values = convolve(convolve(values, SEGMENTER_WIDTHS[-1]), SEGMENTER_WIDTHS[-1])
    for level, size in reversed(levels):
        width = net.channels[level]
        values = convolve(convolve(net.join(f"joined{size}", net.enlarge(values, size), level), width), width)
    return net, net.convolve("lung_logits", values, 1, 1, bias=True)
