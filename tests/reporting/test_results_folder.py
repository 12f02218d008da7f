"""The results folder: two splits in one document, and what an earlier run left."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from made_results import make_costs, make_results

from covid_mm.config import CLASSES
from covid_mm.errors import DataError
from covid_mm.evaluation.network_result import merge_results, summarise_histograms
from covid_mm.training.batches import ModalitySamples


def leave(folder, results):
    """A folder in which an earlier run left these."""
    (folder / "results.json").write_text(json.dumps(results.to_dict()))
    return folder


def test_an_empty_folder_changes_nothing(tmp_path):
    assert merge_results(make_results("paper"), tmp_path) == make_results("paper")


@pytest.mark.parametrize(("first", "second"), [("paper", "grouped"), ("grouped", "paper")])
def test_the_papers_split_comes_first_whichever_was_made_first(tmp_path, first, second):
    merged = merge_results(make_results(second), leave(tmp_path, make_results(first)))
    assert dataclasses.replace(merged, notes=()) == dataclasses.replace(make_results(), notes=())
    assert set(merged.notes) == set(make_results().notes)


def test_the_papers_costs_stand_and_others_where_it_has_none(tmp_path):
    leave(tmp_path, make_results("grouped", costs=make_costs() | {"inference": []}))
    assert merge_results(make_results("paper"), tmp_path).costs == make_costs()
    assert merge_results(make_results("paper", costs={}), tmp_path).costs["inference"] == []


def test_what_is_made_again_replaces_what_was_said_of_it(tmp_path):
    old = make_results(
        command="old paper\nold grouped", notes=("paper's random split: a", "grouped split: b")
    )
    new = make_results("paper", command="new paper", notes=("paper's random split: c",))
    merged = merge_results(new, leave(tmp_path, old))
    assert merged.command == "new paper\nold grouped"
    assert merged.notes == ("paper's random split: c", "grouped split: b")
    assert len(merged.networks) == 18
    assert len(merged.data) == 4
    assert len(merged.steps) == 6


@pytest.mark.parametrize("change", [{"seed": 1}, {"synthetic": True}])
def test_results_of_other_images_are_not_mixed(tmp_path, change):
    leave(tmp_path, make_results("grouped", **change))
    assert merge_results(make_results("paper"), tmp_path) == make_results("paper")


@pytest.mark.parametrize("text", ["{", "[]", '{"format_version": 1}'])
def test_a_damaged_earlier_document_is_one_sentence(tmp_path, text):
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(DataError):
        merge_results(make_results("paper"), tmp_path)


def test_histograms_are_mean_shares_of_grey_levels():
    images = np.stack([np.full((4, 4), 1.0), np.full((4, 4), 254.0), np.full((4, 4), 100.0)])
    images[0, :2] = 9.0
    result = summarise_histograms(ModalitySamples(images.astype(np.float32), np.array([0, 0, 1])))
    normal, positive = (np.array(result[name]) for name in CLASSES)
    assert (normal[0], normal[2], normal[63]) == (0.25, 0.25, 0.5)  # bins of four grey levels
    assert positive[25] == 1
    assert normal.sum() == positive.sum() == 1
    alone = summarise_histograms(ModalitySamples(images[:1].astype(np.float32), np.array([1])))
    assert list(alone) == ["covid19_pneumonia"]
