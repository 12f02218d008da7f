"""The fused batch norm computes what Keras's layer computes, forward, backward and over the steps."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from covid_mm.models.batch_norm import FusedBatchNormalization, fuse_batch_norm


def build(scale: bool = True, center: bool = True) -> keras.Model:
    """A convolution, batch norm, and a head, from one seed."""
    keras.utils.set_random_seed(3)
    inputs = keras.Input((8, 9, 3))
    x = keras.layers.Conv2D(5, 3, name="convolution")(inputs)
    x = keras.layers.BatchNormalization(scale=scale, center=center, momentum=0.9, epsilon=1e-3, name="norm")(
        x
    )
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Activation("relu")(x))
    return keras.Model(inputs, keras.layers.Dense(2, dtype="float32", name="logits")(x))


def train(model: keras.Model, steps: int = 4) -> list[float]:
    """Losses of some steps of gradient descent on one seeded batch."""
    rng = np.random.default_rng(0)
    images, labels = rng.normal(2.0, 3.0, (6, 8, 9, 3)).astype(np.float32), rng.integers(0, 2, 6)
    model.compile(
        keras.optimizers.SGD(0.1),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )
    return [float(model.train_on_batch(images, labels)) for _ in range(steps)]


@pytest.mark.parametrize(("scale", "center"), [(True, True), (False, True), (True, False)])
def test_same_training_as_keras(scale: bool, center: bool) -> None:
    plain, fused = build(scale, center), build(scale, center)
    assert fuse_batch_norm(fused) == 1
    assert isinstance(fused.get_layer("norm"), FusedBatchNormalization)
    assert train(plain) == pytest.approx(train(fused), abs=1e-5)
    for expected, variable in zip(plain.variables, fused.variables, strict=True):
        assert variable.path == expected.path
        np.testing.assert_allclose(np.asarray(variable), np.asarray(expected), atol=2e-5)


def test_one_operation_instead_of_many() -> None:
    model = build()
    fuse_batch_norm(model)
    traced = tf.function(lambda images: model(images, training=True)).get_concrete_function(
        tf.TensorSpec((6, 8, 9, 3))
    )
    kinds = {operation.type for operation in traced.graph.get_operations()}
    assert "FusedBatchNormV3" in kinds
    assert "SquaredDifference" not in kinds


def test_frozen_and_inference_are_keras_own() -> None:
    plain, fused = build(), build()
    fuse_batch_norm(fused)
    images = np.random.default_rng(1).normal(size=(4, 8, 9, 3)).astype(np.float32)
    np.testing.assert_array_equal(fused.predict_on_batch(images), plain.predict_on_batch(images))
    fused.get_layer("norm").trainable = False
    before = np.asarray(fused.get_layer("norm").moving_mean)
    fused(images, training=True)
    np.testing.assert_array_equal(np.asarray(fused.get_layer("norm").moving_mean), before)


def test_reduced_precision_keeps_float32_statistics() -> None:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        plain, fused = build(), build()
    finally:
        keras.config.set_dtype_policy(before)
    fuse_batch_norm(fused)
    assert train(plain) == pytest.approx(train(fused), abs=0.05)
    assert fused.get_layer("norm").moving_variance.dtype == "float32"


def test_vectors_and_other_axes_are_left_alone() -> None:
    inputs = keras.Input((4,))
    vectors = keras.Model(inputs, keras.layers.BatchNormalization()(inputs))
    images = keras.Input((4, 4, 3))
    rows = keras.Model(images, keras.layers.BatchNormalization(axis=1)(images))
    assert fuse_batch_norm(vectors) == fuse_batch_norm(rows) == 0
