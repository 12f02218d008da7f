"""All the hardware there is: several GPUs share each batch, and reduced precision where it pays.

Several GPUs: `tf.distribute.MirroredStrategy`; the batch stays the one of TrainingConfig and is
divided among them, batch norm sees each one's part. Precision: bfloat16 arithmetic with float32
weights on GPUs of compute capability 8 or more; it has float32's range, so no loss scaling is
needed. Processors alone: one device, float32.

Several machines: not with Keras 3.15 on TensorFlow, whose `fit` fails inside
`tf.distribute.MultiWorkerMirroredStrategy` (it cannot add up the workers' metrics: "PerReplica"
values are no tensors; tried with two local workers). What does work over machines is Keras's own
`keras.distribution.DataParallel` on its JAX backend, or a training loop of one's own around
`strategy.run`; TF_CONFIG with several workers is therefore refused here.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import keras

from covid_mm.config import FineTune
from covid_mm.errors import UsageError

BFLOAT16_CAPABILITY = (8, 0)  # from Ampere on; earlier GPUs emulate it
FULL_PRECISION = "float32"
MIXED_PRECISION = "mixed_bfloat16"


@dataclass(frozen=True)
class Hardware:
    """What a training runs on. devices: names of tf.distribute, more than one for several GPUs."""

    devices: tuple[str, ...]
    precision: str

    def __str__(self) -> str:
        """One phrase for people."""
        several = f", each batch divided among {len(self.devices)}" if len(self.devices) > 1 else ""
        return f"{', '.join(self.devices)}, {self.precision}{several}"


def find_hardware(fine_tune: FineTune) -> Hardware:
    """The GPUs, growing their memory as needed, else the processors.

    Heads alone gain nothing from reduced precision, so frozen backbones stay in float32. Raises
    UsageError where TF_CONFIG asks for several machines.
    """
    refuse_workers(os.environ.get("TF_CONFIG", ""))
    if keras.backend.backend() == "jax":
        return _find_jax_hardware()
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return Hardware(("CPU:0",), FULL_PRECISION)
    for gpu in gpus:
        with contextlib.suppress(RuntimeError):  # already in use: set by whoever began to use it
            tf.config.experimental.set_memory_growth(gpu, True)
    capabilities = [
        tf.config.experimental.get_device_details(gpu).get("compute_capability", (0, 0)) for gpu in gpus
    ]
    pays = fine_tune != "frozen" and min(capabilities) >= BFLOAT16_CAPABILITY
    names = tuple(f"GPU:{index}" for index in range(len(gpus)))
    return Hardware(names, MIXED_PRECISION if pays else FULL_PRECISION)


def _find_jax_hardware() -> Hardware:
    """One GPU, the first: a branch is too small for more."""
    import jax

    gpus = [device for device in jax.devices() if device.platform == "gpu"]
    if not gpus:
        return Hardware(("CPU:0",), FULL_PRECISION)
    pays = float(gpus[0].compute_capability) >= BFLOAT16_CAPABILITY[0]
    return Hardware(("GPU:0",), MIXED_PRECISION if pays else FULL_PRECISION)


def count_preparers(hardware: Hardware) -> int:
    """Processes that prepare batches for a GPU: one per processor but the one that feeds it, at most 16. None, so
    threads, where the processors train: they are busy with that."""
    on_gpu = any(device.startswith("GPU") for device in hardware.devices)
    return max(1, min(16, (os.cpu_count() or 2) - 1)) if on_gpu else 0


def find_processor_precision() -> str:
    """Mixed bfloat16 on processors that multiply it in hardware (measured: 1.5 times float32), else float32."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    except OSError:
        return FULL_PRECISION
    return MIXED_PRECISION if {"avx512_bf16", "amx_bf16"} & set(flags) else FULL_PRECISION


def refuse_workers(tf_config: str) -> None:
    """Raise UsageError for a TF_CONFIG of more than one worker, or one that is no JSON object."""
    if not tf_config:
        return
    try:
        workers = json.loads(tf_config).get("cluster", {}).get("worker", [])
    except (ValueError, AttributeError) as error:
        raise UsageError(
            "TF_CONFIG is set but is not a JSON object with a cluster; unset it to train on this machine."
        ) from error
    if len(workers) > 1:
        raise UsageError(
            f"TF_CONFIG names {len(workers)} workers, but Keras 3 on TensorFlow trains on one machine only (all"
            " its GPUs); unset TF_CONFIG, or train one network a machine with --pair or --single."
        )


@contextlib.contextmanager
def use_hardware(hardware: Hardware) -> Iterator[None]:
    """Build, fit and answer inside: networks get their precision, variables a copy a device.

    Use one for all trainings of a process: TensorFlow mixes up the reductions of two strategies.
    """
    with use_precision(hardware.precision):
        if len(hardware.devices) == 1:
            yield
            return
        import tensorflow as tf

        with tf.distribute.MirroredStrategy(list(hardware.devices)).scope():
            yield


@contextlib.contextmanager
def use_precision(policy: str) -> Iterator[None]:
    """Networks built inside calculate in this Keras dtype policy; their weights are float32 in any."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
