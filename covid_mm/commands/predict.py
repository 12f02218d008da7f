"""Answer one study: a CT slice, an X-ray, or both."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from covid_mm.commands import add_network_arguments, load_runtime
from covid_mm.config import (
    CLASS_TITLES,
    CLASSES,
    DEFAULT_CHECKPOINT,
    MODALITIES,
    POSITIVE,
    RESEARCH_USE,
    Modality,
)
from covid_mm.errors import ImageError, UsageError
from covid_mm.explain.method_table import LAYERS, METHODS
from covid_mm.files import write_atomically
from covid_mm.formats import bound_probability, format_percent
from covid_mm.imaging import is_dicom, is_nifti, read_grey
from covid_mm.serving.archive import is_archive
from covid_mm.serving.metadata import read_metadata
from covid_mm.serving.prediction import Evidence, Prediction, ScanAnswer
from covid_mm.serving.scan_files import SCANNED

OTHERS = [m for m in MODALITIES if m != SCANNED]
HEATMAP_SIDE = 600  # pixels of the longer side of the overlays written to --heatmaps


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `predict`."""
    parser.add_argument(
        f"--{SCANNED}",
        metavar="FILE",
        nargs="+",
        help="chest CT: one slice (PNG, JPEG or DICOM), or a whole scan (its DICOM files, a folder or ZIP of them, a"
        " multi-frame file, .nii or .nii.gz)",
    )
    parser.add_argument(
        "--slice",
        type=int,
        metavar="N",
        help="answer this slice of the scan alone, with its heatmap: a number from `slices` in the JSON, 0 at the feet",
    )
    parser.add_argument(
        "--series",
        type=int,
        metavar="N",
        help="of several CT series the one to read, from 0; without it the one with the most slices of lung",
    )
    for modality in OTHERS:
        parser.add_argument(
            f"--{modality}", metavar="FILE", help=f"{MODALITIES[modality].content}, PNG, JPEG or DICOM"
        )
    add_network_arguments(parser)
    parser.add_argument(
        "--heatmaps", metavar="DIR", help="write a PNG overlay for each image into this folder"
    )
    parser.add_argument(
        "--method",
        choices=tuple(METHODS),
        help="how the heatmaps are made (default: the checkpoint's method, on its fixed scale)",
    )
    parser.add_argument(
        "--layer",
        choices=LAYERS,
        help="where: the last convolution, or an earlier one with a finer grid (default: the checkpoint's)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of sentences")


def run(options: argparse.Namespace) -> int:
    """Predict and print. Returns the exit code."""
    files: dict[Modality, Any] = {m: path for m in MODALITIES if (path := getattr(options, m))}
    if not files:
        raise UsageError(
            f"There is no image: give {' or '.join(f'--{m} FILE' for m in MODALITIES)}, or several."
        )
    for path in files.get(SCANNED, ()):
        if not Path(path).exists():
            raise ImageError(f"{path} is not there; name an image, or a folder or ZIP of a CT series.")
    for path in (path for m, path in files.items() if m != SCANNED):
        if not Path(path).is_file():
            raise ImageError(f"{path} is not a file; name a PNG, JPEG or DICOM image.")
    # what is wrong with these is said in a second, a network takes longer to load
    read_metadata(Path(options.checkpoint or DEFAULT_CHECKPOINT))
    check_pictures([*files.get(SCANNED, ()), *(path for m, path in files.items() if m != SCANNED)])
    load_runtime(options.runtime)
    from covid_mm.serving.predictor import load_predictor

    predictor = load_predictor(options.checkpoint, runtime=options.runtime)
    method, layer = (options.method, options.layer) if options.heatmaps else (None, None)
    if len(files.get(SCANNED, ())) == 1:
        (files[SCANNED],) = files[SCANNED]
    prediction = predictor.predict_images(
        files,
        method=method,
        layer=layer,
        frames=None if options.slice is None else {SCANNED: options.slice},
        series=options.series,
    )
    written = write_heatmaps(prediction, Path(options.heatmaps)) if options.heatmaps else {}
    if options.json:
        print(json.dumps(prediction.to_dict(written), indent=2, allow_nan=False))
    else:
        print(describe(prediction, written))
    return 0


def check_pictures(paths: Sequence[str]) -> None:
    """Raise ImageError for a PNG or JPEG, or a file of no known kind, that cannot be read; others wait their turn."""
    for path in paths:
        if Path(path).is_file() and not is_archive(Path(path)):
            data = Path(path).read_bytes()
            if not is_dicom(data) and not is_nifti(data):
                read_grey(path)


def write_heatmaps(prediction: Prediction, folder: Path) -> dict[str, str]:
    """Write `<modality>_heatmap.png`, the heatmap laid over its image; modality -> file."""
    import cv2

    from covid_mm.explain.overlay import blend_heatmap

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"--heatmaps {folder} cannot be made a folder ({error.strerror}); name another one."
        ) from error
    files: dict[str, str] = {}
    for modality, heatmap in prediction.heatmaps.items():
        enlarged = HEATMAP_SIDE / max(heatmap.shape)
        height, width = (max(1, round(side * enlarged)) for side in heatmap.shape)
        image = cv2.resize(prediction.images[modality], (width, height), interpolation=cv2.INTER_CUBIC)
        overlay = blend_heatmap(image, prediction.draw_heatmap(modality, height, width))
        file = folder / f"{modality}_heatmap.png"
        _, png = cv2.imencode(".png", cv2.cvtColor(overlay, cv2.COLOR_RGB2BGR))
        write_atomically(file, png.tobytes())
        files[modality] = str(file)
    return files


def describe(prediction: Prediction, files: dict[str, str]) -> str:
    """The answer in sentences."""
    positive = CLASSES[POSITIVE]
    first = CLASS_TITLES[prediction.label]
    if prediction.probabilities:
        probability = format_capped(prediction.probabilities[positive], prediction.supported_probability)
        first += (
            f": probability of {CLASS_TITLES[positive]} {probability},"
            f" threshold {format_percent(prediction.checkpoint.decision_threshold)}"
        )
    lines = [first]
    lines += [
        f"  {MODALITIES[modality].title} alone: {CLASS_TITLES[answer.label]}"
        f" ({format_capped(answer.probabilities[positive], answer.supported_probability)})"
        for modality, answer in prediction.branches.items()
        if answer.probabilities
    ]
    if prediction.scan is not None:
        lines.append(f"  {describe_scan(prediction.scan)}")
    if prediction.evidence is not None:
        lines.append(f"  {describe_evidence(prediction.evidence)}")
    lines += [f"  note: {notice.message}" for notice in prediction.warnings]
    lines += [f"  heatmap: {file}" for file in files.values()]
    lines.append(
        f"{RESEARCH_USE} Checkpoint {prediction.checkpoint.name}, {prediction.checkpoint.trained_on}."
    )
    return "\n".join(lines)


def describe_scan(scan: ScanAnswer) -> str:
    """Which slices were read, the one that the heatmap shows, and the extent, in one line."""
    window = "" if scan.window is None else f", window {scan.window.level:g}/{scan.window.width:g} HU"
    extent = (
        ""
        if scan.extent is None
        else (
            f"; {scan.positive_slices} of them called positive ({scan.extent:.0%}: an extent, not a severity score)"
        )
    )
    read = f"{len(scan.slices)} slices{window}, {scan.lung_slices} with lung{extent}"
    return f"scan of {read}; heatmap of slice {scan.slice}"


def format_capped(probability: float, supported: float) -> str:
    """A probability in whole percents; `over` or `under` where it is the most that can be supported."""
    bound, percent = bound_probability(probability, supported)
    return f"{bound} {percent} %".strip()


def describe_evidence(evidence: Evidence) -> str:
    """How well such answers did on collections left out of training, in one line."""
    return (
        f"on {evidence.images} images of {len(evidence.collections)} collections left out of training:"
        f" AUC {evidence.auc:.2f} ({evidence.auc_low:.2f} to {evidence.auc_high:.2f}),"
        f" sensitivity {100 * evidence.sensitivity:.0f} %, specificity {100 * evidence.specificity:.0f} %"
    )
