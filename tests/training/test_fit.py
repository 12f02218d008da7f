"""Fit: what is trained, what stays, what is kept, and how a broken training goes on."""

from __future__ import annotations

import csv
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest

from covid_mm.config import TrainingConfig
from covid_mm.errors import TrainingError, WeightsError
from covid_mm.models.network import build_network
from covid_mm.models.weights_file import load_weights
from covid_mm.training.fit import cross_entropy
from covid_mm.training.run import RunFolder, RunState

TESTS = Path(__file__).resolve().parents[1]


def weights_of(network, prefix=""):
    """Copies of all weights by name, of the layers with this prefix."""
    return {
        f"{layer.name}/{variable.name}": np.array(variable)
        for layer in network.model.layers
        if layer.name.startswith(prefix)
        for variable in layer.weights
    }


def changed(before, after):
    """The names of the layers whose weights differ."""
    return {name.split("/")[0] for name in before if not np.array_equal(before[name], after[name])}


def without_seconds(row):
    return {key: value for key, value in row.items() if key != "seconds"}


class StopAfter(keras.callbacks.Callback):
    """Ctrl-C once this many epochs of this start are done."""

    def __init__(self, epochs):
        super().__init__()
        self.left = epochs

    def on_epoch_end(self, epoch, logs=None):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("fine_tune", "trained"),
    [
        ("frozen", set()),
        ("last-block", {"last_conv", "last_bn"}),
        ("full", {"last_conv", "last_bn", "middle", "conv2d_0", "batch_normalization_0"}),
    ],
)
def test_only_what_is_behind_the_boundary_is_trained(small_training, fine_tune, trained):
    training = small_training(fine_tune=fine_tune, epochs=1, steps_per_epoch=2)
    before = weights_of(training.network)
    result = training.fit()
    heads = {"fully_connected", "logits"}
    expected = heads | {f"{m}_{layer}" for m in ("ct", "xray") for layer in trained}
    assert changed(before, weights_of(training.network)) == expected
    if fine_tune == "last-block":  # batch norm follows quickly where it trains
        assert training.network.model.get_layer("ct_last_bn").momentum == TrainingConfig().batch_norm_momentum
    assert result.restored_epoch == 1
    assert len(result.history) == 1
    assert all(np.isfinite(value) for value in result.history[0].values())


def test_a_branch_head_leaves_all_else_as_it_is(small_training):
    training = small_training(head="ct", epochs=2)
    before = weights_of(training.network)
    training.fit()
    assert changed(before, weights_of(training.network)) == {"ct_logits"}


def test_learning_lowers_the_loss_and_the_rate(small_training):
    training = small_training(fine_tune="full", epochs=4, steps_per_epoch=6, augmentation=0.0)
    history = training.fit().history
    assert history[-1]["loss"] < history[0]["loss"]
    rates = [row["learning_rate"] for row in history]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == pytest.approx(1e-3, rel=1e-5)  # Table II's last
    middle = 1e-3 + 5e-4  # halfway along the half cosine
    assert rates[1] == pytest.approx(middle, rel=1e-5)


def test_the_last_epochs_weights_are_kept_where_nothing_is_to_be_chosen(small_training):
    training = small_training(epochs=2, learning_rate=0.3, final_learning_rate=0.3, restored_epoch="last")
    seen = []

    class Recorder(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append(weights_of(training.network))

    result = training.fit(Recorder())
    merits = [(row["val_accuracy"], -row["val_loss"]) for row in result.history]
    assert max(merits) > merits[-1]  # another epoch was better on the validation images
    assert result.restored_epoch == 2
    assert changed(seen[-1], weights_of(training.network)) == set()


def test_best_epochs_weights_are_restored(small_training):
    training = small_training(epochs=4, learning_rate=0.3, final_learning_rate=0.3)
    seen = []

    class Recorder(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append(weights_of(training.network))

    result = training.fit(Recorder())
    merits = [(row["val_accuracy"], -row["val_loss"]) for row in result.history]
    assert result.restored_epoch == merits.index(max(merits)) + 1
    assert changed(seen[result.restored_epoch - 1], weights_of(training.network)) == set()
    stored = build_network(training.network.config, seed=5)
    load_weights(stored, training.run.best_weights)
    assert changed(seen[result.restored_epoch - 1], weights_of(stored)) == set()


def test_history_is_kept_as_csv_and_no_temporary_file_stays(small_training):
    training = small_training(epochs=2)
    history = training.fit().history
    with open(training.run.path / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {path.name for path in training.run.path.iterdir()} == {
        *("best.weights.h5", "history.csv", "last.npz")
    }
    assert [{key: float(value) for key, value in row.items()} for row in rows] == history
    assert list(rows[0]) == [
        "epoch",
        "learning_rate",
        "accuracy",
        "loss",
        "val_loss",
        "val_accuracy",
        "seconds",
    ]


class Spoil(keras.callbacks.Callback):
    """Puts NaN into a layer's weight before or after a step of an epoch, both counted from 1."""

    def __init__(self, network, layer, weight, epoch, step, after=False):
        super().__init__()
        self.variable = getattr(network.model.get_layer(layer), weight)
        self.moment = (epoch, step, after)
        self.epoch = 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch + 1

    def on_train_batch_begin(self, batch, logs=None):
        self.spoil(self.epoch, batch + 1, False)

    def on_train_batch_end(self, batch, logs=None):
        self.spoil(self.epoch, batch + 1, True)

    def spoil(self, *moment):
        if moment == self.moment:
            self.variable.assign(np.full(self.variable.shape, np.nan, np.float32))


@pytest.mark.parametrize(
    ("layer", "weight", "moment", "named"),
    [
        ("logits", "bias", (2, 2), "The loss became NaN or infinite in epoch 2, step 2"),
        # after the last step's loss is known, only the weights show it (ReLU may make 0 of NaN before, too)
        (
            "ct_last_bn",
            "beta",
            (2, 3, True),
            "The weights or the validation loss became NaN or infinite in epoch 2",
        ),
    ],
)
def test_nan_stops_with_the_last_good_state(small_training, layer, weight, moment, named):
    training = small_training("broken", fine_tune="last-block")
    with pytest.raises(TrainingError) as caught:
        training.fit(Spoil(training.network, layer, weight, *moment))
    assert str(caught.value).startswith(named)
    assert "the state after epoch 1 is kept in broken" in str(caught.value)
    state = training.run.load_state()
    assert state.epochs == 1
    assert all(np.isfinite(values).all() for values in (*state.weights, *state.optimizer))
    load_weights(training.network, training.run.best_weights)  # all finite, or it would refuse
    assert len(small_training("broken", fine_tune="last-block").fit().history) == 3  # and it goes on


def test_nan_in_the_first_epoch_keeps_nothing(small_training):
    training = small_training()
    with pytest.raises(TrainingError, match="epoch 1, step 1; no epoch was finished, so nothing is kept"):
        training.fit(Spoil(training.network, "logits", "kernel", epoch=1, step=1))
    assert training.run.load_state() is None
    assert not training.run.best_weights.exists()


@pytest.mark.parametrize("fine_tune", ["frozen", "full"])
@pytest.mark.parametrize("side", ["training", "validation"])
def test_nan_in_the_images_is_refused_before_training(small_training, side, fine_tune):
    training = small_training(fine_tune=fine_tune)
    getattr(training, side)["xray"].images[3, 5, 5] = np.nan
    with pytest.raises(TrainingError, match="The X-ray images hold pixels that are not numbers"):
        training.fit()
    assert not training.run.path.exists()


@pytest.mark.parametrize("fine_tune", ["frozen", pytest.param("full", marks=pytest.mark.slow)])
def test_interrupted_and_resumed_equals_uninterrupted(small_training, fine_tune):
    whole = small_training("whole", fine_tune=fine_tune)
    expected = whole.fit()
    broken = small_training("broken", fine_tune=fine_tune)
    with pytest.raises(KeyboardInterrupt):
        broken.fit(StopAfter(1))
    assert broken.run.load_state().epochs == 1
    random.seed(123)  # a new process would start with other ones
    keras.utils.set_random_seed(123)
    resumed = small_training("broken", fine_tune=fine_tune)
    result = resumed.fit()
    for ours, theirs in zip(result.history, expected.history, strict=True):
        assert without_seconds(ours) == pytest.approx(without_seconds(theirs), abs=1e-6)
    assert result.restored_epoch == expected.restored_epoch
    last = resumed.run.load_state().weights
    for ours, theirs in zip(last, whole.run.load_state().weights, strict=True):
        assert np.abs(ours - theirs).max() < 1e-6
    for ours, theirs in zip(
        resumed.network.model.get_weights(), whole.network.model.get_weights(), strict=True
    ):
        assert np.abs(ours - theirs).max() < 1e-6


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on(small_training, tmp_path):
    whole = small_training("whole", epochs=4)
    expected = whole.fit()
    run = tmp_path / "killed"
    command = [sys.executable, str(TESTS / "training" / "small_training.py"), str(run), "frozen"]
    paths = os.pathsep.join([str(TESTS), str(TESTS.parent)])
    environment = os.environ | {"PYTHONPATH": paths, "CUDA_VISIBLE_DEVICES": ""}
    moments = np.random.default_rng(0).uniform(0, 1, 2)
    for moment in moments:
        child = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert child.stdout.readline().strip() == "ready"
        # between "ready" and the end lie the compilation and four short epochs
        before = RunFolder(run).load_state()
        wanted = (before.epochs if before else 0) + 1
        deadline = time.monotonic() + 120
        while child.poll() is None and time.monotonic() < deadline:
            state = RunFolder(run).load_state()  # never half written
            if state and state.epochs >= wanted:
                break
            time.sleep(0.005)
        time.sleep(0.03 * moment)
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        assert RunFolder(run).load_state().epochs >= wanted
    result = small_training("killed", epochs=4).fit()
    assert len(result.history) == 4
    assert result.restored_epoch == expected.restored_epoch
    for ours, theirs in zip(RunFolder(run).load_state().weights, whole.run.load_state().weights, strict=True):
        assert np.abs(ours - theirs).max() < 1e-6


def test_finished_training_is_not_done_again(small_training):
    first = small_training(epochs=1)
    first.fit()
    state = first.run.load_state()
    again = small_training(epochs=1)
    result = again.fit()
    assert len(result.history) == 1
    assert changed(weights_of(first.network), weights_of(again.network)) == set()
    assert np.array_equal(again.run.load_state().weights[0], state.weights[0])


def test_damaged_state_is_refused(small_training):
    training = small_training(epochs=1)
    training.fit()
    last = training.run.path / "last.npz"
    content = last.read_bytes()
    for damaged in (b"", b"text", content[: len(content) // 2], content[:-1]):
        last.write_bytes(damaged)
        with pytest.raises(TrainingError, match=r"last\.npz is damaged"):
            training.run.load_state()
    last.write_bytes(content[:500] + bytes([content[500] ^ 0xFF]) + content[501:])
    with pytest.raises(TrainingError, match=r"last\.npz is damaged"):  # the archive's checksum
        small_training(epochs=2).fit()


def test_state_of_another_network_is_refused(small_training):
    small_training(epochs=1).fit()
    with pytest.raises(TrainingError, match="another network or other settings"):
        small_training(fine_tune="full", epochs=2).fit()
    (small_training().run.path / "best.weights.h5").unlink()
    with pytest.raises(WeightsError, match="no such file"):
        small_training(epochs=1).fit()


def test_run_folder_reads_back_what_it_wrote(tmp_path):
    run = RunFolder(tmp_path / "run")
    assert run.load_state() is None
    run.write_json("config.json", {"a": [1, 2]})
    assert run.read_json("config.json") == {"a": [1, 2]}
    arrays = [np.arange(3.0), np.ones((2, 2), np.float32)]
    run.save_state(RunState(1, arrays, arrays[:1], [{"epoch": 1.0, "loss": 0.5}]))
    state = run.load_state()
    assert state.epochs == 1
    assert state.history == [{"epoch": 1.0, "loss": 0.5}]
    assert all(np.array_equal(a, b) for a, b in zip(state.weights, arrays, strict=True))
    assert len(state.optimizer) == 1
    (run.path / "config.json").write_text("{")
    with pytest.raises(TrainingError, match=r"config\.json cannot be read"):
        run.read_json("config.json")
    with pytest.raises(TrainingError, match=r"split\.json cannot be read"):
        run.read_json("split.json")


def test_cross_entropy_is_that_of_keras():
    logits = np.random.default_rng(0).normal(0, 30, (20, 2)).astype(np.float32)
    labels = np.arange(20) % 2
    expected = keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
    assert cross_entropy(logits, labels) == pytest.approx(float(np.mean(expected)), rel=1e-5)
