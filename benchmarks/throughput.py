"""What a batch costs beside the bare networks, and how that grows with its length.

    python benchmarks/throughput.py cost [--studies N] [--ray]
    python benchmarks/throughput.py length [--cached] [--runtime NAME] [--lengths 100,1000]

cost: on the same phantoms and in turn: the compiled network alone at its best batch size, all networks that an answer
needs, and `batch` with files, rows and CSV in a process of its own, as the command is; with --ray what each further
study costs there, between a short and a long run. length: the cost of runs of several lengths and the memory that they
take; --cached answers a study that comes again without the networks, so that all around them shows.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from covid_mm.commands import exit_with
from covid_mm.commands.batch import load_answerer
from covid_mm.config import CLASSES, DEFAULT_CHECKPOINT, MODALITIES, RUNTIMES
from covid_mm.datasets.phantoms import write_phantoms
from covid_mm.errors import CovidMMError
from covid_mm.serving.batch import ResultFile
from covid_mm.serving.checkpoint import load_checkpoint
from covid_mm.serving.metadata import read_metadata
from covid_mm.serving.prediction import Prediction
from covid_mm.serving.predictor import BATCH
from covid_mm.serving.runtimes import count_batches
from covid_mm.serving.study_batches import READERS, answer_in_batches
from covid_mm.serving.study_source import StudySource

PHANTOMS = 100  # different studies; longer runs name them again
SIZES = (16, 32, 64)
OTHER_RUNTIMES = ("openvino", "openvino-bfloat16", "onnx")
TICKS = os.sysconf("SC_CLK_TCK")


@dataclasses.dataclass(frozen=True)
class Cost:
    """Seconds a study: on the clock, and of processors."""

    wall: float
    cpu: float

    def __str__(self) -> str:
        return f"{self.wall * 1000:9.1f} {self.cpu * 1000:9.1f}"


def write_manifest(folder: Path, count: int) -> StudySource:
    """A manifest of so many studies of a slice and a film each."""
    data = folder / "phantoms"
    if not data.is_dir():
        write_phantoms(data, per_class=PHANTOMS // len(CLASSES))
    names = sorted(path.relative_to(data / "ct") for path in (data / "ct").rglob("*.png"))
    path = folder / f"{count}.csv"
    with path.open("w") as file:
        file.write(f"study,{','.join(MODALITIES)}\n")
        for number, name in zip(range(count), itertools.cycle(names), strict=False):
            file.write(f"{number},{','.join(f'phantoms/{m}/{name}' for m in MODALITIES)}\n")
    return StudySource(str(path))


class ProcessWatch:
    """Adds up what this process and all below it take of processors, those that end meanwhile too."""

    def __init__(self) -> None:
        self._seconds: dict[tuple[int, str], float] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> ProcessWatch:
        self._look()
        self._first = sum(self._seconds.values())
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()
        self._look()
        self.seconds = sum(self._seconds.values()) - self._first

    def _run(self) -> None:
        while not self._stop.wait(0.5):
            self._look()

    def _look(self) -> None:
        parents: dict[int, int] = {}
        read: dict[int, tuple[str, float]] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    fields = (entry / "stat").read_text().rpartition(")")[2].split()
                except OSError:
                    continue
                parents[int(entry.name)] = int(fields[1])
                read[int(entry.name)] = (fields[19], sum(map(int, fields[11:13])) / TICKS)
        front = {os.getpid()}
        while front:
            for pid in front & read.keys():
                started, seconds = read[pid]
                self._seconds[pid, started] = seconds
            front = {pid for pid, parent in parents.items() if parent in front}


def timed(run: Callable[[], Any], studies: int) -> Cost:
    """The cost of a study in a run of so many, of this process."""
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return Cost((time.perf_counter() - wall) / studies, (time.process_time() - cpu) / studies)


def timed_with_processes(run: Callable[[], Any], studies: int) -> Cost:
    """The same with the processes below this one."""
    with ProcessWatch() as watch:
        wall = timed(run, studies).wall
    return Cost(wall, watch.seconds / studies)


def answer_locally(answerer: Any, source: StudySource, output: Path, at_once: int = 1) -> None:
    """What `covid-mm batch` does between its first and its last line."""
    work = source.find_work()
    with ResultFile(output, answerer.info) as file:
        left = (one for one in work.studies() if not file.is_done(one))
        for row in answer_in_batches(answerer, left, at_once=at_once):
            file.append(row)
            assert not row.error, row.error


def measure_local(checkpoint: Path, runtime: str, folder: Path, studies: int) -> Cost:
    """What a study costs in `batch`, once its processes are there and its functions were called."""
    at_once = count_batches(runtime)
    answerer = load_answerer(checkpoint, runtime)
    short, long = (write_manifest(folder, count) for count in (BATCH * at_once, studies))
    answer_locally(answerer, short, folder / f"warm-{runtime}.csv", at_once)
    run = partial(answer_locally, answerer, long, folder / f"{runtime}.csv", at_once)
    cost = timed_with_processes(run, studies)
    READERS.close()
    return cost


def in_process(function: Callable[..., Cost], *arguments: Any) -> Cost:
    """What a function gives in a process of its own, where no other library's threads wait."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def bare_ways(network: Any, predictor: Any, size: int) -> dict[str, Callable[[], Any]]:
    """The network's logits alone, and with what else an answer needs: the content check's features, the lungs."""
    import numpy as np
    import tensorflow as tf

    from covid_mm.imaging import to_network_input
    from covid_mm.models.lung_segmenter import SEGMENTER_SIDE

    segmenter = predictor.segmenter
    side = network.config.image_size
    signature = {m: tf.TensorSpec((None, side, side, 3), tf.float32) for m in network.config.modalities}
    bare = tf.function(lambda inputs: network.model(inputs, training=False)).get_concrete_function(signature)
    noise = np.random.default_rng(0)
    images = {m: noise.uniform(0, 255, (size, side, side)).astype(np.float32) for m in signature}
    small = noise.uniform(0, 255, (size, SEGMENTER_SIDE, SEGMENTER_SIDE)).astype(np.float32)
    constants = {m: tf.constant(to_network_input(values)) for m, values in images.items()}
    contents = predictor.forward_pass.functions.contents

    def run_bare() -> None:
        bare(constants)["logits"].numpy()

    def run_all() -> None:
        run_bare()
        for m in images:
            contents(images[m])
            segmenter.probabilities(list(small), m)

    return {"the network alone, bare": run_bare, "all networks of an answer, bare": run_all}


def find_best(
    ways: Callable[[int], dict[str, Callable[[], Any]]], rounds: int
) -> dict[str, tuple[int, Cost]]:
    """The batch size at which each way costs least processor time, and that cost."""
    costs: dict[str, dict[int, list[Cost]]] = {}
    for size in SIZES:
        made = ways(size)
        for run in made.values():
            run()  # tracing and first allocations are not what is measured
        for _ in range(rounds):
            for name, run in made.items():
                costs.setdefault(name, {}).setdefault(size, []).append(timed(run, size))
    medians = {
        name: {
            size: Cost(statistics.median(c.wall for c in some), statistics.median(c.cpu for c in some))
            for size, some in by_size.items()
        }
        for name, by_size in costs.items()
    }
    return {name: min(by_size.items(), key=lambda item: item[1].cpu) for name, by_size in medians.items()}


def measure_cost(options: argparse.Namespace) -> int:
    """The table of costs and ratios."""
    checkpoint = Path(options.checkpoint or DEFAULT_CHECKPOINT).absolute()
    predictor = load_answerer(checkpoint, "tensorflow")
    predictor.warm_up()
    network, _ = load_checkpoint(checkpoint)  # in Keras, whatever serves
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        best = find_best(partial(bare_ways, network, predictor), options.rounds)
        local = in_process(measure_local, checkpoint, RUNTIMES[0], folder, options.studies)
        rows = [(f"{way}, {size} at once", cost) for way, (size, cost) in best.items()]
        rows.append(("batch, local", local))
        for runtime in OTHER_RUNTIMES:
            try:
                cost = in_process(measure_local, checkpoint, runtime, folder, options.studies)
            except CovidMMError as error:
                print(f"left out: {error}")
                continue
            rows.append((f"batch, local, {runtime}", cost))
        if options.ray:
            rows.append(("batch, Ray, a further study", measure_ray(checkpoint, folder, options.studies)))
    bare, everything = rows[0][1], rows[1][1]
    print(f"{options.studies} studies, {os.cpu_count()} processors, checkpoint {predictor.info.name}")
    print(
        f"{'':44s} {'ms':>9s} {'CPU ms':>9s} {'to the network':>15s} {'to all networks':>16s} {'to local':>9s}"
    )
    for title, cost in rows:
        print(
            f"{title:44s} {cost} {cost.cpu / bare.cpu:15.2f} {cost.cpu / everything.cpu:16.2f}"
            f" {cost.cpu / local.cpu:9.2f}"
        )
    return 0


def measure_ray(checkpoint: Path, folder: Path, studies: int) -> Cost:
    """What a further study costs: of a long run's cost less a short one's, so that starting is not counted."""
    import ray

    from covid_mm.serving.ray_batch import RaySettings, answer_on_ray, connect
    from covid_mm.serving.result_shards import ShardFolder

    info = read_metadata(checkpoint).info
    load = partial(load_answerer, checkpoint, "tensorflow")
    connect(None)
    totals = []
    for count in (64, 64 + studies):
        source = write_manifest(folder, count)

        def run(source: StudySource = source, count: int = count) -> None:
            with ShardFolder(folder / f"ray-{count}.csv", info) as shards:
                work = source.find_work()
                answer_on_ray(source, work.studies(), load, shards, RaySettings())
                shards.commit(work.studies())

        totals.append(timed_with_processes(run, 1))
    ray.shutdown()
    return Cost((totals[1].wall - totals[0].wall) / studies, (totals[1].cpu - totals[0].cpu) / studies)


class CachedAnswerer:
    """Answers a study that it has met with what it said then; files are read and rows made all the same."""

    def __init__(self, predictor: Any) -> None:
        self._predictor = predictor
        self._known: dict[bytes, Prediction] = {}
        self.info = predictor.info

    def predict_images(self, files: Any) -> Prediction:
        """One answer."""
        key = b"".join(image.grey[::16].tobytes() for image in files.values())
        if key not in self._known:
            prediction = self._predictor.predict_images(files)
            self._known[key] = dataclasses.replace(prediction, images={}, heatmaps={})
        return self._known[key]

    def predict_batch(self, studies: Sequence[Any]) -> list[Prediction]:
        """Their answers."""
        return [self.predict_images(one) for one in studies]


def read_memory() -> float:
    """MB that this process holds, without files that others share."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


def measure_length(options: argparse.Namespace) -> int:
    """The cost and the memory of runs of several lengths."""
    at_once = count_batches(options.runtime)
    checkpoint = Path(options.checkpoint or DEFAULT_CHECKPOINT).absolute()
    predictor = load_answerer(checkpoint, options.runtime)
    answerer = CachedAnswerer(predictor) if options.cached else predictor
    lengths = [int(part) for part in options.lengths.split(",")]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        answer_locally(answerer, write_manifest(folder, PHANTOMS + 1), folder / "warm.csv", at_once)
        print(f"{'studies':>9s} {'ms':>9s} {'CPU ms':>9s} {'MB before':>10s} {'MB after':>9s}")
        for number, length in enumerate(lengths):
            source, before = write_manifest(folder, length), read_memory()
            cost = timed_with_processes(
                partial(answer_locally, answerer, source, folder / f"{number}-{length}.csv", at_once), length
            )
            print(f"{length:9d} {cost} {before:10.0f} {read_memory():9.0f}", flush=True)
        READERS.close()
    return 0


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--checkpoint", metavar="DIR", help="checkpoint folder (default: the default pair's)")
    parts = parser.add_subparsers(required=True, metavar="cost|length")
    cost = parts.add_parser("cost")
    cost.add_argument("--studies", type=int, default=320, metavar="N", help="default: %(default)s")
    cost.add_argument("--rounds", type=int, default=5, metavar="N", help="default: %(default)s")
    cost.add_argument("--ray", action="store_true", help="also on Ray (pip install covid-mm[ray])")
    cost.set_defaults(measure=measure_cost)
    length = parts.add_parser("length")
    length.add_argument("--lengths", default="100,1000", metavar="N,...", help="default: %(default)s")
    length.add_argument("--runtime", default=RUNTIMES[0], choices=RUNTIMES, help="default: %(default)s")
    length.add_argument("--cached", action="store_true", help="known studies again without the networks")
    length.set_defaults(measure=measure_length)
    return parser.parse_args()


if __name__ == "__main__":
    arguments = read_options()
    sys.exit(exit_with(lambda: int(arguments.measure(arguments))))
