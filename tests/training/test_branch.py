"""Training a branch: exact resume, evidence where the lesions are, nothing that is not a number."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from made_crops import SIZE, make_samples
from toy_networks import make_network

from covid_mm.errors import TrainingError
from covid_mm.training import branch
from covid_mm.training.branch import fit_branch, freeze_until, hint_loss, make_goals, trained_model
from covid_mm.training.branch_batches import BranchConfig
from covid_mm.training.run import RunFolder

CONFIG = BranchConfig(steps=6, batch_size=4, learning_rate=0.05, averaging=0.6)


@pytest.fixture
def quick(small_backbones, monkeypatch):
    """Small backbones, few batches for statistics, a state on disk after every third step."""
    monkeypatch.setattr(branch, "_STATISTICS", 2)
    monkeypatch.setattr(branch, "_SAVED_EVERY", 3)
    monkeypatch.setattr(branch, "_TOGETHER", 3)
    monkeypatch.setattr(branch, "_WARM_UP", 2)


def hint(attention, label, target, located):
    values = (attention, target)
    attention, target = (np.asarray(part, np.float32)[None] for part in values)
    known = np.array([located])
    return float(
        hint_loss(tf.constant(attention), tf.constant([label]), tf.constant(target), tf.constant(known))
    )


def test_the_hint_is_silent_where_attention_lies_on_the_lesions():
    lesion = np.zeros((5, 5))
    lesion[1:3, 1:4] = 1.0
    on, off = 40 * lesion - 20, 20 - 40 * lesion
    assert hint(on, 1, lesion, True) == pytest.approx(0.0, abs=1e-4)
    assert hint(off, 1, lesion, True) > 10
    assert hint(np.full((5, 5), -20.0), 0, 0 * lesion, True) == pytest.approx(0.0, abs=1e-4)
    assert hint(on, 0, 0 * lesion, True) > 1  # nothing to attend to on a normal image


def test_without_annotation_a_positive_image_must_attend_somewhere():
    lesion = np.zeros((5, 5))
    lesion[4, 0:4] = 1.0
    on, nowhere = 40 * lesion - 20, np.full((5, 5), -20.0)
    assert hint(on, 1, 0 * lesion, False) == pytest.approx(0.0, abs=1e-4)
    assert hint(nowhere, 1, 0 * lesion, False) > 1
    assert hint(nowhere, 0, 0 * lesion, False) == 0.0


def test_layers_up_to_one_are_frozen_and_all_batch_norm(small_backbones):
    network = make_network(size=SIZE, pooling="attention")
    freeze_until(network, "ct", "middle")
    trainable = {layer.name: layer.trainable for layer in network.branch_layers("ct")}
    assert trainable == {name: name == "ct_last_conv" for name in trainable}
    assert network.model.get_layer("ct_logits").trainable
    assert network.model.get_layer("ct_attention").trainable
    assert all(layer.trainable for layer in network.branch_layers("xray"))


def test_a_layer_that_the_backbone_does_not_have_is_refused():
    with pytest.raises(TrainingError, match="no layer pool9_pool"):
        freeze_until(make_network(size=SIZE), "ct", "pool9_pool")


def fit(folder, pooling="attention", config=CONFIG, progress=None, **options):
    network = make_network(size=SIZE, pooling=pooling)
    history = fit_branch(network, "ct", make_samples(), config, RunFolder(folder), progress, **options)
    return network, history


def weights_of(network):
    return network.model.get_weights()


def test_a_resumed_training_ends_where_one_in_one_go_ends(quick, tmp_path, monkeypatch):
    reports = []
    whole, history = fit(tmp_path / "whole", progress=lambda *report: reports.append(report))
    assert [row["step"] for row in history] == [6.0]
    assert reports == [(6, history[-1]["loss"])]

    save = RunFolder.save_state

    def save_and_die(run, state):
        save(run, state)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "save_state", save_and_die)
        with pytest.raises(KeyboardInterrupt):
            fit(tmp_path / "cut")
    assert RunFolder(tmp_path / "cut").load_state().epochs == 3
    resumed, _ = fit(tmp_path / "cut")
    assert all(np.array_equal(a, b) for a, b in zip(weights_of(whole), weights_of(resumed), strict=True))

    # a finished one is only read
    again, same = fit(tmp_path / "whole", progress=lambda *report: pytest.fail("trained again"))
    assert same == history
    assert all(np.array_equal(a, b) for a, b in zip(weights_of(whole), weights_of(again), strict=True))

    # and only its own branch has moved
    untouched = make_network(size=SIZE, pooling="attention")
    for layer in untouched.branch_layers("xray"):
        for a, b in zip(layer.get_weights(), whole.model.get_layer(layer.name).get_weights(), strict=True):
            assert np.array_equal(a, b)
    start = untouched.model.get_layer("ct_logits").get_weights()[0]
    assert not np.array_equal(start, whole.model.get_layer("ct_logits").get_weights()[0])

    with pytest.raises(TrainingError, match="another network"):
        fit(tmp_path / "whole", pooling="average")


def test_a_loss_that_is_no_number_stops_the_training(quick, tmp_path):
    network = make_network(size=SIZE)
    network.model.get_layer("ct_logits").set_weights([np.full((8, 2), np.nan), np.zeros(2)])
    with pytest.raises(TrainingError, match="NaN or infinite before step 2"):
        fit_branch(
            network, "ct", make_samples(), dataclasses.replace(CONFIG, steps=2), RunFolder(tmp_path / "run")
        )
    assert not (tmp_path / "run" / "last.npz").exists()


def test_goals_are_smoothed_labels_mixed_with_the_teachers_mean_logits():
    images, labels = np.zeros((2, 3, 8, 8), np.float32), np.array([[0, 1, 1], [0, 0, 1]])
    config = BranchConfig(label_smoothing=0.1, taught=0.75)
    goals = make_goals(images, labels, config, ())
    assert goals.dtype == np.float32
    np.testing.assert_allclose(goals[..., 1], np.where(labels == 1, 0.95, 0.05), atol=1e-6)

    sure, unsure = np.float32([[0.0, 4.0]]), np.float32([[0.0, 0.0]])
    asked = []

    def teacher(logits):
        return lambda shown: asked.append(shown.shape) or np.repeat(logits, len(shown), axis=0)

    taught = make_goals(images, labels, config, [teacher(sure), teacher(unsure)])
    assert asked == [(6, 8, 8)] * 2  # all steps of a call at once
    positive = 1 / (1 + np.exp(-2.0))
    np.testing.assert_allclose(taught[..., 1], 0.25 * goals[..., 1] + 0.75 * positive, atol=1e-6)
    np.testing.assert_allclose(taught.sum(axis=-1), 1.0, atol=1e-6)


def test_a_taught_branch_learns_its_teachers_answers(quick, tmp_path):
    config = dataclasses.replace(CONFIG, steps=30, hint=0.0)
    alone, _ = fit(tmp_path / "alone", config=config)

    def teacher_that_says(logit):
        network = make_network(size=SIZE, pooling="attention")
        network.model.get_layer("ct_logits").set_weights([np.zeros((8, 2)), np.array([0.0, logit])])
        return trained_model(network, "ct")

    unheard = dataclasses.replace(config, taught=0.0)
    same, _ = fit(tmp_path / "unheard", config=unheard, teachers=[teacher_that_says(5.0)])
    assert all(np.array_equal(a, b) for a, b in zip(weights_of(alone), weights_of(same), strict=True))

    images = make_samples().crops[:, 7:71, 7:71, None].repeat(3, axis=-1).astype(np.float32)
    obedient = dataclasses.replace(config, taught=1.0)
    margins = {}
    for logit in (-5.0, 5.0):
        taught, _ = fit(tmp_path / f"says{logit}", config=obedient, teachers=[teacher_that_says(logit)])
        answers = np.asarray(trained_model(taught, "ct")(images)[0])
        margins[logit] = float(np.mean(answers[:, 1] - answers[:, 0]))
    assert margins[-5.0] < -1 < 1 < margins[5.0]


def test_a_branch_goes_on_from_weights_that_it_is_given(quick, tmp_path, monkeypatch):
    """Its batch norm keeps the statistics that it came with; a state on disk counts for more than the start."""
    given, _ = fit(tmp_path / "given")
    start = trained_model(given, "ct").get_weights()
    monkeypatch.setattr(
        branch, "estimate_statistics", lambda *_: pytest.fail("statistics were estimated anew")
    )
    still = dataclasses.replace(CONFIG, learning_rate=0.0, weight_decay=0.0)
    same, _ = fit(tmp_path / "still", config=still, start=start)
    for before, after in zip(start, trained_model(same, "ct").get_weights(), strict=True):
        np.testing.assert_allclose(after, before, atol=1e-6)
    moved, _ = fit(tmp_path / "moved", start=start)
    learned = trained_model(moved, "ct").get_weights()
    assert any(not np.allclose(a, b, atol=1e-4) for a, b in zip(start, learned, strict=True))
    resumed, _ = fit(tmp_path / "moved", start=[np.zeros_like(weight) for weight in start])
    for before, after in zip(learned, trained_model(resumed, "ct").get_weights(), strict=True):
        np.testing.assert_array_equal(after, before)
