"""Serves the page: `python app.py [--host H] [--port P] [--checkpoint DIR]`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from covid_mm.serving.predictor import load_predictor
from covid_mm.ui.server import ServerSettings, run


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, build, launch; the exit code."""
    hosted = "SPACE_ID" in os.environ  # a Hugging Face Space must be reachable from outside
    parser = argparse.ArgumentParser(description="Serve the page. Research use only, not for diagnosis.")
    parser.add_argument("--host", default="0.0.0.0" if hosted else "127.0.0.1", help="address (%(default)s)")
    parser.add_argument("--port", type=int, default=7860, help="TCP port (%(default)s)")
    parser.add_argument("--checkpoint", type=Path, help="folder with weights and meta.json (the default pair)")
    options = parser.parse_args(arguments)
    settings = ServerSettings(host=options.host, port=options.port)
    return run(settings, lambda: load_predictor(options.checkpoint))


if __name__ == "__main__":
    sys.exit(main())
