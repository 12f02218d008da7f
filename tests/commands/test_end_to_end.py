"""From images to a published checkpoint to an answer, through the commands, on toy networks."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from answer_keys import ANSWER_KEYS

from covid_mm.config import CLASSES
from covid_mm.models.meta_file import write_meta

QUICK = (
    "--weights",
    "none",
    "--epochs",
    1,
    "--steps-per-epoch",
    2,
    "--batch-size",
    4,
    "--augmented-copies",
    1,
)


def study(root: Path) -> tuple[Path, Path]:
    """A slice and a film of the first positive validation phantom, which the content check was fitted on."""
    return tuple(root / m / CLASSES[1] / "phantom-00007.png" for m in ("ct", "xray"))  # type: ignore[return-value]


def test_training_leaves_what_the_design_lists(trained):
    assert {path.name for path in trained.checkpoint.iterdir()} == {
        "model.weights.h5",
        "content_classifier.npz",
        "meta.json",
        "README.md",
    }
    files = {path.name for path in trained.run.iterdir()}
    assert files >= {"config.json", "split.json", "history.csv", "last.npz", "best.weights.h5"}
    meta = json.loads((trained.checkpoint / "meta.json").read_text())
    assert set(meta) >= {
        "format_version",
        "pair",
        "classes",
        "network",
        "preprocessing",
        "temperature",
        "decision_threshold",
        "heatmap_scale",
        "data",
        "split",
        "seed",
        "initial_weights",
        "metrics",
        "content_check",
        "command",
        "packages",
        "weights",
    }
    assert set(meta["metrics"]["validation"]) == {"fused", "ct", "xray"}
    for report in meta["metrics"]["validation"].values():
        assert report["accuracy"]["low"] <= report["accuracy"]["value"] <= report["accuracy"]["high"]
    assert [part["counts"]["train"] for part in meta["data"]] == [dict.fromkeys(CLASSES, 4)] * 2
    assert not meta["synthetic"]


def test_the_content_check_is_measured_in_every_slot(trained, covid_mm, tmp_path):
    folder = Path(shutil.copytree(trained.checkpoint, tmp_path / "toy"))
    meta = json.loads((trained.checkpoint / "meta.json").read_text())
    rows = meta["content_check"]["measured"]
    assert {(row["kind"], row["slot"]) for row in rows} == {
        (kind, slot) for kind in ("ct", "xray", "neither") for slot in ("ct", "xray")
    }
    assert all(sum(row["outcomes"].values()) == row["total"] > 0 for row in rows)
    card = (trained.checkpoint / "README.md").read_text()
    assert "## The content check" in card
    assert "pictures and drawings kept for this" in card
    assert "early layers (entry_relu) give for the whole image, shrunk 2 times a side" in card

    before = (folder / "content_classifier.npz").read_bytes()
    done = covid_mm("content-check", "--data", trained.data, "--checkpoint", folder)
    assert done.code == 0, done.err
    assert "In the slot for" in done.out
    again = json.loads((folder / "meta.json").read_text())["content_check"]
    assert again["measured"] == rows
    unchanged = (folder / "content_classifier.npz").read_bytes() == before
    assert unchanged or again["sha256"] != meta["content_check"]["sha256"]


def test_swapped_images_get_no_answer(trained, covid_mm):
    ct, xray = study(trained.data)
    done = covid_mm("predict", "--ct", xray, "--xray", ct, "--checkpoint", trained.checkpoint, "--json")
    assert done.code == 0, done.err
    result = json.loads(done.out)
    assert result["label"] == "undetermined"
    assert result["probabilities"] == {}
    assert [warning["code"] for warning in result["warnings"]] == ["swapped_inputs"]


def test_no_folder_of_this_machine_is_written(trained):
    for name in ("meta.json", "README.md"):
        text = (trained.checkpoint / name).read_text()
        assert str(trained.run.parents[1]) not in text
        assert str(trained.data) not in text
        assert "--data" in text


def test_predict_prints_the_designs_object(trained, covid_mm, tmp_path):
    ct, xray = study(trained.data)
    done = covid_mm(
        *("predict", "--ct", ct, "--xray", xray, "--checkpoint", trained.checkpoint),
        *("--heatmaps", tmp_path / "maps", "--json"),
    )
    assert done.code == 0, done.err
    result = json.loads(done.out)
    assert list(result) == ANSWER_KEYS
    assert result["modalities"] == ["ct", "xray"]
    assert result["lungs"] == {"ct": None, "xray": None}  # whole images are read
    assert result["evidence"] is None  # nothing was left out
    assert sum(result["probabilities"].values()) == pytest.approx(1)
    assert result["checkpoint"]["name"] == "toy"
    for modality in ("ct", "xray"):
        picture = cv2.imread(result["heatmaps"][modality])
        assert max(picture.shape[:2]) == 600  # the aspect is the image's own
    assert len(list((tmp_path / "maps").iterdir())) == 2


def test_predict_says_it_in_sentences(trained, covid_mm):
    ct, _ = study(trained.data)
    done = covid_mm("predict", "--ct", ct, "--checkpoint", trained.checkpoint)
    assert done.code == 0, done.err
    assert re.search(r"probability of COVID-19 pneumonia (over |under )?\d+ %, threshold 50 %", done.out)
    assert "CT alone" in done.out
    assert "Research use only, not for diagnosis." in done.out
    assert "null" not in done.out


def test_predict_refuses_in_one_line(trained, covid_mm, tmp_path):
    ct, _ = study(trained.data)
    file = tmp_path / "file"
    file.write_text("text")
    for arguments in (
        ["--ct", file, "--checkpoint", trained.checkpoint],
        ["--ct", ct, "--checkpoint", tmp_path],
        ["--ct", ct, "--checkpoint", trained.checkpoint, "--heatmaps", file],
        ["--ct", tmp_path, "--checkpoint", trained.checkpoint],
    ):
        done = covid_mm("predict", *arguments)
        assert done.code == 2
        assert done.out == ""
        assert len(done.err.strip().splitlines()) == 1


def test_evaluate_measures_the_validation_side_only(trained, covid_mm, tmp_path):
    done = covid_mm(
        "evaluate", "--data", trained.data, "--checkpoint", trained.checkpoint, "--output", tmp_path / "out"
    )
    assert done.code == 0, done.err
    assert "the 4 validation images" in done.out
    result = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    meta = json.loads((trained.checkpoint / "meta.json").read_text())
    assert result["sha256"] == meta["weights"]["sha256"]
    # the same images through the same weights: the figures of the training itself
    for head, report in meta["metrics"]["validation"].items():
        assert result["metrics"][head]["counts"] == report["counts"]
        assert result["metrics"][head]["brier"] == pytest.approx(report["brier"], abs=1e-5)


def elsewhere(trained, folder: Path, modality: str) -> Path:
    """The phantoms of a modality as another source names its folders."""
    for source, name in zip(CLASSES, ("normal", "covid-19"), strict=True):
        shutil.copytree(trained.data / modality / source, folder / modality / name)
    return folder / modality


@pytest.mark.parametrize("modality", ["ct", "xray"])
def test_evaluate_takes_one_modality(trained, covid_mm, tmp_path, modality):
    folder = elsewhere(trained, tmp_path, modality)
    done = covid_mm(
        *("evaluate", f"--{modality}", folder, "--checkpoint", trained.checkpoint, "--output", tmp_path)
    )
    assert done.code == 0, done.err
    assert "all 12 images" in done.out
    metrics = json.loads((tmp_path / "evaluation.json").read_text())["metrics"]
    assert set(metrics) == {modality}
    assert sum(metrics[modality]["counts"].values()) == 12


def test_evaluate_pairs_two_other_sources_by_class(trained, covid_mm, tmp_path):
    ct, xray = (elsewhere(trained, tmp_path, m) for m in ("ct", "xray"))
    min((xray / "normal").iterdir()).unlink()
    done = covid_mm(
        *("evaluate", "--ct", ct, "--xray", xray, "--checkpoint", trained.checkpoint, "--output", tmp_path)
    )
    assert done.code == 0, done.err
    metrics = json.loads((tmp_path / "evaluation.json").read_text())["metrics"]
    images = {head: report["images"] for head, report in metrics.items()}
    assert images["fused"] == images["xray"] == dict(zip(CLASSES, (5, 6), strict=True))
    assert images["ct"] == dict.fromkeys(CLASSES, 6)


def test_evaluate_completes_an_older_card(trained, covid_mm, tmp_path):
    folder = Path(shutil.copytree(trained.checkpoint, tmp_path / "older"))
    whole = json.loads((folder / "meta.json").read_text())
    older = {key: value for key, value in whole.items() if key not in ("operating_points", "possibilities")}
    write_meta(folder, older)
    done = covid_mm("evaluate", "--data", trained.data, "--checkpoint", folder, "--update-card")
    assert done.code == 0, done.err
    result = json.loads((folder / "meta.json").read_text())
    assert result["possibilities"] == whole["possibilities"]
    assert result["operating_points"] == whole["operating_points"]
    assert {part["kind"]: part["studies"] for part in result["possibilities"]} == dict.fromkeys(
        ("both_negative", "both_positive", "ct_positive_xray_negative", "ct_negative_xray_positive"), 2
    )
    points, report = result["operating_points"]["fused"], result["metrics"]["validation"]["fused"]
    half = points["thresholds"].index(0.5)
    assert points["true_positive"][half] == report["counts"]["true_positive"]
    assert points["false_positive"][half] == report["counts"]["false_positive"]
    assert "CT positive, X-ray normal" in (folder / "README.md").read_text()


def test_evaluate_needs_one_place_of_images(trained, covid_mm):
    for words in ([], ["--data", trained.data, "--ct", trained.data]):
        done = covid_mm("evaluate", *words, "--checkpoint", trained.checkpoint)
        assert done.code == 2
        assert "--data DIR, or one or several of --ct DIR, --xray DIR" in done.err


def test_evaluate_refuses_images_it_cannot_tell_apart(trained, covid_mm, tmp_path):
    root = tmp_path / "fewer"
    shutil.copytree(trained.data, root)
    min((root / "ct" / "normal").iterdir()).unlink()
    done = covid_mm("evaluate", "--data", root, "--checkpoint", trained.checkpoint)
    assert done.code == 2
    assert "cannot be told apart" in done.err
    edited = Path(shutil.copytree(trained.checkpoint, tmp_path / "edited"))
    meta = json.loads((edited / "meta.json").read_text())
    del meta["split"]
    write_meta(edited, meta)
    done = covid_mm("evaluate", "--data", trained.data, "--checkpoint", edited)
    assert done.code == 2
    assert "does not say how its images were divided" in done.err


def test_unreadable_files_are_all_listed(train, phantoms, tmp_path):
    root = tmp_path / "data"
    shutil.copytree(phantoms, root)
    bad = sorted((root / "ct" / "normal").iterdir())[:2] + sorted((root / "xray" / "normal").iterdir())[:3]
    for path in bad:
        path.write_bytes(path.read_bytes()[:60])
    done = train("--data", root, *QUICK, "--runs", tmp_path / "runs", "--output", tmp_path / "out")
    assert done.code == 2
    assert all(path.name in done.err for path in bad)
    assert "Traceback" not in done.err
    assert not (tmp_path / "out").exists()


def test_a_broken_training_goes_on_to_the_same_checkpoint(trained, train, monkeypatch, tmp_path):
    from covid_mm.training import heads

    runs = ["--runs", tmp_path / "runs", "--run-name", "broken", "--output", tmp_path / "toy"]
    fit_part = heads.fit_part

    def interrupt(*arguments, head, **options):
        if head == "xray":
            raise KeyboardInterrupt
        return fit_part(*arguments, head=head, **options)

    monkeypatch.setattr(heads, "fit_part", interrupt)
    done = train("--data", trained.data, *QUICK, *runs)
    assert done.code == 130
    assert f"--resume {tmp_path / 'runs' / 'broken'}" in done.out
    assert not (tmp_path / "toy").exists()
    monkeypatch.undo()
    done = train("--resume", tmp_path / "runs" / "broken")
    assert done.code == 0, done.err
    first, second = (
        json.loads((checkpoint / "meta.json").read_text())
        for checkpoint in (trained.checkpoint, tmp_path / "toy")
    )
    for head, report in first["metrics"]["validation"].items():
        assert second["metrics"]["validation"][head]["brier"] == pytest.approx(report["brier"], abs=1e-5)
    assert first["split"] == second["split"]


def test_ctrl_c_before_the_training_does_not_promise_to_go_on(trained, train, monkeypatch, tmp_path):
    from covid_mm.training import data

    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(data, "gather_training_data", interrupt)
    done = train("--data", trained.data, *QUICK, "--runs", tmp_path / "runs", "--output", tmp_path / "toy")
    assert done.code == 130
    assert "start it again" in done.out
    assert "--resume" not in done.out


def test_resuming_with_other_images_is_refused(trained, train, tmp_path):
    run, data = tmp_path / "runs" / "moved", tmp_path / "data"
    shutil.copytree(trained.run, run)
    shutil.copytree(trained.data, data)
    extra = data / "ct" / "normal" / "extra.png"
    cv2.imwrite(str(extra), np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8))
    config = json.loads((run / "config.json").read_text())
    config["plan"] |= {"data_root": str(data), "output": str(tmp_path / "out")}
    (run / "config.json").write_text(json.dumps(config))
    done = train("--resume", run)
    assert done.code == 2
    assert "The images are not those that moved was started with" in done.err
    for damaged in ("[]", "{}", '{"plan": 3}', "{"):
        (run / "config.json").write_text(damaged)
        assert train("--resume", run).code == 2


def test_a_run_is_not_started_twice(trained, train):
    done = train("--data", trained.data, *QUICK, "--runs", trained.run.parent, "--run-name", trained.run.name)
    assert done.code == 2
    assert "is there already; go on with --resume" in done.err


def test_training_without_data_says_so_loudly(train, tmp_path):
    done = train(
        *("--synthetic", "--phantoms", 4, "--runs", tmp_path / "runs", "--output", tmp_path / "drawn"),
        *("--single", "mobilenet", "--modality", "xray", *QUICK),
    )
    assert done.code == 0, done.err
    assert done.out.count("SYNTHETIC PHANTOMS") == 2
    assert "free Kaggle data sets" in done.out
    meta = json.loads((tmp_path / "drawn" / "meta.json").read_text())
    assert meta["synthetic"]
    assert "no patients" in meta["trained_on"]
    card = (tmp_path / "drawn" / "README.md").read_text()
    assert "Trained on synthetic phantoms, not on patients" in card
    assert set(meta["metrics"]["validation"]) == {"xray"}


def test_initial_weights_keep_their_history_and_the_choice_of_films_is_remembered(trained, train, tmp_path):
    from covid_mm.evaluation.checkpoint import read_data_config
    from covid_mm.serving.metadata import read_metadata

    done = train(
        *("--data", trained.data, "--runs", tmp_path / "runs", "--output", tmp_path / "second"),
        *("--weights", f"ct={trained.checkpoint},xray={trained.run}", *QUICK[2:], "--positives", "covid-19"),
    )
    assert done.code == 0, done.err
    assert read_data_config(read_metadata(tmp_path / "second")).positives == "covid-19"
    assert read_data_config(read_metadata(trained.checkpoint)).positives == "pneumonia"
    meta = json.loads((tmp_path / "second" / "meta.json").read_text())
    first = json.loads((trained.checkpoint / "meta.json").read_text())
    for modality, kind in (("ct", "checkpoint"), ("xray", "run")):
        weights = meta["initial_weights"][modality]
        assert weights["kind"] == kind
        assert weights["seen"] == [f"{modality}:{first['split']['hashes'][modality]}"]
        assert weights["commands"] == [first["command"]]
    assert meta["validation_seen_before"] == []
    assert str(tmp_path) not in json.dumps(meta)


def test_card_is_drawn_anew_with_other_results(trained, covid_mm, tmp_path):
    folder = Path(shutil.copytree(trained.checkpoint, tmp_path / "toy"))
    covid_mm("evaluate", "--data", trained.data, "--checkpoint", folder, "--output", tmp_path)
    done = covid_mm(
        *("card", folder, "--compare-with", f"Grouped split={trained.checkpoint}"),
        *("--beside", f"Elsewhere={tmp_path / 'evaluation.json'}"),
    )
    assert done.code == 0, done.err
    card = (folder / "README.md").read_text()
    assert "## Grouped split" in card
    assert "## Elsewhere" in card
    assert len(json.loads((folder / "meta.json").read_text())["comparisons"]) == 2
    assert covid_mm("predict", "--ct", study(trained.data)[0], "--checkpoint", folder).code == 0
    for wrong in ("Title", "Title=none", f"Title={folder / 'README.md'}"):
        done = covid_mm("card", folder, "--compare-with", wrong)
        assert done.code == 2
        assert len(done.err.strip().splitlines()) == 1
    assert (folder / "README.md").read_text() == card
