"""Draw a results folder's page and figures again from its results.json, without training."""

from __future__ import annotations

import argparse
from pathlib import Path

from covid_mm.commands import load_tensorflow
from covid_mm.config import CLASSES, MODALITIES, DataConfig
from covid_mm.evaluation.results import read_results


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `figures`."""
    parser.add_argument("results", metavar="DIR", help="folder with a results.json of train.py --pair all")
    parser.add_argument(
        "--data",
        metavar="DIR",
        help="data sets as for train.py, for real examples in Figure 1 (default: phantoms, which can be shared)",
    )


def run(options: argparse.Namespace) -> int:
    """Draw and write. Returns the exit code."""
    folder = Path(options.results)
    results = read_results(folder)
    load_tensorflow()  # Figure 2 is drawn from the real graph
    from covid_mm.datasets import find_datasets
    from covid_mm.datasets.phantoms import make_study
    from covid_mm.imaging import read_grey
    from covid_mm.reporting.results_folder import Examples, write_page

    if options.data:
        datasets = find_datasets(Path(options.data), DataConfig(seed=results.seed))
        first = {
            (modality, CLASSES[record.label]): record
            for modality, dataset in datasets.items()
            for record in reversed(dataset.records)
        }
        real: Examples = {key: read_grey(record.path) for key, record in first.items()}
        write_page(results, folder, real, "of the data set")
    else:
        studies = {name: make_study(label, seed=results.seed) for label, name in enumerate(CLASSES)}
        drawn: Examples = {
            (m, name): getattr(study, m) for m in MODALITIES for name, study in studies.items()
        }
        write_page(results, folder, drawn, "synthetic phantom")
    print(f"drawn again: {folder}")
    return 0
