"""`python train.py --pair all`: the paper's nine networks, trained, measured and tabled in one go.

Nine networks are nine plans that differ in their network only. Decoded images and what a frozen
part puts out are computed once for all of them. Each network's outcome is kept with a hash of
everything it depends on, so that starting again does only what is missing or no longer true.

runs/<name>/
    reproduction.json   the command
    features/           outputs of frozen parts, shared by the networks that have the same backbone
    features.json       how long each took
    <network>/          a run folder each, as for one network, and:
        inputs.json     the hash of what it was started with
        outcome.json    its row of results.json, when it is done
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import hashlib
import itertools
import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from covid_mm.config import (
    DEFAULT_CHECKPOINT,
    IMAGE_SIZE,
    MODALITIES,
    Modality,
    NetworkConfig,
    TableI,
)
from covid_mm.datasets import find_external, load_images
from covid_mm.datasets.index import choose_balanced
from covid_mm.errors import CovidMMError, DataError
from covid_mm.evaluation.costs import FEATURE_TIMES, measure_costs
from covid_mm.evaluation.network_result import (
    External,
    NetworkOutcome,
    collect_results,
    measure_network,
    merge_results,
)
from covid_mm.evaluation.results import RESULTS_NAME, NetworkResult, Results, Step, read_results
from covid_mm.models.backbones import find_backbone
from covid_mm.models.network import Network, check_image_size
from covid_mm.publishing.paper import find_overlap, publish
from covid_mm.reporting.results_folder import write_results
from covid_mm.reporting.results_tables import summarise_results
from covid_mm.training.batches import ModalitySamples
from covid_mm.training.data import TrainingData, gather_training_data
from covid_mm.training.heads import extract_features, fit_heads, prepare_network
from covid_mm.training.initial_weights import identify_weights, parse_weights
from covid_mm.training.plan import REPRODUCTION, TrainingPlan, shorten_command
from covid_mm.training.progress import OverallProgress
from covid_mm.training.run import RunFolder

OUTCOME_VERSION = 1  # raised when the same inputs would give another outcome


@dataclass(frozen=True)
class Reproduction:
    """What to train and where it goes.

    plans: nine, alike but for their network. output: the results folder. checkpoints: where the
    pairs are published, None for networks that are not to be served. external: folders of images
    from other sources, never trained on, by modality; those of one entry are paired.
    external_most: images per class that are taken of each folder, None for all.
    """

    plans: tuple[TrainingPlan, ...]
    folder: RunFolder
    output: Path
    checkpoints: Path | None
    external: tuple[dict[Modality, Path], ...]
    command: str
    external_most: int | None = None


def plan_reproduction(options: argparse.Namespace, base: TrainingPlan, results: Path) -> Reproduction:
    """Nine plans from the options of train.py. base: the plan of any pair with those options."""
    size = base.network.image_size
    plans = tuple(
        dataclasses.replace(base, network=network)
        for network in NetworkConfig.paper_networks(image_size=size)
    )
    for plan in plans:
        check_image_size(plan.network)
        parse_weights(plan.weights, plan.network.branches)
    name = options.run_name or f"all-{'synthetic-' if base.synthetic else ''}{base.data.split}"
    folder = RunFolder(Path(options.runs) / name)
    output = folder.path / "results" if base.synthetic else results
    external = itertools.zip_longest(*(getattr(options, f"external_{m}") or () for m in MODALITIES))
    return Reproduction(
        plans=plans,
        folder=folder,
        output=Path(options.output) if options.output else output,
        checkpoints=choose_checkpoints(options, base, folder),
        external=tuple(
            {m: Path(folder) for m, folder in zip(MODALITIES, folders, strict=True) if folder}
            for folders in external
        ),
        command=shorten_command(base.command),
        external_most=options.external_most,
    )


def choose_checkpoints(options: argparse.Namespace, base: TrainingPlan, folder: RunFolder) -> Path | None:
    """Where pairs are published: phantoms and grouped splits never go where the app looks by itself."""
    if base.network.image_size != IMAGE_SIZE or not base.publish:
        return None
    if base.synthetic or base.data.split != "paper":
        return folder.path / "checkpoints"
    return Path(options.checkpoints) if options.checkpoints else DEFAULT_CHECKPOINT.parent


def reproduce(work: Reproduction) -> Results:
    """Do what is missing, write the results folder, print the table. Raises what training raises."""
    started = time.monotonic()
    size = work.plans[0].network.image_size
    if (work.output / RESULTS_NAME).exists():
        read_results(work.output)  # what can't be joined at the end is said before hours of training
    work.folder.write_json(REPRODUCTION, {"command": work.command})
    steps: list[Step] = []
    with record_step(steps, "images read, split and decoded"):
        training_data = gather_training_data(work.plans[0], work.folder)
        external = gather_external(work, training_data)
    contents = hash_images(training_data, external)
    inputs = {plan.network.name: hash_inputs(plan, contents) for plan in work.plans}
    outcomes = {
        plan.network.name: finished
        for plan in work.plans
        if (finished := read_outcome(work.folder, plan, inputs[plan.network.name])) is not None
    }
    shares = {plan.network.name: estimate_work(plan) for plan in work.plans}
    progress = OverallProgress(shares, done=set(outcomes))
    for plan in work.plans:
        name = plan.network.name
        if name in outcomes:
            progress.skip(name)
            continue
        progress.begin(name)
        outcomes[name] = train_network(work, plan, training_data, external, inputs[name])
        progress.finish(name)
        keras.backend.clear_session()
    with record_step(steps, "costs of training and inference"):
        costs = measure_costs(work.folder, {name: outcome.result for name, outcome in outcomes.items()}, size)
    results = collect_results(
        [outcomes[plan.network.name] for plan in work.plans],
        work.plans[0],
        work.command,
        training_data,
        steps,
        costs,
    )
    results = merge_results(results, work.output)
    write_results(results, work.output, training_data)
    minutes = (time.monotonic() - started) / 60
    print(f"\n{summarise_results(results)}\n\nwritten {work.output} after {minutes:.1f} min", flush=True)
    return results


def gather_external(work: Reproduction, training_data: TrainingData) -> tuple[External, ...]:
    """The images of other sources, decoded."""
    return tuple(gather_source(work, folders, training_data) for folders in work.external)


def gather_source(work: Reproduction, folders: dict[Modality, Path], training_data: TrainingData) -> External:
    """One source's images, or two of different modalities that are paired."""
    names: dict[Modality, str] = {}
    samples: dict[Modality, ModalitySamples] = {}
    for modality, path in folders.items():
        dataset = find_external(path, modality)
        if dataset.name == training_data.datasets[modality].name:
            raise DataError(
                f"{path.name} is the data set that is trained on, not one of another source; leave out"
                f" --external-{modality} or name another folder."
            )
        records = dataset.records
        if (most := work.external_most) is not None:
            table = TableI(normal=most, positive=most)
            records = choose_balanced(records, work.plans[0].data.seed, proportional=False, table=table)
        images = load_images(
            records,
            size=work.plans[0].network.image_size,
            cache=work.folder.path.parent / "cache",
            progress=True,
        )
        labels = np.array([record.label for record in records], dtype=np.int64)
        names[modality], samples[modality] = dataset.name, ModalitySamples(images, labels)
    return External(names, samples)


def train_network(
    work: Reproduction,
    plan: TrainingPlan,
    training_data: TrainingData,
    external: tuple[External, ...],
    inputs: str,
) -> NetworkOutcome:
    """Train, measure and publish one network, or finish what a kill left of it."""
    config = plan.network
    part = RunFolder(work.folder.path / config.name)
    if (part.path / "inputs.json").exists() and part.read_json("inputs.json") != {"inputs": inputs}:
        print(f"{config.name}: begun with other inputs, so it starts again")
        shutil.rmtree(part.path)
    part.write_json("inputs.json", {"inputs": inputs})
    own = training_data.choose(config.modalities)
    cache = work.folder.path / "features"
    steps: list[Step] = []
    with record_step(steps, "network built, initial weights", plan):
        network, initial = prepare_network(plan, part, own)
    for modality, weights in initial.items():
        print(f"  {MODALITIES[modality].title} backbone starts from {weights.origin}", flush=True)
    if plan.training.fine_tune != "full":
        for modality, _ in config.branches:
            steps.append(compute_cached(work, plan, network, modality, training_data))
    with record_step(steps, "heads fitted", plan):
        fits = fit_heads(plan, part, network, training_data, cache)
    with record_step(steps, "measured", plan):
        result = measure_network(plan, network, training_data, external, initial, fits, cache)
    if config.is_concatenated and work.checkpoints is not None:
        with record_step(steps, "checkpoint published", plan):
            path = work.checkpoints / config.name
            publish(plan, part, network, own, initial, fits, path, cache)
    notes = [
        f"{config.name}: its {MODALITIES[modality].title} weights had seen another division of these images, so"
        " some of its validation images were training images before; its figures are flattered."
        for modality in find_overlap(training_data, initial)
    ]
    outcome = NetworkOutcome(result, tuple(steps), tuple(notes))
    record = {
        "inputs": inputs,
        "result": result.to_dict(),
        "steps": [step.to_dict() for step in steps],
        "notes": notes,
    }
    part.write_json("outcome.json", record)
    (part.path / "initial.weights.h5").unlink(missing_ok=True)  # only a resumed training needs it
    return outcome


def compute_cached(
    work: Reproduction, plan: TrainingPlan, network: Network, modality: Modality, training_data: TrainingData
) -> Step:
    """Both sides' outputs of a frozen part, from the shared cache where another network left them."""
    backbone = dict(plan.network.branches)[modality]
    cache = work.folder.path / "features"
    sides = {
        "train": (training_data.training, plan.training.augmented_copies),
        "validation": (training_data.validation, 1),
    }
    total, reused = 0.0, True
    for side, (samples, copies) in sides.items():
        before = set(cache.glob("*.npy"))
        began = time.monotonic()
        extract_features(network, modality, samples[modality], plan.training, cache, copies=copies)
        seconds = time.monotonic() - began
        total += seconds
        if set(cache.glob("*.npy")) != before:
            reused = False
            note_seconds(
                work.folder, backbone, side, seconds
            )  # at once: a kill before the other side loses none
    name = f"{find_backbone(backbone).title} features"
    return Step(name, round(total, 1), reused, plan.network.name, plan.data.split)


def note_seconds(folder: RunFolder, backbone: str, side: str, seconds: float) -> None:
    """Keep how long one side's features took, in place of what was kept for it."""
    known = folder.read_json(FEATURE_TIMES) if (folder.path / FEATURE_TIMES).exists() else {}
    folder.write_json(FEATURE_TIMES, known | {backbone: known.get(backbone, {}) | {side: round(seconds, 1)}})


@contextlib.contextmanager
def record_step(steps: list[Step], name: str, plan: TrainingPlan | None = None) -> Iterator[None]:
    """Time what is done inside and add it to the steps."""
    began = time.monotonic()
    yield
    network = None if plan is None else plan.network.name
    protocol = None if plan is None else plan.data.split
    steps.append(Step(name, round(time.monotonic() - began, 1), False, network, protocol))


def hash_images(training_data: TrainingData, external: tuple[External, ...]) -> dict[str, str]:
    """SHA-256 of the images and labels, by what they are for."""
    sides = {"train": training_data.training, "validation": training_data.validation}
    sides |= {f"external-{number}": source.samples for number, source in enumerate(external)}
    hashes: dict[str, str] = {}
    for side, samples in sides.items():
        for modality, part in samples.items():
            digest = hashlib.sha256(np.ascontiguousarray(part.images).tobytes())
            digest.update(np.ascontiguousarray(part.labels).tobytes())
            hashes[f"{side} {modality}"] = digest.hexdigest()
    return hashes


def hash_inputs(plan: TrainingPlan, contents: dict[str, str]) -> str:
    """SHA-256 over all that a network's outcome depends on: description, settings, weights, images."""
    modalities = plan.network.modalities
    choices = parse_weights(plan.weights, plan.network.branches)
    described = {
        "version": OUTCOME_VERSION,
        "network": dataclasses.asdict(plan.network),
        "data": dataclasses.asdict(plan.data),
        "training": dataclasses.asdict(plan.training),
        "weights": {m: identify_weights(choices[m], DEFAULT_CHECKPOINT) for m in modalities},
        "images": {key: value for key, value in contents.items() if key.split()[1] in modalities},
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def read_outcome(folder: RunFolder, plan: TrainingPlan, inputs: str) -> NetworkOutcome | None:
    """A finished network's outcome, None where it is missing, damaged or of other inputs."""
    part = RunFolder(folder.path / plan.network.name)
    try:
        record = part.read_json("outcome.json")
        if record["inputs"] != inputs:
            return None
        steps = tuple(dataclasses.replace(Step.from_dict(step), reused=True) for step in record["steps"])
        return NetworkOutcome(NetworkResult.from_dict(record["result"]), steps, tuple(record["notes"]))
    except (CovidMMError, KeyError, TypeError, ValueError):
        return None


def estimate_work(plan: TrainingPlan) -> float:
    """A network's share of the work, in no unit: forward passes of its backbones, three to train one."""
    cost = sum(find_backbone(name).relative_cost for _, name in plan.network.branches)
    images = plan.training.epochs * plan.training.steps_per_epoch * plan.training.batch_size
    return cost * (3.0 * images if plan.training.fine_tune == "full" else 10_000.0 + 0.02 * images)
