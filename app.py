"""Serves the page: `python app.py [--host H] [--port P] [--checkpoint DIR]`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import covid_mm
from covid_mm.config import DEFAULT_PAIR
from covid_mm.serving.metadata import read_metadata
from covid_mm.ui.server import ServerSettings, serve


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, build, launch; the exit code."""
    hosted = "SPACE_ID" in os.environ  # a Hugging Face Space must be reachable from outside
    default = Path(__file__).with_name("checkpoints") / DEFAULT_PAIR
    parser = argparse.ArgumentParser(description="Serve the page. Research use only, not for diagnosis.")
    parser.add_argument("--host", default="0.0.0.0" if hosted else "127.0.0.1", help="address (%(default)s)")
    parser.add_argument("--port", type=int, default=7860, help="TCP port (%(default)s)")
    parser.add_argument("--checkpoint", type=Path, default=default, help="its folder (the default pair)")
    options = parser.parse_args(arguments)
    try:
        read_metadata(options.checkpoint)  # what is missing is said at once, before a page opens
        settings = ServerSettings(host=options.host, port=options.port)
        return serve(settings, lambda: covid_mm.load_predictor(options.checkpoint))
    except covid_mm.CovidMMError as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
