"""Which heatmap becomes the checkpoint's own, and what is said of it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from covid_mm.evaluation.heat_location import HeatRow
from covid_mm.evaluation.left_out_heat import choose_heatmap, locate_heat


def row(
    method: str, layer: str, collection: str, hit: float, images: int = 100, chance: float = 0.2
) -> HeatRow:
    return HeatRow(method, layer, collection, images, hit, hit, hit, chance, hit, None, None)


def test_the_method_that_points_best_over_all_folds_is_chosen():
    rows = [
        row("grad_cam", "coarse", "a", 0.9),
        row("grad_cam", "coarse", "b", 0.1),
        row("hires_cam", "fine", "a", 0.6),
        row("hires_cam", "fine", "b", 0.6),
    ]
    assert choose_heatmap(rows) == ("hires_cam", "fine")


def test_slow_methods_and_phantoms_do_not_choose():
    rows = [
        row("score_cam", "coarse", "a", 1.0),
        row("layer_cam", "fine", "xray phantoms", 1.0),
        row("grad_cam", "coarse", "a", 0.5),
    ]
    assert choose_heatmap(rows) == ("grad_cam", "coarse")
    assert choose_heatmap([]) == ("grad_cam", "coarse")


def test_what_is_said_is_of_the_modality_and_the_method():
    run = SimpleNamespace(
        network=SimpleNamespace(modalities=("ct", "xray")),
        folds={
            "ct": (SimpleNamespace(name="c"),),
            "xray": (SimpleNamespace(name="a"), SimpleNamespace(name="b")),
        },
    )
    rows = [
        row("grad_cam", "fine", "a", 0.8, images=300, chance=0.2),
        row("grad_cam", "fine", "b", 0.4, images=100, chance=0.4),
        row("grad_cam", "coarse", "a", 0.0),
    ]
    located = locate_heat(rows, run, "grad_cam", "fine")
    assert located["ct"] is None
    assert located["xray"]["hit"] == pytest.approx(0.7)
    assert located["xray"]["chance"] == pytest.approx(0.25)
    assert located["xray"]["images"] == 400
