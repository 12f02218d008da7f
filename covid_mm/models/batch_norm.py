"""Batch norm whose training step is one fused operation.

Keras 3 normalises a batch by separate operations (two means, a subtraction, multiplications), and
their gradients are as many again: half of the time of training MobileNet on a processor. TensorFlow
has one operation that does all of it, forward and backward, which Keras 2 used.
"""

from __future__ import annotations

from typing import Any

import keras


class FusedBatchNormalization(keras.layers.BatchNormalization):
    """Keras's layer, with TensorFlow's fused operation where it trains; anything else is Keras's own.

    Images (batch, rows, columns, channels) only. The moving variance is the population's, as in
    Keras 3: TensorFlow's operation gives the sample's, so it is scaled by (n - 1) / n.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """As `keras.layers.BatchNormalization.call`."""
        if not training or not self.trainable or mask is not None:
            return super().call(inputs, training=training, mask=mask)
        import tensorflow as tf

        moving = self.moving_mean.value
        channels = moving.shape[0]
        scale = tf.ones(channels) if self.gamma is None else tf.cast(self.gamma, tf.float32)
        offset = tf.zeros(channels) if self.beta is None else tf.cast(self.beta, tf.float32)
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=tf.cast(inputs, self.compute_dtype),
            scale=scale,
            offset=offset,
            mean=tf.zeros(0),
            variance=tf.zeros(0),
            epsilon=self.epsilon,
            is_training=True,
        )
        count = tf.cast(tf.size(inputs) // channels, tf.float32)
        variance *= (count - 1.0) / count
        self.moving_mean.assign(moving * self.momentum + mean * (1.0 - self.momentum))
        self.moving_variance.assign(
            self.moving_variance.value * self.momentum + variance * (1.0 - self.momentum)
        )
        return outputs


def fuse_batch_norm(model: keras.Model) -> int:
    """Let every batch norm of images in a model train by the fused operation; how many there are.

    Weights, names and results stay as they are (to rounding); nothing happens on a backend other than
    TensorFlow, or where the channels are not the last axis.
    """
    if keras.backend.backend() != "tensorflow":
        return 0
    fused = 0
    for layer in model.layers:
        if type(layer) is not keras.layers.BatchNormalization or len(layer.output.shape) != 4:
            continue
        if layer.axis in (-1, 3) and not layer.synchronized:
            layer.__class__ = FusedBatchNormalization  # the same variables, another way to compute
            fused += 1
    return fused
