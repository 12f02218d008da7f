"""Many studies through one network: files read in processes ahead of it, studies answered a batch at a time.

What each study gets is what it would get alone; only when it is read, and with which others it goes through the
network, is different.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from covid_mm.config import Modality
from covid_mm.errors import CheckpointError
from covid_mm.imaging import CtScan, DecodedImage
from covid_mm.serving.batch import Reader, Row, StudyAnswerer, explain_failure
from covid_mm.serving.pairing import Study
from covid_mm.serving.prediction import Prediction
from covid_mm.serving.predictor import BATCH
from covid_mm.serving.scan_files import StudyFiles, read_files
from covid_mm.serving.worker_pool import WorkerPool

READING_SECONDS = 300.0  # a study's files may take: a whole scan on a busy machine takes a fifth of that
MAX_READERS = 8  # processes
AHEAD = 2 * BATCH  # studies that may be read before they are needed
PIXELS_AHEAD = 100_000_000  # of these, together: 400 MB


class BatchAnswerer(StudyAnswerer, Protocol):
    """What a run needs of a predictor."""

    def predict_batch(self, studies: Sequence[StudyFiles]) -> list[Prediction]:
        """The answers to studies, images by modality; raises for the first that is not taken."""


@dataclass(frozen=True)
class StudyRead:
    """A study with its images, or the reason why there are none. seconds: that reading them took."""

    study: Study
    images: Mapping[Modality, DecodedImage | CtScan]
    error: str
    seconds: float

    @property
    def pixels(self) -> int:
        """Of all its images."""
        return sum(
            image.grey.size if isinstance(image, DecodedImage) else sum(part.size for part in image.slices)
            for image in self.images.values()
        )


def read_study_files(study: Study, read: Reader = read_files) -> StudyRead:
    """A study's files; what goes wrong is its error."""
    began = time.perf_counter()
    images: Mapping[Modality, DecodedImage | CtScan] = {}
    error = study.error
    if not error:
        try:
            images = read(study.files)
        except Exception as failure:  # one study must not end the run
            error = explain_failure(failure)
    return StudyRead(study, images, error, time.perf_counter() - began)


def answer_read_studies(predictor: BatchAnswerer, studies: Sequence[StudyRead]) -> list[Row]:
    """One row per study, in order; those that were read go through the network together.

    Where that fails, each is answered alone, so that the one at fault is a row of its own.

    Raises:
        CheckpointError: the network cannot answer anything.
    """
    began = time.perf_counter()
    good = [one for one in studies if not one.error]
    try:
        answers: list[Prediction | str] = list(predictor.predict_batch([one.images for one in good]))
    except CheckpointError:
        raise
    except Exception:
        answers = [_answer_alone(predictor, one) for one in good]
    each = (time.perf_counter() - began) / max(1, len(good))
    by_study = dict(zip(map(id, good), answers, strict=True))
    rows = []
    for one in studies:
        answer = by_study.get(id(one), one.error)
        prediction, error = (None, answer) if isinstance(answer, str) else (answer, "")
        seconds = one.seconds + (0.0 if one.error else each)
        study = one.study
        rows.append(Row(study.name, prediction, error, predictor.info, seconds, study.truth, study.patient))
    return rows


def _answer_alone(predictor: BatchAnswerer, one: StudyRead) -> Prediction | str:
    """Its answer, or why there is none."""
    try:
        return predictor.predict_images(one.images)
    except Exception as failure:
        return explain_failure(failure)


def answer_in_batches(
    predictor: BatchAnswerer,
    studies: Iterable[Study],
    *,
    readers: WorkerPool | None = None,
    size: int = BATCH,
    at_once: int = 1,
) -> Iterator[Row]:
    """One row per study, in order, as `answer_studies` gives them; up to `size` are answered together.

    readers: the processes that decode; `READERS` without. at_once: batches, each in a thread of its own.

    Raises:
        CheckpointError: the network cannot answer anything.
    """
    pool = READERS if readers is None else readers
    with (
        ReadAhead(studies, partial(read_files, run=pool.run), pool.size) as reading,
        ThreadPoolExecutor(at_once, thread_name_prefix="answer") as answering,
    ):
        under_way: deque[Future[list[Row]]] = deque()
        for batch in _gather(reading, size):
            if len(under_way) == at_once:
                yield from under_way.popleft().result()
            under_way.append(answering.submit(answer_read_studies, predictor, batch))
        while under_way:
            yield from under_way.popleft().result()


def _gather(reading: Iterable[StudyRead], size: int) -> Iterator[list[StudyRead]]:
    """Batches of up to `size` studies and not many more than `PIXELS_AHEAD` pixels."""
    batch: list[StudyRead] = []
    pixels = 0
    for one in reading:
        batch.append(one)
        pixels += one.pixels
        if len(batch) == size or pixels > PIXELS_AHEAD:
            yield batch
            batch, pixels = [], 0
    if batch:
        yield batch


class ReadAhead:
    """Studies in order, each read by one of a few threads before it is asked for.

    Use it as a context manager and iterate once. At most `AHEAD` studies wait, and of `PIXELS_AHEAD` pixels
    together, one per thread beyond that.
    """

    def __init__(self, studies: Iterable[Study], read: Reader, threads: int) -> None:
        """read: a study's files; it runs in `threads` threads."""
        self._studies = enumerate(studies)
        self._read = read
        self._threads = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="read-ahead")
        self._changed = threading.Condition()
        self.waiting = 0  # pixels of studies that were read and not taken yet
        self._next = 0  # number of the study that is taken next
        self._closed = False

    def __enter__(self) -> ReadAhead:
        return self

    def __exit__(self, *error: object) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._threads.shutdown(cancel_futures=True)

    def __iter__(self) -> Iterator[StudyRead]:
        """The studies; the next ones are read meanwhile."""
        futures: deque[Future[StudyRead]] = deque()
        ended = False
        while True:
            while not ended and len(futures) < AHEAD:
                number_and_study = next(self._studies, None)
                ended = number_and_study is None
                if number_and_study is not None:
                    futures.append(self._threads.submit(self._read_one, *number_and_study))
            if not futures:
                return
            one = futures.popleft().result()
            with self._changed:
                self._next += 1
                self.waiting -= one.pixels
                self._changed.notify_all()
            yield one

    def _read_one(self, number: int, study: Study) -> StudyRead:
        with self._changed:  # the one that is waited for never waits itself
            self._changed.wait_for(
                lambda: self._closed or number <= self._next or self.waiting <= PIXELS_AHEAD
            )
            if self._closed:
                return StudyRead(study, {}, "", 0.0)
        one = read_study_files(study, self._read)
        with self._changed:
            self.waiting += one.pixels
        return one


def count_readers() -> int:
    """Processes that read files: as many as this machine has processors, few."""
    return max(1, min(os.cpu_count() or 1, MAX_READERS))


READERS = WorkerPool(size=count_readers(), deadline=READING_SECONDS)  # started when first needed
