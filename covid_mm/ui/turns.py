"""Who has the network next: one study at a time, and a visitor's single study before a batch's next one."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from covid_mm.imaging import DecodedImage
from covid_mm.serving.batch import StudyAnswerer
from covid_mm.serving.prediction import CheckpointInfo, Prediction

SINGLE, BATCH = 0, 1  # smaller goes first


class NetworkTurns:
    """A queue of two ranks. Within a rank first come, first served, so batches take turns too."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._line: list[tuple[int, int]] = []
        self._numbers = itertools.count()
        self._busy = False

    @contextmanager
    def take(self, rank: int = SINGLE) -> Iterator[None]:
        """Wait for a turn and hold it inside the `with` block, for one study."""
        with self._changed:
            mine = (rank, next(self._numbers))
            self._line.append(mine)
            try:
                self._changed.wait_for(lambda: not self._busy and min(self._line) == mine)
                self._busy = True
            finally:
                self._line.remove(mine)
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._busy = False
                self._changed.notify_all()


class BatchAnswerer:
    """A predictor that takes a turn for each study of a batch."""

    def __init__(self, predictor: StudyAnswerer, turns: NetworkTurns) -> None:
        self._predictor = predictor
        self._turns = turns

    @property
    def info(self) -> CheckpointInfo:
        """The checkpoint that answers."""
        return self._predictor.info

    def predict(self, ct: DecodedImage | None = None, xray: DecodedImage | None = None) -> Prediction:
        """The answer to one study, when its turn comes."""
        with self._turns.take(BATCH):
            return self._predictor.predict(ct=ct, xray=xray)
