"""One file per command: options, the call into the rooms, what is printed."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser
from collections.abc import Callable

from covid_mm.config import RUNTIMES
from covid_mm.errors import CovidMMError
from covid_mm.models.tensorflow_library import LibraryUnavailable, silence_library, start_library

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
    with silence_library():
        import keras  # noqa: F401
        import tensorflow

        # its warnings here are about retracing: each part of a network is traced once, on purpose
        tensorflow.get_logger().setLevel("ERROR")


def load_runtime(name: str) -> None:
    """Load what runs the networks, one of RUNTIMES, without the lines that TensorFlow prints at start.

    NumPy and OpenCV are held to one thread each, see `limit_threads`.
    """
    from covid_mm.serving.runtimes import limit_threads

    limit_threads()
    if name == "tensorflow":
        try:
            with silence_library():
                start_library()
        except LibraryUnavailable:
            name = "keras"
    if name == "keras":
        load_tensorflow()


def add_network_arguments(parser: ArgumentParser) -> None:
    """Which network answers, and what runs it."""
    parser.add_argument("--checkpoint", metavar="DIR", help="checkpoint folder (default: the default pair's)")
    parser.add_argument(
        "--runtime",
        choices=RUNTIMES,
        default=RUNTIMES[0],
        help="what runs the network; onnx after `python -m covid_mm export` (default: %(default)s)",
    )
