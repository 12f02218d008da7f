"""Answer many studies: a manifest, a folder or a ZIP in, a CSV out; goes on where it stopped.

Where the manifest has labels, the answers are measured against them and set beside the left-out figures.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from covid_mm.commands import add_network_arguments, load_tensorflow
from covid_mm.config import CLASSES, MODALITIES, POSITIVE, ImageLimits
from covid_mm.errors import DataError, UsageError
from covid_mm.evaluation.local_test import FUSED, NO_LABEL, LabelledStudy, measure_local_test
from covid_mm.files import write_atomically
from covid_mm.reporting.local_test import describe_json, draw_local_test, format_local_test
from covid_mm.serving.archive import ArchiveLimits, is_archive, open_archive
from covid_mm.serving.batch import ResultFile, neutralise_cell, read_rows
from covid_mm.serving.manifest import Entry, open_manifest
from covid_mm.serving.pairing import (
    RULE,
    LeftOut,
    Study,
    clean_name,
    list_folder,
    make_study,
    on_disk,
    pair_files,
)
from covid_mm.serving.prediction import UNDETERMINED, CheckpointInfo
from covid_mm.serving.study_batches import BatchAnswerer, answer_in_batches

INTERRUPTED = 130  # the shell's exit code for Ctrl-C
# one's own archive may be larger than a stranger's on a page
LIMITS = ArchiveLimits(max_bytes=2**40, max_members=200_000, max_total=2**42)
# a file may be a whole scan; who decodes one image has its own limit
FILE_LIMITS = ImageLimits(max_bytes=ImageLimits().max_series_bytes)
REPORT_ENDINGS = (".json", ".pdf")
SHOWN = 3  # file names in a message


@dataclass(frozen=True)
class Work:
    """What a run has before it. studies: gives them anew; total: how many."""

    studies: Callable[[], Iterator[Study]]
    total: int
    left_out: tuple[LeftOut, ...] = ()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `batch`."""
    parser.add_argument(
        "manifest",
        metavar="MANIFEST.csv",
        help="CSV with the columns study, ct, xray (a path may be empty; paths count from the CSV's folder; ct may be a"
        " whole scan: a folder or ZIP of DICOM files, a multi-frame file, .nii or .nii.gz);"
        f" or a folder or ZIP, where {RULE.split('. ')[0]}",
    )
    parser.add_argument(
        "--output",
        metavar="OUT.csv",
        required=True,
        help="the answers, a row per study; appended to on a new start. reason says why a label is undetermined;"
        " evidence_auc, _sensitivity and _specificity are those of such answers on collections left out of training",
    )
    add_network_arguments(parser)
    parser.add_argument(
        "--report",
        metavar="FILE",
        action="append",
        default=[],
        help="where the manifest has a column label (normal, covid19_pneumonia) and perhaps patient: write what the"
        " network is worth on these studies as .json or .pdf; may be given again. It is printed in any case",
    )
    parser.add_argument(
        "--retry", action="store_true", help="answer again the studies whose row in OUT.csv has an error"
    )


def run(options: argparse.Namespace) -> int:
    """Find the studies, answer those that are not in the output yet. Returns the exit code."""
    try:
        return _run(options)
    except KeyboardInterrupt:
        print("\nInterrupted before the first study; start the same command again.", file=sys.stderr)
        return INTERRUPTED


def _run(options: argparse.Namespace) -> int:
    source, output = Path(options.manifest), Path(options.output)
    if output.exists() and source.exists() and output.samefile(source):
        raise UsageError("--output names the manifest itself; name another file.")
    reports = [Path(name) for name in options.report]
    for path in reports:
        if path.suffix not in REPORT_ENDINGS:
            raise UsageError(f"--report {path} has an ending of {path.suffix!r}; expected .json or .pdf.")
    work = find_work(source)
    labelled = any(study.truth for study in work.studies())
    if reports and not labelled:
        raise UsageError(f"--report needs labels, but {source} has none. {NO_LABEL}")
    if work.left_out:
        names = ", ".join(one.name for one in work.left_out[:SHOWN])
        more = ", ..." if len(work.left_out) > SHOWN else ""
        print(f"left out ({len(work.left_out)}), as they belong to no study: {names}{more}", file=sys.stderr)
    if options.runtime == "tensorflow":
        load_tensorflow()
    from covid_mm.serving.predictor import load_predictor

    predictor = load_predictor(options.checkpoint, runtime=options.runtime)
    code = answer(predictor, work, output, retry=options.retry)
    if labelled and code == 0:
        report_labels(predictor.meta, predictor.info, work, output, reports)
    return code


def report_labels(
    meta: Mapping[str, Any], info: CheckpointInfo, work: Work, output: Path, reports: Sequence[Path]
) -> None:
    """Measure the answers in the output against the studies' labels, print that, and write it to files."""
    answers = {row["study"]: row for row in read_rows(output)}
    names = ((study, answers.get(neutralise_cell(study.name))) for study in work.studies() if study.truth)
    test = measure_local_test(
        [take_row(study, row) for study, row in names if row],
        meta,
        checkpoint=info.name,
        sha256=info.sha256,
        date=datetime.now(UTC),
    )
    print(format_local_test(test))
    for path in reports:
        pdf = path.suffix == ".pdf"
        content = draw_local_test(test) if pdf else json.dumps(describe_json(test), indent=2).encode()
        try:
            write_atomically(path, content)
        except OSError as error:
            raise UsageError(f"--report {path} cannot be written: {error.strerror}.") from error


def take_row(study: Study, row: Mapping[str, str]) -> LabelledStudy:
    """A study's labels with its row of the output."""
    alone = {m: float(row[f"{m}_probability"]) for m in MODALITIES if row.get(f"{m}_probability")}
    answered = row[f"probability_{CLASSES[POSITIVE]}"]
    fused = {FUSED: float(answered)} if answered and len(alone) > 1 else {}
    undetermined = frozenset(fused) if row["label"] == UNDETERMINED else frozenset()
    return LabelledStudy(
        truth=study.truth,
        patient=study.patient,
        probabilities=fused | alone,
        undetermined=undetermined,
        failed=bool(row["error"]),
    )


def answer(predictor: BatchAnswerer, work: Work, output: Path, *, retry: bool = False) -> int:
    """Append a row for each study that has none; the bar and the last line go to standard error."""
    from tqdm import tqdm

    failed = 0
    with ResultFile(output, predictor.info, retry=retry) as file:
        if file.done:
            print(f"{file.done} rows are in {output} already; going on with the rest", file=sys.stderr)
        bar = tqdm(
            total=work.total, unit="study", file=sys.stderr, mininterval=0.5 if sys.stderr.isatty() else 60
        )
        with bar:

            def remaining() -> Iterator[Study]:
                for study in work.studies():
                    if file.is_done(study):
                        bar.update()
                    else:
                        yield study

            try:
                for row in answer_in_batches(predictor, remaining()):
                    file.append(row)
                    failed += bool(row.error)
                    bar.set_postfix(errors=failed, refresh=False)
                    bar.update()
            except KeyboardInterrupt:
                bar.close()
                print(
                    f"\nInterrupted. {bar.n} of {work.total} studies are in {output}; start the same command again"
                    " to go on.",
                    file=sys.stderr,
                )
                return INTERRUPTED
    labels = [row["label"] for row in read_rows(output)]
    undetermined, without = labels.count(UNDETERMINED), labels.count("")
    print(
        f"{work.total} studies in {output}: {len(labels) - undetermined - without} answered,"
        f" {undetermined} undetermined, {without} failed",
        file=sys.stderr,
    )
    return 0


def find_work(source: Path) -> Work:
    """The studies that a manifest, a folder or a ZIP names.

    Raises:
        DataError: there is none, or it cannot be read.
    """
    if source.is_dir() or is_archive(source):
        left_out: tuple[LeftOut, ...] = ()
        if source.is_dir():
            files = list_folder(source, FILE_LIMITS)
        else:
            archive = open_archive(source, LIMITS, FILE_LIMITS)
            files, left_out = list(archive.images), archive.left_out
        found = pair_files(files)
        if not found.studies:
            raise DataError(f"There is no study in {source}. Expected: {RULE}")
        return Work(lambda: iter(found.studies), len(found.studies), (*left_out, *found.left_out))
    if not source.is_file():
        raise DataError(f"{source} is not there; name a CSV manifest, a folder or a ZIP.")
    manifest = open_manifest(
        partial(_open_bytes, source), clean_name(source.name), source.resolve().parent.name
    )
    return Work(lambda: read_studies(iter(manifest), source.parent), manifest.studies)


def _open_bytes(path: Path) -> BinaryIO:
    return open(path, "rb")


def read_studies(entries: Iterator[Entry], folder: Path) -> Iterator[Study]:
    """The studies of a manifest one by one; a name that comes again is an error of its later line."""
    seen: set[str] = set()
    for entry in entries:
        if entry.error:
            yield Study(entry.study, {}, error=entry.error)
        elif entry.study in seen:
            yield Study(
                entry.study,
                {},
                error="This study is in the manifest more than once; only its first line is answered.",
            )
        else:
            files = {m: [on_disk(name, folder / name, FILE_LIMITS)] for m, name in entry.files.items()}
            yield replace(make_study(entry.study, files), truth=entry.truth, patient=entry.patient)
        seen.add(entry.study)
