"""Where Ray stops being linear: its own scheduling of workers that sleep as long as a network takes for a block.

    python benchmarks/scheduling.py [--seconds S] [--workers 10,30,100]

S: seconds a study.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from covid_mm.commands import exit_with


class SleepingWorker:
    """Sleeps as long as a network takes for a block; says when."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __call__(self, table: Any) -> Any:
        """When a block was begun and done."""
        import pyarrow as pa

        begun = time.time()
        time.sleep(self._seconds * table.num_rows)
        return pa.table({"begun": [begun], "done": [time.time()]})


def measure(options: argparse.Namespace) -> int:
    """Studies a second of sleeping workers beside what they could do."""
    import pyarrow as pa
    import ray
    import ray.data

    from covid_mm.serving.ray_batch import BLOCK, connect

    connect(None)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    print(f"{options.seconds * 1000:.1f} ms a study, blocks of {BLOCK}, {os.cpu_count()} real processors")
    print(
        f"{'workers':>8s} {'processes':>10s} {'possible':>9s} {'measured':>9s} {'share':>6s} {'blocks/s':>9s}"
    )
    for workers in (int(part) for part in options.workers.split(",")):
        processes = max(part for part in range(1, options.processes + 1) if workers % part == 0)
        threads = workers // processes
        possible = workers / options.seconds
        blocks = workers * max(4, round(options.duration / options.seconds / BLOCK))
        table = pa.table({"study": pa.array(range(BLOCK), pa.int64())})
        answered = ray.data.from_arrow([table] * blocks).map_batches(
            SleepingWorker,
            fn_constructor_kwargs={"seconds": options.seconds},
            batch_size=None,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(
                size=processes,
                max_tasks_in_flight_per_actor=2 * threads,
                max_concurrent_calls_per_actor=threads,
                enable_true_multi_threading=threads > 1,
            ),
            num_cpus=0.5 * (os.cpu_count() or 1) / processes,
        )
        times = [(row["begun"], row["done"]) for row in answered.iter_rows()]
        ends = sorted(done for _, done in times)
        # the middle part: not while workers start, nor when the last ones have nothing left
        start, stop = ends[len(ends) // 4], ends[3 * len(ends) // 4]
        busy = sum(max(0.0, min(done, stop) - max(begun, start)) for begun, done in times)
        share = busy / (workers * (stop - start))
        print(
            f"{workers:8d} {processes:10d} {possible:9.0f} {share * possible:9.0f} {share:6.2f}"
            f" {share * possible / BLOCK:9.1f}",
            flush=True,
        )
    ray.shutdown()
    return 0


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--seconds", type=float, default=0.1, metavar="S", help="a study (default: %(default)s)"
    )
    parser.add_argument(
        "--workers", default="10,40,100,300,1000", metavar="N,...", help="default: %(default)s"
    )
    parser.add_argument(
        "--processes", type=int, default=20, metavar="N", help="at most (default: %(default)s)"
    )
    parser.add_argument("--duration", type=float, default=40.0, metavar="S", help="default: %(default)s")
    return parser.parse_args()


if __name__ == "__main__":
    arguments = read_options()
    sys.exit(exit_with(lambda: measure(arguments)))
