"""Serves the page; the command `covid-mm-app`, and what app.py of the repository calls."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NoReturn, cast

import covid_mm
from covid_mm.models.tensorflow_library import LibraryUnavailable, load_library, silence_library
from covid_mm.serving.graph_functions import is_quick
from covid_mm.serving.metadata import read_metadata
from covid_mm.serving.runtimes import limit_threads
from covid_mm.ui.predictors import StudyPredictor
from covid_mm.ui.server.launch import serve
from covid_mm.ui.server.settings import read_settings


def load_checkpoint(path: Path, runtime: str) -> StudyPredictor:
    """The predictor; only here is what runs the network loaded."""
    # the page names each keyword that it passes; the protocol takes any
    return cast(StudyPredictor, covid_mm.load_predictor(path, runtime=runtime))


def preload_library() -> None:
    """Load TensorFlow's library, for whoever needs it next; that says what goes wrong."""
    with suppress(LibraryUnavailable), silence_library():
        load_library()


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, build, launch; the exit code."""
    try:
        settings, checkpoints = read_settings(arguments)
        metas = [read_metadata(path) for path in checkpoints]  # what is missing is said at once
        loads = {
            meta.name: partial(load_checkpoint, path, settings.runtime)
            for meta, path in zip(metas, checkpoints, strict=True)
        }
        quick = settings.runtime == "tensorflow" and is_quick(metas[0])
        raws = {meta.name: meta.raw for meta in metas}
        limit_threads()
        return serve(settings, loads, raws, preload=preload_library if quick else None)
    except covid_mm.CovidMMError as error:
        print(error, file=sys.stderr)
        return 2


def leave(code: int) -> NoReturn:
    """End the process at once: taking down libraries whose threads are still at work, as they are where it is
    stopped while the network loads, can abort it or hang."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def run() -> NoReturn:
    """`main` as a program."""
    leave(main())


if __name__ == "__main__":
    run()
