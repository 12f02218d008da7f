"""Draw a checkpoint's model card anew, with results of other runs beside its own."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from covid_mm.errors import CheckpointError, UsageError

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
    parser.add_argument("checkpoint", metavar="DIR", help="checkpoint folder whose README.md is drawn")
    parser.add_argument(
        "--beside",
        metavar="TITLE=PLACE",
        action="append",
        help="a checkpoint folder of another split, or an evaluation.json, to show beside; repeat for more",
    )


def run(options: argparse.Namespace) -> int:
    """Draw and write the card. Returns the exit code."""
    from covid_mm.serving.metadata import read_metadata

    place = Path(options.checkpoint)
    meta = read_metadata(place).raw
    if options.beside is not None:
        meta["comparisons"] = [read_comparison(text) for text in options.beside]
    write_card(place, meta)
    return 0


def write_card(place: Path, meta: dict[str, Any]) -> None:
    """Draw the card of the checkpoint at `place` from `meta`, and write both.

    Raises CheckpointError where meta lacks what the card is drawn from.
    """
    from covid_mm.commands.model_card import render_card
    from covid_mm.serving.metadata import CARD_NAME, META_NAME
    from covid_mm.training.run import write_atomically

    try:
        card = render_card(meta, place.resolve().name)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"The meta.json of {place.name} lacks what a model card is drawn from ({error}); train again or put"
            " back the published one."
        ) from error
    write_atomically(place / CARD_NAME, card.encode())
    write_atomically(place / META_NAME, (json.dumps(meta, indent=2, allow_nan=False) + "\n").encode())
    print(f"written {place / CARD_NAME}")


def read_comparison(text: str) -> dict[str, Any]:
    """One entry of meta.json's `comparisons` from `TITLE=PLACE`."""
    title, _, name = text.partition("=")
    place = Path(name)
    if not name or not place.exists():
        raise UsageError(
            f"--beside {text!r}: expected TITLE=PLACE with a checkpoint folder or evaluation.json."
        )
    try:
        if place.is_dir():
            meta = json.loads((place / "meta.json").read_text())
            earlier = [c for weights in meta["initial_weights"].values() for c in weights["commands"]]
            return {
                "title": title,
                "text": f"{GROUPED} {meta['trained_on']}.",
                "metrics": meta["metrics"]["validation"],
                "commands": list(dict.fromkeys([*earlier, meta["command"]])),
            }
        found = json.loads(place.read_text())
        which = "; ".join(found["images"].values())
        return {
            "title": title,
            "text": f"{EXTERNAL} {which}.",
            "metrics": found["metrics"],
            "commands": [found["command"]],
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{place} holds no results of this project ({error}); name a checkpoint or an evaluation.json."
        ) from error
