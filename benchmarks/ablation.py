"""What each part of the served recipe buys: one branch trained without it, on images of scanners never seen.

    python benchmarks/ablation.py --data DIR --weights mobilenet=FILE,densenet121=FILE --steps 400 --output results

Each row is one short training of the X-ray branch (or --modality ct) without the first fold; same seed,
same steps, images read at the size that is learned from. Finished rows are kept in the run folder, so that a
broken run goes on. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from covid_mm.commands import load_tensorflow

TITLES = {
    "recipe": "the recipe",
    "paper-resize": "whole image resized, as in the paper, instead of lungs",
    "one-collection": "one collection instead of all",
    "random-start": "random start instead of ImageNet",
    "frozen": "backbone frozen, head and attention trained",
    "plain-sampling": "plain sampling instead of by source and class",
    "no-augmentation": "no augmentation",
    "no-hint": "no hint on where the evidence lies",
    "no-exchange": "lungs only in their own bodies",
    "average-pooling": "average pooling instead of attention",
    "no-averaging": "last weights instead of their average",
    "larger": "192 pixels instead of 150",
}


def main() -> None:
    """Train and measure each variant; print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, metavar="DIR")
    parser.add_argument("--weights", default="imagenet")
    parser.add_argument("--modality", choices=("ct", "xray"), default="xray")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--only", nargs="*", choices=TITLES, default=list(TITLES), metavar="VARIANT")
    parser.add_argument(
        "--run",
        default="runs/ablation",
        metavar="RUN",
        help="run folder; a served run's lungs and crops are used",
    )
    parser.add_argument("--output", metavar="DIR", help="write ablation.json and ablation.md there")
    options = parser.parse_args()
    load_tensorflow()
    from covid_mm.reporting.tables import format_table
    from covid_mm.training.plan import build_parser, make_plan
    from covid_mm.training.run import RunFolder
    from covid_mm.training.served_run import open_run

    arguments = ["--data", options.data, "--recipe", "served", "--weights", options.weights]
    plan = make_plan(build_parser().parse_args(arguments), "benchmarks/ablation.py")
    folder = RunFolder(Path(options.run))
    rows: list[dict[str, Any]] = []
    with open_run(plan, folder, Path("none")) as run:
        run = read_as_learned(run, options.modality)
        for name in options.only:
            path = folder.path / f"ablation-{options.modality}-{options.steps}-{name}.json"
            if not path.exists():
                row = measure(run, name, options.modality, options.steps)
                folder.write_json(path.name, row)
            rows.append(folder.read_json(path.name))
            print(rows[-1], flush=True)
    base = rows[0]["auc"]
    table = format_table(
        ["variant", "AUC (95 % interval by patient)", "difference", "images"],
        [
            [
                TITLES[row["variant"]],
                f"{row['auc']:.3f} ({row['low']:.3f} to {row['high']:.3f})",
                "" if number == 0 else f"{row['auc'] - base:+.3f}",
                str(row["images"]),
            ]
            for number, row in enumerate(rows)
        ],
    )
    text = (
        f"# Ablation of the served recipe\n\n{rows[0]['title']}; {options.steps} steps of 32 images each, one seed: a"
        f" difference of less than the interval's width may be chance.\n\n{table}\n"
    )
    print(text)
    if options.output:
        RunFolder(Path(options.output)).write_json("ablation.json", rows)
        RunFolder(Path(options.output)).write_text("ablation.md", text)


def read_as_learned(run: Any, modality: Any) -> Any:
    """The run with images of the size that is learned from."""
    from covid_mm.training.crops import make_crops

    size, cache = run.recipe.training_size, run.folder.path / "crops"
    crops = {c.name: make_crops(c, run.segmenter, size, cache) for c in run.collections[modality]}
    return replace(run, network=run.network.resized(size), crops={**run.crops, **crops})


def measure(run: Any, name: str, modality: Any, steps: int) -> dict[str, Any]:
    """One variant: train without the first fold, and the AUC on it."""
    from covid_mm.datasets.index import Collection
    from covid_mm.evaluation.left_out_images import make_predictions
    from covid_mm.evaluation.patient_bootstrap import estimate_auc_by_patient
    from covid_mm.training.crops import make_crops
    from covid_mm.training.recipe import has_both_classes
    from covid_mm.training.run import RunFolder
    from covid_mm.training.served_run import train_branch

    fold = run.folds[modality][0]
    own = next(c for c in run.collections[modality] if c.name in fold.rows and has_both_classes(c))
    recipe, network, weights = run.recipe, run.network, run.weights
    collections = {m: tuple(parts) for m, parts in run.collections.items()}
    branch = replace(recipe.branch)
    if name == "plain-sampling":
        branch = replace(branch, balance=1.0)
    elif name == "no-augmentation":
        branch = replace(branch, augmented=False)
    elif name == "no-hint":
        branch = replace(branch, hint=0.0)
    elif name == "no-exchange":
        branch = replace(branch, exchanged=0.0)
    elif name == "no-averaging":
        branch = replace(branch, averaging=0.0)
    elif name == "random-start":
        weights = "none"
    elif name == "average-pooling":
        network = replace(network, pooling="average")
    elif name == "larger":
        network, recipe = network.resized(192), replace(recipe, training_size=192)
    elif name == "one-collection":
        only = own if fold.rows[own.name].sum() < len(own.images) else None
        chosen: list[Collection] = (
            [only] if only else [c for c in collections[modality] if has_both_classes(c)]
        )
        collections[modality] = tuple(chosen)
    crops = dict(run.crops)
    if name in ("paper-resize", "larger"):
        segmenter = None if name == "paper-resize" else run.segmenter
        for collection in collections[modality]:
            crops[collection.name] = make_crops(
                collection, segmenter, network.image_size, run.folder.path / "crops" / name
            )
    variant = replace(
        run,
        folder=RunFolder(run.folder.path / f"ablation-{modality}-{steps}" / name),
        network=network,
        recipe=replace(recipe, branch=branch, steps={m: steps for m in recipe.steps}),
        weights=weights,
        collections=collections,
        crops=crops,
    )
    if name == "frozen":
        backbone = dict(network.branches)[modality]
        variant = replace(
            variant, recipe=replace(variant.recipe, frozen_until={backbone: last_layer(variant, modality)})
        )
    trained = train_branch(variant, modality, fold)
    positions = variant.labelled_rows(own, fold.rows[own.name])
    margins = trained.answers[own.name].margins[positions]
    left = make_predictions(variant, own, positions, fold.name, margins)
    auc = estimate_auc_by_patient(left.margins, left.labels, left.patients)
    return {
        "variant": name,
        "title": f"{modality}, tested on {fold.name}, trained on the rest",
        "auc": auc.value,
        "low": auc.low,
        "high": auc.high,
        "images": left.images,
    }


def last_layer(run: Any, modality: Any) -> str:
    """The backbone's last convolution, so that nothing of it learns."""
    from covid_mm.models.backbones import find_backbone

    return find_backbone(dict(run.network.branches)[modality]).last_conv_layer


if __name__ == "__main__":
    main()
