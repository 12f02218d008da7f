"""Training a branch: balanced batches, exact resume, evidence where the lesions are, nothing that is not a number."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from made_crops import SIZE, make_samples
from toy_networks import make_network

from covid_mm.errors import TrainingError
from covid_mm.training import branch
from covid_mm.training.branch import BranchConfig, _hint_loss, draw_batch, fit_branch, freeze_until
from covid_mm.training.run import RunFolder

CONFIG = BranchConfig(steps=6, batch_size=4, learning_rate=0.05, averaging=0.6)


@pytest.fixture
def quick(small_backbones, monkeypatch):
    """Small backbones, few batches for statistics, a state on disk after every third step."""
    monkeypatch.setattr(branch, "_STATISTICS", 2)
    monkeypatch.setattr(branch, "_SAVED_EVERY", 3)
    monkeypatch.setattr(branch, "_TOGETHER", 3)
    monkeypatch.setattr(branch, "_WARM_UP", 2)


def uneven_samples(counts, hosts_of=()):
    """Rows of {(source, label): how many}; normal images of the sources `hosts_of` are hosts."""
    sources, labels = (
        np.repeat([key[part] for key in counts], list(counts.values())).astype(np.int64) for part in (0, 1)
    )
    empty = np.zeros((len(labels), 1, 1), np.uint8)
    hosts = (labels == 0) & np.isin(sources, list(hosts_of))
    return branch.BranchSamples(empty, empty, labels, sources, empty, labels == 0, hosts)


def draw_many(samples, **options):
    config = BranchConfig(batch_size=20, **options)
    return np.stack([draw_batch(samples, config, step).rows for step in range(100)])


def test_batches_are_balanced_by_class_and_by_source():
    samples = uneven_samples({(0, 0): 300, (0, 1): 20, (1, 0): 5, (1, 1): 10})
    rows = draw_many(samples, balance=0.0)
    assert (samples.labels[rows].sum(axis=1) == 10).all()  # each batch
    share = samples.sources[rows].mean()
    assert share == pytest.approx(0.5, abs=0.05)
    for source in (0, 1):  # in each source too, so that no source stands for a class
        assert samples.labels[rows][samples.sources[rows] == source].mean() == pytest.approx(0.5, abs=0.05)
    middle = samples.sources[draw_many(samples, balance=0.5)].mean()
    plain = samples.sources[draw_many(samples, balance=1.0)].mean()
    assert plain == pytest.approx(15 / 335, abs=0.02)
    assert plain < middle < share


def test_a_source_without_a_class_never_stands_for_it():
    samples = uneven_samples({(0, 0): 8, (0, 1): 8, (1, 0): 8})
    rows = draw_many(samples, balance=0.0)
    assert (samples.labels[rows].sum(axis=1) == 10).all()
    assert set(samples.sources[rows][samples.labels[rows] == 1]) == {0}


def test_a_batch_is_the_same_for_seed_and_step():
    samples = uneven_samples({(0, 0): 50, (0, 1): 50})
    config = BranchConfig(batch_size=20)
    first, second = (draw_batch(samples, config, 3) for _ in range(2))
    assert np.array_equal(first.rows, second.rows)
    others = [draw_batch(samples, config, 4), draw_batch(samples, dataclasses.replace(config, seed=1), 3)]
    assert all(not np.array_equal(first.rows, other.rows) for other in others)


def test_opacities_are_drawn_on_hosts_for_positive_places_only():
    """Always in a source without positive images, else for the share `drawn`."""
    samples = uneven_samples({(0, 0): 30, (0, 1): 30, (1, 0): 30}, hosts_of=(0, 1))
    config = BranchConfig(batch_size=20, balance=0.0, drawn=0.2)
    draws = [draw_batch(samples, config, step) for step in range(100)]
    rows, drawn = (np.stack([getattr(draw, name) for draw in draws]) for name in ("rows", "drawn"))
    assert samples.hosts[rows[drawn]].all()
    positive = drawn | (samples.labels[rows] == 1)
    assert (positive.sum(axis=1) == 10).all()
    for source in (0, 1):
        assert positive[samples.sources[rows] == source].mean() == pytest.approx(0.5, abs=0.05)
    both = (samples.sources[rows] == 0) & positive
    assert drawn[both].mean() == pytest.approx(0.2, abs=0.06)
    assert not draw_batch(uneven_samples({(0, 0): 9, (0, 1): 9}), config, 0).drawn.any()


def test_drawn_images_are_positive_and_located():
    """What a batch says of an image with drawn opacities; the crop itself is not changed."""
    made = make_samples()
    lungs = np.full_like(made.crops, 45)
    samples = dataclasses.replace(
        made,
        crops=lungs,
        labels=0 * made.labels,
        hosts=np.ones(12, bool),
        located=np.ones(12, bool),
        targets=np.zeros_like(made.targets),
    )
    config = BranchConfig(steps=1, batch_size=8, balance=0.0, augmented=False)
    images, labels, targets, located = next(branch._prepare_batches(samples, config, "ct", SIZE, (4, 4), 0))
    assert labels.tolist().count(1) == 4
    assert located.all()
    assert (targets.reshape(8, -1).max(axis=1) > 0).tolist() == (labels == 1).tolist()
    assert (images.reshape(8, -1).max(axis=1) > 46).tolist() == (labels == 1).tolist()
    assert (samples.crops == 45).all()


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_lungs_are_shown_in_the_bodies_of_other_images(share):
    """Corners of an image are another's where all are exchanged; its lungs and its label are its own."""
    made = make_samples()
    greys = (20 * np.arange(12, dtype=np.uint8))[:, None, None]
    lungs = np.zeros_like(made.crops)
    middle = slice(lungs.shape[1] // 4, 3 * lungs.shape[1] // 4)
    lungs[:, middle, middle] = 255
    samples = dataclasses.replace(made, crops=np.zeros_like(made.crops) + greys, lungs=lungs)
    config = BranchConfig(steps=1, batch_size=12, exchanged=share, augmented=False)
    images, labels, _, _ = next(branch._prepare_batches(samples, config, "ct", SIZE, (4, 4), 0))
    rows = draw_batch(samples, config, 0).rows
    np.testing.assert_array_equal(images[:, SIZE // 2, SIZE // 2], greys[rows, 0, 0])
    np.testing.assert_array_equal(labels, samples.labels[rows])
    others = (images[:, 0, 0] != greys[rows, 0, 0]).sum()
    assert others > 6 if share else others == 0


def hint(attention, label, target, located):
    values = (attention, target)
    attention, target = (np.asarray(part, np.float32)[None] for part in values)
    known = np.array([located])
    return float(
        _hint_loss(tf.constant(attention), tf.constant([label]), tf.constant(target), tf.constant(known))
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


def fit(folder, pooling="attention", config=CONFIG, progress=None):
    network = make_network(size=SIZE, pooling=pooling)
    history = fit_branch(network, "ct", make_samples(), config, RunFolder(folder), progress)
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
