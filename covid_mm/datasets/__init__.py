"""From folders of images to records, splits and pairs.

    index.py        records, data sets, natural order, seeded choices
    finding.py      which data sets lie under a folder
    sarscov2.py     the SARS-CoV-2 CT-scan data set, the paper's CT source
    coronahack.py   the CoronaHack chest X-ray data set, the paper's X-ray source
    collections.py  all collections under a folder, to train on or to leave out; groups of scanners
    manifest.py     a collection's manifest.csv, and what is wrong in its rows
    siim.py         SIIM-FISABIO-RSNA COVID-19, as Kaggle packs it
    folders.py      plain ct/ and xray/ folders, and class folders to measure on
    similarity.py   how alike two images are
    grouping.py     which images must stay on one side of a split
    split.py        training and validation: the paper's protocol and the grouped one
    audit.py        copies and patients on both sides, sources that give the class away
    collection_audit.py  the same of collections, and every image read once
    pairs.py        CT and X-ray paired within a class
    store.py        decoded images in memory and on disk

Synthetic phantoms are in `phantoms.py`.
"""

from __future__ import annotations

from covid_mm.datasets.audit import SplitAudit, audit_split
from covid_mm.datasets.collections import find_collections, find_external, site_groups
from covid_mm.datasets.finding import find_datasets
from covid_mm.datasets.folders import find_class_folders
from covid_mm.datasets.grouping import group_records
from covid_mm.datasets.index import Collection, CollectionImage, Dataset, ImageRecord
from covid_mm.datasets.pairs import training_pairs, validation_pairs
from covid_mm.datasets.split import Split, load_split, save_split, split_dataset
from covid_mm.datasets.store import check_readable, load_images

__all__ = [
    "Collection",
    "CollectionImage",
    "Dataset",
    "ImageRecord",
    "Split",
    "SplitAudit",
    "audit_split",
    "check_readable",
    "find_class_folders",
    "find_collections",
    "find_datasets",
    "find_external",
    "group_records",
    "load_images",
    "load_split",
    "save_split",
    "site_groups",
    "split_dataset",
    "training_pairs",
    "validation_pairs",
]
