"""A published checkpoint's model card, drawn anew from its meta.json."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from covid_mm.errors import CheckpointError, DataError
from covid_mm.files import write_atomically
from covid_mm.models.meta_file import write_meta
from covid_mm.reporting.model_card import render_card
from covid_mm.reporting.readme_results import render_readme_results
from covid_mm.serving.metadata import CARD_NAME, Metadata

if TYPE_CHECKING:
    from covid_mm.evaluation.checkpoint import Evaluation

DAMAGED = (KeyError, TypeError, ValueError, AttributeError)  # what drawing from a foreign meta.json raises


def write_card(path: Path, meta: dict[str, Any]) -> None:
    """Draw the card of the checkpoint at `path` from `meta`, and write both.

    Raises CheckpointError where meta lacks what the card is drawn from.
    """
    try:
        card = render_card(meta, path.resolve().name)
    except DAMAGED as error:
        raise _lacking(path, error) from error
    write_atomically(path / CARD_NAME, card.encode())
    write_meta(path, meta)
    print(f"written {path / CARD_NAME}")


def print_readme_results(path: Path, meta: dict[str, Any]) -> None:
    """Print what docs/results.md says of the checkpoint at `path`.

    Raises:
        UsageError: another recipe than `served`. CheckpointError: meta lacks what it is drawn from.
    """
    try:
        print(render_readme_results(meta, path.resolve().name), end="")
    except DAMAGED as error:
        raise _lacking(path, error) from error


def _lacking(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"The meta.json of {path.name} lacks what a model card is drawn from ({error}); train again or put"
        " back the published one."
    )


def update_card(path: Path, meta: Metadata, evaluation: Evaluation) -> None:
    """Write what was found of the answers into meta.json, and draw the card anew.

    Raises DataError where not all of the checkpoint's own validation images were measured.
    """
    counted = {head: report["counts"] for head, report in meta.raw["metrics"]["validation"].items()}
    if {head: report.counts.to_dict() for head, report in evaluation.reports.items()} != counted:
        raise DataError(
            f"These are not the validation images that the card of {meta.name} tells of, or it answers them"
            " otherwise here; its card stays as it is. Name the folder it was trained on."
        )
    write_card(path, meta.raw | evaluation.answers)
