"""results.json: what the paper's nine networks came to here, all that tables and figures are drawn from."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict

from covid_mm.config import Modality, SplitProtocol
from covid_mm.errors import DataError
from covid_mm.evaluation.field_types import check_type
from covid_mm.evaluation.intervals import Proportion
from covid_mm.evaluation.report import BinaryReport

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
    """What concatenation costs, a row a pair; empty where it was not measured."""

    training: list[TrainingCost]
    inference: list[InferenceCost]


@dataclass(frozen=True)
class Possibility:
    """One of the paper's "four possibilities" of a pair: true labels, and what was called positive.

    kind: a key of POSSIBILITY_TITLES. called_positive: by the concatenated head; the others by each
    branch's own head.
    """

    kind: PossibilityKind
    studies: int
    called_positive: Proportion
    ct_called_positive: Proportion
    xray_called_positive: Proportion

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"kind": self.kind, "studies": self.studies} | {
            name: getattr(self, name).to_dict()
            for name in ("called_positive", "ct_called_positive", "xray_called_positive")
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Possibility:
        """What to_dict wrote."""
        shares = {
            name: Proportion(**values[name])
            for name in ("called_positive", "ct_called_positive", "xray_called_positive")
        }
        return cls(kind=values["kind"], studies=int(values["studies"]), **shares)


@dataclass(frozen=True)
class RocPoints:
    """A ROC curve's points, 0..1, from (0, 0) to (1, 1)."""

    false_positive_rate: tuple[float, ...]
    true_positive_rate: tuple[float, ...]

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> RocPoints:
        """What `dataclasses.asdict` wrote."""
        points = cls(tuple(values["false_positive_rate"]), tuple(values["true_positive_rate"]))
        if len(points.false_positive_rate) != len(points.true_positive_rate):
            raise ValueError("a ROC curve needs as many false as true positive rates")
        return points


@dataclass(frozen=True)
class NetworkResult:
    """One network on one split.

    name: `NetworkConfig.name`. branches: (modality, backbone). trained: one phrase, which layers
    and how long. training: TrainingConfig as a dict. history: one row an epoch. report: the main head
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

    @property
    def is_concatenated(self) -> bool:
        """True for two branches."""
        return len(self.branches) == 2

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        plain = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return plain | {
            "report": self.report.to_dict(),
            "roc": dataclasses.asdict(self.roc),
            "branch_reports": {m: report.to_dict() for m, report in self.branch_reports.items()},
            "possibilities": [part.to_dict() for part in self.possibilities],
            "external": {name: report.to_dict() for name, report in self.external.items()},
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> NetworkResult:
        """What to_dict wrote. Raises KeyError, TypeError or ValueError for anything else."""
        result = cls(
            **values
            | {
                "branches": tuple((modality, backbone) for modality, backbone in values["branches"]),
                "history": tuple(values["history"]),
                "report": BinaryReport.from_dict(values["report"]),
                "roc": RocPoints.from_dict(values["roc"]),
                "branch_reports": {
                    m: BinaryReport.from_dict(part) for m, part in values["branch_reports"].items()
                },
                "possibilities": tuple(Possibility.from_dict(part) for part in values["possibilities"]),
                "external": {name: BinaryReport.from_dict(part) for name, part in values["external"].items()},
            }
        )
        check_type(result, cls, result.name if isinstance(result.name, str) else "a network")
        for row in result.history:
            if missing := [name for name in HISTORY_COLUMNS if name not in row]:
                raise ValueError(f"the history of {result.name} has no {' and no '.join(missing)}")
        return result


@dataclass(frozen=True)
class Step:
    """One step's wall time. reused: nothing was computed, an earlier result was taken."""

    name: str
    seconds: float
    reused: bool
    network: str | None
    protocol: SplitProtocol | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Step:
        """What to_dict wrote."""
        return cls(**values)


@dataclass(frozen=True)
class DataSummary:
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

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> DataSummary:
        """What `dataclasses.asdict` wrote."""
        summary = cls(**values | {side: tuple(values[side]) for side in ("train", "validation")})
        if any(len(shares) != HISTOGRAM_BINS for shares in summary.mean_histograms.values()):
            raise ValueError(f"a mean histogram of {summary.name} has not {HISTOGRAM_BINS} bins")
        return summary


@dataclass(frozen=True)
class Results:
    """The whole document.

    command: one line a split. created: ISO date, UTC. networks: up to nine a split, the paper's
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

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "format_version": self.format_version,
            "command": self.command,
            "created": self.created,
            "seed": self.seed,
            "synthetic": self.synthetic,
            "machine": self.machine,
            "notes": list(self.notes),
            "data": [dataclasses.asdict(part) for part in self.data],
            "networks": [network.to_dict() for network in self.networks],
            "steps": [step.to_dict() for step in self.steps],
            "costs": self.costs,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Results:
        """What to_dict wrote. Raises DataError for anything else."""
        version = values.get("format_version") if isinstance(values, dict) else None
        if version != FORMAT_VERSION:
            raise DataError(
                f"The results are of format {version!r} and format {FORMAT_VERSION} is expected; make them"
                " again with train.py --pair all."
            )
        try:
            check_type(values.get("notes"), list[str], "notes")  # a text would pass for its letters
            results = cls(
                **values
                | {
                    "notes": tuple(values["notes"]),
                    "data": tuple(DataSummary.from_dict(part) for part in values["data"]),
                    "networks": tuple(NetworkResult.from_dict(part) for part in values["networks"]),
                    "steps": tuple(Step.from_dict(part) for part in values["steps"]),
                }
            )
            check_type(results, cls, "results")
            return results
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(
                f"The results are damaged or of another version of this project ({type(error).__name__}:"
                f" {error}); make them again with train.py --pair all."
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


PROTOCOL_TITLES: dict[SplitProtocol, str] = {"paper": "paper's random split", "grouped": "grouped split"}
