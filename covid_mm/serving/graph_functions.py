"""What serving asks of a network, run on a graph of bare convolutions by TensorFlow's library or by OpenVINO.

Neither TensorFlow's Python nor Keras is imported: the network is there in a second instead of twenty. What these
graphs can't do (an earlier layer's heatmaps, Faster Score-CAM) the network in Keras does, loaded when first asked for.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from covid_mm.config import POSITIVE, Modality, NetworkConfig
from covid_mm.errors import CheckpointError, UsageError, WeightsError
from covid_mm.explain.array_heatmaps import ArrayHeads, Pooled, weigh_cells
from covid_mm.explain.cells import enlarge_cells
from covid_mm.explain.explained import PREDICTED, AnswerFunction, Explained
from covid_mm.explain.heat_checks import second_method
from covid_mm.explain.method_table import LayerChoice, PassMethod
from covid_mm.imaging.lungs import LungRegion, find_region
from covid_mm.models.content_classifier import (
    MAX_CLASSIFIER_BYTES,
    ContentClassifier,
    ContentReader,
    read_content_classifier,
)
from covid_mm.models.convolutions import LISTED, BackboneList, ConvolutionGraph, list_segmenter
from covid_mm.models.heads import FUSED, find_margins
from covid_mm.models.lung_segmenter import SEGMENTER_SIDE, read_segmenter_arrays, segment_images
from covid_mm.models.meta_file import CLASSIFIER_NAME, find_part
from covid_mm.models.tensorflow_graph import TensorFlowGraph
from covid_mm.models.tensorflow_library import LibraryUnavailable, find_library
from covid_mm.models.weights_file import read_arrays
from covid_mm.serving.answers import weigh_outputs
from covid_mm.serving.checkpoint import check_lung_modalities, find_lungs_file, find_weights
from covid_mm.serving.metadata import Metadata
from covid_mm.serving.network_functions import NetworkFunctions, SlowHeatmaps

GRAPH_LAYER: LayerChoice = "coarse"

Pixels = NDArray[np.float32]


def load_graphs(
    folder: Path, new_graph: Callable[[], ConvolutionGraph] = TensorFlowGraph
) -> tuple[GraphFunctions, Metadata, ContentClassifier | None, GraphSegmenter | None]:
    """All that a predictor needs of a checkpoint folder.

    new_graph: of the library that runs it.

    Raises LibraryUnavailable where this way does not serve: a backbone that is not listed, heatmaps of an earlier
    layer, no library; CheckpointError where the checkpoint is missing, damaged or exchanged.
    """
    weights, meta = find_weights(folder)
    backbones = list_backbones(meta)
    new_graph()  # loads the library
    functions = GraphFunctions(folder, meta, backbones, weights, new_graph)
    classifier = None
    if meta.classifier_sha256 is not None:
        file = find_part(folder, CLASSIFIER_NAME, meta.classifier_sha256, MAX_CLASSIFIER_BYTES, meta.name)
        classifier = read_content_classifier(file, meta.network.modalities, functions.content_width)
        functions.read_contents(classifier.reader)
    segmenter = None
    if (lungs := find_lungs_file(folder, meta)) is not None:
        segmenter = GraphSegmenter(lungs, new_graph)
        check_lung_modalities(meta, segmenter.modalities)
        functions.reads_lungs = True
    return functions, meta, classifier, segmenter


def is_quick(meta: Metadata) -> bool:
    """Whether a checkpoint will likely be served this way; nothing is loaded to find out."""
    try:
        list_backbones(meta)
        find_library()
    except LibraryUnavailable:
        return False
    return True


def list_backbones(meta: Metadata) -> dict[Modality, BackboneList]:
    """The network's backbones by modality. Raises LibraryUnavailable for one that is not listed."""
    config = meta.network
    unlisted = [name for _, name in config.branches if name not in LISTED]
    if unlisted or meta.heatmap_layer != GRAPH_LAYER:
        raise LibraryUnavailable(f"only Keras serves {', '.join(unlisted) or meta.heatmap_layer}")
    lists = {m: LISTED[name](f"{m}_", config.output_stride) for m, name in config.branches}
    scaling = {m: one.scaling for m, one in lists.items()}
    if meta.raw["preprocessing"].get("scaling_inside_the_network", scaling) != scaling:
        raise LibraryUnavailable("another scaling of pixels")
    return lists


class GraphFunctions:
    """A network as a graph for each backbone, and heads in NumPy. Safe to call from any thread."""

    content_reader: ContentReader | None = None  # of the content classifier, where contents are checked
    reads_lungs = False  # the network reads crops, the content classifier whole images

    def __init__(
        self,
        folder: Path,
        meta: Metadata,
        backbones: Mapping[Modality, BackboneList],
        weights: Path,
        new_graph: Callable[[], ConvolutionGraph],
    ) -> None:
        """Read the weights and build the graphs. Raises CheckpointError where the file does not fit the network."""
        self._new_graph = new_graph
        self._folder, self._metadata, self._backbones = folder, meta, dict(backbones)
        self._whole: NetworkFunctions | None = None
        self._loading = threading.Lock()
        self.pool = ThreadPoolExecutor(thread_name_prefix="graph")
        self.heads = ArrayHeads(
            meta.network,
            {m: one.convolutions.channels[one.last] for m, one in self._backbones.items()},
        )
        shapes = dict(self.heads.shapes)
        for one in self._backbones.values():
            shapes |= one.convolutions.weights
        try:
            arrays = read_arrays(weights, shapes, meta.network.name)
        except WeightsError as error:
            raise CheckpointError(f"Checkpoint {meta.name} cannot be used. {error}") from error
        self._arrays = arrays
        self.heads.set_weights(arrays)
        self._grids: dict[Modality, tuple[int, int]] = {}  # of the last feature maps, with the first pass
        self._graphs: dict[Modality, tuple[ConvolutionGraph, Any, Any]] = {}
        for modality, one in self._backbones.items():
            graph = new_graph()
            image = graph.image(meta.network.image_size, 1)
            maps = one.convolutions.build(graph, arrays, image)
            self._graphs[modality] = (graph, image, maps[one.last])

    @property
    def config(self) -> NetworkConfig:
        """The network's description."""
        return self._metadata.network

    def content_width(self, reader: ContentReader) -> int:
        """How many features the content classifier reads; 0 where the backbone has no such layers for that."""
        channels = self._backbones[reader.branch].convolutions.channels
        return sum(2 * channels[name] for name in self._find_maps(reader))

    def read_contents(self, reader: ContentReader) -> None:
        """From now on contents are checked, by features that this reader gives."""
        graph = self._new_graph()
        image = graph.image(self.config.image_size // reader.reduction, 1)
        names = self._find_maps(reader)
        maps = self._backbones[reader.branch].convolutions.build(graph, self._arrays, image, names)
        self._contents = (graph, image, [part for name in names for part in graph.moments(maps[name])])
        self.content_reader = reader

    def answer(self, modalities: tuple[Modality, ...], layer: LayerChoice) -> AnswerFunction:
        """Answer and heatmaps in one pass; of another layer than the last the network in Keras."""
        if layer != GRAPH_LAYER:
            return self._load_whole().answer(modalities, layer)
        return GraphAnswer(self, self._metadata, modalities)

    def slow_heatmaps(self, modalities: tuple[Modality, ...]) -> SlowHeatmaps:
        """Heatmaps of any method, by the network in Keras."""
        return self._load_whole().slow_heatmaps(modalities)

    def grid(self, modality: Modality, layer: LayerChoice) -> tuple[int, int]:
        """Rows and columns of the feature map that a heatmap is made of."""
        if layer != GRAPH_LAYER:
            return self._load_whole().grid(modality, layer)
        if modality not in self._grids:  # asked for before the first answer
            side = self.config.image_size
            self.last_map(modality, np.zeros((1, side, side), np.float32))
        return self._grids[modality]

    def contents(self, images: Pixels) -> Pixels:
        """What the content classifier reads (n, d) of whole images (n, side, side)."""
        assert self.content_reader is not None, "asked for only where contents are checked"
        graph, image, moments = self._contents
        smaller = _average_squares(images, self.content_reader.reduction)
        return np.concatenate(
            [part[:, 0, 0] for part in graph.run({image: smaller[..., np.newaxis]}, moments)], axis=1
        )

    def last_map(self, modality: Modality, images: Pixels) -> Pixels:
        """A branch's last feature map (n, rows, columns, channels) of images (n, side, side)."""
        graph, image, last = self._graphs[modality]
        (values,) = graph.run({image: images[..., np.newaxis]}, [last])
        _, rows, columns, _ = values.shape
        self._grids[modality] = (rows, columns)
        return values

    def read_slices(self, modality: Modality, images: Pixels) -> tuple[Pixels, Pixels]:
        """A branch's own logits (n, 2) and pooled features (n, channels) of images (n, side, side)."""
        features = self.heads.pool(modality, self.last_map(modality, images)).features
        return self.heads.branch_logits(modality, features), features

    def fuse(self, features: list[Pixels]) -> Pixels:
        """The concatenated head's logits (n, 2) of pooled features (n, channels) by modality, in order."""
        return self.heads.fuse(features)[0]

    def _find_maps(self, reader: ContentReader) -> list[str]:
        """The feature maps that are read; none where the backbone does not offer them."""
        one = self._backbones[reader.branch]
        if not reader.layers:
            return [one.fed]
        return [one.early[name] for name in reader.layers] if set(reader.layers) <= set(one.early) else []

    def _load_whole(self) -> NetworkFunctions:
        with self._loading:
            if self._whole is None:
                from covid_mm.serving.checkpoint import load_checkpoint
                from covid_mm.serving.tensorflow_functions import TensorFlowFunctions

                network, meta = load_checkpoint(self._folder)
                self._whole = TensorFlowFunctions(
                    network, meta, self.content_reader, reads_lungs=self.reads_lungs
                )
            return self._whole


def _average_squares(images: Pixels, size: int) -> Pixels:
    """Images (n, side, side), whose squares of so many pixels a side become one each."""
    if size == 1:
        return images
    count, side, _ = images.shape
    side //= size
    averaged = np.empty((count, side, side), np.float32)
    for image, smaller in zip(images, averaged, strict=True):
        whole = image[: side * size, : side * size]
        cv2.resize(whole, (side, side), dst=smaller, interpolation=cv2.INTER_AREA)
    return averaged


class GraphAnswer:
    """Answer and heatmaps of the last convolution for one set of modalities, as `explain.grad_cam.GradCam`."""

    def __init__(self, functions: GraphFunctions, meta: Metadata, modalities: tuple[Modality, ...]) -> None:
        """functions: of the network."""
        config = functions.config
        self.modalities = tuple(m for m in config.modalities if m in modalities)
        self._functions = functions
        self._method = meta.heatmap_method
        self._whole = self.modalities == config.modalities
        self._answering: tuple[str, ...] = (FUSED,) if self._whole else self.modalities
        self._weights, self._margin = weigh_outputs(meta, self.modalities)

    def explain(
        self,
        images: Mapping[Modality, Pixels],
        classes: NDArray[np.int32],
        content_images: Mapping[Modality, Pixels] | None = None,
        *,
        method: PassMethod | None = None,
    ) -> Explained:
        """Logits and evidence of n studies, images by modality (n, side, side); else as `GradCam.explain`."""
        functions, heads = self._functions, self._functions.heads
        if functions.reads_lungs and functions.content_reader is not None and content_images is None:
            raise UsageError("This function checks other images than it explains; give content_images.")
        read = content_images if functions.reads_lungs and content_images is not None else images
        # all at once: the small layers of one do not keep every core busy
        maps_of = {m: functions.pool.submit(functions.last_map, m, images[m]) for m in self.modalities}
        contents_of = {}
        if functions.content_reader is not None:
            contents_of = {m: functions.pool.submit(functions.contents, read[m]) for m in self.modalities}
        pooled: dict[Modality, Pooled] = {}
        for modality in self.modalities:
            pooled[modality] = heads.pool(modality, maps_of[modality].result())
        logits: dict[str, Pixels] = {}
        active = None
        if self._whole:
            logits[FUSED], active = heads.fuse([pooled[m].features for m in self.modalities])
        if functions.config.is_concatenated:
            logits |= {m: heads.branch_logits(m, pooled[m].features) for m in self.modalities}
        margins = [self._weights[head] * find_margins(logits[head]) for head in self._answering]
        predicted = np.where(np.sum(margins, axis=0) >= self._margin, POSITIVE, 1 - POSITIVE)
        chosen = np.where(classes == PREDICTED, predicted, classes).astype(np.int32)
        first = method or self._method
        maps: list[dict[Modality, Pixels]] = [{}, {}]
        for modality in self.modalities:
            gradient = heads.gradient(modality, FUSED if self._whole else modality, chosen, active)
            grid = functions.grid(modality, GRAPH_LAYER)
            for number, name in enumerate((first, second_method(first))):
                cells = weigh_cells(name, pooled[modality], gradient).reshape(-1, *grid)
                maps[number][modality] = enlarge_cells(cells, functions.config.image_size)
        contents = {m: job.result() for m, job in contents_of.items()}
        return Explained(logits, chosen, maps[0], maps[1], contents)


class GraphSegmenter:
    """Finds the lungs, as `models.lung_segmenter.LungSegmenter`."""

    def __init__(self, file: Path, new_graph: Callable[[], ConvolutionGraph]) -> None:
        """Build a graph for each modality in the file. Raises CheckpointError where it is damaged."""
        net, logits = list_segmenter()
        self._graphs: dict[Modality, tuple[ConvolutionGraph, Any, Any]] = {}
        for modality, arrays in read_segmenter_arrays(file, net.weights).items():
            graph = new_graph()
            image = graph.image(SEGMENTER_SIDE, 1)
            maps = net.build(graph, arrays, image)
            self._graphs[modality] = (graph, image, graph.sigmoid(maps[logits]))

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """Those whose images it reads."""
        return tuple(self._graphs)

    def find(self, images: Sequence[Pixels], modality: Modality) -> list[LungRegion | None]:
        """The lungs of whole grey images (h, w), 0..255, of any size; None where an image shows none."""
        return [find_region(row, modality) for row in self.probabilities(images, modality)]

    def probabilities(self, images: Sequence[Pixels], modality: Modality) -> Pixels:
        """Probability of lung, float32 (n, 64, 64), over each whole image."""
        graph, image, lungs = self._graphs[modality]
        return segment_images(lambda batch: graph.run({image: batch}, [lungs])[0][..., 0], images)
