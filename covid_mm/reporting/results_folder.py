"""results/ as files: results.json, the page with its tables, the figures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from covid_mm.evaluation.network_result import choose_examples
from covid_mm.evaluation.results import (
    RESULTS_NAME,
    Results,
)
from covid_mm.reporting.figures import draw_results
from covid_mm.reporting.imagenet_gain import read_earlier
from covid_mm.reporting.results_tables import render_results
from covid_mm.training.data import TrainingData
from covid_mm.training.run import RunFolder

Examples = Mapping[tuple[str, str], NDArray[Any]]  # grey 0..255, by (modality, class name)


def write_results(results: Results, folder: Path, training_data: TrainingData) -> None:
    """results.json first, then all that is drawn from it, with examples of the training images."""
    RunFolder(folder).write_text(RESULTS_NAME, json.dumps(results.to_dict(), indent=1) + "\n")
    kind = "synthetic phantom" if results.synthetic else "of the training images"
    write_page(results, folder, choose_examples(training_data), kind)


def write_page(results: Results, folder: Path, examples: Examples, examples_are: str) -> None:
    """The page with its tables, and every figure."""
    RunFolder(folder).write_text("README.md", render_results(results, read_earlier(folder)))
    draw_results(results, folder, examples=examples, examples_are=examples_are)
