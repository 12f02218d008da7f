"""List the collections in a folder, what is wrong with them row by row, and what could mislead a network."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from covid_mm.commands import USER_ERROR
from covid_mm.datasets.collection_audit import (
    check_data,
)
from covid_mm.datasets.collections import read_collections
from covid_mm.errors import DataError
from covid_mm.reporting.data_check import describe_check


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `check-data`."""
    parser.add_argument("data", metavar="DIR", help="folder with collections (docs/data.md), or one of them")
    parser.add_argument("--json", action="store_true", help="print one JSON object with every finding")


def run(options: argparse.Namespace) -> int:
    """Check and print. Returns 0, or 2 where something is wrong."""
    check = check_data(read_collections(Path(options.data)))
    if not check.collections and not check.problems:
        reasons = "".join(f"\n  {file}: {reason}" for file, reason in check.skipped)
        raise DataError(
            f"No collection was found in {options.data}: expected folders with a manifest.csv, or one of the layouts"
            f" in docs/data.md.{reasons}"
        )
    print(json.dumps(check.to_dict(), indent=2) if options.json else describe_check(check))
    return USER_ERROR if check.problems else 0
