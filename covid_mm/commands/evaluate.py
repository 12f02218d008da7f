"""Measure a checkpoint on a folder of images with known answers, or the left-out networks of a run."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path

from covid_mm.commands import load_tensorflow
from covid_mm.config import DEFAULT_CHECKPOINT, MODALITIES
from covid_mm.errors import DataError, UsageError
from covid_mm.training.plan import TrainingPlan, build_parser, make_plan, shorten_command
from covid_mm.training.run import RunFolder

DEFAULT_RUN = "runs/left-out"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `evaluate`."""
    parser.add_argument("--data", metavar="DIR", help="folder with data sets, as for train.py")
    for modality, one in MODALITIES.items():
        parser.add_argument(
            f"--{modality}",
            metavar="DIR",
            help=f"instead: a folder of {one.title} images in two class folders (covid-19 and normal or non-covid);"
            " with both modalities pairs of one class are measured too",
        )
    parser.add_argument("--checkpoint", metavar="DIR", help="checkpoint folder (default: the default pair's)")
    parser.add_argument("--output", metavar="DIR", help="write evaluation.json into this folder")
    parser.add_argument(
        "--update-card",
        action="store_true",
        help="with --data: write operating points and the four possibilities into the checkpoint and its card",
    )
    add_left_out_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Evaluate and print a table. Returns the exit code."""
    if options.leave_out or options.heatmaps:
        return run_left_out(options)
    folders: dict[str, Path] = {
        name: Path(path) for name in ("data", *MODALITIES) if (path := getattr(options, name)) is not None
    }
    if not folders or ("data" in folders and len(folders) > 1):
        raise UsageError(
            f"Name what to measure on: --data DIR, or one or several of {', '.join(f'--{m} DIR' for m in MODALITIES)}."
        )
    if options.update_card and "data" not in folders:
        raise UsageError("--update-card needs --data DIR with the images that the checkpoint was trained on.")
    for name, path in folders.items():
        if not path.is_dir():
            raise DataError(
                f"--{name} {path} is not a folder; name the folder that holds the images (see README)."
            )
    load_tensorflow()
    from covid_mm.evaluation.checkpoint import evaluate_checkpoint, find_images
    from covid_mm.publishing.card import update_card
    from covid_mm.reporting.card_tables import metrics_table, tabulate_confusion
    from covid_mm.reporting.card_writer import CARD
    from covid_mm.reporting.model_card import title_head
    from covid_mm.serving.checkpoint import load_checkpoint, load_segmenter

    checkpoint = Path(options.checkpoint) if options.checkpoint else DEFAULT_CHECKPOINT
    network, meta = load_checkpoint(checkpoint)
    segmenter = load_segmenter(checkpoint, meta)
    evaluation = evaluate_checkpoint(network, meta, find_images(folders, meta), segmenter)
    for modality, which in evaluation.images.items():
        print(f"{MODALITIES[modality].title}: {which}")
    print()
    print(metrics_table({title_head(head): report for head, report in evaluation.reports.items()}))
    for head, report in evaluation.reports.items():
        print(f"\n{title_head(head)}:\n\n{tabulate_confusion(report.counts.to_dict(), CARD).markdown}")
    if options.update_card:
        update_card(checkpoint, meta, evaluation)
    if options.output:
        from covid_mm.files import write_atomically

        path = Path(options.output) / "evaluation.json"
        about = {
            "checkpoint": meta.name,
            "sha256": meta.sha256,
            "command": shorten_command(shlex.join(["python", "-m", "covid_mm", *sys.argv[1:]])),
        }
        text = json.dumps(about | evaluation.to_dict(), indent=2)
        write_atomically(path, text.encode() + b"\n")
        print(f"\nwritten {path}")
    return 0


def add_left_out_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that these two share."""
    parser.add_argument(
        "--leave-out",
        choices=("source",),
        help="with --data: leave every collection or group of scanners out in turn; trains what the run lacks",
    )
    parser.add_argument(
        "--heatmaps",
        action="store_true",
        help="with --data: only where the heat lies, for every method and layer, on lesions of collections left out",
    )
    parser.add_argument(
        "--run",
        metavar="RUN",
        help=f"with these: the run folder of train.py --recipe served to measure (default: {DEFAULT_RUN})",
    )
    parser.add_argument("--weights", metavar="W", default="imagenet", help="with these: as for train.py")


def run_left_out(options: argparse.Namespace) -> int:
    """Measure and print; with --output also write JSON, page and figures. Returns the exit code."""
    if options.data is None or any(getattr(options, m) for m in (*MODALITIES, "checkpoint")):
        raise UsageError(
            "--leave-out and --heatmaps measure the networks of a run on the collections under --data; give that, and"
            " no --ct, --xray or --checkpoint."
        )
    load_tensorflow()
    from covid_mm.config import DEFAULT_CHECKPOINT
    from covid_mm.evaluation.left_out_heat import measure_heatmaps, measure_phantom_heat
    from covid_mm.evaluation.left_out_run import measure_run
    from covid_mm.reporting.card_tables import HEAT
    from covid_mm.reporting.card_writer import CARD, make_table
    from covid_mm.reporting.left_out_page import render_left_out, write_left_out
    from covid_mm.training.served_run import open_run, train_branch

    folder = RunFolder(Path(options.run or DEFAULT_RUN))
    plan = find_plan(options, folder)
    command = shorten_command(shlex.join(["python", "-m", "covid_mm", *sys.argv[1:]]))
    with open_run(plan, folder, DEFAULT_CHECKPOINT) as served_run:
        if options.heatmaps and not options.leave_out:
            served = {m: train_branch(served_run, m, None) for m in served_run.network.modalities}
            folds = [
                train_branch(served_run, m, fold)
                for m in served_run.network.modalities
                for fold in served_run.folds[m]
            ]
            rows = [*measure_heatmaps(served_run, folds), *measure_phantom_heat(served_run, served)]
            print(make_table(HEAT, [row.to_dict() for row in rows], CARD).markdown)
            if options.output:
                text = json.dumps({"command": command, "heatmaps": [row.to_dict() for row in rows]}, indent=1)
                RunFolder(Path(options.output)).write_text("heatmaps.json", text + "\n")
            return 0
        measured, _ = measure_run(served_run)
    left_out = measured.to_dict() | {"command": command}
    if options.output:
        write_left_out(Path(options.output), left_out)
    print(render_left_out(left_out))
    return 0


def find_plan(options: argparse.Namespace, folder: RunFolder) -> TrainingPlan:
    """The plan that the run was started with, or a new one."""
    if (folder.path / "config.json").exists():
        config = folder.read_json("config.json")
        plan = TrainingPlan.from_dict(config.get("plan", {}) if isinstance(config, dict) else {})
        if plan.recipe != "served":
            raise UsageError(f"{folder.path} is a run of the paper's recipe; name one of the recipe served.")
        return plan
    arguments = ["--data", options.data, "--recipe", "served", "--weights", options.weights]
    plan = make_plan(build_parser().parse_args(arguments), shlex.join(["python", "train.py", *arguments]))
    folder.write_json("config.json", {"plan": plan.to_dict()})
    return plan
