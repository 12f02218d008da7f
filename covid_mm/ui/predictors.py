"""The networks that answer: each loads behind the page, and one study at a time has them.

A visitor's single study goes before a batch's next one.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent import futures
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, Protocol, Self

from covid_mm.errors import Cancelled, CovidMMError, UsageError
from covid_mm.imaging import CtScan, DecodedImage
from covid_mm.serving.batch import StudyAnswerer
from covid_mm.serving.prediction import CheckpointInfo, Prediction
from covid_mm.serving.scan_files import StudyFiles

SINGLE, BATCH = 0, 1  # smaller goes first
STUDIES = 3  # single studies under way at once: one has the network, the next are being read
LOOK_UP = 1.0  # s after which a waiting study looks whether anybody still waits for it
GONE = 30.0  # s without a sign of the visitor after which its ticket is given up; far longer than a busy server pauses


class PriorityLock:
    """A queue of two ranks. Within a rank first come, first served, so batches alternate too."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: list[tuple[int, int]] = []
        self._numbers = itertools.count()
        self._busy = False

    @property
    def is_held(self) -> bool:
        """Whether somebody has it."""
        return self._busy

    @property
    def waiting(self) -> int:
        """How many wait for it."""
        return len(self._waiting)

    @contextmanager
    def hold(self, rank: int = SINGLE) -> Iterator[None]:
        """Wait for the lock and hold it inside the `with` block, for one study."""
        with self._changed:
            mine = (rank, next(self._numbers))
            self._waiting.append(mine)
            try:
                self._changed.wait_for(lambda: not self._busy and min(self._waiting) == mine)
                self._busy = True
            finally:
                self._waiting.remove(mine)
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._busy = False
                self._changed.notify_all()


class StudyQueue:
    """Single studies from their arrival to their answer. The first `STUDIES` may be under way, the
    others wait."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._tickets: list[Ticket] = []

    def join(self, watched: bool = False) -> Ticket:
        """A ticket for the end, to be used as a context. watched: it is given up where `see` is not called."""
        with self._changed:
            ticket = Ticket(self, watched)
            self._tickets.append(ticket)
            return ticket


class Ticket:
    """One study's position in the queue, until its `with` block ends."""

    def __init__(self, queue: StudyQueue, watched: bool) -> None:
        self._queue = queue
        self._seen = time.monotonic() if watched else float("inf")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def leave(self) -> None:
        """Leave the queue; those behind move on."""
        with self._queue._changed:
            if self in self._queue._tickets:
                self._queue._tickets.remove(self)
                self._queue._changed.notify_all()

    def see(self) -> int:
        """A sign of the visitor. How many studies come before this one, 0 where it is the first or
        was answered."""
        self._seen = time.monotonic()
        with self._queue._changed:
            return self._queue._tickets.index(self) if self in self._queue._tickets else 0

    def is_left(self) -> bool:
        """Whether the visitor has gone."""
        return time.monotonic() - self._seen > GONE

    def wait(self) -> None:
        """Until the study may be read. Raises Cancelled where the visitor has gone meanwhile."""
        with self._queue._changed:
            while self._queue._tickets.index(self) >= STUDIES:
                if self.is_left():
                    raise Cancelled("Nobody waits for this study any more.")
                self._queue._changed.wait(LOOK_UP)


class BatchAnswerer:
    """A predictor that takes the lock for each study of a batch."""

    def __init__(self, predictor: StudyAnswerer, lock: PriorityLock) -> None:
        self._predictor = predictor
        self._lock = lock

    @property
    def info(self) -> CheckpointInfo:
        """The checkpoint that answers."""
        return self._predictor.info

    def predict_images(self, files: StudyFiles) -> Prediction:
        """The answer to one study, when the lock is free."""
        with self._lock.hold(BATCH):
            return self._predictor.predict_images(files)


class StudyPredictor(Protocol):
    """What the page needs of a predictor; `covid_mm.load_predictor` gives one."""

    @property
    def info(self) -> CheckpointInfo:
        """The checkpoint that answers."""

    @property
    def meta(self) -> dict[str, Any]:
        """The checkpoint's meta.json; the page reads `decision_threshold` from it, by head."""

    def warm_up(self) -> None:
        """Compile before the first study, so that it does not wait for that."""

    def predict(
        self, ct: DecodedImage | CtScan | None = None, xray: DecodedImage | None = None, **options: Any
    ) -> Prediction:
        """The answer to one study; raises CovidMMError for what it does not take.

        options: `heatmap_class`, `method` and `layer` of the heatmaps, where they were chosen; `progress` and
        `cancelled` of a slow method.
        """

    def predict_images(self, files: StudyFiles) -> Prediction:
        """The same of images by modality."""


class PredictorLoader:
    """Loads and warms up once, in a thread; whoever needs the predictor waits for it.

    Args:
        load: makes the predictor; runs in the thread, so that its heavy imports do too.
    """

    def __init__(self, load: Callable[[], StudyPredictor]) -> None:
        self._load = load
        self._future: Future[StudyPredictor] = Future()

    def start(self) -> None:
        """Begin to load; returns at once."""
        run_in_thread(self._future, self._load_warm, "predictor-loader")

    @property
    def state(self) -> str:
        """`loading`, `ready` or `failed`."""
        if not self._future.done():
            return "loading"
        return "failed" if self._future.exception() else "ready"

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until loading has ended, well or not; False when `timeout` seconds have passed."""
        return bool(futures.wait([self._future], timeout).done)

    def get(self) -> StudyPredictor:
        """The predictor, as soon as it is there.

        Raises:
            CovidMMError: the checkpoint cannot be served; the same sentence each time.
            RuntimeError: loading failed for a reason that the user cannot mend.
        """
        error = self._future.exception()
        if isinstance(error, CovidMMError):
            raise type(error)(*error.args)  # anew, or its traceback would grow with each visitor
        if error is not None:
            raise RuntimeError("The network could not be loaded.") from error
        return self._future.result()

    def _load_warm(self) -> StudyPredictor:
        predictor = self._load()
        predictor.warm_up()
        return predictor


def run_in_thread(future: Future[Any], function: Callable[[], Any], name: str) -> None:
    """Complete a future by a function in a thread of its own, which ends with the process; an
    executor's would not."""

    def run() -> None:
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    try:
        threading.Thread(target=run, name=name, daemon=True).start()
    except RuntimeError as error:  # the system gives no more threads
        future.set_exception(error)


class PredictorPool:
    """The networks that a page can answer with, by checkpoint name; each is loaded when first asked for.

    Args:
        loads: by name, what makes each predictor; the first is the page's default.
        metas: by name, the meta.json of those whose is known before they are loaded.

    `queue` holds the single studies that have arrived; `lock` says who may ask a network next.
    """

    def __init__(
        self,
        loads: Mapping[str, Callable[[], StudyPredictor]],
        metas: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self._metas = metas or {}
        self.queue = StudyQueue()
        self.lock = PriorityLock()
        self._loaders = {name: PredictorLoader(load) for name, load in loads.items()}
        self._started: set[str] = set()
        self._starting = threading.Lock()

    @property
    def names(self) -> tuple[str, ...]:
        """All checkpoints, the default first."""
        return tuple(self._loaders)

    @property
    def default(self) -> PredictorLoader:
        """The default's loader, begun or not."""
        return next(iter(self._loaders.values()))

    def meta(self, name: str | None = None) -> Mapping[str, Any] | None:
        """A network's meta.json, the default's without a name; None where it is not known before it is loaded."""
        return self._metas.get(name or self.names[0])

    def choose(self, name: str | None = None) -> PredictorLoader:
        """A network's loader, begun where it was not; the default's without a name.

        Raises:
            UsageError: no such checkpoint is served here.
        """
        chosen = name or self.names[0]
        if chosen not in self._loaders:
            raise UsageError(
                "There is no checkpoint of that name here; choose one of {names}.",
                names=", ".join(self.names),
            )
        with self._starting:
            if chosen not in self._started:
                self._started.add(chosen)
                self._loaders[chosen].start()
        return self._loaders[chosen]
