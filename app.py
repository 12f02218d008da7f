"""Serves the page: `python app.py [--host H] [--port P] [--checkpoint DIR]`, see --help."""

from __future__ import annotations

from covid_mm.ui.app import run

if __name__ == "__main__":
    run()
