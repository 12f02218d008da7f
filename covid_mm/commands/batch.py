"""Answer many studies: a manifest, a folder or a ZIP in, a CSV out; goes on where it stopped.

Where the manifest has labels, the answers are measured against them and set beside the left-out figures.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from covid_mm.commands import add_network_arguments, load_runtime
from covid_mm.config import CLASSES, DEFAULT_CHECKPOINT, MODALITIES, POSITIVE
from covid_mm.errors import UsageError
from covid_mm.evaluation.local_test import FUSED, NO_LABEL, LabelledStudy, measure_local_test
from covid_mm.files import write_atomically
from covid_mm.reporting.local_test import describe_json, draw_local_test, format_local_test
from covid_mm.serving.batch import ResultFile, neutralise_cell, read_rows
from covid_mm.serving.metadata import read_metadata
from covid_mm.serving.pairing import RULE, Study
from covid_mm.serving.prediction import UNDETERMINED, CheckpointInfo
from covid_mm.serving.predictor import Predictor, load_predictor
from covid_mm.serving.runtimes import count_batches
from covid_mm.serving.study_batches import BatchAnswerer, answer_in_batches
from covid_mm.serving.study_source import EXTRA, StudySource, Work

INTERRUPTED = 130  # the shell's exit code for Ctrl-C
REPORT_ENDINGS = (".json", ".pdf")
SHOWN = 3  # file names in a message


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
        "--engine",
        choices=["ray"],
        help="answer on Ray, on this machine or a cluster (install covid-mm[ray]): MANIFEST may also be a URL of"
        " fsspec, or .parquet; OUT.parquet is written beside OUT.csv, both when all is done",
    )
    parser.add_argument(
        "--address", metavar="A", help="of a Ray cluster, or auto; without it one is started here"
    )
    parser.add_argument(
        "--networks",
        type=int,
        metavar="N",
        help="with --engine ray: networks at once (default: as many as fit)",
    )
    parser.add_argument(
        "--gpus-per-network",
        type=float,
        metavar="X",
        help="with --engine ray: share of a GPU for each network (default: 1 where there are any)",
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
    source, output = StudySource(options.manifest), Path(options.output)
    on_disk = not source.is_remote and source.path.exists()
    if on_disk and output.exists() and output.samefile(source.path):
        raise UsageError("--output names the manifest itself; name another file.")
    reports = [Path(name) for name in options.report]
    for path in reports:
        if path.suffix not in REPORT_ENDINGS:
            raise UsageError(f"--report {path} has an ending of {path.suffix!r}; expected .json or .pdf.")
    if options.engine is None and (source.is_remote or options.address is not None):
        raise UsageError("A URL, and --address, need --engine ray.")
    work = source.find_work()
    labelled = any(study.truth for study in work.studies())
    if reports and not labelled:
        raise UsageError(f"--report needs labels, but {source.address} has none. {NO_LABEL}")
    if work.left_out:
        names = ", ".join(one.name for one in work.left_out[:SHOWN])
        more = ", ..." if len(work.left_out) > SHOWN else ""
        print(f"left out ({len(work.left_out)}), as they belong to no study: {names}{more}", file=sys.stderr)
    if options.engine == "ray":
        meta = read_metadata(find_checkpoint(options))
        code = answer_on_cluster(source, work, output, meta.info, options)
        raw, info = meta.raw, meta.info
    else:
        predictor = load_answerer(find_checkpoint(options), options.runtime)
        at_once = count_batches(options.runtime)
        code = answer(predictor, work, output, retry=options.retry, at_once=at_once)
        raw, info = predictor.meta, predictor.info
    if labelled and code == 0:
        report_labels(raw, info, work, output, reports)
    return code


def find_checkpoint(options: argparse.Namespace) -> Path:
    """The checkpoint's folder, by its whole path."""
    return Path(options.checkpoint or DEFAULT_CHECKPOINT).absolute()


def load_answerer(checkpoint: Path, runtime: str) -> Predictor:
    """The network that answers, in whatever process."""
    load_runtime(runtime)
    return load_predictor(checkpoint, runtime=runtime)


def answer_on_cluster(
    source: StudySource, work: Work, output: Path, info: CheckpointInfo, options: argparse.Namespace
) -> int:
    """Answer on Ray what has no row yet, then write the output from all rows. Returns the exit code."""
    try:
        from covid_mm.serving.ray_batch import RaySettings, answer_on_ray
        from covid_mm.serving.result_shards import ShardFolder
    except ImportError as error:
        raise UsageError(
            f"--engine ray needs Ray, which is not installed ({error.name}); {EXTRA}."
        ) from error
    settings = RaySettings(options.address, options.networks, options.gpus_per_network)
    load = partial(load_answerer, find_checkpoint(options), options.runtime)
    where = source if source.is_remote else StudySource(str(source.path.absolute()))
    with ShardFolder(output, info, retry=options.retry) as shards:
        try:
            answered = answer_on_ray(where, work.studies(), load, shards, settings)
        except KeyboardInterrupt:
            print(
                f"\nInterrupted. What is done is in {shards.folder}; start the same command again to go on.",
                file=sys.stderr,
            )
            return INTERRUPTED
        labels = shards.commit(work.studies())
        print(f"{answered} studies were answered now, {work.total - answered} before", file=sys.stderr)
    print_counts(output, labels)
    return 0


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


def answer(
    predictor: BatchAnswerer, work: Work, output: Path, *, retry: bool = False, at_once: int = 1
) -> int:
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
                for row in answer_in_batches(predictor, remaining(), at_once=at_once):
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
    print_counts(output, Counter(row["label"] for row in read_rows(output)))
    return 0


def print_counts(output: Path, labels: Counter[str]) -> None:
    """The last line. labels: how many rows have which; an empty one where a study failed."""
    undetermined, without, total = labels[UNDETERMINED], labels[""], labels.total()
    print(
        f"{total} studies in {output}: {total - undetermined - without} answered,"
        f" {undetermined} undetermined, {without} failed",
        file=sys.stderr,
    )
