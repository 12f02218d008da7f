"""At which size a trained branch reads best: left-out AUC by pixels per side, without training again.

    python benchmarks/image_size.py --data DIR --run runs/RUN [--sizes 150,160,168,176] [--images N]

RUN: of `train.py --recipe served`, whose left-out branches are asked; lungs are cut out of the images anew at each
size. N images of each row, drawn once. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from covid_mm.commands import exit_with, load_tensorflow

CHUNK = 32


def measure(options: argparse.Namespace) -> int:
    """Ask each left-out branch at each size; print the table."""
    load_tensorflow()
    from covid_mm.reporting.tables import format_table
    from covid_mm.training.served_run import reopen_run, train_branches

    sizes = [int(size) for size in options.sizes.split(",")]
    rows: list[list[str]] = []
    with reopen_run(Path(options.run), options.data) as run:
        _, folds = train_branches(run)
        for branch in folds:
            for name, fold_rows in branch.fold.rows.items():
                collection = run.collection(branch.modality, name)
                positions = run.labelled_rows(collection, fold_rows)
                chosen = np.sort(np.random.default_rng(0).permutation(positions)[: options.images])
                labels = run.crops[name].labels[chosen]
                cells = [word(read(run, branch, collection, chosen, size), labels) for size in sizes]
                rows.append([branch.fold.name, name, str(len(chosen)), *cells])
                print(rows[-1], file=sys.stderr, flush=True)
    print(format_table(["left out", "collection", "images", *(f"{size} pixels" for size in sizes)], rows))
    return 0


def read(run: Any, branch: Any, collection: Any, chosen: NDArray[np.int64], size: int) -> NDArray[np.float64]:
    """Margins (n,) of a branch on images read at a size."""
    import keras

    from covid_mm.imaging import read_grey, to_network_input
    from covid_mm.imaging.lungs import read_lungs
    from covid_mm.models.network import build_network
    from covid_mm.training.branch import trained_model
    from covid_mm.training.crops import round_pixels

    modality = branch.modality
    network = build_network(run.network.resized(size), seed=run.seed)
    trained_model(network, modality).set_weights(branch.folder.load_state().weights)
    model = keras.Model(network.image_input(modality), network.logits(modality))
    margins = []
    for start in range(0, len(chosen), CHUNK):
        greys = [read_grey(collection.images[row].path) for row in chosen[start : start + CHUNK]]
        regions = run.segmenter.find(greys, modality)
        crops = [
            round_pixels(read_lungs(grey, region, modality, size))
            for grey, region in zip(greys, regions, strict=True)
        ]
        logits = np.asarray(model.predict_on_batch(to_network_input(np.stack(crops))), np.float64)
        margins.append(logits[:, 1] - logits[:, 0])
    return np.concatenate(margins)


def word(margins: NDArray[np.float64], labels: NDArray[np.int64]) -> str:
    """AUC, or of one class the share called positive before calibration."""
    from sklearn.metrics import roc_auc_score

    if labels.min() < labels.max():
        return f"{roc_auc_score(labels, margins):.3f}"
    return f"{100 * np.mean(margins > 0):.1f} % called positive"


def main() -> int:
    """Parse, measure; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, metavar="DIR", help="as for the run")
    parser.add_argument("--run", required=True, metavar="RUN")
    parser.add_argument("--sizes", default="150,160,168,176", metavar="N,...", help="default: %(default)s")
    parser.add_argument("--images", type=int, default=500, metavar="N", help="default: %(default)s")
    options = parser.parse_args()
    return exit_with(lambda: measure(options))


if __name__ == "__main__":
    sys.exit(main())
