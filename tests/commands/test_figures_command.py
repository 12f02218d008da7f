"""`python -m covid_mm figures DIR`: the page and its figures again, from results.json alone."""

from __future__ import annotations

import json
from pathlib import Path

import keras
import pytest
from made_results import make_results

from covid_mm.commands import figures


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A results folder that holds nothing but the results: one pair and one single network."""
    target_folder = tmp_path_factory.mktemp("results")
    pair, single = (make_results().networks[number] for number in (1, 6))
    results = make_results("paper", networks=(pair, single))
    (target_folder / "results.json").write_text(json.dumps(results.to_dict()))
    return target_folder


@pytest.fixture
def untrained(monkeypatch) -> None:
    """Whoever trains or asks a network fails."""

    def refuse(*arguments, **options):
        raise AssertionError("a network was run")

    for name in ("fit", "predict", "evaluate"):
        monkeypatch.setattr(keras.Model, name, refuse)


def test_everything_is_drawn_again_without_training(covid_mm, untrained, folder):
    before = (folder / "results.json").read_bytes()
    done = covid_mm("figures", folder)
    assert done.code == 0, done.err
    assert done.out == f"drawn again: {folder}\n"
    drawn = {path.stem for path in folder.glob("*.png")}
    assert drawn == {path.stem for path in folder.glob("*.svg")}
    names = ("figure-3", "figure-4", "roc", "training", "possibilities")
    others = {"figure-1-data", "figure-2-architecture", "generalisation"}
    assert drawn == {*others, *(f"{name}-paper" for name in names)}
    page = (folder / "README.md").read_text()
    assert "DenseNet121 and MobileNet misses the paper's 99.87 %" in page
    assert {part.partition(")")[0] for part in page.split("](")[1:]} == {f"{name}.png" for name in drawn}
    assert "synthetic phantom" in (folder / "figure-1-data.svg").read_text()
    assert (folder / "results.json").read_bytes() == before


def test_real_examples_come_from_the_data(covid_mm, untrained, folder, phantoms, monkeypatch):
    from covid_mm.reporting import results_folder

    drawn = {}
    monkeypatch.setattr(
        results_folder, "draw_results", lambda results, path, **options: drawn.update(options)
    )
    assert covid_mm("figures", folder, "--data", phantoms).code == 0
    assert set(drawn["examples"]) == {(m, c) for m in ("ct", "xray") for c in ("normal", "covid19_pneumonia")}
    assert all(image.shape == (64, 64) for image in drawn["examples"].values())
    assert drawn["examples_are"] == "of the data set"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (None, "holds no results.json that can be read; name the folder that train.py --pair all wrote."),
        ("{", "holds no results.json that can be read"),
        ("[1, 2]", "format None and format 1 is expected"),
        ('{"format_version": 1, "networks": []}', "damaged or of another version"),
    ],
)
def test_what_is_no_results_folder_is_refused_before_tensorflow_is_loaded(
    covid_mm, tmp_path, monkeypatch, text, named
):
    monkeypatch.setattr(figures, "load_tensorflow", lambda: pytest.fail("loaded too early"))
    if text is not None:
        (tmp_path / "results.json").write_text(text)
    done = covid_mm("figures", tmp_path)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: ")
    assert named in done.err
    assert len(done.err.splitlines()) == 1
    assert "Traceback" not in done.err
