"""Heatmaps on the page: by another method, class or layer, and as a file at the image's own resolution."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covid_mm.config import CLASS_TITLES, CLASSES, POSITIVE
from covid_mm.errors import UsageError
from covid_mm.explain.method_table import ATTENTION, ATTENTION_LAYER, METHODS
from covid_mm.explain.overlay import HeatCells, blend_heatmap, resize_heatmap
from covid_mm.serving.heatmap_request import STAND_IN
from covid_mm.serving.prediction import HeatLocation
from covid_mm.ui.i18n.language import ENGLISH, Texts
from covid_mm.ui.pictures import draw_cells, draw_lines, encode_png, make_heat_layer
from covid_mm.ui.predictors import run_in_thread
from covid_mm.ui.study.evidence import LAYER_TITLES, describe_heat_location

FIXED, RELATIVE = "fixed", "relative"
SCALES = {
    FIXED: "positive evidence for {target}, fixed scale",
    RELATIVE: "positive evidence for {target}, relative to this map's highest value",
}
ATTENTION_SCALES = {
    FIXED: "where the network sees a lesion in the lungs, 0 to 1, cell by cell",
    RELATIVE: "where the network sees a lesion in the lungs, relative to this map's highest value",
}
# what the attention map is of, and the method that stands in for it elsewhere; by the page's choosers
ATTENTION_CHOICE = {
    "method": ATTENTION,
    "target": CLASSES[POSITIVE],
    "layer": ATTENTION_LAYER,
    "otherwise": STAND_IN,
}
NO_EVIDENCE = "No positive evidence for {target}"
STEP = 0.2  # seconds between two signs of life while a method works
LEFT = 1.5  # seconds without a reader after which work is given up: Gradio does not close what it cancels


@dataclass(frozen=True)
class HeatmapChoice:
    """Which heatmap to show. None stands for the checkpoint's own method and layer, and the answer's class."""

    method: str | None = None
    layer: str | None = None
    target: str | None = None

    @property
    def options(self) -> dict[str, str]:
        """The options of `predict` for it, none where nothing was chosen."""
        named = {"heatmap_class": self.target, "method": self.method, "layer": self.layer}
        return {name: value for name, value in named.items() if value is not None}


@dataclass(frozen=True)
class HeatmapKind:
    """What a shown heatmap is. method, layer: of `explain.method_table`. scale: `fixed` or `relative`."""

    method: str = "grad_cam"
    layer: str = "coarse"
    scale: str = FIXED

    @property
    def title(self) -> str:
        """The method's name for people."""
        return METHODS[self.method].title


def read_choice(values: Any) -> HeatmapChoice:
    """What the page's choosers say; nothing in it is believed. Raises UsageError."""
    chosen = values if isinstance(values, Mapping) else {}
    method, layer, target = (chosen.get(name) or None for name in ("method", "layer", "target"))
    choices = ((method, METHODS), (layer, LAYER_TITLES), (target, CLASSES))
    if not all(value is None or (isinstance(value, str) and value in offered) for value, offered in choices):
        raise UsageError("This heatmap is not one of those offered; choose method, layer and class again.")
    return HeatmapChoice(method, layer, target)


def describe_map(
    heatmap: NDArray[np.float32] | None,
    slot: str,
    target: str,
    kind: HeatmapKind,
    texts: Texts = ENGLISH,
    location: HeatLocation | None = None,
    cells: HeatCells | None = None,
) -> dict[str, str | None]:
    """What the page shows of one heatmap (height, width), 0..1. slot: its name, in the language of texts.

    layer: data URL to lay over the image, None where there is none; then `none` says why. lines: the same as lines
    of equal evidence. Both are drawn from cells, those of the map's layer; smooth, and without lines, where not known.
    alt, caption, legend: words. location: how well such a map points, in words.
    """
    named = texts(CLASS_TITLES[target])
    words: dict[str, str | None] = {
        "caption": kind.title,
        "legend": texts((ATTENTION_SCALES if kind.method == ATTENTION else SCALES)[kind.scale], target=named),
        "location": describe_heat_location(location, kind.method, kind.layer, target, texts),
    }
    if heatmap is None or not heatmap.any():
        none = texts("No map") if heatmap is None else texts(NO_EVIDENCE, target=named)
        return words | {"layer": None, "lines": None, "none": none, "alt": ""}
    alt, highest = texts("Evidence for {target} on the {slot}", target=named, slot=slot), ""
    if kind.scale == FIXED:
        value = texts.number(float(heatmap.max()), 2)
        highest = texts(", highest {value}", value=value)
        alt += texts(", highest {value} of 1", value=value)
    layer = make_heat_layer(heatmap, 1.0) if cells is None else draw_cells(cells)
    lines = None if cells is None else draw_lines(cells)
    return words | {
        "layer": layer,
        "lines": lines,
        "none": "",
        "alt": alt,
        "caption": f"{kind.title}{highest}",
    }


def list_choosers(
    shown: str, kind: HeatmapKind, methods: Sequence[str], texts: Texts = ENGLISH
) -> tuple[tuple[str, str, dict[str, str], str], ...]:
    """The choices above the images: (CSS class, title, option -> its title, the chosen one).

    shown: the class whose evidence is drawn at first; kind: the maps' own. methods: names of those offered.
    """
    classes: dict[str, str] = {name: texts(CLASS_TITLES[name]) for name in CLASSES}
    offered = {
        name: f"{METHODS[name].title} ({texts('slower')})" if METHODS[name].slow else METHODS[name].title
        for name in methods
    }
    layers = {name: texts(title) for name, title in LAYER_TITLES.items()}
    return (
        ("mm-heat-target", texts("Evidence for"), classes, shown),
        ("mm-heat-method", texts("Method"), offered, kind.method),
        ("mm-heat-layer", texts("Layer"), layers, kind.layer),
    )


def draw_overlay(grey: NDArray[np.float32], heatmap: NDArray[np.float32], opacity: float) -> str:
    """The heatmap over its image at the image's own resolution: data URL of an RGB PNG.

    grey: (height, width), 0..255, as the file holds it. heatmap: (h, w), 0..1, of the same whole
    image, whatever its size. opacity: 0..1.
    """
    levels = np.clip(np.rint(grey), 0, 255).astype(np.uint8)
    pixels = np.repeat(levels[..., None], 3, axis=-1)
    return encode_png(blend_heatmap(pixels, resize_heatmap(heatmap, *grey.shape), opacity))


class CancellableTask:
    """A call in a thread of its own that reports progress and can be stopped."""

    def __init__(self) -> None:
        self._progress: queue.Queue[float | None] = queue.Queue()
        self._stop = threading.Event()
        self._read_at = time.monotonic()
        self._future: Future[Any] = Future()
        self._future.add_done_callback(lambda _: self._progress.put(None))

    def run(self, function: Any) -> Iterator[float]:
        """Call `function(progress=, cancelled=)` and yield shares 0..1; stopped where the reader leaves.

        The result is in `result` when the iteration has ended by itself.
        """

        def is_left() -> bool:
            return self._stop.is_set() or time.monotonic() - self._read_at > LEFT

        call = partial(function, progress=self._progress.put, cancelled=is_left)
        run_in_thread(self._future, call, "heatmap")
        share = 0.0
        try:
            while True:
                self._read_at = time.monotonic()
                try:
                    progress = self._progress.get(timeout=STEP)
                except queue.Empty:
                    yield share
                    continue
                if progress is None:
                    return
                share = progress
                yield share
        finally:
            self._stop.set()

    @property
    def result(self) -> Any:
        """What the function gave, as soon as it has ended. Raises what it raised."""
        return self._future.result()
