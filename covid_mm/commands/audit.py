"""Report what flatters a split or misleads training: copies and shared patients, sources that give the class away."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from covid_mm.config import MODALITIES, DataConfig
from covid_mm.datasets import SplitAudit, audit_split, find_datasets, load_images, split_dataset
from covid_mm.datasets.collection_audit import check_data
from covid_mm.datasets.collections import read_collections
from covid_mm.errors import DataError
from covid_mm.reporting.data_check import describe_audits, describe_split


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `audit`."""
    parser.add_argument("--data", metavar="DIR", required=True, help="folder with data sets, as for train.py")
    parser.add_argument("--split", choices=("paper", "grouped"), default="paper", help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--json", action="store_true", help="print one JSON object with every finding")


def run(options: argparse.Namespace) -> int:
    """Audit each modality's split, and the collections where there are any beside those; print.

    Returns the exit code.
    """
    root = Path(options.data)
    if not root.is_dir():
        raise DataError(
            f"--data {root} is not a folder; name the folder that holds the data sets (see README)."
        )
    config = DataConfig(split=options.split, seed=options.seed)
    readings = read_collections(root)
    has_manifests = any(not one.is_layout and not one.skipped for one in readings)
    has_layouts = any(one.is_layout for one in readings)
    audits: dict[str, SplitAudit] = {}
    datasets = find_datasets(root, config) if has_layouts or not has_manifests else {}
    for modality, dataset in datasets.items():
        images = load_images(dataset.records)
        split = split_dataset(dataset, config, images)
        row_of = {record.name: row for row, record in enumerate(dataset.records)}
        train, validation = (
            images[[row_of[record.name] for record in side]] for side in (split.train, split.validation)
        )
        audits[modality] = audit_split(split, train, validation, modality)
    content = {modality: audit.to_dict() for modality, audit in audits.items()}
    parts = [describe_split(MODALITIES[m].title, audit, options.split) for m, audit in audits.items()]
    if has_manifests:
        check = check_data(readings)
        if check.problems:
            raise DataError(
                f"{len(check.problems)} problems in the collections of {root}; python -m covid_mm check-data names"
                " them: repair those first."
            )
        content["collections"] = check.to_dict()["audit"]
        parts.append(describe_audits(check.audits))
    print(json.dumps(content, indent=2) if options.json else "\n\n".join(parts))
    return 0
