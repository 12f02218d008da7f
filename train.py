"""Train the networks that app.py serves: `python train.py --data DIR` (see --help)."""

from __future__ import annotations

import sys

from covid_mm.commands import exit_with
from covid_mm.commands.train import run

if __name__ == "__main__":
    sys.exit(exit_with(run))
