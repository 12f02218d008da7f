"""Many studies on many machines by Ray Data: CPU tasks read and decode, a pool of actors holds a network each.

Streaming, back-pressure by bytes, retries of lost workers and actors, and where what runs are Ray's own. Here is what
runs: a block of names becomes decoded images, those become rows, and rows shards (`serving.result_shards`).
"""

from __future__ import annotations

import logging
import os
import pickle
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import islice
from typing import Any

import pyarrow as pa
import ray
import ray.data
from ray.data.block import BlockAccessor

from covid_mm.config import MODALITIES
from covid_mm.errors import CovidMMError, UsageError
from covid_mm.serving.pairing import Study
from covid_mm.serving.predictor import BATCH, BATCH_PIXELS
from covid_mm.serving.result_shards import OCCURRENCE, ShardFolder, count_studies, make_table
from covid_mm.serving.scan_files import read_files
from covid_mm.serving.study_batches import (
    READING_SECONDS,
    BatchAnswerer,
    StudyRead,
    answer_read_studies,
    read_study_files,
)
from covid_mm.serving.study_source import StudySource
from covid_mm.serving.worker_pool import WorkerPool

BLOCK = 4 * BATCH  # studies that are read by one task
SHARD = 1000  # rows of a shard, at least, but the last
TRIES = 20  # of one task of a network whose process ends, before the run does: what is written stays
NETWORK_CPUS = 4  # processors that a network makes use of
READING_SHARE = 0.25  # of a cluster's processors, kept for reading

LoadAnswerer = Callable[[], BatchAnswerer]


@dataclass(frozen=True)
class RaySettings:
    """How a run is spread.

    address: of a cluster, `auto` for the one that this machine is of; None starts one on this machine.
    networks: at most so many at once; as many as fit where None. gpus: share of a GPU for each, 0 for none; None: one
    where the cluster has any. cpus: processors for each; None: `NETWORK_CPUS` less one, that reading leaves idle.
    shard: rows.
    """

    address: str | None = None
    networks: int | None = None
    gpus: float | None = None
    cpus: float | None = None
    shard: int = SHARD


def answer_on_ray(
    source: StudySource,
    studies: Iterable[Study],
    load: LoadAnswerer,
    shards: ShardFolder,
    settings: RaySettings,
) -> int:
    """Answer the studies that have no row yet, into shards. Gives how many those were.

    load: a network, in each actor.

    Raises:
        UsageError: there is no such cluster, or it has no room for a network. CovidMMError: no study can be answered.
    """
    done = shards.read_done()
    missing = ((key, study) for key, study in count_studies(studies) if key not in done)
    blocks = list(_list_blocks(missing))
    if not blocks:
        return 0
    ours = not ray.is_initialized()
    if ours:
        connect(settings.address)
    try:
        _run(blocks, source, load, shards, settings)
    except KeyboardInterrupt:
        raise
    except Exception as error:
        if (cause := _find_cause(error)) is not None:
            raise cause from None
        raise
    finally:
        if ours:
            ray.shutdown()
    return sum(block.num_rows for block in blocks)


def _run(
    blocks: list[pa.Table],
    source: StudySource,
    load: LoadAnswerer,
    shards: ShardFolder,
    settings: RaySettings,
) -> None:
    threads, cpus, gpus, most = _plan(settings)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = sys.stderr.isatty()
    context.print_on_execution_start = False
    context.raise_original_map_exception = True  # a sentence of ours, if it is one
    # nothing is lost by another order: rows carry their keys
    context.execution_options.preserve_order = False
    read = ray.data.from_arrow(blocks).map_batches(
        read_block, fn_kwargs={"source": source}, batch_size=None, batch_format="pyarrow", num_cpus=1
    )
    with warnings.catch_warnings():  # that Ray will have another name for a limit to tries
        warnings.simplefilter("ignore")
        answered = read.map_batches(
            AnswerBlocks,
            fn_constructor_kwargs={"load": load, "threads": threads},
            batch_size=None,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=most),
            num_cpus=cpus,
            num_gpus=gpus,
            ray_remote_args_fn=_limit_tries,
        )
    answered.write_datasink(ShardSink(shards, settings.shard))


def _limit_tries() -> dict[str, int]:
    """An actor is started again for ever, as Ray Data does, but what ends it each time is not given to it for ever."""
    return {"max_task_retries": TRIES}


def _list_blocks(studies: Iterable[tuple[tuple[str, int], Study]]) -> Iterator[pa.Table]:
    """Names and reasons, a task's worth at a time."""
    iterator = iter(studies)
    while part := list(islice(iterator, BLOCK)):
        columns: dict[str, Any] = {
            "study": [name for (name, _), _ in part],
            OCCURRENCE: pa.array([number for (_, number), _ in part], pa.int64()),
            "error": [str(study.error) for _, study in part],
        }
        for m in MODALITIES:
            files = [study.files.get(m) for _, study in part]
            columns[m] = pa.array(["" if file is None else file.name for file in files], pa.string())
        yield pa.table(columns)


def read_block(table: pa.Table, source: StudySource) -> Iterator[pa.Table]:
    """A task: studies with their images, decoded in a process beside this one, some megabytes at a time."""
    reader = _start_reader()
    part: list[tuple[StudyRead, int]] = []
    pixels = 0
    for row in table.to_pylist():
        error = row["error"]
        files = {} if error else {m: source.open_file(row[m]) for m in MODALITIES if row[m]}
        one = read_study_files(Study(row["study"], files, error=error), partial(read_files, run=reader.run))
        part.append((one, row[OCCURRENCE]))
        pixels += one.pixels
        if len(part) == BATCH or pixels > BATCH_PIXELS:
            yield _pack(part)
            part, pixels = [], 0
    if part:
        yield _pack(part)


def _pack(part: list[tuple[StudyRead, int]]) -> pa.Table:
    content = [
        pickle.dumps((one.study.name, dict(one.images), str(one.error), one.seconds), protocol=5)
        for one, _ in part
    ]
    return pa.table(
        {
            "read": pa.array(content, pa.large_binary()),
            OCCURRENCE: pa.array([occurrence for _, occurrence in part], pa.int64()),
        }
    )


class AnswerBlocks:
    """An actor: one network, which answers blocks of decoded studies; the predictor divides them by their pixels."""

    def __init__(self, load: LoadAnswerer, threads: int) -> None:
        # read by TensorFlow when it is imported: an actor must not take all of a machine's processors
        os.environ["TF_NUM_INTRAOP_THREADS"] = str(threads)
        self._predictor: BatchAnswerer | None = None
        self._failure: CovidMMError | None = None
        try:
            self._predictor = load()
        except CovidMMError as error:
            self._failure = (
                error  # raised with the first block: of an actor that doesn't start Ray tells no reason
            )

    def __call__(self, table: pa.Table) -> pa.Table:
        """The rows of a block. Raises CovidMMError where the network could not be loaded."""
        if self._predictor is None:
            raise self._failure or AssertionError("a network, or why there is none")
        studies = []
        for content in table["read"]:
            name, images, error, seconds = pickle.loads(content.as_buffer())
            studies.append(StudyRead(Study(name, {}), images, error, seconds))
        rows = answer_read_studies(self._predictor, studies)
        return make_table(zip(rows, table[OCCURRENCE].to_pylist(), strict=True))


class ShardSink(ray.data.Datasink[None]):
    """Writes shards where the run was started, so that no worker needs to see the output."""

    def __init__(self, shards: ShardFolder, rows: int) -> None:
        self._output, self._rows = (shards.output, shards.checkpoint), rows

    @property
    def supports_distributed_writes(self) -> bool:
        """Not: the output lies on the machine of the run."""
        return False

    @property
    def min_rows_per_write(self) -> int:
        """Rows of a shard."""
        return self._rows

    def write(self, blocks: Iterable[Any], ctx: Any) -> None:
        """One shard; the same rows again take its place."""
        tables = [BlockAccessor.for_block(block).to_arrow() for block in blocks]
        tables = [table for table in tables if table.num_rows]
        if tables:
            ShardFolder(*self._output).write(pa.concat_tables(tables))


@lru_cache(maxsize=1)
def _start_reader() -> WorkerPool:
    """The process beside this worker in which strangers' files are decoded; it ends with the worker."""
    return WorkerPool(size=1, deadline=READING_SECONDS)


def connect(address: str | None) -> None:
    """Reach a cluster, or start one on this machine. Raises UsageError."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody
    if address is not None and "://" in address:
        raise UsageError(
            f"--address {address} is of Ray's client, by which no data can be written here; run this on a machine of"
            " the cluster, with --address auto."
        )
    quiet = {"logging_level": logging.WARNING, "log_to_driver": False}
    try:
        if address is None:
            ray.init(address="local", include_dashboard=False, _node_ip_address="127.0.0.1", **quiet)
        else:
            ray.init(address=address, **quiet)
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        raise UsageError(
            f"--address {address}: no Ray cluster answers there ({type(error).__name__}); start one with `ray start"
            " --head`, or leave it out for one on this machine."
        ) from error
    logging.getLogger("ray.data").setLevel(logging.ERROR)


def _plan(settings: RaySettings) -> tuple[int, float, float, int]:
    """Threads of a network, processors and GPUs for it, and how many there are at most. Raises UsageError."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    all_cpus, all_gpus = (sum(node.get(kind, 0.0) for node in nodes) for kind in ("CPU", "GPU"))
    threads = max(1, min(NETWORK_CPUS, int(max(node.get("CPU", 0.0) for node in nodes))))
    cpus = float(max(1, threads - 1)) if settings.cpus is None else settings.cpus
    gpus = float(all_gpus > 0) if settings.gpus is None else settings.gpus
    if gpus > all_gpus or cpus + 1 > all_cpus:
        raise UsageError(
            f"A network asks for {cpus:g} processors and {gpus:g} GPUs, and reading for one processor more, but the"
            f" cluster has {all_cpus:g} and {all_gpus:g}; add machines, or give --gpus-per-network 0."
        )
    fit = (all_cpus * (1.0 - READING_SHARE)) // cpus if cpus else all_cpus
    if gpus:
        fit = min(fit, all_gpus // gpus)
    most = max(1, int(fit)) if settings.networks is None else settings.networks
    return threads, cpus, gpus, most


def _find_cause(error: BaseException | None) -> CovidMMError | None:
    """The error of ours that an actor raised and Ray wrapped; None where there is none."""
    while error is not None:
        cause = getattr(error, "cause", None) or error.__cause__
        if isinstance(error, CovidMMError) and cause is None:
            return error
        error = cause
    return None
