"""Draw a checkpoint's model card anew, with results of other runs beside its own; print the part of docs/results.md."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from covid_mm.config import DEFAULT_CHECKPOINT, DEFAULT_PAIR
from covid_mm.errors import CheckpointError, UsageError
from covid_mm.publishing.card import print_readme_results, write_card

GROUPED = (
    "Another network of the same description, trained and measured on this split by the commands below. It is"
    " reported, not published. Where its commands differ from those above by more than the split, so may its"
    " figures."
)
EXTERNAL = (
    "Images of another source, never trained on: what is left of the figures above when the source changes."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `card`."""
    parser.add_argument(
        "checkpoint",
        metavar="DIR",
        nargs="?",
        default=str(DEFAULT_CHECKPOINT),
        help=f"checkpoint folder whose README.md is drawn; default checkpoints/{DEFAULT_PAIR}",
    )
    parser.add_argument(
        "--compare-with",
        "--beside",  # as it was called before
        metavar="TITLE=PATH",
        action="append",
        help="a checkpoint folder of another split, or an evaluation.json, to show beside; repeat for more",
    )
    parser.add_argument(
        "--readme",
        action="store_true",
        help="print what docs/results.md says of this checkpoint instead; writes nothing",
    )


def run(options: argparse.Namespace) -> int:
    """Draw and write the card. Returns the exit code."""
    from covid_mm.serving.metadata import read_metadata

    path = Path(options.checkpoint)
    meta = read_metadata(path).raw
    if options.readme:
        print_readme_results(path, meta)
        return 0
    if options.compare_with is not None:
        meta["comparisons"] = [read_comparison(text) for text in options.compare_with]
    write_card(path, meta)
    return 0


def read_comparison(text: str) -> dict[str, Any]:
    """One entry of meta.json's `comparisons` from `TITLE=PATH`."""
    from covid_mm.models.meta_file import read_meta

    title, _, name = text.partition("=")
    path = Path(name)
    if not name or not path.exists():
        raise UsageError(
            f"--compare-with {text!r}: expected TITLE=PATH with a checkpoint folder or evaluation.json."
        )
    try:
        if path.is_dir():
            meta = read_meta(path)
            earlier = [c for weights in meta["initial_weights"].values() for c in weights["commands"]]
            return {
                "title": title,
                "text": GROUPED,
                "images": meta["trained_on"],
                "metrics": meta["metrics"]["validation"],
                "commands": list(dict.fromkeys([*earlier, meta["command"]])),
            }
        evaluation = json.loads(path.read_text())
        which = "; ".join(evaluation["images"].values())
        return {
            "title": title,
            "text": EXTERNAL,
            "images": which,
            "metrics": evaluation["metrics"],
            "commands": [evaluation["command"]],
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path} holds no results of this project ({error}); name a checkpoint or an evaluation.json."
        ) from error
