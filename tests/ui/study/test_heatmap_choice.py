"""Which heatmap is wanted, what is said of it, the map over its image, and work that can be stopped."""

from __future__ import annotations

import base64
import threading
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from covid_mm.config import CLASSES
from covid_mm.errors import Cancelled, UsageError
from covid_mm.explain.method_table import LAYERS, METHODS
from covid_mm.explain.overlay import LEVELS, colour_heatmap, find_cells
from covid_mm.serving.prediction import HeatLocation
from covid_mm.ui.study.heatmaps import (
    RELATIVE,
    CancellableTask,
    HeatmapChoice,
    HeatmapKind,
    describe_map,
    draw_overlay,
    list_choosers,
    read_choice,
)


@pytest.mark.parametrize("values", [None, {}, [], "x", {"method": None, "layer": "", "target": ""}])
def test_without_a_wish_it_is_the_map_of_the_answer(values):
    assert read_choice(values) == HeatmapChoice()
    assert read_choice(values).options == {}
    assert HeatmapChoice("hires_cam").options == {"method": "hires_cam"}  # the layer is the checkpoint's own


def test_every_offer_is_understood():
    for method in METHODS:
        for layer in LAYERS:
            for target in CLASSES:
                choice = read_choice({"method": method, "layer": layer, "target": target, "more": 1})
                assert choice == HeatmapChoice(method, layer, target)
                assert choice.options == {"method": method, "layer": layer, "heatmap_class": target}


@pytest.mark.parametrize(
    "values",
    [{"method": "../x"}, {"method": 7}, {"layer": "finest"}, {"target": "lion"}, {"target": 3}],
)
def test_anything_else_is_one_sentence(values):
    with pytest.raises(UsageError, match=r"^[A-Z][^.]*\.$"):
        read_choice(values)


def test_a_map_is_a_layer_with_its_highest_value_on_the_fixed_scale_only():
    heatmap = np.zeros((8, 8), np.float32)
    heatmap[2, 3] = 0.42
    fixed = describe_map(heatmap, "CT slice", "normal", HeatmapKind())
    assert fixed["layer"].startswith("data:image/png;base64,")
    assert not fixed["none"]
    assert "0.42" in fixed["caption"]
    assert "0.42" in fixed["alt"]
    relative = describe_map(heatmap, "CT slice", "normal", HeatmapKind("layer_cam", "fine", RELATIVE))
    assert relative["caption"] == "Layer-CAM"
    assert "0.42" not in relative["alt"]
    assert relative["legend"] != fixed["legend"]


@pytest.mark.parametrize("heatmap", [None, np.zeros((8, 8), np.float32)], ids=["none", "zero"])
def test_without_evidence_there_is_no_layer_but_a_reason(heatmap):
    result = describe_map(heatmap, "CT slice", "covid19_pneumonia", HeatmapKind())
    assert result["layer"] is None
    assert result["none"]
    assert result["alt"] == ""


def test_how_well_a_map_points_is_said_of_the_measured_method_layer_and_class_only():
    location = HeatLocation("opacity boxes", 0.72, 0.21, 1216, "hires_cam", "fine")
    heatmap = np.full((8, 8), 0.5, np.float32)

    def say(
        method: str, layer: str, target: str = CLASSES[1], measured: HeatLocation | None = location
    ) -> str:
        kind = HeatmapKind(method, layer)
        return describe_map(heatmap, "X-ray", target, kind, location=measured)["location"] or ""

    measured = say("hires_cam", "fine")
    for words in ("HiResCAM, fine", "1,216 films", "a radiologist's box in 72 %", "(chance 21 %)"):
        assert words in measured
    for other in (
        say("hires_cam", "coarse"),
        say("layer_cam", "fine"),
        say("hires_cam", "fine", CLASSES[0]),
        say("hires_cam", "fine", measured=None),
    ):
        assert "was not measured" in other
        assert "72 %" not in other


def test_a_map_that_is_not_square_keeps_its_proportions():
    heatmap = np.zeros((512, 300), np.float32)
    heatmap[:256] = 0.8
    layer = describe_map(heatmap, "X-ray", "normal", HeatmapKind())["layer"]
    with Image.open(BytesIO(base64.b64decode(layer.split(",")[1]))) as picture:
        assert picture.size == (225, 384)  # no larger than the view that it lies on
        assert np.asarray(picture)[380, 100, 3] == 0
    grey = np.full((1000, 586), 100, np.float32)
    drawn = np.asarray(Image.open(BytesIO(base64.b64decode(draw_overlay(grey, heatmap, 1.0).split(",")[1]))))
    assert drawn.shape == (1000, 586, 3)
    assert (drawn[520:] == 100).all()
    assert (drawn[:480] != 100).any(axis=-1).all()


def test_a_map_is_shown_as_the_cells_of_its_layer_or_as_lines_along_them():
    heatmap = np.zeros((90, 60), np.float32)
    heatmap[30:60, 20:40] = 0.8
    cells = find_cells(heatmap, (3, 3))
    result = describe_map(heatmap, "X-ray", "normal", HeatmapKind(), cells=cells)
    layer, lines = (base64.b64decode(result[name].split(",")[1]).decode() for name in ("layer", "lines"))
    assert result["layer"].startswith("data:image/svg+xml;")
    assert layer.count("<rect") == 1  # cells without evidence are left out
    red, green, blue = colour_heatmap(np.full((1, 1), 0.8, np.float32))[0, 0]
    assert f'fill="#{red:02x}{green:02x}{blue:02x}" fill-opacity="1.000"' in layer
    assert lines.count("<path") == 2 * len(LEVELS)  # each with a dark one below
    assert "1000" in layer  # its own size: a browser draws none without
    faint = describe_map(heatmap / 4, "X-ray", "normal", HeatmapKind(), cells=find_cells(heatmap / 4, (3, 3)))
    assert (
        base64.b64decode(faint["lines"].split(",")[1]).count(b"<path") == 2
    )  # 0.2: the lowest line shows it


def test_the_choosers_offer_everything_and_start_at_what_is_shown():
    choosers = list_choosers("normal", HeatmapKind("hires_cam", "fine"), list(METHODS))
    assert [list(options) for _, _, options, _ in choosers] == [[*CLASSES], [*METHODS], [*LAYERS]]
    assert [chosen for *_, chosen in choosers] == ["normal", "hires_cam", "fine"]


def test_the_overlay_has_the_images_own_size_and_at_no_opacity_is_the_image():
    grey = np.random.default_rng(0).uniform(0, 255, (90, 61)).astype(np.float32)
    heatmap = np.full((15, 15), 0.9, np.float32)

    def draw(opacity: float) -> np.ndarray:
        body = draw_overlay(grey, heatmap, opacity).split(",")[1]
        return np.asarray(Image.open(BytesIO(base64.b64decode(body)))).astype(int)

    clear, covered = draw(0.0), draw(1.0)
    assert clear.shape == covered.shape == (90, 61, 3)
    assert np.abs(clear - grey[..., None]).max() <= 0.5
    assert np.ptp(covered.reshape(-1, 3), axis=0).max() <= 1  # one colour all over


def test_work_reports_progress_and_then_its_result():
    work = CancellableTask()

    def count(progress, cancelled):
        for step in range(4):
            progress(step / 4)
        return "done"

    shares = list(work.run(count))
    assert shares == sorted(shares)
    assert {0.25, 0.5, 0.75} <= set(shares)
    assert work.result == "done"


def test_work_that_nobody_reads_any_more_is_stopped():
    work, ended = CancellableTask(), threading.Event()

    def forever(progress, cancelled):
        progress(0.1)
        while not cancelled():
            threading.Event().wait(0.005)
        ended.set()
        raise Cancelled("The heatmap was cancelled.")

    shares = work.run(forever)
    assert next(shares) == 0.1
    shares.close()
    assert ended.wait(5)
    with pytest.raises(Cancelled):
        _ = work.result


def test_what_the_work_raises_is_raised_where_it_is_read():
    work = CancellableTask()

    def fail(progress, cancelled):
        raise UsageError("One sentence.")

    assert list(work.run(fail)) == []
    with pytest.raises(UsageError, match="One sentence"):
        _ = work.result
