"""How each backbone of the paper's nine networks is fine-tuned, chosen on folds of the training side.

    python benchmarks/paper_search.py --data DIR --weights resnet50=FILE,... [--backbone NAME]... [--folds 2]

Nothing is chosen on a validation image: an image is held out only if it trains in the random and in
the grouped split both, so the validation sides of both stay unread. A setting learns from the random
split's training side without its fold; what counts is the last epoch on the fold, all folds together.
Every fit is kept in OUTPUT as it ends, and what stands there is not fitted again.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from covid_mm.commands import exit_with, load_tensorflow
from covid_mm.config import BACKBONES, MODALITIES, Modality, TrainingConfig
from covid_mm.training.plan import TrainingPlan, build_parser, make_plan

PARTS = 4  # the training side is cut into so many folds, of which --folds are held out in turn

# what differs from TrainingConfig(restored_epoch="last"); one row of the table each
SETTINGS: dict[str, dict[str, Any]] = {
    "head": {"fine_tune": "frozen", "epochs": 20},
    "block 1e-4": {"learning_rate": 1e-4, "final_learning_rate": 1e-5, "epochs": 4},
    "block 3e-4": {"learning_rate": 3e-4, "final_learning_rate": 3e-5, "epochs": 4},
    "block 1e-3": {"learning_rate": 1e-3, "final_learning_rate": 1e-4, "epochs": 4},
    "block 3e-4, 8 epochs": {"learning_rate": 3e-4, "final_learning_rate": 3e-5, "epochs": 8},
    "block 1e-3, 8 epochs": {"learning_rate": 1e-3, "final_learning_rate": 1e-4, "epochs": 8},
    "block 3e-4, decay 1e-2": {
        "learning_rate": 3e-4,
        "final_learning_rate": 3e-5,
        "epochs": 4,
        "weight_decay": 1e-2,
    },
    "block 3e-4, smoothing 0.1": {
        "learning_rate": 3e-4,
        "final_learning_rate": 3e-5,
        "epochs": 4,
        "label_smoothing": 0.1,
    },
}


def configure(setting: str, copies: int) -> TrainingConfig:
    """The training that a row of SETTINGS stands for."""
    chosen = {"fine_tune": "last-block", **SETTINGS[setting]}
    return TrainingConfig(restored_epoch="last", augmented_copies=copies, **chosen)


def search(options: argparse.Namespace) -> int:
    """Fit what is missing, print the table."""
    load_tensorflow()
    import keras

    output = Path(options.output)
    rows = json.loads(output.read_text()) if output.exists() else []
    done = {(row["backbone"], row["setting"], row["augmented_copies"], row["fold"]) for row in rows}
    for backbone in options.backbone or BACKBONES:
        keys = [
            (backbone, setting, options.augmented_copies, fold)
            for setting in options.setting or SETTINGS
            for fold in range(options.folds)
        ]
        missing = [key for key in keys if key not in done]
        if missing:
            for row in fit_backbone(options, backbone, missing):
                rows.append(row)
                output.write_text(json.dumps(rows, indent=1) + "\n")
        keras.backend.clear_session()
    print(render_rows(rows))
    return 0


def fit_backbone(options: argparse.Namespace, backbone: str, keys: list[tuple[str, str, int, int]]) -> Any:
    """Yields a row per fit: backbone, setting, fold, images, wrong answers of each epoch, seconds."""
    import numpy as np

    from covid_mm.models.network import build_network
    from covid_mm.training.batches import BottleneckSamples
    from covid_mm.training.fit import fit_network
    from covid_mm.training.heads import extract_features
    from covid_mm.training.initial_weights import initialise_network
    from covid_mm.training.run import RunFolder

    modality: Modality = "ct" if backbone in MODALITIES["ct"].paper_backbones else "xray"
    folder = RunFolder(Path(options.runs))
    plan = plan_single(options, backbone, modality)
    samples, folds = choose_folds(plan, folder, modality)
    values = {}
    for name, setting, copies, fold in keys:
        config = configure(setting, copies)
        network = build_network(plan.network, config.seed)
        initialise_network(network, options.weights, Path("none"))
        if config.fine_tune not in values:
            cache = folder.path / "features"
            values[config.fine_tune] = extract_features(
                network, modality, samples, config, cache, copies=copies
            )
        bottleneck = values[config.fine_tune]
        held = folds[fold]
        train = np.setdiff1d(np.arange(len(samples.labels)), held)
        sides = [
            BottleneckSamples(np.asarray(bottleneck.values[:count, rows]), bottleneck.labels[rows], False)
            for rows, count in ((train, copies), (held, 1))
        ]
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as temporary:
            fit = fit_network(
                network, {modality: sides[0]}, {modality: sides[1]}, config, RunFolder(Path(temporary))
            )
        row = {
            "backbone": name,
            "setting": setting,
            "augmented_copies": copies,
            "fold": fold,
            "images": len(held),
            "wrong": [round((1 - epoch["val_accuracy"]) * len(held)) for epoch in fit.history],
            "loss": round(fit.history[-1]["val_loss"], 4),
            "seconds": round(time.monotonic() - began),
            "training": dataclasses.asdict(config),
        }
        print({key: row[key] for key in row if key != "training"}, flush=True)
        yield row


def plan_single(options: argparse.Namespace, backbone: str, modality: Modality) -> TrainingPlan:
    """The random split's plan of one network."""
    words = ["--data", options.data, "--recipe", "paper", "--single", backbone, "--modality", modality]
    return make_plan(build_parser().parse_args(words), "benchmarks/paper_search.py")


def choose_folds(plan: TrainingPlan, folder: Any, modality: Modality) -> tuple[Any, list[Any]]:
    """The training side's samples, and the rows of each fold."""
    import numpy as np

    from covid_mm.training.data import gather_training_data

    training_data = gather_training_data(plan, folder)
    grouped = dataclasses.replace(plan, data=dataclasses.replace(plan.data, split="grouped"))
    trained_in_both = {
        record.name for record in gather_training_data(grouped, folder).splits[modality].train
    }  # no validation image of either split is among them
    split, samples = training_data.splits[modality], training_data.training[modality]
    order = np.random.default_rng(plan.data.seed).permutation(len(split.train))
    parts = [order[start::PARTS] for start in range(PARTS)]
    return samples, [
        np.array(sorted(row for row in part if split.train[row].name in trained_in_both)) for part in parts
    ]


def render_rows(rows: list[dict[str, Any]]) -> str:
    """Wrong answers of the last epoch over all folds, one line per backbone and setting, as Markdown."""
    lines = [
        "| backbone | setting | copies | wrong, folds together | loss | seconds |",
        "|---|---|---|---|---|---|",
    ]
    keys = dict.fromkeys((row["backbone"], row["setting"], row["augmented_copies"]) for row in rows)
    for key in sorted(keys, key=lambda key: (BACKBONES.index(key[0]), key[1:])):
        matching = [row for row in rows if (row["backbone"], row["setting"], row["augmented_copies"]) == key]
        images = sum(row["images"] for row in matching)
        wrong = sum(row["wrong"][-1] for row in matching)
        share = f"{wrong}/{images} = {100 * wrong / images:.2f} %"
        loss = sum(row["loss"] * row["images"] for row in matching) / images
        seconds = sum(row["seconds"] for row in matching)
        lines.append(f"| {key[0]} | {key[1]} | {key[2]} | {share} | {loss:.3f} | {seconds} |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Fine-tuning of each backbone, chosen on training folds.")
    parser.add_argument("--data", required=True, metavar="DIR")
    parser.add_argument("--weights", required=True, metavar="W", help="as for train.py, one each by backbone")
    parser.add_argument("--backbone", action="append", choices=BACKBONES, help="default: all six")
    parser.add_argument("--setting", action="append", choices=tuple(SETTINGS), help="default: all")
    parser.add_argument("--folds", type=int, default=2, choices=range(1, PARTS + 1), help="default: 2")
    parser.add_argument(
        "--augmented-copies", type=int, default=2, help="cached augmented copies per image; default: 2"
    )
    parser.add_argument("--runs", default="runs/paper-search", metavar="DIR", help="default: %(default)s")
    parser.add_argument("--output", default="results/paper-search.json", metavar="FILE")
    sys.exit(exit_with(lambda: search(parser.parse_args())))
