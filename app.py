"""Serves the page: `python app.py [--host H] [--port P] [--checkpoint DIR]`, see --help."""

from __future__ import annotations

import sys

from covid_mm.ui.app import main

if __name__ == "__main__":
    sys.exit(main())
