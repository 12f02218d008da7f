"""Optimizer steps on a model, on Keras's TensorFlow or JAX backend, with the same result.

TensorFlow is what the project installs. JAX runs several steps in one compiled loop, which is what
keeps a large GPU busy with batches as small as the recipe's; it needs `KERAS_BACKEND=jax`.
"""

from __future__ import annotations

import abc
import math
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
    to_input: makes the model's input of grey images (batch, s, s). training: whether layers are called
    as in training, so that batch norm learns; else as in serving.
    """

    def __init__(
        self,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        loss: Loss,
        to_input: Callable[[Any], Any],
        training: bool,
    ) -> None:
        self.model, self.optimizer, self.loss = model, optimizer, loss
        self.to_input, self.training = to_input, training

    @abc.abstractmethod
    def run(self, rates: NDArray[np.float32], batches: tuple[NDArray[Any], ...]) -> NDArray[np.float32]:
        """Several steps.

        Args:
            rates: (steps,) learning rates.
            batches: grey images (steps, batch, s, s) and the targets, each (steps, batch, ...).

        Returns:
            The loss of each step, (steps,).
        """

    @abc.abstractmethod
    def write(self) -> None:
        """Bring the variables of model and optimizer up to date."""


class TensorFlowSteps(Steps):
    """One compiled function per step."""

    def __init__(self, *arguments: Any) -> None:
        """See Steps."""
        import tensorflow as tf

        super().__init__(*arguments)
        variables = self.model.trainable_variables

        @tf.function(autograph=False)
        def step(images: tf.Tensor, *targets: tf.Tensor) -> tf.Tensor:
            with tf.GradientTape() as tape:
                outputs = self.model(self.to_input(images), training=self.training)
                value = self.loss(as_list(outputs), *targets)
            gradients = tape.gradient(value, variables)
            self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
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

    def __init__(self, *arguments: Any) -> None:
        """See Steps."""
        import jax

        super().__init__(*arguments)
        model, optimizer = self.model, self.optimizer
        self._state = tuple([variable.value for variable in group] for group in self._groups())
        rate_path = optimizer._learning_rate.path
        rate_index = next(i for i, v in enumerate(optimizer.variables) if v.path == rate_path)

        def evaluate(trainable: list[Any], fixed: list[Any], images: Any, *targets: Any) -> Any:
            outputs, fixed = model.stateless_call(
                trainable, fixed, self.to_input(images), training=self.training
            )
            return self.loss(as_list(outputs), *targets), fixed

        def step(state: Any, rate_and_batch: Any) -> Any:
            trainable, fixed, moments = state
            rate, *batch = rate_and_batch
            (value, fixed), gradients = jax.value_and_grad(evaluate, has_aux=True)(trainable, fixed, *batch)
            moments = [rate if i == rate_index else value for i, value in enumerate(moments)]
            trainable, moments = optimizer.stateless_apply(moments, gradients, trainable)
            return (trainable, fixed, moments), value

        self._loop = jax.jit(
            lambda state, rates, batches: jax.lax.scan(step, state, (rates, *batches)), donate_argnums=0
        )

    def _groups(self) -> tuple[list[Any], list[Any], list[Any]]:
        return (
            self.model.trainable_variables,
            self.model.non_trainable_variables,
            self.optimizer.variables,
        )

    def run(self, rates: NDArray[np.float32], batches: tuple[NDArray[Any], ...]) -> NDArray[np.float32]:
        """All in one call."""
        self._state, losses = self._loop(self._state, rates.astype(np.float32), batches)
        return np.asarray(losses, np.float32)

    def write(self) -> None:
        """From the device into the variables; steps may go on."""
        for variables, values in zip(self._groups(), self._state, strict=True):
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)


def to_channels(images: Any) -> Any:
    """Grey (batch, s, s) as the equal channels (batch, s, s, 3) that ImageNet's networks read."""
    return keras.ops.repeat(images[..., None], CHANNELS, axis=-1)


def as_list(outputs: Any) -> list[Any]:
    """What a Keras model returned, as a list where it has one output too."""
    return list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]


def compile_steps(
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    loss: Loss,
    to_input: Callable[[Any], Any] = to_channels,
    training: bool = False,
) -> Steps:
    """Steps for the backend that Keras runs on; arguments as for Steps.

    optimizer: built, with a number as its learning rate.
    """
    kind = JaxSteps if keras.backend.backend() == "jax" else TensorFlowSteps
    return kind(model, optimizer, loss, to_input, training)


def compile_answers(model: keras.Model) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """Grey images (n, s, s) -> the model's first output, float32 (n, ...), as in serving; for the backend in use."""
    if keras.backend.backend() == "jax":
        import jax

        groups = [[v.value for v in g] for g in (model.trainable_variables, model.non_trainable_variables)]
        compiled = jax.jit(
            lambda trainable, fixed, images: as_list(
                model.stateless_call(trainable, fixed, to_channels(images), training=False)[0]
            )[0]
        )
        return lambda images: np.asarray(compiled(*groups, images), np.float32)
    import tensorflow as tf

    function = tf.function(
        lambda images: as_list(model(to_channels(images), training=False))[0], autograph=False
    )
    return lambda images: np.asarray(function(tf.constant(images)), np.float32)


def observe_batches(model: keras.Model, batches: Iterable[NDArray[np.float32]]) -> None:
    """Show a model grey images (batch, s, s) as in training, so that its batch norm keeps their statistics."""
    if keras.backend.backend() == "jax":
        import jax

        observe = jax.jit(
            lambda trainable, fixed, images: model.stateless_call(
                trainable, fixed, to_channels(images), training=True
            )[1]
        )
        for images in batches:
            groups = (model.trainable_variables, model.non_trainable_variables)
            fixed = observe(*([v.value for v in group] for group in groups), images)
            for variable, value in zip(model.non_trainable_variables, fixed, strict=True):
                variable.assign(value)
        return
    import tensorflow as tf

    function = tf.function(lambda images: model(to_channels(images), training=True), autograph=False)
    for images in batches:
        function(tf.constant(images))


def cosine_rate(step: int, steps: int, highest: float, warm_up: int) -> float:
    """Learning rate: linear from 0 over `warm_up` steps, then half a cosine down to a fiftieth. step: from 0."""
    if step < warm_up:
        return highest * step / warm_up
    share = min((step - warm_up) / max(steps, 1), 1.0)
    return highest * (0.02 + 0.98 * 0.5 * (1.0 + math.cos(math.pi * share)))
