"""results/: what nine trainings came to, as results.json, tables and figures."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from covid_mm.commands.materials import Materials
from covid_mm.commands.outcome import summarise_histograms
from covid_mm.commands.plan import TrainingPlan
from covid_mm.config import CLASSES, Modality, SplitProtocol
from covid_mm.evaluation.figures import draw_results
from covid_mm.evaluation.imagenet_gain import read_earlier
from covid_mm.evaluation.results import (
    RESULTS_NAME,
    Costs,
    DataSummary,
    NetworkResult,
    Results,
    Step,
    read_results,
)
from covid_mm.evaluation.results_tables import PROTOCOL_TITLES, render_results
from covid_mm.training.run import RunFolder

Examples = Mapping[tuple[str, str], NDArray[Any]]  # grey 0..255, by (modality, class name)


@dataclass(frozen=True)
class Outcome:
    """What is kept of a finished network."""

    result: NetworkResult
    steps: tuple[Step, ...]
    notes: tuple[str, ...]


def collect_results(
    outcomes: Sequence[Outcome],
    plan: TrainingPlan,
    command: str,
    materials: Materials,
    steps: Sequence[Step],
    costs: Costs,
) -> Results:
    """One split's results. plan: any of the nine."""
    protocol = plan.data.split
    every_step = (*steps, *(step for outcome in outcomes for step in outcome.steps))
    return Results(
        command=command,
        created=time.strftime("%Y-%m-%d", time.gmtime()),
        seed=plan.training.seed,
        data=tuple(summarise_data(materials, m, protocol) for m in materials.datasets),
        networks=tuple(outcome.result for outcome in outcomes),
        steps=tuple(dataclasses.replace(step, protocol=protocol) for step in every_step),
        costs=costs,
        machine=describe_machine(),
        synthetic=plan.synthetic,
        notes=tuple(f"{PROTOCOL_TITLES[protocol]}: {note}" for part in outcomes for note in part.notes),
    )


def summarise_data(materials: Materials, modality: Modality, protocol: SplitProtocol) -> DataSummary:
    """Table I as realised, for one modality."""
    split = materials.splits[modality]
    counts = split.to_dict()["counts"]
    return DataSummary(
        modality=modality,
        name=materials.datasets[modality].name,
        protocol=protocol,
        split_hash=split.hash,
        train=(counts["train"][CLASSES[0]], counts["train"][CLASSES[1]]),
        validation=(counts["validation"][CLASSES[0]], counts["validation"][CLASSES[1]]),
        mean_histograms=summarise_histograms(materials.training[modality]),
    )


def describe_machine() -> str:
    """Processors and accelerators, for what is said of time."""
    gpus = keras.distribution.list_devices("gpu")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{cores} CPU cores, {f'{len(gpus)} GPU' if gpus else 'no GPU'}"


def merge_results(results: Results, folder: Path) -> Results:
    """The same with what the folder holds of the other split, where it is of the same kind of data."""
    if not (folder / RESULTS_NAME).exists():
        return results
    earlier = read_results(folder)
    if (earlier.synthetic, earlier.seed) != (results.synthetic, results.seed):
        return results
    kept = tuple(protocol for protocol in earlier.protocols if protocol not in results.protocols)
    if not kept:
        return results
    both = [(results, results.protocols), (earlier, kept)]
    both.sort(key=lambda part: "paper" not in part[1])  # the paper's split first
    return dataclasses.replace(
        results,
        command="\n".join(line for whole, kinds in both for line in choose_commands(whole, kinds)),
        data=tuple(part for whole, kinds in both for part in whole.data if part.protocol in kinds),
        networks=tuple(part for whole, kinds in both for part in whole.networks if part.protocol in kinds),
        steps=tuple(part for whole, kinds in both for part in whole.steps if part.protocol in kinds),
        costs=both[0][0].costs or both[1][0].costs,
        notes=tuple(note for whole, kinds in both for note in choose_notes(whole, kinds)),
    )


def choose_commands(results: Results, protocols: Sequence[SplitProtocol]) -> list[str]:
    """The command lines of these splits."""
    lines = zip(results.protocols, results.command.splitlines(), strict=False)
    return [line for protocol, line in lines if protocol in protocols]


def choose_notes(results: Results, protocols: Sequence[SplitProtocol]) -> list[str]:
    """The notes of these splits, told by the split's title in front, and those of none."""
    others = tuple(f"{title}: " for kind, title in PROTOCOL_TITLES.items() if kind not in protocols)
    return [note for note in results.notes if not note.startswith(others)]


def write_results(results: Results, folder: Path, materials: Materials) -> None:
    """results.json first, then all that is drawn from it, with examples of the training images."""
    RunFolder(folder).write_text(RESULTS_NAME, json.dumps(results.to_dict(), indent=1) + "\n")
    kind = "synthetic phantom" if results.synthetic else "of the training images"
    write_page(results, folder, choose_examples(materials), kind)


def write_page(results: Results, folder: Path, examples: Examples, examples_are: str) -> None:
    """The page with its tables, and every figure."""
    RunFolder(folder).write_text("README.md", render_results(results, read_earlier(folder)))
    draw_results(results, folder, examples=examples, examples_are=examples_are)


def choose_examples(materials: Materials) -> dict[tuple[str, str], NDArray[np.float32]]:
    """The first training image of each modality and class, grey 0..255, by (modality, class name)."""
    found: dict[tuple[str, str], NDArray[np.float32]] = {}
    for modality, samples in materials.training.items():
        for label, name in enumerate(CLASSES):
            rows = np.flatnonzero(samples.labels == label)
            if len(rows):
                found[modality, name] = samples.images[rows[0]]
    return found
