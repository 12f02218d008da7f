"""Work on strangers' files in processes beside this one: few, with a deadline, and none of it can hold the rest up.

A decoder that is busy holds Python's lock and can't be stopped from a thread; a process can.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import pickle
import queue
import signal
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import ParamSpec, TypeVar

from covid_mm.errors import CovidMMError, ImageError

try:
    import resource
except ImportError:  # Windows: a worker's memory has no limit there
    resource = None  # type: ignore[assignment]

_P = ParamSpec("_P")
_R = TypeVar("_R")
_MEMORY = 3 * 1024**3  # bytes of address space per worker; most of it is libraries' and never touched
_DONE, _REFUSED, _BROKEN = "done", "refused", "broken"


class WorkerPool:
    """Runs functions in at most `size` processes, each started when first needed.

    Args:
        size: processes.
        deadline: seconds that one call may wait for a process, and then take in it.
    """

    def __init__(self, size: int, deadline: float) -> None:
        self.size = size
        self.deadline = deadline
        self._idle: queue.LifoQueue[_Worker] = queue.LifoQueue()
        for _ in range(size):
            self._idle.put(_Worker())

    def run(self, function: Callable[_P, _R], *arguments: _P.args, **options: _P.kwargs) -> _R:
        """What `function` returns; it, its arguments and its result must be such as can be pickled.

        Raises:
            ImageError: no process was free in time, or it did not finish in time or at all.
            CovidMMError: what the function raises.
            RuntimeError: it raised anything else; the traceback is in the text.
        """
        try:
            worker = self._idle.get(timeout=self.deadline)
        except queue.Empty as error:
            raise ImageError("The server is busy reading other images; try again in a minute.") from error
        try:
            return worker.run(self.deadline, function, arguments, options)  # type: ignore[return-value]
        finally:
            self._idle.put(worker)

    @property
    def idle(self) -> int:
        """How many processes are not at work."""
        return self._idle.qsize()

    def close(self) -> None:
        """End the processes that are not at work; later calls start them again."""
        workers = []
        with contextlib.suppress(queue.Empty):
            while True:
                workers.append(self._idle.get_nowait())
        for worker in workers:
            worker.stop()
            self._idle.put(worker)


class _Worker:
    """One process, started again where it ended."""

    def __init__(self) -> None:
        self._process: multiprocessing.process.BaseProcess | None = None
        self._connection: Connection | None = None

    def run(
        self,
        deadline: float,
        function: Callable[..., object],
        arguments: tuple[object, ...],
        options: dict[str, object],
    ) -> object:
        try:
            connection = self._start()
            connection.send((function, arguments, options))
            if not connection.poll(deadline):
                raise ImageError(
                    "The image took longer than {seconds} s to read; save it anew as a plain JPEG or PNG.",
                    seconds=f"{deadline:g}",
                )
            outcome, result = _receive(connection)
        except (EOFError, BrokenPipeError, ConnectionResetError) as error:
            self.stop()
            raise ImageError(
                "The image could not be read: it needs too much memory, or is damaged; save it anew as a"
                " plain"
                " JPEG or PNG."
            ) from error
        except BaseException:  # an answer that was not waited for must not meet the next question
            self.stop()
            raise
        if outcome == _REFUSED:
            assert isinstance(result, CovidMMError)
            raise result
        if outcome == _BROKEN:
            raise RuntimeError(f"A worker process failed.\n{result}")
        return result

    def _start(self) -> Connection:
        if self._process is None or self._connection is None or not self._process.is_alive():
            self.stop()
            # forking would copy the locks of TensorFlow's threads
            context = multiprocessing.get_context("spawn")
            self._connection, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs,), name="image-reader", daemon=True)
            process.start()
            self._process = process  # now, or there would be nothing that could be stopped
            theirs.close()  # or its end would not be noticed
        return self._connection

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
        if self._connection is not None:
            self._connection.close()
        self._process = self._connection = None


def _work(connection: Connection) -> None:
    """A worker's whole life: call after call until the pool's process is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the pool's process, which ends this one
    if resource is not None:
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    while True:
        try:
            function, arguments, options = connection.recv()
        except EOFError:
            return
        outcome: tuple[str, object]
        try:
            outcome = _DONE, function(*arguments, **options)
        except CovidMMError as error:
            outcome = _REFUSED, error
        except MemoryError:
            return  # what is left of the memory may not suffice for the next call
        except Exception:
            outcome = _BROKEN, traceback.format_exc()
        _send(connection, outcome)


def _send(connection: Connection, message: object) -> None:
    """An object with its arrays behind it, which are so not copied into the pickle."""
    arrays: list[pickle.PickleBuffer] = []
    head = pickle.dumps(message, protocol=5, buffer_callback=arrays.append)
    connection.send((head, len(arrays)))
    for array in arrays:
        connection.send_bytes(array.raw())


def _receive(connection: Connection) -> tuple[str, object]:
    head, count = connection.recv()
    arrays = [bytearray(connection.recv_bytes()) for _ in range(count)]
    outcome: tuple[str, object] = pickle.loads(head, buffers=arrays)
    return outcome
