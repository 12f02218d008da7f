"""What numbers of 16 bits cost: AUC of left-out branches by OpenVINO in 32 bits and in bfloat16.

    python benchmarks/precision.py --data DIR --run runs/RUN [--images N]

RUN: of `train.py --recipe served`, whose left-out branches are asked, each about the collection that it never saw.
N images of each row at most, drawn once. On a processor without bfloat16 OpenVINO takes 32 bits both times.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from covid_mm.commands import exit_with, load_tensorflow

CHUNK = 32


def measure(options: argparse.Namespace) -> int:
    """Ask each left-out branch in both precisions; print the table."""
    load_tensorflow()
    from covid_mm.reporting.tables import format_table
    from covid_mm.training.served_run import load_branches, reopen_run, train_branches

    rows: list[list[str]] = []
    with reopen_run(Path(options.run), options.data) as run:
        for branch in train_branches(run)[1]:
            arrays = {
                f"{layer.name}/{variable.name}": np.asarray(variable)
                for layer in load_branches(run, (branch,)).model.layers
                for variable in layer.weights
            }
            for name, fold_rows in branch.fold.rows.items():
                positions = run.labelled_rows(run.collection(branch.modality, name), fold_rows)
                chosen = np.sort(np.random.default_rng(0).permutation(positions)[: options.images])
                crops, labels = run.crops[name].exact[chosen], run.crops[name].labels[chosen]
                row = [branch.fold.name, name, str(len(chosen))]
                margins, times = zip(
                    *(read(run, branch.modality, arrays, crops, bits) for bits in ("f32", "bf16")),
                    strict=True,
                )
                row += [word(values, labels) for values in margins]
                row += [f"{np.abs(margins[1] - margins[0]).max():.3f}", f"{times[1] / times[0]:.2f}"]
                rows.append(row)
                print(rows[-1], file=sys.stderr, flush=True)
    titles = ["left out", "collection", "images", "32 bits", "bfloat16", "largest change of a logit", "time"]
    print(format_table(titles, rows))
    return 0


def read(
    run: Any, modality: Any, arrays: Any, crops: Any, precision: Any
) -> tuple[NDArray[np.float32], float]:
    """Margins (n,) of a branch on crops uint8 (n, size, size), and the seconds that they took."""
    from covid_mm.explain.array_heatmaps import ArrayHeads
    from covid_mm.models.convolutions import LISTED
    from covid_mm.models.heads import find_margins
    from covid_mm.models.openvino_graph import OpenVinoGraph

    lists = {m: LISTED[name](f"{m}_", run.network.output_stride) for m, name in run.network.branches}
    heads = ArrayHeads(run.network, {m: one.convolutions.channels[one.last] for m, one in lists.items()})
    heads.set_weights(arrays)
    graph = OpenVinoGraph(precision)
    maps = lists[modality].convolutions.build(graph, arrays, graph.image(run.network.image_size, 1))
    margins = []
    first = crops[:1, ..., None].astype(np.float32)
    graph.run({maps["image"]: first}, [maps[lists[modality].last]])  # compiles
    started = time.perf_counter()
    for start in range(0, len(crops), CHUNK):
        images = crops[start : start + CHUNK, ..., None].astype(np.float32)
        (last,) = graph.run({maps["image"]: images}, [maps[lists[modality].last]])
        margins.append(find_margins(heads.branch_logits(modality, heads.pool(modality, last).features)))
    return np.concatenate(margins), time.perf_counter() - started


def word(margins: NDArray[np.float32], labels: NDArray[np.int64]) -> str:
    """AUC, or of one class the share called positive before calibration."""
    from sklearn.metrics import roc_auc_score

    if labels.min() < labels.max():
        return f"{roc_auc_score(labels, margins):.4f}"
    return f"{100 * np.mean(margins > 0):.1f} % called positive"


def main() -> int:
    """Parse, measure; the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", required=True, metavar="DIR", help="as for the run")
    parser.add_argument("--run", required=True, metavar="RUN")
    parser.add_argument("--images", type=int, default=100_000, metavar="N", help="default: all")
    options = parser.parse_args()
    return exit_with(lambda: measure(options))


if __name__ == "__main__":
    sys.exit(main())
