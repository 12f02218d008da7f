"""Networks of convolutions on TensorFlow's library; its maps have their channels last."""

from __future__ import annotations

from functools import cache

import numpy as np

from covid_mm.models.convolutions import Activation, Array, Padding
from covid_mm.models.tensorflow_library import Graph, Tensor


class TensorFlowGraph(Graph):
    """A `convolutions.ConvolutionGraph`.

    fuses: whether a depthwise convolution or a scaling takes its activation along, one pass over the map where each by
    itself is one; as oneDNN's kernels can, and no others. None looks whether they are there.
    """

    def __init__(self, fuses: bool | None = None) -> None:
        super().__init__()
        self._fuses = has_fused_kernels() if fuses is None else fuses

    def image(self, side: int, channels: int) -> Tensor:
        """See ConvolutionGraph; so below."""
        return self.placeholder((None, side, side, channels))

    def convolve(
        self,
        source: Tensor,
        kernel: Array,
        offset: Array,
        *,
        stride: int,
        padding: Padding,
        activation: Activation,
    ) -> Tensor:
        """One operation with its offset and activation, and one for zeros around."""
        source, name = self._pad(source, kernel, padding, stride)
        return self.add(
            "_FusedConv2D",
            *(source, self.constant(kernel), [self.constant(offset)], []),
            num_args=1,
            strides=[1, stride, stride, 1],
            padding=name,
            fused_ops=["BiasAdd", *([activation] if activation else [])],
        )

    def convolve_depthwise(
        self,
        source: Tensor,
        kernel: Array,
        offset: Array,
        *,
        stride: int,
        padding: Padding,
        activation: Activation,
    ) -> Tensor:
        """One operation as in `convolve`, or three."""
        source, name = self._pad(source, kernel, padding, stride)
        weights, strides = self.constant(kernel[..., None]), [1, stride, stride, 1]
        if self._fuses:
            return self.add(
                "_FusedDepthwiseConv2dNative",
                *(source, weights, [self.constant(offset)]),
                num_args=1,
                strides=strides,
                padding=name,
                fused_ops=["BiasAdd", *([activation] if activation else [])],
            )
        values = self.add("DepthwiseConv2dNative", source, weights, strides=strides, padding=name)
        return self._activate(self.add("BiasAdd", values, self.constant(offset)), activation)

    def scale(self, source: Tensor, factors: Array, offsets: Array, activation: Activation) -> Tensor:
        """As a batch norm of mean 0 and variance 1: one pass over the map, where a product and a sum would be two."""
        mean, variance = np.zeros_like(factors), np.ones_like(factors)
        parts = [self.constant(part) for part in (factors, offsets, mean, variance)]
        if self._fuses and activation == "Relu":
            return self.add(
                "_FusedBatchNormEx",
                source,
                *parts,
                [],
                epsilon=0.0,
                is_training=False,
                num_side_inputs=0,
                activation_mode=activation,
            )
        return self._activate(
            self.add("FusedBatchNormV3", source, *parts, epsilon=0.0, is_training=False), activation
        )

    def max_pool(self, source: Tensor, size: int, stride: int, around: int) -> Tensor:
        """What TensorFlow pads with is never the greatest."""
        return self.add(
            "MaxPool",
            source,
            ksize=[1, size, size, 1],
            strides=[1, stride, stride, 1],
            padding="EXPLICIT",
            explicit_paddings=[0, 0, *[around] * 4, 0, 0],
        )

    def average_pool(self, source: Tensor, size: int, stride: int) -> Tensor:
        """One operation."""
        square, strides = [1, size, size, 1], [1, stride, stride, 1]
        return self.add("AvgPool", source, ksize=square, strides=strides, padding="VALID")

    def join(self, first: Tensor, second: Tensor) -> Tensor:
        """Along the last axis."""
        return self.add("ConcatV2", [first, second], self.constant(np.array(-1, np.int32)))

    def enlarge(self, source: Tensor, side: int) -> Tensor:
        """By `ResizeBilinear`."""
        size = self.constant(np.array([side, side], np.int32))
        return self.add("ResizeBilinear", source, size, half_pixel_centers=True)

    def sigmoid(self, source: Tensor) -> Tensor:
        """One operation."""
        return self.add("Sigmoid", source)

    def moments(self, source: Tensor) -> tuple[Tensor, Tensor]:
        """In two passes over the map: the mean of squares less the squared mean would lose the deviation's digits."""
        axes = self.constant(np.array([1, 2], np.int32))
        mean = self.add("Mean", source, axes, keep_dims=True)
        variance = self.add("Mean", self.add("SquaredDifference", source, mean), axes, keep_dims=True)
        return mean, self.add("Sqrt", variance)

    def _pad(self, source: Tensor, kernel: Array, padding: Padding, stride: int) -> tuple[Tensor, str]:
        """What a convolution reads, and how it pads that: by itself where it can, which takes no pass over the map."""
        if padding == "SAME":
            return source, padding
        before, after = padding
        _, side, _, _ = self.shape(source)
        # a kernel of 3 at every second pixel of an even side is padded so
        if (len(kernel), before, after, stride) == (3, 0, 1, 2) and side is not None and side % 2 == 0:
            return source, "SAME"
        if before or after:
            around = np.array([[0, 0], [before, after], [before, after], [0, 0]], np.int32)
            source = self.add("Pad", source, self.constant(around))
        return source, "VALID"

    def _activate(self, source: Tensor, activation: Activation) -> Tensor:
        return self.add(activation, source) if activation else source


@cache
def has_fused_kernels() -> bool:
    """Whether this machine's TensorFlow runs both fused operations; without oneDNN they are known, and fail."""
    graph, ones = TensorFlowGraph(fuses=True), np.ones(4, np.float32)
    image = graph.image(3, 4)
    kernel = np.ones((3, 3, 4), np.float32)
    deep = graph.convolve_depthwise(image, kernel, ones, stride=1, padding="SAME", activation="Relu6")
    given = np.full((1, 3, 3, 4), 0.5, np.float32)
    try:
        (values,) = graph.run({image: given}, [graph.scale(deep, ones, -2 * ones, "Relu")])
    except ValueError:
        return False
    # 4, 6 or 9 neighbours of 0.5 each and 1, at most 6, less 2
    return bool(np.allclose(values[0, :2, :2, 0], [[1.0, 2.0], [2.0, 3.5]]))
