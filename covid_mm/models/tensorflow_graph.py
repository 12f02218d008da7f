"""Networks of convolutions on TensorFlow's library; its maps have their channels last."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from covid_mm.models.convolutions import Activation, Array, Padding
from covid_mm.models.tensorflow_library import Graph, Tensor


class TensorFlowGraph(Graph):
    """A `convolutions.ConvolutionGraph`."""

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
        """One operation with its offset and activation."""
        return self.add(
            "_FusedConv2D",
            *(source, self.constant(kernel), [self.constant(offset)], []),
            num_args=1,
            strides=[1, stride, stride, 1],
            padding=padding,
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
        """Three operations: there is no fused one."""
        weights, strides = self.constant(kernel[..., None]), [1, stride, stride, 1]
        values = self.add("DepthwiseConv2dNative", source, weights, strides=strides, padding=padding)
        return self._activate(self.add("BiasAdd", values, self.constant(offset)), activation)

    def scale(self, source: Tensor, factors: Array, offsets: Array, activation: Activation) -> Tensor:
        """As a batch norm of mean 0 and variance 1: one pass over the map, where a product and a sum would be two."""
        mean, variance = np.zeros_like(factors), np.ones_like(factors)
        parts = (self.constant(part) for part in (factors, offsets, mean, variance))
        return self._activate(
            self.add("FusedBatchNormV3", source, *parts, epsilon=0.0, is_training=False), activation
        )

    def pad(self, source: Tensor, before: int, after: int) -> Tensor:
        """Of every image and channel."""
        around: NDArray[np.int32] = np.array([[0, 0], [before, after], [before, after], [0, 0]], np.int32)
        return self.add("Pad", source, self.constant(around))

    def pool(self, kind: Literal["MaxPool", "AvgPool"], source: Tensor, size: int, stride: int) -> Tensor:
        """Named as TensorFlow's operations."""
        square, strides = [1, size, size, 1], [1, stride, stride, 1]
        return self.add(kind, source, ksize=square, strides=strides, padding="VALID")

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

    def _activate(self, source: Tensor, activation: Activation) -> Tensor:
        return self.add(activation, source) if activation else source
