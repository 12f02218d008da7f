"""results.json: what the paper's nine networks came to here, all that tables and figures are drawn from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from typing_extensions import TypedDict

from covid_mm.config import POSITIVE, Modality, SplitProtocol
from covid_mm.errors import DataError
from covid_mm.evaluation.intervals import Proportion
from covid_mm.evaluation.report import BinaryReport
from covid_mm.json_record import JsonRecord

RESULTS_NAME = "results.json"
FORMAT_VERSION = 1
PossibilityKind = Literal[
    "both_negative", "both_positive", "ct_positive_xray_negative", "ct_negative_xray_positive"
]
POSSIBILITY_TITLES: dict[PossibilityKind, str] = {  # by kind: the true labels
    "both_negative": "both normal",
    "both_positive": "both positive",
    "ct_positive_xray_negative": "CT positive, X-ray normal",
    "ct_negative_xray_positive": "CT normal, X-ray positive",
}
NORMAL = 1 - POSITIVE
POSSIBILITY_LABELS: dict[PossibilityKind, dict[Modality, int]] = {  # the same labels, indices of CLASSES
    "both_negative": {"ct": NORMAL, "xray": NORMAL},
    "both_positive": {"ct": POSITIVE, "xray": POSITIVE},
    "ct_positive_xray_negative": {"ct": POSITIVE, "xray": NORMAL},
    "ct_negative_xray_positive": {"ct": NORMAL, "xray": POSITIVE},
}
PROTOCOL_TITLES: dict[SplitProtocol, str] = {"paper": "paper's random split", "grouped": "grouped split"}
HISTOGRAM_BINS = 64  # equal ones over 0..255
HISTORY_COLUMNS = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy")  # what curves are drawn from


class StartingWeights(TypedDict):
    """Where a branch's weights came from. commands: those that made them, oldest first."""

    kind: str
    origin: str
    commands: list[str]


class TrainingCost(TypedDict):
    """Seconds of a pair and of its two single networks together, the features of both included."""

    pair: str
    features_seconds: float
    pair_seconds: float
    singles_seconds: float


class InferenceCost(TypedDict):
    """Milliseconds of one study through a pair, and through its two single networks together."""

    pair: str
    pair_ms: float
    singles_ms: float


class Costs(TypedDict, total=False):
    """What concatenation costs, a row per pair; empty where it was not measured."""

    training: list[TrainingCost]
    inference: list[InferenceCost]


@dataclass(frozen=True)
class Possibility(JsonRecord):
    """One of the paper's "four possibilities" of a pair: true labels, and what was called positive.

    kind: a key of POSSIBILITY_TITLES. called_positive: by the concatenated head; the others by each
    branch's own head.
    """

    kind: PossibilityKind
    studies: int
    called_positive: Proportion
    ct_called_positive: Proportion
    xray_called_positive: Proportion


@dataclass(frozen=True)
class RocPoints(JsonRecord):
    """A ROC curve's points, 0..1, from (0, 0) to (1, 1)."""

    false_positive_rate: tuple[float, ...]
    true_positive_rate: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.false_positive_rate) != len(self.true_positive_rate):
            raise ValueError("a ROC curve needs as many false as true positive rates")


@dataclass(frozen=True)
class NetworkResult(JsonRecord):
    """One network on one split.

    name: `NetworkConfig.name`. branches: (modality, backbone). trained: one phrase, which layers
    and how long. training: TrainingConfig as a dict. history: one row per epoch. report: the main head
    on the validation images; branch_reports: a concatenated network's own small heads. seconds:
    of its fit. external: by the name of the images, never trained on.
    """

    name: str
    branches: tuple[tuple[Modality, str], ...]
    protocol: SplitProtocol
    initial_weights: dict[Modality, StartingWeights]
    trained: str
    training: dict[str, Any]
    history: tuple[dict[str, float], ...]
    best_epoch: int
    report: BinaryReport
    roc: RocPoints
    branch_reports: dict[str, BinaryReport]
    possibilities: tuple[Possibility, ...]
    parameters: int
    seconds: float
    external: dict[str, BinaryReport]

    def __post_init__(self) -> None:
        for row in self.history:
            if missing := [name for name in HISTORY_COLUMNS if name not in row]:
                raise ValueError(f"the history of {self.name} has no {' and no '.join(missing)}")

    @property
    def is_concatenated(self) -> bool:
        """True for several branches."""
        return len(self.branches) > 1


@dataclass(frozen=True)
class Step(JsonRecord):
    """One step's wall time. reused: nothing was computed, an earlier result was taken."""

    name: str
    seconds: float
    reused: bool
    network: str | None
    protocol: SplitProtocol | None


@dataclass(frozen=True)
class DataSummary(JsonRecord):
    """Table I as realised for one modality and split.

    train, validation: images, normal and positive. mean_histograms: by class name, the mean share
    of a training image's pixels in each of HISTOGRAM_BINS grey bins.
    """

    modality: Modality
    name: str
    protocol: SplitProtocol
    split_hash: str
    train: tuple[int, int]
    validation: tuple[int, int]
    mean_histograms: dict[str, list[float]]

    def __post_init__(self) -> None:
        if any(len(shares) != HISTOGRAM_BINS for shares in self.mean_histograms.values()):
            raise ValueError(f"a mean histogram of {self.name} has not {HISTOGRAM_BINS} bins")


@dataclass(frozen=True)
class Results(JsonRecord):
    """The whole document.

    command: one line per split. created: ISO date, UTC. networks: up to nine per split, the paper's
    split first. notes: what a reader must know of a row.
    """

    command: str
    created: str
    seed: int
    data: tuple[DataSummary, ...]
    networks: tuple[NetworkResult, ...]
    steps: tuple[Step, ...]
    costs: Costs
    machine: str
    synthetic: bool
    notes: tuple[str, ...]
    format_version: int = FORMAT_VERSION

    @property
    def protocols(self) -> tuple[SplitProtocol, ...]:
        """The splits, in order of appearance."""
        return tuple(dict.fromkeys(network.protocol for network in self.networks))

    def find(self, name: str, protocol: str) -> NetworkResult | None:
        """A network's result on a split, None where there is none."""
        return next((n for n in self.networks if (n.name, n.protocol) == (name, protocol)), None)

    @classmethod
    def from_dict(cls, values: Any) -> Self:
        """What to_dict wrote. Raises DataError for anything else."""
        version = values.get("format_version") if isinstance(values, dict) else None
        if version != FORMAT_VERSION:
            raise DataError(
                f"The results are of format {version!r} and format {FORMAT_VERSION} is expected; make them"
                " again with train.py --pair all."
            )
        try:
            return super().from_dict(values)
        except (TypeError, ValueError) as error:
            raise DataError(
                f"The results are damaged or of another version of this project ({error}); make them again with"
                " train.py --pair all."
            ) from error


def read_results(folder: Path) -> Results:
    """The results.json in a folder. Raises DataError where it is missing, damaged or foreign."""
    try:
        values = json.loads((folder / RESULTS_NAME).read_text())
    except (OSError, ValueError) as error:
        raise DataError(
            f"{folder} holds no {RESULTS_NAME} that can be read; name the folder that train.py --pair all wrote."
        ) from error
    return Results.from_dict(values)
