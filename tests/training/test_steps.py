"""Steps on TensorFlow and on JAX come to the same weights, whatever the layers and however many in one call."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from covid_mm.training.steps import cosine_rate

SCRIPT = """
import sys
import keras, numpy as np
from keras import ops
from covid_mm.training.steps import compile_answers, compile_steps, observe_batches

rng = np.random.default_rng(0)
draw = lambda *shape: rng.uniform(-1, 1, shape).astype(np.float32)
layers = [keras.layers.Conv2D(4, 3, use_bias=False), keras.layers.BatchNormalization(momentum=0.9),
          keras.layers.ReLU(), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2)]
model = keras.Sequential([keras.Input((8, 8, 3)), *layers])
model.set_weights([np.abs(draw(*w.shape)) for w in model.get_weights()])
images, labels = draw(6, 4, 8, 8), rng.integers(0, 2, (6, 4))
observe_batches(model, images[:2])
layers[1].trainable = sys.argv[1] == "training"
optimizer = keras.optimizers.AdamW(0.01, weight_decay=0.01, use_ema=True, ema_momentum=0.6, global_clipnorm=1.0)
optimizer.build(model.trainable_variables)
loss = lambda outputs, labels: ops.mean(
    ops.categorical_crossentropy(ops.one_hot(labels, 2), outputs[0], from_logits=True))
steps = compile_steps(model, optimizer, loss, training=sys.argv[1] == "training")
rates = np.array([0.0, 0.01, 0.02, 0.02, 0.01, 0.005], np.float32)
losses = [steps.run(rates[s], (images[s], labels[s])) for s in (slice(0, 2), slice(2, 6))]
steps.write()
values = {"losses": np.concatenate(losses)}
values |= {f"weight{i}": w for i, w in enumerate(model.get_weights())}
optimizer.finalize_variable_values(model.trainable_variables)
values["answers"] = compile_answers(model)(images[0])
np.testing.assert_allclose(values["answers"], model.predict_on_batch(images[0][..., None].repeat(3, -1)), atol=1e-5)
values |= {f"average{i}": w for i, w in enumerate(model.get_weights())}
np.savez(sys.argv[2], **values)
"""


def run_on(backend: str, mode: str, folder: Path) -> dict[str, np.ndarray]:
    file = folder / f"{backend}.npz"
    environment = os.environ | {"KERAS_BACKEND": backend, "JAX_PLATFORMS": "cpu"}
    root = Path(__file__).resolve().parents[2]
    subprocess.run(
        [sys.executable, "-c", SCRIPT, mode, str(file)], check=True, env=environment, cwd=root, timeout=300
    )
    with np.load(file) as values:
        return dict(values)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["serving", "training"])
def test_both_backends_come_to_the_same_weights(mode, tmp_path):
    pytest.importorskip("jax")
    ours, theirs = (run_on(backend, mode, tmp_path) for backend in ("tensorflow", "jax"))
    assert ours["losses"][0] != ours["losses"][-1]
    assert not np.allclose(ours["weight0"], ours["average0"], atol=1e-4)  # the average is not the last
    for name, values in ours.items():
        np.testing.assert_allclose(theirs[name], values, atol=2e-6, err_msg=name)


def test_the_rate_rises_over_the_warm_up_and_falls_to_a_fiftieth():
    rates = [cosine_rate(step, 100, 1.0, 10) for step in range(111)]
    assert rates[0] == 0.0
    assert rates[5] == pytest.approx(0.5)
    assert max(rates) == rates[10] == pytest.approx(1.0)
    assert np.all(np.diff(rates[10:]) < 0)
    assert rates[110] == pytest.approx(0.02)
