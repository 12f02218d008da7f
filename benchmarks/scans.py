"""Whole CT scans: rules from slices to one answer on left-out collections, sensitivity by lesion volume, seconds.

    python benchmarks/scans.py --run RUN [--bodies N] [--output results] [--checkpoint DIR] [--update]
    python benchmarks/scans.py --time [--checkpoint DIR] [--slices N]

RUN is a run folder of `train.py --recipe served`: its networks never saw the collection that they are measured on.
The phantoms are read by the checkpoint's network, which was not trained on them. With --output the table is written
to scans.md and scans.json there; with --update into the checkpoint's meta.json, where serving reads how scans are
calibrated, as `train.py` writes it into a new one.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from covid_mm.commands import exit_with, load_tensorflow
from covid_mm.config import DEFAULT_CHECKPOINT

EXTENTS = ((1, 0.3), (1, 0.5), (1, 1.0), (3, 1.0), (8, 1.0), (99, 1.0))  # patches, and their size
BANDS = ((0, 5), (5, 30), (30, 150), (150, 600), (600, 10_000))  # millilitres of lesion


def measure_phantoms(predictor: Any, bodies: int) -> dict[str, Any]:
    """Scans with lesions of known extent by the same bodies without, at every share of slices."""
    from covid_mm.datasets.phantom_scans import make_phantom_scan
    from covid_mm.evaluation.intervals import Proportion
    from covid_mm.evaluation.patient_bootstrap import estimate_auc_by_patient
    from covid_mm.evaluation.scans import SHARES
    from covid_mm.serving.scan_rule import ScanRule

    rows: list[tuple[float, np.ndarray]] = []
    for seed in range(bodies):
        for patches, size in ((0, 1.0), *EXTENTS):
            phantom = make_phantom_scan(seed, patches, size=size)
            reading = predictor.scans.read(phantom.scan)
            if len(reading.rows):
                rows.append((phantom.lesion_ml, reading.margins))
        print(f"  body {seed + 1} of {bodies}", flush=True)
    millilitres = np.array([ml for ml, _ in rows])
    table: dict[str, Any] = {"bodies": bodies, "rules": []}
    for share in (0.0, *SHARES):
        rule = ScanRule(max(share, 1e-9))
        scores = np.array([rule.pool(margins) for _, margins in rows])
        sick, healthy = scores[millilitres > 0], scores[millilitres == 0]
        auc = estimate_auc_by_patient(
            np.concatenate([sick, healthy]), np.repeat([1, 0], [len(sick), len(healthy)])
        )
        level = float(np.quantile(healthy, 0.95))  # of the bodies without lesions 95 % lie below
        bands = []
        for low, high in BANDS:
            chosen = scores[(millilitres > low) & (millilitres <= high)]
            detected = Proportion.of(int(np.sum(chosen > level)), len(chosen)) if len(chosen) else None
            bands.append(
                {"from_ml": low, "to_ml": high, "found": None if detected is None else detected.to_dict()}
            )
        table["rules"].append({"share": share, "auc": auc.to_dict(), "bands": bands})
    served = [predictor.metadata.scan.pool(margins) for _, margins in rows]
    table["scans"] = [
        {"lesion_ml": round(float(ml), 1), "margin": m} for ml, m in zip(millilitres, served, strict=True)
    ]
    return table


def render(measured: Any, phantoms: dict[str, Any] | None) -> str:
    """The page."""

    def share(part: dict[str, Any] | None) -> str:
        if part is None:
            return "-"
        return f"{part['successes']}/{part['total']} ({part['low']:.2f} to {part['high']:.2f})"

    def area(part: dict[str, Any] | None) -> str:
        return "-" if part is None else f"{part['value']:.3f} ({part['low']:.2f} to {part['high']:.2f})"

    lines = [
        "# One answer per CT scan",
        "",
        "How the slices of a scan become one answer, measured by `benchmarks/scans.py` with networks and",
        "calibrations that never saw the collection in the row. **There are few scans**: no collection here",
        "has whole scans of both classes. A scan of `medseg-ct` is a patient (all have COVID-19); its normal",
        "scans are runs of at least five slices without a lesion of those same patients. A scan of",
        "`sarscov2-ct` is a cluster of slices of one patient as its makers picked them, with the patient's",
        "label. The phantoms are whole scans, and drawn. So these figures choose between rules; they do not",
        "say what a hospital will see.",
        "",
        "| collection | positive scans | normal scans | of these parts of a patient | slices, median | most |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['collection']} | {row['positive']} | {row['normal']} | {row['normal_parts']} | {row['slices']} |"
        f" {row['most_slices']} |"
        for row in measured.scans
    ]
    lines += [
        "",
        "## Rules",
        "",
        "AUC with 95 % interval; sensitivity and specificity at 50 % of a calibration fitted on the other collection.",
        "",
        "| rule | collection | AUC | sensitivity | specificity | mean AUC |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['rule']} | {row['collection']} | {area(row['auc'])} | {share(row['sensitivity'])} |"
        f" {share(row['specificity'])} | {row['mean_auc']['value']:.3f} |"
        for row in measured.rules
    ]
    lines += [
        "",
        "Served: the mean of the top 20 % of lung slices. On these collections the means of 5 to 100 % and",
        "the small logistic head lie within each other's intervals; noisy-or and the highest slice alone are",
        "behind on the clusters, the logistic head on normal parts of `medseg-ct`. The phantoms below tell",
        "shares apart: from half of the slices on, lesions of 30 to 150 ml are missed that 5 to 30 % find.",
        "Within that, twenty per cent averages over single slices that are called wrongly, of which a scan of",
        "hundreds of slices has more than these.",
        "",
        "## With a film",
        "",
        "On agreeing pairs of a left-out scan and a left-out film; every way calibrated on the other pairs.",
        "",
        "| the scan enters the concatenated head as | AUC | sensitivity | specificity | calibration error |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['way']} | {row['auc']:.3f} ({row['auc_low']:.3f} to {row['auc_high']:.3f}) |"
        f" {row['sensitivity']:.3f} |"
        f" {row['specificity']:.3f} | {row['ece']:.3f} |"
        for row in measured.fusion
    ]
    lines += [
        "",
        "`sum`: no head, the two calibrated log odds added. Served: the pooled features. The pairs are made of",
        "the few scans above, so these intervals are narrower than they should be.",
        "",
    ]
    if phantoms is not None:
        lines += [
            "## Phantoms with lesions of known extent",
            "",
            f"{phantoms['bodies']} bodies, each without lesions and with six extents, read whole by the served",
            "network, which was not trained on them. Found: a higher margin than 95 % of the bodies without a lesion.",
            "",
            "| mean of the top | AUC | " + " | ".join(f"{low} to {high} ml" for low, high in BANDS) + " |",
            "|---|---|" + "---|" * len(BANDS),
        ]
        for row in phantoms["rules"]:
            title = "highest slice" if row["share"] == 0 else f"{row['share']:.0%}"
            lines.append(
                f"| {title} | {area(row['auc'])} | "
                + " | ".join(share(b["found"]) for b in row["bands"])
                + " |"
            )
        lines.append("")
    heads = measured.to_meta()["heads"]
    lines += [
        "## Calibration of the served rule",
        "",
        "| head | temperature | offset | undetermined | shown at most |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {head} | {part['temperature']:.2f} | {part['offset']:.2f} | {part['abstain_zone'][0]:.0%} to"
        f" {part['abstain_zone'][1]:.0%} | {part['supported_probability']:.0%} |"
        for head, part in heads.items()
    ]
    return "\n".join(lines) + "\n"


def run_measurement(options: argparse.Namespace) -> int:
    """Measure, print, and write what was asked for."""
    load_tensorflow()
    from covid_mm.evaluation.left_out_run import measure_run
    from covid_mm.files import write_atomically
    from covid_mm.models.meta_file import read_meta
    from covid_mm.publishing.card import write_card
    from covid_mm.reporting.scan_tables import choose_phantoms
    from covid_mm.serving.predictor import load_predictor
    from covid_mm.training.served_run import reopen_run

    checkpoint = Path(options.checkpoint)
    with reopen_run(Path(options.run)) as run:
        measured = measure_run(run)[0].scans
    if measured is None:
        print("there are no scans of both classes in this run's collections", file=sys.stderr)
        return 2
    phantoms = measure_phantoms(load_predictor(checkpoint), options.bodies) if options.bodies else None
    page = render(measured, phantoms)
    print(page)
    if options.output:
        output = Path(options.output)
        write_atomically(output / "scans.md", page.encode())
        values = measured.to_dict() | {"phantoms": phantoms}
        write_atomically(output / "scans.json", json.dumps(values, indent=1).encode() + b"\n")
    if options.update:
        part = measured.to_meta()
        if phantoms is not None:
            part["measured"]["phantoms"] = choose_phantoms(phantoms, part["share"])
        write_card(checkpoint, read_meta(checkpoint) | {"scan": part})
    return 0


def run_timing(options: argparse.Namespace) -> int:
    """A scan by the predictor beside the bare forward pass on as many slices, in turn in this process."""
    load_tensorflow()
    import tensorflow as tf

    from covid_mm.datasets.phantom_scans import make_phantom_scan
    from covid_mm.imaging import CtScan
    from covid_mm.serving.predictor import load_predictor

    predictor = load_predictor(Path(options.checkpoint))
    phantom = make_phantom_scan(0, 4, spacing=2.0, side=512).scan
    inside = [row for row in range(len(phantom)) if -60 < (phantom.positions[row] or 0) < 90]
    rows = [
        inside[number % len(inside)] for number in range(options.slices)
    ]  # all with lung, the slowest case
    scan = CtScan(
        tuple(phantom.slices[row] for row in rows), tuple(float(number) for number in range(len(rows)))
    )
    network = load_predictor(Path(options.checkpoint), runtime="keras").network
    side = network.config.image_size
    signature = {m: tf.TensorSpec((None, side, side, 3), tf.float32) for m in ("ct",)}
    branch = type(network.model)(network.image_input("ct"), network.logits("ct"))
    bare = tf.function(lambda images: branch(images["ct"], training=False)).get_concrete_function(signature)
    batch = {"ct": tf.constant(np.zeros((16, side, side, 3), np.float32))}
    predictor.predict(ct=scan)
    bare(batch)
    whole, alone = [], []
    for _ in range(options.rounds):
        began = time.perf_counter()
        answer = predictor.predict(ct=scan)
        whole.append(time.perf_counter() - began)
        began = time.perf_counter()
        for _ in range(0, options.slices, 16):
            np.asarray(bare(batch))
        alone.append(time.perf_counter() - began)
    assert answer.scan is not None
    print(
        f"{options.slices} slices of 512 x 512, {answer.scan.lung_slices} with lung: {min(whole):.2f} s; bare pass"
        f" of the CT branch {min(alone):.2f} s; ratio {min(whole) / min(alone):.2f} (best of {options.rounds} rounds)"
    )
    return 0


def main() -> int:
    """Parse the command line, and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", metavar="RUN", help="a run folder of train.py --recipe served")
    parser.add_argument(
        "--bodies", type=int, default=12, metavar="N", help="phantoms, seven extents each; 0: none"
    )
    parser.add_argument("--output", metavar="DIR", help="where scans.md and scans.json go")
    parser.add_argument("--checkpoint", default=str(DEFAULT_CHECKPOINT), metavar="DIR")
    parser.add_argument(
        "--update", action="store_true", help="write the calibration into the checkpoint's meta.json"
    )
    parser.add_argument("--time", action="store_true", help="measure seconds, nothing else")
    parser.add_argument("--slices", type=int, default=120, metavar="N")
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    options = parser.parse_args()
    if not options.time and not options.run:
        parser.error("name a run folder with --run, or measure seconds with --time")
    return exit_with(lambda: run_timing(options) if options.time else run_measurement(options))


if __name__ == "__main__":
    raise SystemExit(main())
