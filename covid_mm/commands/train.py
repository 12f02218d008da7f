"""`python train.py`: data -> split -> network -> fit -> branch heads -> measured, published checkpoint."""

from __future__ import annotations

import argparse
import dataclasses
import os
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from covid_mm.commands import load_tensorflow
from covid_mm.config import CHECKPOINTS, DEFAULT_CHECKPOINT, IMAGE_SIZE, MODALITIES
from covid_mm.errors import DataError, UsageError
from covid_mm.training.plan import ALL, REPRODUCTION, TrainingPlan, build_parser, make_plan, may_be_served
from covid_mm.training.run import RunFolder

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "results"
INTERRUPTED = 130  # the shell's exit code for Ctrl-C

NO_DATA = """\
======================================================================================
 NO DATA WAS GIVEN: training on SYNTHETIC PHANTOMS, which are drawings, not patients.
 What this makes shows that the software works. It says nothing about any image of a
 person. Real images: see docs/data.md (two free Kaggle data sets), then
     python train.py --data FOLDER
======================================================================================"""


def run(argv: Sequence[str] | None = None) -> int:
    """Parse, train, publish. Returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    options = build_parser().parse_args(arguments)
    if options.resume and (Path(options.resume) / REPRODUCTION).exists():
        raise UsageError(
            f"{options.resume} is a run of --pair {ALL}: start the same command again, and it goes on where it stood."
        )
    if options.resume:
        folder = RunFolder(Path(options.resume))
        config = folder.read_json("config.json")
        plan = TrainingPlan.from_dict(config.get("plan", {}) if isinstance(config, dict) else {})
    else:
        plan = make_plan(options, shlex.join(["python", "train.py", *arguments]))
        if may_be_served(options):
            plan = choose_recipe(plan)
        if options.pair == ALL:
            return reproduce_paper(options, plan)
        stamp = time.strftime("%Y%m%d-%H%M%S")
        kind = plan.recipe if plan.recipe == "served" else plan.data.split
        name = options.run_name or f"{plan.network.name}-{kind}-{stamp}"
        folder = RunFolder(Path(options.runs) / name)
        if (folder.path / "config.json").exists():
            raise UsageError(
                f"{folder.path} is there already; go on with --resume {folder.path}, or name another."
            )
    check_data(plan)
    path = choose_output(plan, folder)
    try:
        if plan.recipe == "served":
            train_served(plan, folder, path or folder.path / "checkpoint")
        else:
            train(plan, folder, path)
    except KeyboardInterrupt:
        if (folder.path / "config.json").exists():
            print(f"\nInterrupted. What is done is kept; go on with: python train.py --resume {folder.path}")
        else:
            print("\nInterrupted before the training began; start it again with the same command.")
        return INTERRUPTED
    return 0


def check_data(plan: TrainingPlan) -> None:
    """Raise DataError where the folder with the images is missing; say so where there is none to be."""
    if plan.data_root is not None and not Path(plan.data_root).is_dir():
        raise DataError(
            f"--data {plan.data_root} is not a folder; name the folder that holds the data sets (see README)."
        )
    if plan.synthetic:
        print(NO_DATA, flush=True)


def choose_recipe(plan: TrainingPlan) -> TrainingPlan:
    """Served where every modality has two collections or scanner groups to leave out in turn, else the paper's."""
    assert plan.data_root is not None
    check_data(plan)
    load_tensorflow()
    from covid_mm.datasets.collections import find_collections
    from covid_mm.training.recipe import make_folds

    collections = find_collections(Path(plan.data_root))
    folds = {m: len(make_folds(collections.get(m, ()))) for m in plan.network.modalities}
    lacking = [MODALITIES[m].title for m, count in folds.items() if count < 2]
    if not lacking:
        return dataclasses.replace(plan, recipe="served")
    print(
        f"Only one {' and one '.join(lacking)} collection with both classes: nothing can be left out, so the paper's"
        " recipe is trained, and nothing is known of how it does on images of another hospital.",
        flush=True,
    )
    return plan


def train_served(plan: TrainingPlan, folder: RunFolder, path: Path) -> None:
    """Do, or finish, a training of the served recipe, and publish what came of it.

    On Keras's JAX backend it ends with the trained branches: measuring and serving need TensorFlow.
    """
    on_jax = os.environ.get("KERAS_BACKEND") == "jax"
    if not on_jax:
        load_tensorflow()
    from covid_mm.training.served_run import open_run, train_branches

    if not (folder.path / "config.json").exists():
        folder.write_json("config.json", {"plan": plan.to_dict()})
    with open_run(plan, folder, DEFAULT_CHECKPOINT) as run:
        if on_jax:
            train_branches(run)
            print(
                f"The branches are trained. Measure and publish them on TensorFlow, with KERAS_BACKEND unset:\n"
                f"    python train.py --resume {folder.path}"
            )
            return
        from covid_mm.publishing.served import publish_served

        publish_served(run, plan.command, path, RESULTS if plan.output is None else path.parent / "results")


def reproduce_paper(options: argparse.Namespace, plan: TrainingPlan) -> int:
    """`--pair all`: nine networks and the results folder. Returns the exit code."""
    check_data(plan)
    load_tensorflow()
    from covid_mm.commands.reproduction import plan_reproduction, reproduce
    from covid_mm.training.strategy import find_hardware, use_hardware

    hardware = find_hardware(plan.training.fine_tune)
    print(f"training on {hardware}", flush=True)
    try:
        with use_hardware(hardware):
            reproduce(plan_reproduction(options, plan, RESULTS))
    except KeyboardInterrupt:
        print("\nInterrupted. What is done is kept; start the same command again to go on.")
        return INTERRUPTED
    return 0


def train(plan: TrainingPlan, folder: RunFolder, path: Path | None) -> None:
    """Do, or finish, the training that the plan describes, and publish what came of it."""
    load_tensorflow()
    from covid_mm.publishing.paper import publish
    from covid_mm.training.data import gather_training_data
    from covid_mm.training.heads import fit_heads, prepare_network
    from covid_mm.training.strategy import find_hardware, use_hardware

    hardware = find_hardware(plan.training.fine_tune)
    print(f"training on {hardware}", flush=True)
    training_data = gather_training_data(plan, folder)
    with use_hardware(hardware):
        network, initial = prepare_network(plan, folder, training_data)
        print(f"{network.config.name}, {plan.training.fine_tune}, run folder {folder.path}")
        for modality, weights in initial.items():
            print(f"  {MODALITIES[modality].title} backbone starts from {weights.origin}", flush=True)
        cache = folder.path / "features"
        fits = fit_heads(plan, folder, network, training_data, cache)
        if path is None:
            why = f"of {IMAGE_SIZE}-pixel images only" if plan.publish else "without --no-publish only"
            print(
                f"done; the {plan.training.restored_epoch} weights are in {folder.path} (published are networks {why})"
            )
        else:
            publish(plan, folder, network, training_data, initial, fits, path, cache)


def choose_output(plan: TrainingPlan, folder: RunFolder) -> Path | None:
    """Where the checkpoint goes; None for a training whose network is not one to serve.

    Raises UsageError rather than put phantoms over a checkpoint trained on real images, and
    CheckpointError rather than replace a folder of other files.
    """
    from covid_mm.models.meta_file import META_NAME
    from covid_mm.serving.metadata import check_replaceable, read_metadata

    if plan.network.image_size != IMAGE_SIZE or not plan.publish:
        return None
    if plan.output is None:
        if plan.synthetic:
            return CHECKPOINTS / f"synthetic-{plan.network.name}"
        if not plan.network.is_concatenated or plan.data.split != "paper":
            return folder.path / "checkpoint"
        return CHECKPOINTS / plan.network.name
    path = Path(plan.output)
    check_replaceable(path)
    if plan.synthetic and (path / META_NAME).exists() and not read_metadata(path).synthetic:
        raise UsageError(
            f"{path} holds a checkpoint trained on real images, which a training on phantoms never replaces;"
            " name another folder with --output."
        )
    return path
