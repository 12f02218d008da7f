"""One file per command: options, the call into the rooms, what is printed."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from covid_mm.config import RUNTIMES
from covid_mm.errors import CovidMMError

USER_ERROR = 2


def exit_with(command: Callable[[], int]) -> int:
    """Run a command; what the user can mend becomes one sentence on standard error and exit code 2."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow's start-up chatter hides real messages
    try:
        return command()
    except CovidMMError as error:
        print(f"error: {error}", file=sys.stderr)
        return USER_ERROR


def load_tensorflow() -> None:
    """Import TensorFlow and Keras without the lines that TensorFlow prints at start; a failing import still raises."""
    with silent_stderr():
        import keras  # noqa: F401
        import tensorflow

        # its warnings here are about retracing: each part of a network is traced once, on purpose
        tensorflow.get_logger().setLevel("ERROR")


def load_runtime(name: str) -> None:
    """Load what runs the networks, one of RUNTIMES, without the lines that TensorFlow prints at start."""
    from covid_mm.models.tensorflow_library import LibraryUnavailable, start_library

    if name == "tensorflow":
        try:
            with silent_stderr():
                start_library()
        except LibraryUnavailable:
            name = "keras"
    if name == "keras":
        load_tensorflow()


@contextmanager
def silent_stderr() -> Iterator[None]:
    """Nothing is printed on standard error, not by libraries either.

    TensorFlow's lines come from C++ straight to file descriptor 2, whatever its log level, so that is where they are
    caught.
    """
    sys.stderr.flush()
    original = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(original, 2)
        os.close(original)
        os.close(nowhere)


def add_network_arguments(parser: ArgumentParser) -> None:
    """Which network answers, and what runs it."""
    parser.add_argument("--checkpoint", metavar="DIR", help="checkpoint folder (default: the default pair's)")
    parser.add_argument(
        "--runtime",
        choices=RUNTIMES,
        default=RUNTIMES[0],
        help="what runs the network; onnx after `python -m covid_mm export` (default: %(default)s)",
    )
