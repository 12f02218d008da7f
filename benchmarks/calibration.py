"""How much a calibration is to be drawn to the network's own odds, and at which temperature.

    python benchmarks/calibration.py --data DIR --run runs/RUN [--weights W,W] [--temperatures T,T]

RUN: of `train.py --recipe served`; nothing is trained. A table for each modality: every left-out collection by the
calibration of the others, with its calibration error and the shares of normal and positive images called positive
(of one class: normal ones alone), and how many of the validation images are right by the calibration of all.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from covid_mm.commands import exit_with, load_tensorflow
from covid_mm.evaluation.calibration import expected_calibration_error
from covid_mm.evaluation.left_out_predictions import LeftOutPredictions
from covid_mm.evaluation.platt import (
    OWN_TEMPERATURE,
    OWN_WEIGHT,
    Calibration,
    fit_calibration,
    leave_one_calibration,
)


def measure(options: argparse.Namespace) -> int:
    """Gather what the branches said, calibrate it in each way; print the tables."""
    load_tensorflow()
    from covid_mm.evaluation.left_out_images import gather_predictions
    from covid_mm.reporting.tables import format_table
    from covid_mm.training.served_run import reopen_run, train_branches

    ways = list(itertools.product(options.weights, options.temperatures))
    with reopen_run(Path(options.run), options.data) as run:
        served, folds = train_branches(run)
        for modality in run.network.modalities:
            predictions = gather_predictions(run, modality, folds, served)
            own = gather_validation(run, served[modality])
            titles = ["weight", "temperature", *(part.collection for part in predictions)]
            titles += [f"{part.collection}, validation" for part in own]
            print(f"{modality}; served: {OWN_WEIGHT:g}, {OWN_TEMPERATURE:g}")
            print(format_table(titles, [list(describe(predictions, own, *way)) for way in ways]))
    return 0


def gather_validation(run: Any, branch: Any) -> list[LeftOutPredictions]:
    """The served branch on the paper's validation images of its collections."""
    from covid_mm.evaluation.left_out_images import make_predictions

    parts = []
    for collection in run.collections[branch.modality]:
        rows = run.validation_rows(collection)
        if len(rows):
            margins = branch.answers[collection.name].margins[rows]
            parts.append(make_predictions(run, collection, rows, collection.name, margins))
    return parts


def describe(
    predictions: Sequence[LeftOutPredictions],
    own: Sequence[LeftOutPredictions],
    weight: float,
    temperature: float,
) -> Iterator[str]:
    """A row of the table."""
    yield f"{weight:g}"
    yield f"{temperature:g}"
    fits = leave_one_calibration(predictions, own_weight=weight, own_temperature=temperature)
    for part in predictions:
        yield word(part, fits[part.collection])
    everything = fit_calibration(predictions, own_weight=weight, own_temperature=temperature)
    for part in own:
        right = (everything.probabilities(part.margins) >= 0.5) == part.labels
        yield f"{int(right.sum())} of {part.images} right"


def word(part: LeftOutPredictions, calibration: Calibration) -> str:
    """`3.6 %, 19.6 / 87.5`: calibration error, normal and positive images called positive in %."""
    probabilities = calibration.probabilities(part.margins)
    called = [
        f"{100 * np.mean(probabilities[part.labels == label] >= 0.5):.1f}" for label in np.unique(part.labels)
    ]
    error = expected_calibration_error(probabilities, part.labels)
    return f"{100 * error:.1f} %, {' / '.join(called)}" if part.is_two_class else called[0]


def list_numbers(text: str) -> list[float]:
    """Of `1,2.5`."""
    return [float(number) for number in text.split(",")]


def main() -> int:
    """Parse, measure; the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", required=True, metavar="DIR", help="as for the run")
    parser.add_argument("--run", required=True, metavar="RUN")
    parser.add_argument("--weights", type=list_numbers, default=[0.0, 1.0, 2.0, 4.0], metavar="W,W")
    parser.add_argument(
        "--temperatures", type=list_numbers, default=[1.0, 1.25, 1.4, 1.5, 1.75], metavar="T,T"
    )
    options = parser.parse_args()
    return exit_with(lambda: measure(options))


if __name__ == "__main__":
    sys.exit(main())
