"""Fit a checkpoint's classifier of image content anew, measure it, and write it into the checkpoint."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from covid_mm.commands import load_tensorflow
from covid_mm.config import DEFAULT_CHECKPOINT, MODALITIES
from covid_mm.errors import DataError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `content-check`."""
    parser.add_argument(
        "--data", metavar="DIR", required=True, help="the data sets that the checkpoint was trained on"
    )
    parser.add_argument("--checkpoint", metavar="DIR", help="checkpoint folder (default: the default pair's)")
    for modality, one in MODALITIES.items():
        parser.add_argument(
            f"--external-{modality}",
            metavar="DIR",
            help=f"{one.title} images of another source in two class folders, to measure the classifier on",
        )


def run(options: argparse.Namespace) -> int:
    """Fit, measure, write, and print what was measured. Returns the exit code."""
    root = Path(options.data)
    if not root.is_dir():
        raise DataError(
            f"--data {root} is not a folder; name the folder that holds the data sets (see README)."
        )
    load_tensorflow()
    from covid_mm.datasets import find_class_folders, load_images
    from covid_mm.evaluation.checkpoint import find_images, gather_sides
    from covid_mm.evaluation.content_check import (
        MeasuredImages,
        count_refusals_again,
        find_published_images,
        fit_served_classifier,
        make_content_classifier,
        measure_content_check,
    )
    from covid_mm.publishing.card import write_card
    from covid_mm.reporting.card_tables import CONTENT_CHECK
    from covid_mm.reporting.card_writer import CARD, make_table
    from covid_mm.serving.checkpoint import load_checkpoint, write_classifier

    path = Path(options.checkpoint) if options.checkpoint else DEFAULT_CHECKPOINT
    network, meta = load_checkpoint(path)
    seed = int(meta.raw["seed"])
    changed: dict[str, Any] = {}
    if meta.raw.get("recipe") == "served":
        classifier, described = fit_served_classifier(network, find_published_images(meta, root), seed=seed)
        changed["refusals"] = count_refusals_again(meta, root, network, classifier)
    else:
        sides = gather_sides(meta, find_images({"data": root}, meta))
        classifier, described = make_content_classifier(
            network, sides.training, sides.validation, sides.names, seed=seed
        )
    others = []
    for modality in MODALITIES:
        folder = getattr(options, f"external_{modality}")
        if folder:
            dataset = find_class_folders(Path(folder), modality)
            title = f"all images of {dataset.name}, another source"
            others.append(MeasuredImages(title, modality, load_images(dataset.records)))
    described["measured"] += [
        row for part in others for row in measure_content_check(network, classifier, part)
    ]
    changed["content_check"] = described | write_classifier(path, classifier)
    write_card(path, meta.raw | changed)
    print()
    print(make_table(CONTENT_CHECK, described["measured"], CARD).markdown)
    return 0
