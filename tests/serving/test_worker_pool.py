"""Work in processes beside this one: what comes back, what doesn't, and that nothing holds up the next."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import threading
import time

import numpy as np
import pytest

from covid_mm.errors import ImageError, UsageError
from covid_mm.imaging import DecodedImage, ImageHeader, decode_image
from covid_mm.serving.worker_pool import WorkerPool

PATIENT = 120.0  # seconds; a busy machine starts a process slowly


def refuse(words: str) -> None:
    raise UsageError(words)


def fail() -> None:
    raise KeyError("unforeseen")


def take_all_memory() -> int:
    return len(bytearray(1 << 42))


@pytest.fixture
def pool():
    made = WorkerPool(1, PATIENT)
    yield made
    made.close()


def test_a_process_that_cannot_start_says_why(pool, monkeypatch):
    """As in a script without `if __name__ == "__main__"`, where Python refuses to start one."""
    start = multiprocessing.context.SpawnProcess.start

    def refuse_to_start(process) -> None:
        raise RuntimeError("not yet")

    monkeypatch.setattr(multiprocessing.context.SpawnProcess, "start", refuse_to_start)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="not yet"):
            pool.run(os.getpid)
    monkeypatch.setattr(multiprocessing.context.SpawnProcess, "start", start)
    assert pool.run(os.getpid) != os.getpid()


def test_results_come_back_as_they_are_from_another_process(pool):
    assert pool.run(os.getpid) != os.getpid()
    grey = np.random.default_rng(0).random((300, 200)).astype(np.float32)
    header = ImageHeader("ct", None, (), (0.5, 0.5), 3)
    result = pool.run(decode_image, DecodedImage(grey, header))
    np.testing.assert_array_equal(result.grey, grey)
    assert result.header == header
    result.grey[0] = 0.0  # not a view of something that must not change


@pytest.mark.parametrize(
    "greys", [np.arange(6.0), np.array([0.0, 255.0, 256.0]), np.array([-1.0, np.nan, 0.5])]
)
def test_greys_that_are_whole_travel_in_a_quarter_of_the_bytes(greys):
    image = DecodedImage(np.tile(greys.astype(np.float32), (40, 1)))
    sent = pickle.dumps(image, protocol=5)
    whole = greys.size == 6
    assert (len(sent) < image.grey.nbytes // 2) == whole
    assert pickle.loads(sent).grey.dtype == np.float32
    np.testing.assert_array_equal(pickle.loads(sent).grey, image.grey)


def test_a_refusal_is_the_same_sentence_and_anything_else_is_a_bug(pool):
    with pytest.raises(UsageError, match=r"^As told\.$"):
        pool.run(refuse, "As told.")
    with pytest.raises(ImageError, match="empty"):
        pool.run(decode_image, b"")
    process = pool.run(os.getpid)
    with pytest.raises(RuntimeError, match="unforeseen"):
        pool.run(fail)
    assert pool.run(os.getpid) == process


def test_what_takes_too_long_is_ended_and_the_next_is_served(pool):
    process = pool.run(os.getpid)
    pool.deadline = 0.5
    with pytest.raises(ImageError, match=r"longer than 0\.5 s"):
        pool.run(time.sleep, 600)
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
    pool.deadline = PATIENT
    assert pool.run(os.getpid) != process


def test_a_process_that_dies_is_a_refusal_and_is_replaced(pool):
    process = pool.run(os.getpid)
    with pytest.raises(ImageError, match="too much memory, or is damaged"):
        pool.run(os._exit, 1)
    assert pool.run(os.getpid) != process
    with pytest.raises(ImageError, match="too much memory"):
        pool.run(take_all_memory)
    assert pool.run(int, "7") == 7


def test_no_more_run_at_once_than_there_are_and_the_others_wait_in_time(pool):
    pool.run(os.getpid)
    busy = threading.Thread(target=lambda: pool.run(time.sleep, 3))
    busy.start()
    while pool.idle:
        time.sleep(0.01)
    pool.deadline = 0.2
    with pytest.raises(ImageError, match="busy reading other images"):
        pool.run(os.getpid)
    busy.join()
    pool.deadline = PATIENT
    assert pool.run(int, "7") == 7


def test_its_processes_end_with_it():
    pool = WorkerPool(1, PATIENT)
    process = pool.run(os.getpid)
    pool.close()
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
