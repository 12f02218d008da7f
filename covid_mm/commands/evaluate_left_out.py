"""`evaluate --leave-out source` and `evaluate --heatmaps`: the left-out networks of a run, trained where missing."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path

from covid_mm.commands import load_tensorflow, shorten_command
from covid_mm.commands.plan import TrainingPlan, build_parser, make_plan
from covid_mm.errors import UsageError
from covid_mm.training.run import RunFolder

DEFAULT_RUN = "runs/left-out"


def add_arguments(parser: argparse.ArgumentParser) -> None:
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


def run(options: argparse.Namespace) -> int:
    """Measure and print; with --output also write JSON, page and figures. Returns the exit code."""
    if options.data is None or any(getattr(options, m) for m in ("ct", "xray", "checkpoint")):
        raise UsageError(
            "--leave-out and --heatmaps measure the networks of a run on the collections under --data; give that, and"
            " no --ct, --xray or --checkpoint."
        )
    load_tensorflow()
    from covid_mm.commands.left_out_heat import measure_heatmaps, measure_phantom_heat
    from covid_mm.commands.served import open_run, train_branch
    from covid_mm.commands.served_publish import measure_run, write_left_out
    from covid_mm.config import DEFAULT_CHECKPOINT
    from covid_mm.evaluation.heat_location import heat_table
    from covid_mm.evaluation.left_out_page import render_left_out

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
            print(heat_table(rows))
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
        kept = folder.read_json("config.json")
        plan = TrainingPlan.from_dict(kept.get("plan", {}) if isinstance(kept, dict) else {})
        if plan.recipe != "served":
            raise UsageError(f"{folder.path} is a run of the paper's recipe; name one of the recipe served.")
        return plan
    arguments = ["--data", options.data, "--recipe", "served", "--weights", options.weights]
    plan = make_plan(build_parser().parse_args(arguments), shlex.join(["python", "train.py", *arguments]))
    folder.write_json("config.json", {"plan": plan.to_dict()})
    return plan
