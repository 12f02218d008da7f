"""What one training is to be: the options of train.py as one frozen, serialisable plan."""

from __future__ import annotations

import argparse
import math
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, get_args

from covid_mm.config import (
    DEFAULT_PAIR,
    IMAGE_SIZE,
    MODALITIES,
    PAIRS,
    DataConfig,
    Length,
    NetworkConfig,
    RestoredEpoch,
    TrainingConfig,
)
from covid_mm.errors import TrainingError, UsageError
from covid_mm.json_record import JsonRecord

Recipe = Literal["served", "paper"]
RECIPES: tuple[Recipe, ...] = get_args(Recipe)
PAPER_OPTIONS = (  # they mean nothing to the served recipe
    "fine_tune",
    "epochs",
    "steps_per_epoch",
    "batch_size",
    "learning_rate",
    "final_learning_rate",
    "image_size",
    "augmented_copies",
    "augmentation",
    "positives",
    "single",
    "keep",
    "no_publish",
)
SOURCES = "sources"  # --split sources
ALL = "all"  # --pair all
REPRODUCTION = "reproduction.json"  # marks the run folder of --pair all
SMALLEST_IMAGE = 32  # pixels per side; some backbones need more and say so


@dataclass(frozen=True)
class TrainingPlan(JsonRecord):
    """One training, fully described: what config.json of the run folder holds.

    recipe: `served` (lungs, several collections, left-out evaluation) or `paper` (Table II on whole
    images). length: how long the served recipe trains. branch_steps, lung_steps: of its branches and of
    its lung segmenter; None for its own choice. publish: whether a checkpoint is made; without, the run
    folder's weights may still go into another run.
    """

    network: NetworkConfig
    data: DataConfig
    training: TrainingConfig
    weights: str
    data_root: str | None
    synthetic_per_class: int
    output: str | None
    command: str
    recipe: Recipe = "paper"
    length: Length = "short"
    branch_steps: int | None = None
    lung_steps: int | None = None
    publish: bool = True

    @property
    def synthetic(self) -> bool:
        """Whether it trains on phantoms."""
        return self.data_root is None

    @classmethod
    def from_dict(cls, values: Any) -> Self:
        """The plan that `to_dict` wrote. Raises TrainingError where it is of another version."""
        try:
            return super().from_dict(values)
        except (TypeError, ValueError) as error:
            raise TrainingError(
                f"The run's config.json is not of this version of the project ({error}); start a new run."
            ) from error


def build_parser() -> argparse.ArgumentParser:
    """The options of train.py."""
    parser = argparse.ArgumentParser(
        prog="train.py",
        description="Train a network on chest CT slices and X-rays and publish a checkpoint that app.py"
        " serves. Without --data it trains on synthetic phantoms. Research use only.",
    )
    what = parser.add_argument_group("what to train")
    what.add_argument(
        "--data", metavar="DIR", help="folder with the data sets as Kaggle unzips them (see README)"
    )
    what.add_argument(
        "--synthetic", action="store_true", help="train on synthetic phantoms (default without --data)"
    )
    what.add_argument(
        "--pair",
        metavar="NAME",
        help=f"concatenated network, one of {', '.join(PAIRS)} (default: {DEFAULT_PAIR}), or {ALL}: the"
        " paper's nine networks, measured and tabled in results/",
    )
    what.add_argument(
        "--recipe",
        choices=RECIPES,
        help="served: lungs found and cropped to, every collection under --data, left-out evaluation; paper: Table II"
        " on whole images (default: served where --data has two collections or scanner groups of each modality to"
        " leave out in turn, and no option of the paper's recipe is given)",
    )
    what.add_argument("--single", metavar="BACKBONE", help="a single network instead; needs --modality")
    what.add_argument("--modality", choices=MODALITIES, help="what the single network reads")

    how = parser.add_argument_group("how")
    how.add_argument(
        "--weights",
        default="auto",
        metavar="W",
        help="initial weights of the backbones: auto, imagenet, none, a checkpoint or run folder, a"
        " .weights.h5 file of keras.applications, or one each by modality or backbone: ct=W,xray=W"
        " (default: auto)",
    )
    defaults = TrainingConfig()
    how.add_argument("--fine-tune", choices=("frozen", "last-block", "full"), default=defaults.fine_tune)
    how.add_argument("--epochs", type=int, default=defaults.epochs, help="default: %(default)s")
    how.add_argument(
        "--steps-per-epoch", type=int, default=defaults.steps_per_epoch, help="default: %(default)s"
    )
    how.add_argument(
        "--batch-size", type=int, default=defaults.batch_size, help="images; default: %(default)s"
    )
    how.add_argument(
        "--learning-rate", type=float, default=defaults.learning_rate, help="default: %(default)s"
    )
    how.add_argument(
        "--final-learning-rate",
        type=float,
        default=None,
        help=f"reached in the last step, along a half cosine (default: half of the first,"
        f" {defaults.final_learning_rate} as in the paper)",
    )
    how.add_argument(
        "--image-size", type=int, default=IMAGE_SIZE, help="pixels per side; default: %(default)s"
    )
    how.add_argument(
        "--augmented-copies",
        "--views",  # as it was called before
        type=int,
        default=defaults.augmented_copies,
        help="cached augmented copies per image; 1 = no augmentation",
    )
    how.add_argument(
        "--augmentation",
        type=float,
        default=defaults.augmentation,
        help="strength of the random variation of training images, 0 = none; default: %(default)s",
    )
    how.add_argument("--seed", type=int, default=defaults.seed, help="default: %(default)s")
    how.add_argument(
        "--keep",
        choices=get_args(RestoredEpoch),
        default=defaults.restored_epoch,
        help="whose weights: the best epoch's on the validation images, or the last one's, chosen on nothing"
        " (default: %(default)s)",
    )

    served = parser.add_argument_group("how, recipe served")
    served.add_argument(
        "--length",
        choices=get_args(Length),
        default="short",
        help="short: the first blocks stay as they are, for processors; long: the whole network and more steps, for a"
        " GPU; default: %(default)s",
    )
    served.add_argument(
        "--branch-steps",
        type=int,
        metavar="N",
        help="steps per branch, instead of what the length says",
    )
    served.add_argument(
        "--lung-steps", type=int, metavar="N", help="steps of the lung segmenter (default: 2,000)"
    )

    data = parser.add_argument_group("data")
    data.add_argument(
        "--split",
        choices=("paper", "grouped", SOURCES),
        default="paper",
        help="sources: the served recipe, every collection or scanner group left out in turn; default: %(default)s",
    )
    data.add_argument(
        "--positives",
        choices=("pneumonia", "covid-19"),
        default="pneumonia",
        help="which CoronaHack films are positive: all pneumonia as in the paper, or COVID-19 only",
    )
    data.add_argument(
        "--phantoms", type=int, default=150, metavar="N", help="phantom studies per class (synthetic)"
    )

    for modality, one in MODALITIES.items():
        data.add_argument(
            f"--external-{modality}",
            action="append",
            metavar="DIR",
            help=f"with --pair all: {one.title} images to measure on too, never trained on, two class folders or a"
            " collection with a manifest.csv; may be given again, the first goes with the first of another modality"
            " in pairs, and so on",
        )
    data.add_argument(
        "--external-most",
        type=int,
        metavar="N",
        help="a seeded choice of at most so many images per class of each (default: all)",
    )

    where = parser.add_argument_group("where")
    where.add_argument(
        "--output",
        metavar="DIR",
        help="checkpoint folder to publish (default: checkpoints/<name>); with --pair all the results"
        " folder (default: results)",
    )
    where.add_argument(
        "--checkpoints",
        metavar="DIR",
        help="with --pair all: where pairs are published (default: checkpoints)",
    )
    where.add_argument(
        "--no-publish",
        action="store_true",
        help="make no checkpoint: the run folder is for another run's --weights, or for its figures only",
    )
    where.add_argument(
        "--runs", default="runs", metavar="DIR", help="folder for run folders; default: %(default)s"
    )
    where.add_argument(
        "--run-name", metavar="NAME", help="name of the run folder (default: network, split, time)"
    )
    where.add_argument(
        "--resume", metavar="RUN", help="go on with this run folder; other options are its own"
    )
    return parser


def make_plan(options: argparse.Namespace, command: str) -> TrainingPlan:
    """Turn options into a plan. Raises UsageError where they contradict one another."""
    if options.single and options.pair:
        raise UsageError("--single and --pair exclude one another; name one of them.")
    if bool(options.single) != bool(options.modality):
        raise UsageError(
            f"--single BACKBONE and --modality {'|'.join(MODALITIES)} belong together; give both or neither."
        )
    for name in ("checkpoints", *(f"external_{m}" for m in MODALITIES), "external_most"):
        if getattr(options, name) and options.pair != ALL:
            raise UsageError(
                f"--{name.replace('_', '-')} goes with --pair {ALL} only; leave it out or add that."
            )
    if options.synthetic and options.data:
        raise UsageError("--synthetic trains on phantoms and --data on images; give one of them.")
    for name in (
        "epochs",
        "steps_per_epoch",
        "batch_size",
        "augmented_copies",
        "phantoms",
        "branch_steps",
        "lung_steps",
        "external_most",
    ):
        if getattr(options, name) is not None and getattr(options, name) < 1:
            raise UsageError(f"--{name.replace('_', '-')} must be 1 or more, not {getattr(options, name)}.")
    if not 0 <= options.augmentation <= 2:
        raise UsageError(f"--augmentation must be within 0 to 2, not {options.augmentation:g}.")
    if not 0 <= options.seed < 2**32:
        raise UsageError(f"--seed must be 0 to {2**32 - 1}, not {options.seed}.")
    if options.image_size < SMALLEST_IMAGE:
        raise UsageError(f"--image-size must be {SMALLEST_IMAGE} or more, not {options.image_size}.")
    for name in ("learning_rate", "final_learning_rate"):
        rate = getattr(options, name)
        if rate is not None and not (rate > 0 and math.isfinite(rate)):
            raise UsageError(f"--{name.replace('_', '-')} must be a number above 0, not {rate:g}.")
    if options.single:
        network = NetworkConfig.single(options.single, options.modality, image_size=options.image_size)
    else:
        pair = DEFAULT_PAIR if options.pair in (None, ALL) else options.pair
        network = NetworkConfig.pair(pair, image_size=options.image_size)
    check_recipe(options)
    final = options.final_learning_rate
    return TrainingPlan(
        network=network,
        data=DataConfig(
            split="paper" if options.split == SOURCES else options.split,
            seed=options.seed,
            positives=options.positives,
        ),
        training=TrainingConfig(
            learning_rate=options.learning_rate,
            final_learning_rate=options.learning_rate / 2 if final is None else final,
            batch_size=options.batch_size,
            steps_per_epoch=options.steps_per_epoch,
            epochs=options.epochs,
            fine_tune=options.fine_tune,
            augmentation=options.augmentation,
            augmented_copies=options.augmented_copies,
            seed=options.seed,
            restored_epoch=options.keep,
        ),
        weights=options.weights,
        data_root=options.data,
        synthetic_per_class=options.phantoms,
        output=options.output,
        command=command,
        recipe="served" if wants_served(options) else "paper",
        length=options.length,
        branch_steps=options.branch_steps,
        lung_steps=options.lung_steps,
        publish=not options.no_publish,
    )


def wants_served(options: argparse.Namespace) -> bool:
    """Whether the recipe served is asked for by name."""
    return bool(options.recipe == "served" or options.split == SOURCES)


def check_recipe(options: argparse.Namespace) -> None:
    """Raise UsageError for options that the recipe asked for does not have."""
    if not wants_served(options):
        own = (options.length != "short", options.branch_steps, options.lung_steps)
        if options.recipe == "paper" and any(own):
            raise UsageError(
                "--length, --branch-steps and --lung-steps belong to the recipe served; leave them out."
            )
        return
    if options.recipe == "paper":
        raise UsageError(
            f"--split {SOURCES} belongs to the recipe served; leave out --recipe paper or the split."
        )
    if not options.data:
        raise UsageError("The recipe served learns from several collections; name their folder with --data.")
    given = paper_options(options)
    if given or options.pair == ALL:
        named = f"--{given[0].replace('_', '-')}" if given else f"--pair {ALL}"
        raise UsageError(f"{named} belongs to the paper's recipe; leave it out, or choose --recipe paper.")


def paper_options(options: argparse.Namespace) -> list[str]:
    """Options of the paper's recipe that were given another value than their default."""
    defaults = build_parser().parse_args([])
    return [name for name in PAPER_OPTIONS if getattr(options, name) != getattr(defaults, name)]


def may_be_served(options: argparse.Namespace) -> bool:
    """Whether nothing in the options asks for the paper's recipe, so that the data may decide."""
    return (
        options.recipe is None
        and bool(options.data)
        and options.pair != ALL
        and options.split == "paper"
        and not paper_options(options)
    )


def shorten_command(command: str) -> str:
    """A command line without this machine's absolute paths: only the last part of each is kept."""
    # a word may hold several: ct=/one/place,xray=/another/place
    words = [
        "".join(Path(part).name if Path(part).is_absolute() else part for part in re.split(r"([=,])", word))
        for word in shlex.split(command)
    ]
    return shlex.join(words)
