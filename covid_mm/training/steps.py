"""Optimizer steps on a model, on Keras's TensorFlow or JAX backend, with the same result.

TensorFlow is what the project installs. JAX runs several steps in one compiled loop, which is what
keeps a large GPU busy with batches as small as the recipe's; it needs `KERAS_BACKEND=jax`.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from covid_mm.config import CHANNELS

Loss = Callable[..., Any]


class Steps(abc.ABC):
    """Steps of one optimizer on one model.

    loss(outputs, *targets) -> scalar, written in `keras.ops`; outputs: the model's, as a list.
    """

    def __init__(self, model: keras.Model, optimizer: keras.optimizers.Optimizer, loss: Loss) -> None:
        self.model, self.optimizer, self.loss = model, optimizer, loss

    @abc.abstractmethod
    def run(self, rates: NDArray[np.float32], batches: tuple[NDArray[Any], ...]) -> NDArray[np.float32]:
        """Several steps. rates: (steps,) learning rates; batches: grey images (steps, batch, s, s) and the
        targets, each (steps, batch, ...). Returns the loss of each step, (steps,)."""

    @abc.abstractmethod
    def write(self) -> None:
        """Bring the variables of model and optimizer up to date."""

    def evaluate(self, images: Any, *targets: Any) -> Any:
        """The loss of one batch, layers as in serving."""
        outputs = self.model(to_channels(images), training=False)
        return self.loss(outputs if isinstance(outputs, list) else [outputs], *targets)


class TensorFlowSteps(Steps):
    """One compiled function per step."""

    def __init__(self, model: keras.Model, optimizer: keras.optimizers.Optimizer, loss: Loss) -> None:
        import tensorflow as tf

        super().__init__(model, optimizer, loss)
        variables = model.trainable_variables

        @tf.function(autograph=False)
        def step(*batch: tf.Tensor) -> tf.Tensor:
            with tf.GradientTape() as tape:
                value = self.evaluate(*batch)
            gradients = tape.gradient(value, variables)
            optimizer.apply_gradients(zip(gradients, variables, strict=True))
            return value

        self._step = step
        self._constant = tf.constant

    def run(self, rates: NDArray[np.float32], batches: tuple[NDArray[Any], ...]) -> NDArray[np.float32]:
        """One after the other; each loss is read at the end, so that steps do not wait for it."""
        losses = []
        for number, rate in enumerate(rates.tolist()):
            self.optimizer.learning_rate = rate
            losses.append(self._step(*(self._constant(part[number]) for part in batches)))
        return np.array([float(loss) for loss in losses], np.float32)

    def write(self) -> None:
        """Nothing to do: they always are."""


class JaxSteps(Steps):
    """A compiled loop over all steps of a call; variables are outside the model until `write`."""

    def __init__(self, model: keras.Model, optimizer: keras.optimizers.Optimizer, loss: Loss) -> None:
        import jax

        super().__init__(model, optimizer, loss)
        variables = (model.trainable_variables, model.non_trainable_variables, optimizer.variables)
        self._state = tuple([variable.value for variable in group] for group in variables)
        rate_index = next(
            i for i, v in enumerate(optimizer.variables) if v.path == optimizer._learning_rate.path
        )

        def evaluate(trainable: list[Any], fixed: list[Any], images: Any, *targets: Any) -> Any:
            outputs, _ = model.stateless_call(trainable, fixed, to_channels(images), training=False)
            return loss(outputs if isinstance(outputs, list) else [outputs], *targets)

        def step(state: tuple[list[Any], list[Any]], fixed: list[Any], rate: Any, batch: Any) -> Any:
            trainable, moments = state
            value, gradients = jax.value_and_grad(evaluate)(trainable, fixed, *batch)
            moments = [rate if i == rate_index else value for i, value in enumerate(moments)]
            return optimizer.stateless_apply(moments, gradients, trainable), value

        def loop(state: Any, rates: Any, batches: Any) -> Any:
            trainable, fixed, moments = state
            (trainable, moments), losses = jax.lax.scan(
                lambda carry, xs: step(carry, fixed, xs[0], xs[1:]), (trainable, moments), (rates, *batches)
            )
            return (trainable, fixed, moments), losses

        self._loop = jax.jit(loop, donate_argnums=0)

    def run(self, rates: NDArray[np.float32], batches: tuple[NDArray[Any], ...]) -> NDArray[np.float32]:
        """All in one call."""
        self._state, losses = self._loop(self._state, rates.astype(np.float32), batches)
        return np.asarray(losses, np.float32)

    def write(self) -> None:
        """From the device into the variables; steps may go on."""
        groups = (
            self.model.trainable_variables,
            self.model.non_trainable_variables,
            self.optimizer.variables,
        )
        for variables, values in zip(groups, self._state, strict=True):
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)


def compile_steps(model: keras.Model, optimizer: keras.optimizers.Optimizer, loss: Loss) -> Steps:
    """Steps for the backend that Keras runs on. optimizer: built, with a number as its learning rate."""
    kind = JaxSteps if keras.backend.backend() == "jax" else TensorFlowSteps
    return kind(model, optimizer, loss)


def observe_batches(model: keras.Model, batches: Iterable[NDArray[np.float32]]) -> None:
    """Show a model grey images (batch, s, s) as in training, so that its batch norm keeps their statistics."""
    if keras.backend.backend() == "jax":
        import jax

        observe = jax.jit(
            lambda *state_and_images: model.stateless_call(
                *state_and_images[:2], to_channels(state_and_images[2]), training=True
            )[1]
        )
        for images in batches:
            values = [
                [v.value for v in group]
                for group in (model.trainable_variables, model.non_trainable_variables)
            ]
            for variable, value in zip(model.non_trainable_variables, observe(*values, images), strict=True):
                variable.assign(value)
        return
    import tensorflow as tf

    function = tf.function(lambda images: model(to_channels(images), training=True), autograph=False)
    for images in batches:
        function(tf.constant(images))


def to_channels(images: Any) -> Any:
    """Grey (batch, s, s) as the equal channels (batch, s, s, 3) that ImageNet's networks read."""
    return keras.ops.repeat(images[..., None], CHANNELS, axis=-1)
