"""The recipe served from collections to a published checkpoint, through the commands, on toy networks and phantoms."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from toy_networks import toy_backbones

from covid_mm.commands import exit_with
from covid_mm.commands.train import run
from covid_mm.config import CLASSES, POSITIVE
from covid_mm.datasets.phantoms import make_study
from covid_mm.evaluation import content_check, left_out_heat
from covid_mm.training import recipe, served_run
from covid_mm.training.run import RunFolder

pytestmark = pytest.mark.slow
COLLECTIONS = (  # name, modality, the labels of its images
    ("first-ct", "ct", (0, 1) * 5),
    ("second-ct", "ct", (0, 1) * 5),
    ("normal-ct", "ct", (0,) * 6),
    ("first-xray", "xray", (0, 1) * 5),
    ("second-xray", "xray", (0, 1) * 5),
)


def write_collections(root: Path) -> None:
    """Folders with a manifest, of phantoms that no two share; lesions are marked as masks or as boxes."""
    number = 500
    for name, modality, labels in COLLECTIONS:
        folder = root / name
        folder.mkdir(parents=True)
        rows = []
        for row, label in enumerate(labels):
            study = make_study(label, number, size=96)
            number += 1
            cv2.imwrite(str(folder / f"{row}.png"), getattr(study, modality))
            entry = {
                "file": f"{row}.png",
                "label": CLASSES[label],
                "patient": f"{name}-{row // 2}",
                "modality": modality,
            }
            lesions = getattr(study, f"{modality}_lesions")
            if label == POSITIVE and lesions.any() and modality == "ct":
                cv2.imwrite(str(folder / f"{row}-lesions.png"), 255 * lesions.astype(np.uint8))
                entry["lesion_mask"] = f"{row}-lesions.png"
            elif label == POSITIVE and lesions.any():
                down, right = np.nonzero(lesions)
                box = [right.min() / 96, down.min() / 96, (right.max() + 1) / 96, (down.max() + 1) / 96]
                entry["boxes"] = json.dumps([box])
            rows.append(entry)
        with (folder / "manifest.csv").open("w", newline="") as file:
            columns = ["file", "label", "patient", "modality", "lesion_mask", "boxes"]
            writer = csv.DictWriter(file, columns, restval="")
            writer.writeheader()
            writer.writerows(rows)


class Served:
    """One training, kept for all tests of this file."""

    def __init__(self, root: Path) -> None:
        self.data, self.checkpoint = root / "data", root / "published" / "densenet121-mobilenet"
        self.runs, self.results = root / "runs", root / "published" / "results"
        write_collections(self.data)

    def train(self, *words: object) -> int:
        return exit_with(lambda: run([str(word) for word in words]))


def make_quick(patch: pytest.MonkeyPatch) -> None:
    """Few phantoms and pictures; toy backbones have none of the layers up to which real ones are frozen."""
    patch.setattr(recipe, "FROZEN_UNTIL", {})
    patch.setattr(content_check, "CLASSIFIER_PHANTOMS", 12)
    patch.setattr(left_out_heat, "PHANTOMS", 4)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Served:
    made = Served(tmp_path_factory.mktemp("served"))
    with toy_backbones(), pytest.MonkeyPatch.context() as patch:
        make_quick(patch)
        words = ["--data", made.data, "--recipe", "served", "--weights", "none", "--branch-steps", 4]
        words += ["--length", "long"]
        words += ["--runs", made.runs, "--run-name", "r", "--output", made.checkpoint]
        assert made.train(*words) == 0
    return made


@pytest.fixture
def meta(served: Served) -> dict[str, Any]:
    return json.loads((served.checkpoint / "meta.json").read_text())


def test_the_checkpoint_says_what_it_was_made_of(served, meta):
    assert meta["recipe"] == "served"
    assert meta["preprocessing"]["name"] == "lungs"
    assert meta["network"]["image_size"] == 160  # what is read; learned from, a little smaller:
    assert {part["image_size"] for part in meta["training"].values()} == {150}
    assert {
        m: [teacher["backbone"] for teacher in part["teachers"]] for m, part in meta["training"].items()
    } == {
        "ct": ["densenet121", "densenet121"],
        "xray": ["densenet121", "mobilenet"],
    }
    for name in ("teacher-1-densenet121", "teacher-2-mobilenet"):
        assert (served.runs / "r" / "xray-without-first-xray" / name / "last.npz").exists()
    assert {m: part["refined"]["mild"] for m, part in meta["training"].items()} == {"ct": 1.0, "xray": 1.0}
    assert "steps" not in meta["training"]["ct"]["refined"]  # what is as before is not told twice
    used = {part["name"]: (part["use"], part["trained"] > 0) for part in meta["data"]}
    assert used == {name: ("training", True) for name, _, _ in COLLECTIONS}
    assert {path.name for path in served.checkpoint.iterdir()} == {
        "model.weights.h5",
        "content_classifier.npz",
        "lungs.npz",
        "meta.json",
        "README.md",
    }
    assert "On collections that it never saw" in (served.checkpoint / "README.md").read_text()


def test_every_collection_was_left_out_once(meta):
    rows = {
        table["head"]: [row["collection"] for row in table["rows"]] for table in meta["left_out"]["heads"]
    }
    assert sorted(rows["ct"]) == ["first-ct", "normal-ct", "second-ct"]
    assert sorted(rows["xray"]) == ["first-xray", "second-xray"]
    assert len(rows["fused"]) == 4  # every CT fold with every X-ray fold
    for table in meta["left_out"]["heads"]:
        points = table["operating_points"]
        two_class = [row for row in table["rows"] if row["normal"] and row["positive"]]
        assert points["positive"] == sum(row["positive"] for row in two_class)
        assert points["negative"] == sum(row["normal"] for row in two_class)
    measured = {(row["collection"], row["test"]) for row in meta["left_out"]["shortcuts"]}
    assert {("first-ct", "blank_hull"), ("second-xray", "border_beyond_lungs")} <= measured
    assert {row["collection"] for row in meta["left_out"]["heatmaps"]} >= {"first-ct", "first-xray"}


def test_fused_rows_are_of_two_class_collections_alone(meta):
    """The one-class collection is left out together with a fold, and no pair is formed of it."""
    (fused,) = (table for table in meta["left_out"]["heads"] if table["head"] == "fused")
    assert {row["collection"] for row in fused["rows"]} == {
        f"{ct} with {xray}" for ct in ("first-ct", "second-ct") for xray in ("first-xray", "second-xray")
    }


def test_results_stand_beside_the_checkpoint(served, meta):
    page = (served.results / "left-out.md").read_text()
    assert "first-ct" in page
    published = json.loads((served.results / "left-out.json").read_text())
    assert published["heads"] == meta["left_out"]["heads"]


def test_a_published_checkpoint_answers(served, covid_mm):
    ct, xray = served.data / "first-ct" / "1.png", served.data / "first-xray" / "1.png"
    done = covid_mm("predict", "--ct", ct, "--xray", xray, "--checkpoint", served.checkpoint, "--json")
    assert done.code == 0, done.err
    result = json.loads(done.out)
    assert result["label"] in (*CLASSES, "undetermined")
    assert set(result["evidence"]) >= {"auc", "sensitivity", "specificity"}


def test_its_content_check_can_be_fitted_anew(served, covid_mm, tmp_path, monkeypatch):
    make_quick(monkeypatch)
    copy = tmp_path / "copy"
    shutil.copytree(served.checkpoint, copy)
    done = covid_mm("content-check", "--data", served.data, "--checkpoint", copy)
    assert done.code == 0, done.err
    before, after = (json.loads((path / "meta.json").read_text()) for path in (served.checkpoint, copy))
    assert after["content_check"]["trained_on"] == before["content_check"]["trained_on"]
    assert "phantoms" in after["content_check"]["measured"][0]["images"]
    assert after["left_out"] == before["left_out"]
    assert [row["collection"] for row in after["refusals"]] == [
        row["collection"] for row in before["refusals"]
    ]
    assert after["refusals"] == before["refusals"]  # the same classifier again

    shutil.copytree(served.data, tmp_path / "less")
    shutil.rmtree(tmp_path / "less" / "second-ct")
    refused = covid_mm("content-check", "--data", tmp_path / "less", "--checkpoint", copy)
    assert refused.code != 0
    assert "learned from second-ct too" in refused.err


def test_a_branch_cut_off_before_it_was_refined_goes_on_from_there(served, small_backbones, monkeypatch):
    """To the same weights; neither its teachers nor what it was before are trained again."""
    make_quick(monkeypatch)
    folder = RunFolder(served.runs / "r" / "ct-served")
    whole, first = folder.load_state(), RunFolder(folder.path / "before").load_state()
    assert not all(np.array_equal(a, b) for a, b in zip(whole.weights, first.weights, strict=True))
    for name in ("last.npz", "answers.npz"):
        (folder.path / name).unlink()

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the teachers were there")

    monkeypatch.setattr(served_run, "train_teachers", refuse)
    assert served.train("--resume", served.runs / "r") == 0
    again = folder.load_state()
    assert again.epochs == whole.epochs
    for a, b in zip(whole.weights, again.weights, strict=True):
        np.testing.assert_array_equal(a, b)
    before = RunFolder(folder.path / "before").load_state()
    assert all(np.array_equal(a, b) for a, b in zip(first.weights, before.weights, strict=True))


def test_a_finished_run_trains_nothing_again_and_takes_notes(served, small_backbones, monkeypatch):
    make_quick(monkeypatch)
    before = {path: path.read_bytes() for path in served.runs.rglob("last.npz")}
    assert len(before) == 6 * 4  # of each branch, as it was before it was refined, and its two teachers

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a finished branch is not trained again")

    monkeypatch.setattr(served_run, "fit_branch", refuse)
    (served.runs / "r" / "notes.txt").write_text("Trained on a bench.\n\nOn a Sunday.\n")
    assert served.train("--resume", served.runs / "r") == 0
    published = json.loads((served.results / "left-out.json").read_text())
    assert published["notes"][-2:] == ["Trained on a bench.", "On a Sunday."]
    assert {path: path.read_bytes() for path in served.runs.rglob("last.npz")} == before
