"""OpenVINO's library, an extra of the installation: the fastest way on Intel's and AMD's processors.

OpenVINO's maps have their channels first; images come, and results go, with channels last as everywhere here.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, Literal

import numpy as np

from covid_mm.errors import UsageError
from covid_mm.models.convolutions import Activation, Array, Padding

_TO_CHANNELS_FIRST, _TO_CHANNELS_LAST = (0, 3, 1, 2), (0, 2, 3, 1)
_NONE = (0, 0)

Precision = Literal["f32", "bf16"]

# A run takes every processor: two at once take longer than one after the other, and so does a change of threads.
_runner = ThreadPoolExecutor(1, thread_name_prefix="openvino")


class OpenVinoGraph:
    """A `convolutions.ConvolutionGraph` that is compiled for what is fetched from it, when that is first asked for.

    Build in one thread; `run` is safe to call from any.
    """

    def __init__(self, precision: Precision = "f32") -> None:
        """An empty graph. Raises UsageError where OpenVINO is not installed, or would crash.

        precision: of sums and products. A processor that has no bfloat16 takes 32 bits instead.
        """
        # said in either case: a processor that has bfloat16 would take it unasked
        self._settings = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
        self._openvino = import_openvino()
        self._ops = self._openvino.opset13
        self._parameters: dict[int, Any] = {}  # by the node that `image` returned
        self._requests: dict[tuple[int, ...], tuple[Any, tuple[Any, ...]]] = {}
        self._compiling = threading.Lock()

    def image(self, side: int, channels: int) -> Any:
        """See ConvolutionGraph; so below."""
        parameter = self._ops.parameter(self._openvino.PartialShape([-1, side, side, channels]), np.float32)
        image = self._transpose(parameter, _TO_CHANNELS_FIRST)
        self._parameters[id(image)] = parameter
        return image

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
        """Weights are (rows, columns, in, out)."""
        values = self._ops.convolution(
            source,
            np.ascontiguousarray(kernel.transpose(3, 2, 0, 1)),
            (stride, stride),
            dilations=(1, 1),
            **_name_pads(padding),
        )
        return self._activate(self._ops.add(values, offset.reshape(1, -1, 1, 1)), activation)

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
        """Weights are (rows, columns, channels)."""
        values = self._ops.group_convolution(
            source,
            np.ascontiguousarray(kernel.transpose(2, 0, 1)[:, None, None]),
            (stride, stride),
            dilations=(1, 1),
            **_name_pads(padding),
        )
        return self._activate(self._ops.add(values, offset.reshape(1, -1, 1, 1)), activation)

    def scale(self, source: Any, factors: Array, offsets: Array, activation: Activation) -> Any:
        """Multiplied and added by channel."""
        values = self._ops.multiply(source, factors.reshape(1, -1, 1, 1))
        return self._activate(self._ops.add(values, offsets.reshape(1, -1, 1, 1)), activation)

    def max_pool(self, source: Any, size: int, stride: int, around: int) -> Any:
        """What OpenVINO pads with is never the greatest."""
        sides = *((around, around), (around, around)), (size, size)
        return self._ops.max_pool(source, (stride, stride), (1, 1), *sides).output(0)

    def average_pool(self, source: Any, size: int, stride: int) -> Any:
        """Squares that lie within the map."""
        return self._ops.avg_pool(source, (stride, stride), _NONE, _NONE, (size, size), True)

    def join(self, first: Any, second: Any) -> Any:
        """Along the second axis."""
        return self._ops.concat([first, second], 1)

    def enlarge(self, source: Any, side: int) -> Any:
        """Bilinear, by the centres of pixels."""
        return self._ops.interpolate(
            source,
            np.array([side, side], np.int32),
            "linear_onnx",
            "sizes",
            coordinate_transformation_mode="half_pixel",
            axes=np.array([2, 3], np.int32),
        )

    def sigmoid(self, source: Any) -> Any:
        """Of logits."""
        return self._ops.sigmoid(source)

    def moments(self, source: Any) -> tuple[Any, Any]:
        """In two passes over the map."""
        axes = np.array([2, 3], np.int64)
        mean = self._ops.reduce_mean(source, axes, True)
        return mean, self._ops.sqrt(
            self._ops.reduce_mean(self._ops.squared_difference(source, mean), axes, True)
        )

    def run(self, feeds: Mapping[Any, Array], fetches: Sequence[Any]) -> list[Array]:
        """Only what the fetches depend on is compiled. Raises ValueError for a wrong shape."""
        request = self._compile(feeds, fetches)
        given = [np.ascontiguousarray(feed, np.float32) for feed in feeds.values()]
        try:
            results = _runner.submit(request.infer, given, share_inputs=True).result()
        except RuntimeError as error:
            raise ValueError(f"OpenVINO refused: {error}") from error
        return list(results.values())

    def _compile(self, feeds: Iterable[Any], fetches: Sequence[Any]) -> Any:
        nodes = (*feeds, *fetches)
        key = tuple(id(node) for node in nodes)
        with self._compiling:
            if key not in self._requests:
                results = [self._transpose(node, _TO_CHANNELS_LAST) for node in fetches]
                model = self._openvino.Model(results, [self._parameters[id(node)] for node in feeds], "maps")
                compiled = self._openvino.compile_model(model, "CPU", self._settings)
                # the nodes are kept too, so that no other ones get their ids
                self._requests[key] = compiled.create_infer_request(), nodes
            return self._requests[key][0]

    def _transpose(self, node: Any, order: tuple[int, ...]) -> Any:
        return self._ops.transpose(node, np.array(order, np.int64))

    def _activate(self, node: Any, activation: Activation) -> Any:
        match activation:
            case "Relu":
                return self._ops.relu(node)
            case "Relu6":
                return self._ops.clamp(node, 0.0, 6.0)
        return node


def _name_pads(padding: Padding) -> dict[str, Any]:
    """A padding as OpenVINO's convolutions take it."""
    if padding == "SAME":
        return {"pads_begin": _NONE, "pads_end": _NONE, "auto_pad": "same_upper"}
    before, after = padding
    return {"pads_begin": (before, before), "pads_end": (after, after), "auto_pad": "explicit"}


def other_allocator() -> str:
    """What LD_PRELOAD puts in place of the system's memory allocator; empty where that is nothing.

    Under one OpenVINO ends the process: its plugins give the system's `free` what the other one allocated.
    """
    preloaded = os.environ.get("LD_PRELOAD", "")
    return preloaded if "malloc" in preloaded else ""


@cache
def import_openvino() -> Any:
    """The module openvino. Raises UsageError where it is not installed, or would crash."""
    if allocator := other_allocator():
        raise UsageError(
            "OpenVINO crashes with another memory allocator than the system's (LD_PRELOAD={allocator}); start without"
            " it, or use the runtime tensorflow.",
            allocator=allocator,
        )
    try:
        import openvino
        import openvino.opset13
    except ImportError as error:
        raise UsageError(
            "OpenVINO is not installed; install it with `pip install covid-mm[openvino]`, or use the runtime"
            " tensorflow."
        ) from error
    return openvino
