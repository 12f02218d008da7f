"""The run folder: everything needed to say what a training did, and to go on after a kill.

runs/<name>/
    config.json     all settings, the command line, the initial weights
    split.json      which file trains and which validates
    history.csv     one row per epoch
    last.npz        weights, optimizer and history after the last whole epoch
    best.weights.h5 the weights of the best epoch so far

Every file is written whole (covid_mm/files.py), so a kill leaves the old one or the new one.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covid_mm.errors import TrainingError
from covid_mm.files import write_arrays, write_atomically


@dataclass(frozen=True)
class RunState:
    """The state after `epochs` whole epochs: arrays in the network's and the optimizer's own order."""

    epochs: int
    weights: list[NDArray[Any]]
    optimizer: list[NDArray[Any]]
    history: list[dict[str, float]]


@dataclass(frozen=True)
class RunFolder:
    """A folder that one training writes and `--resume` reads."""

    path: Path

    @property
    def best_weights(self) -> Path:
        """The best epoch's weights."""
        return self.path / "best.weights.h5"

    def write_text(self, name: str, text: str) -> None:
        """Write a small file atomically."""
        write_atomically(self.path / name, text.encode())

    def write_json(self, name: str, value: Any) -> None:
        """Write an object as readable JSON."""
        self.write_text(name, json.dumps(value, indent=2, sort_keys=False) + "\n")

    def read_json(self, name: str) -> Any:
        """Read an object back. Raises TrainingError where it is missing or damaged."""
        try:
            return json.loads((self.path / name).read_text())
        except (OSError, ValueError) as error:
            raise TrainingError(
                f"{self.path} is not a run folder that can be used: its {name} cannot be read"
                f" ({type(error).__name__}); name a folder that train.py wrote, or start without --resume."
            ) from error

    def read_notes(self) -> list[str]:
        """What whoever trained wrote on it in notes.txt, a line each: hardware, what was chosen in view of what."""
        path = self.path / "notes.txt"
        return [line for line in path.read_text().splitlines() if line.strip()] if path.exists() else []

    def save_state(self, state: RunState) -> None:
        """Keep the state after a whole epoch, and the history as CSV."""
        arrays = {f"weight_{i:05d}": array for i, array in enumerate(state.weights)}
        arrays |= {f"optimizer_{i:05d}": array for i, array in enumerate(state.optimizer)}
        arrays["about"] = np.array(json.dumps({"epochs": state.epochs, "history": state.history}))
        write_arrays(self.path / "last.npz", arrays)
        self.write_text("history.csv", format_history(state.history))

    def load_state(self) -> RunState | None:
        """The last whole epoch's state, or None before the first. Raises TrainingError if damaged."""
        path = self.path / "last.npz"
        if not path.exists():
            return None
        try:
            with np.load(path, allow_pickle=False) as arrays:
                about = json.loads(str(arrays["about"]))
                names = sorted(arrays.files)
                return RunState(
                    epochs=int(about["epochs"]),
                    weights=[arrays[name] for name in names if name.startswith("weight_")],
                    optimizer=[arrays[name] for name in names if name.startswith("optimizer_")],
                    history=about["history"],
                )
        except Exception as error:
            raise TrainingError(
                f"{path} is damaged ({type(error).__name__}); delete it to start this run again from its"
                " beginning, or name another run."
            ) from error


def format_history(history: Sequence[dict[str, float]]) -> str:
    """The history as CSV, one row per epoch, columns in order of first appearance."""
    columns = list(dict.fromkeys(key for row in history for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    return text.getvalue()
