"""Several devices and reduced precision: the same training, on two logical devices of the processor."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

TESTS = Path(__file__).resolve().parents[1]
SCRIPT = """
import json, sys
sys.path[:0] = {paths!r}
import tensorflow as tf
processor = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(processor, [tf.config.LogicalDeviceConfiguration()] * 2)
from pathlib import Path
from small_training import SmallTraining
from toy_networks import toy_backbones
from covid_mm.training.strategy import Hardware, use_hardware

found = {{}}
for name, devices in (("one", ("CPU:0",)), ("two", ("CPU:0", "CPU:1"))):
    with toy_backbones(), use_hardware(Hardware(devices, "float32")):
        training = SmallTraining(Path(sys.argv[1]) / name, dropout=0.0)
        result = training.fit()
        weight = training.network.model.get_layer("logits").kernel
        found[name] = {{
            "loss": [[row["loss"], row["val_loss"]] for row in result.history],
            "weights": training.network.model.get_layer("logits").kernel.numpy().tolist(),
            "copies": len(getattr(weight.value, "values", [weight])),
        }}
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> dict:
    """One training on one device and on two, in a process whose processor is divided in two."""
    script = SCRIPT.format(paths=[str(TESTS.parent), str(TESTS), str(TESTS / "training")])
    folder = tmp_path_factory.mktemp("devices")
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_two_devices_are_really_used(trained):
    assert (trained["one"]["copies"], trained["two"]["copies"]) == (1, 2)


@pytest.mark.slow
def test_two_devices_give_the_loss_of_one(trained):
    np.testing.assert_allclose(trained["two"]["loss"], trained["one"]["loss"], rtol=1e-5)
    np.testing.assert_allclose(trained["two"]["weights"], trained["one"]["weights"], atol=1e-5)


def test_reduced_precision_keeps_weights_and_answers_in_float32(small_backbones):
    import keras
    from toy_networks import colour_images, make_network

    from covid_mm.training.strategy import MIXED_PRECISION, use_precision

    exact = make_network(size=60)
    with use_precision(MIXED_PRECISION):
        reduced = make_network(size=60)
    assert keras.config.dtype_policy().name == "float32"
    reduced.model.set_weights(exact.model.get_weights())
    assert {weight.dtype for weight in reduced.model.weights} == {"float32"}
    assert reduced.model.get_layer("fully_connected").compute_dtype == "bfloat16"
    images = {m: colour_images(4, 60) for m in ("ct", "xray")}
    ours, theirs = reduced.model(images), exact.model(images)
    assert ours["logits"].dtype == "float32"
    np.testing.assert_allclose(ours["probabilities"], theirs["probabilities"], atol=0.03)
    assert not np.array_equal(ours["logits"], theirs["logits"])


def test_processors_alone_are_one_device_in_full_precision():
    import tensorflow as tf

    from covid_mm.training.strategy import find_hardware

    if tf.config.list_physical_devices("GPU"):
        pytest.skip("this machine has a GPU")
    assert str(find_hardware("full")) == "CPU:0, float32"


@pytest.mark.parametrize(
    ("capabilities", "fine_tune", "precision"),
    [
        ([(9, 0), (8, 6)], "full", "mixed_bfloat16"),
        ([(9, 0), (7, 5)], "last-block", "float32"),
        ([(9, 0), (9, 0)], "frozen", "float32"),
    ],
)
def test_gpus_are_taken_as_they_are(monkeypatch, capabilities, fine_tune, precision):
    import tensorflow as tf

    from covid_mm.training import strategy

    grown = []
    gpus = list(range(len(capabilities)))
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: gpus)
    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", lambda gpu, on: grown.append((gpu, on)))
    monkeypatch.setattr(
        tf.config.experimental,
        "get_device_details",
        lambda gpu: {"compute_capability": capabilities[gpu]},
    )
    result = strategy.find_hardware(fine_tune)
    assert result == strategy.Hardware(("GPU:0", "GPU:1"), precision)
    assert grown == [(0, True), (1, True)]


def test_several_machines_are_refused_in_one_sentence(monkeypatch):
    from covid_mm.errors import UsageError
    from covid_mm.training.strategy import find_hardware

    for text, words in (
        ('{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 0}}', "2 workers"),
        ("workers", "not a JSON object"),
        ("[1]", "not a JSON object"),
    ):
        monkeypatch.setenv("TF_CONFIG", text)
        with pytest.raises(UsageError, match=words):
            find_hardware("frozen")
    monkeypatch.setenv("TF_CONFIG", '{"cluster": {"worker": ["a:1"]}}')
    assert len(find_hardware("frozen").devices) >= 1


@pytest.mark.parametrize(
    ("devices", "processors", "expected"),
    [(("CPU:0", "CPU:1"), 16, 0), (("GPU:0",), 16, 15), (("GPU:0", "GPU:1"), 64, 16), (("GPU:0",), 1, 1)],
)
def test_processes_prepare_batches_for_a_gpu_alone(monkeypatch, devices, processors, expected):
    from covid_mm.training.strategy import Hardware, count_preparers

    monkeypatch.setattr("os.cpu_count", lambda: processors)
    assert count_preparers(Hardware(devices, "float32")) == expected
