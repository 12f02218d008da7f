"""Answer many studies: a manifest, a folder or a ZIP in, a CSV out; goes on where it stopped."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

from covid_mm.commands import load_tensorflow
from covid_mm.config import ImageLimits
from covid_mm.errors import DataError, UsageError
from covid_mm.serving.archive import ArchiveLimits, is_archive, open_archive
from covid_mm.serving.batch import ResultFile, StudyAnswerer, answer_studies
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

INTERRUPTED = 130  # the shell's exit code for Ctrl-C
# one's own archive may be larger than a stranger's on a page
LIMITS = ArchiveLimits(max_bytes=2**40, max_members=200_000, max_total=2**42)
# a file may be a whole scan; who decodes one image has its own limit
FILE_LIMITS = ImageLimits(max_bytes=ImageLimits().max_series_bytes)
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
        help="the answers, a row a study; appended to on a new start. reason says why a label is undetermined;"
        " evidence_auc, _sensitivity and _specificity are those of such answers on collections left out of training",
    )
    parser.add_argument("--checkpoint", metavar="DIR", help="checkpoint folder (default: the default pair's)")
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
    work = find_work(source)
    if work.left_out:
        names = ", ".join(one.name for one in work.left_out[:SHOWN])
        more = ", ..." if len(work.left_out) > SHOWN else ""
        print(f"left out ({len(work.left_out)}), as they belong to no study: {names}{more}", file=sys.stderr)
    load_tensorflow()
    from covid_mm.serving.predictor import load_predictor

    return answer(load_predictor(options.checkpoint), work, output, retry=options.retry)


def answer(predictor: StudyAnswerer, work: Work, output: Path, *, retry: bool = False) -> int:
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
                for row in answer_studies(predictor, remaining()):
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
    print(f"{work.total} studies in {output}, {failed} of this run with an error", file=sys.stderr)
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
