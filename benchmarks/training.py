"""One pair and its two single networks, backbones frozen: ours beside plain Keras `fit`.

    python benchmarks/training.py [--data DIR] [--pair NAME] [--epochs N] [--measured-epochs N]

Ours: each backbone's output is computed once per copy and image, then the three heads are fitted
and validated on it. Plain: `fit` through the frozen backbones, as many steps of as many images,
without augmentation (so one copy by default for ours) and without validation, which favours it.
Both in this one process on the same images. Every plain epoch is the same work, so
`--measured-epochs` of them are timed (after a first step that traces) and their mean is
multiplied; ours always runs whole.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from covid_mm.commands import exit_with, load_tensorflow
from covid_mm.config import NetworkConfig
from covid_mm.training.plan import TrainingPlan, build_parser, make_plan

PHANTOMS = "32"  # studies per class where no data are given


def measure(options: argparse.Namespace) -> int:
    """Time both ways and print a table and the ratio."""
    load_tensorflow()
    from covid_mm.training.data import gather_training_data
    from covid_mm.training.run import RunFolder

    words = ["--pair", options.pair, "--weights", "none", "--epochs", str(options.epochs)]
    words += ["--steps-per-epoch", str(options.steps), "--phantoms", PHANTOMS]
    words += ["--augmented-copies", str(options.augmented_copies)]
    words += ["--data", options.data] if options.data else []
    plan = make_plan(build_parser().parse_args(words), "benchmarks/training.py")
    singles = [NetworkConfig((branch,)) for branch in plan.network.branches]
    plans = [plan, *(dataclasses.replace(plan, network=single) for single in singles)]
    with tempfile.TemporaryDirectory() as temporary:
        folder = RunFolder(Path(temporary) / "run")
        training_data = gather_training_data(plan, folder)
        ours = sum(train_ours(part, training_data, folder.path) for part in plans)
        cache_bytes = sum(file.stat().st_size for file in (folder.path / "features").iterdir())
        copies = sum(
            options.augmented_copies * len(training_data.training[m].images)
            + len(training_data.validation[m].images)
            for m in plan.network.modalities
        )
        plain = sum(train_plainly(part, training_data, options.measured_epochs) for part in plans)
    counts = ", ".join(f"{len(s.images)} {m} images" for m, s in training_data.training.items())
    print(
        f"\n{plan.network.name} and its two single networks, {options.epochs} epochs of {options.steps} steps of"
        f" {plan.training.batch_size}, {counts}, {options.augmented_copies} copies:"
    )
    print(f"  ours, heads fitted on outputs computed once   {ours:10.1f} s")
    print(
        f"  Keras fit through the frozen backbones        {plain:10.1f} s"
        f"  ({options.measured_epochs} of {options.epochs} epochs timed)"
    )
    print(f"  plain / ours                                  {plain / ours:10.1f}")
    print(f"  cache of features                             {cache_bytes / 1e6:10.1f} MB")
    print(f"  per image and copy                            {cache_bytes / copies / 1e3:10.1f} kB")
    return 0


def train_ours(plan: TrainingPlan, training_data: Any, root: Path) -> float:
    """Seconds from description to fitted network, as `train.py --pair all` does it."""
    from covid_mm.training.heads import fit_heads, prepare_network
    from covid_mm.training.run import RunFolder

    began = time.perf_counter()
    folder = RunFolder(root / plan.network.name)
    chosen = training_data.choose(plan.network.modalities)
    network, _ = prepare_network(plan, folder, chosen)
    fit_heads(plan, folder, network, chosen, root / "features")
    return time.perf_counter() - began


def train_plainly(plan: TrainingPlan, training_data: Any, measured: int) -> float:
    """Seconds of all epochs of `fit` through the whole network, from `measured` of them."""
    import keras

    from covid_mm.models.network import build_network
    from covid_mm.training.batches import BottleneckSamples, TrainingBatches

    network = build_network(plan.network)
    modalities = plan.network.modalities
    for modality in modalities:
        for layer in network.branch_layers(modality):
            layer.trainable = False
    model = keras.Model([network.image_input(m) for m in modalities], network.logits())
    model.compile(
        keras.optimizers.Adam(plan.training.learning_rate),
        keras.losses.CategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )
    samples = {
        m: BottleneckSamples(
            training_data.training[m].images[None], training_data.training[m].labels, are_images=True
        )
        for m in modalities
    }
    batches = TrainingBatches(samples, dataclasses.replace(plan.training, augmentation=0.0))
    inputs, labels = batches[0]
    model.train_on_batch(inputs, labels)  # traces
    began = time.perf_counter()
    model.fit(batches, epochs=measured, shuffle=False, verbose=0)
    return (time.perf_counter() - began) / measured * plan.training.epochs


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", metavar="DIR", help="data sets as for train.py (default: phantoms)")
    parser.add_argument("--pair", default="densenet121-mobilenet", help="default: %(default)s")
    parser.add_argument("--epochs", type=int, default=20, help="default: %(default)s")
    parser.add_argument("--steps", type=int, default=100, help="an epoch; default: %(default)s")
    parser.add_argument(
        "--augmented-copies",
        type=int,
        default=1,
        help="cached augmented copies per image; default: %(default)s",
    )
    parser.add_argument(
        "--measured-epochs", type=int, default=1, help="of the plain way; default: %(default)s"
    )
    sys.exit(exit_with(lambda: measure(parser.parse_args())))
