"""The answers of a run on many machines: shards in Parquet, each written once, brought together at the end.

Beside OUT.csv lies OUT.shards/, a Parquet file for every thousand studies or so, named by the studies in it: a shard
that is written again takes the place of itself. All of it is renamed into place, so that what has its name is whole.
When no study lacks a row, OUT.csv and OUT.parquet are written from the shards, in the order of the studies.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from covid_mm.errors import DataError, UsageError
from covid_mm.files import replace_file
from covid_mm.serving.batch import COLUMNS, Row, format_cells, format_line
from covid_mm.serving.pairing import Study
from covid_mm.serving.prediction import CheckpointInfo

try:
    import fcntl
except ImportError:  # Windows: two runs into one file are not noticed there
    fcntl = None  # type: ignore[assignment]

OCCURRENCE = "occurrence"  # from 0: which of the studies of this name it is
TEXTS = ("study", "label", "reason", "ct_window", "positive_means", "error", "checkpoint", "sha256")
COUNTS = ("ct_slices", "ct_lung_slices", "ct_most_suspicious_slice")

Key = tuple[str, int]


def find_type(column: str) -> Any:
    """The type of a column in Parquet."""
    if column in TEXTS:
        return pa.string()
    if column in COUNTS:
        return pa.int64()
    return pa.list_(pa.string()) if column == "warnings" else pa.float64()


SCHEMA = pa.schema([(name, find_type(name)) for name in COLUMNS])
SHARD_SCHEMA = SCHEMA.append(pa.field(OCCURRENCE, pa.int64()))


def count_studies(studies: Iterable[Study]) -> Iterator[tuple[Key, Study]]:
    """Each study with its key: its name, and which of that name it is."""
    counts: Counter[str] = Counter()
    for study in studies:
        yield (study.name, counts[study.name]), study
        counts[study.name] += 1


def make_table(rows: Iterable[tuple[Row, int]]) -> pa.Table:
    """Rows with their occurrence as a shard's table."""
    return pa.Table.from_pylist(
        [row.to_dict() | {OCCURRENCE: occurrence} for row, occurrence in rows], schema=SHARD_SCHEMA
    )


class ShardFolder:
    """The shards of one run, whoever began it. Use it as a context manager: one run at a time writes them."""

    def __init__(self, output: Path, checkpoint: CheckpointInfo, *, retry: bool = False) -> None:
        """Look at nothing yet.

        Args:
            output: OUT.csv. checkpoint: that answers; shards of another are refused.
            retry: rows with an error do not count as done.
        """
        self.output = output
        self.table_path = output.with_suffix(".parquet")
        self.folder = output.with_suffix(".shards")
        self.checkpoint = checkpoint
        self._retry = retry
        self._lock: Any = None

    def __enter__(self) -> ShardFolder:
        """Make the folder and lock it.

        Raises:
            UsageError: it cannot be written, another run writes it, or OUT.csv is of a run without shards.
        """
        if self.output.suffix != ".csv":
            raise UsageError(
                f"--output {self.output} has an ending of {self.output.suffix!r}; with --engine ray expected .csv."
            )
        for path in (self.output, self.table_path):
            if path.exists() and not self.folder.is_dir():
                raise UsageError(
                    f"{path} is there already and was not written with --engine ray; name another file."
                )
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = open(self.folder / ".lock", "ab")
            if fcntl is not None:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._lock.close()
            raise UsageError(
                f"--output {self.output} is being written by another run; wait for it, or name another file."
            ) from error
        except OSError as error:
            raise UsageError(
                f"--output {self.output} cannot be written ({error.strerror}); name another file."
            ) from error
        return self

    def __exit__(self, *error: object) -> None:
        self._lock.close()

    def write(self, table: pa.Table) -> None:
        """One shard, whole or not at all. Raises OSError."""
        keys = sorted(zip(table["study"].to_pylist(), table[OCCURRENCE].to_pylist(), strict=True))
        name = hashlib.sha256(repr(keys).encode()).hexdigest()[:24]
        with replace_file(self.folder / f"{name}.parquet") as tmp_path:
            pq.write_table(table, tmp_path)

    def read_done(self) -> set[Key]:
        """The studies that have a row. Raises UsageError for shards of another checkpoint, or no shards of ours."""
        done: set[Key] = set()
        for path in self._shards():
            table = self._read(path, ["study", OCCURRENCE, "error", "sha256"])
            if set(table["sha256"].unique().to_pylist()) - {self.checkpoint.sha256}:
                raise UsageError(
                    f"{self.folder} was begun with another checkpoint; name another output, or go on with that"
                    " checkpoint."
                )
            for row in table.to_pylist():
                if not (self._retry and row["error"]):
                    done.add((row["study"], row[OCCURRENCE]))
        return done

    def commit(self, studies: Iterable[Study]) -> Counter[str]:
        """Write OUT.parquet and OUT.csv, each study once, in order. Gives how many were answered how.

        Of two rows for a study, as a second try leaves them, one without an error is taken.

        Raises:
            DataError: a study has no row. OSError: the disk is full.
        """
        tables = [self._read(path) for path in self._shards()]
        whole = pa.concat_tables(tables) if tables else SHARD_SCHEMA.empty_table()
        rows: dict[Key, int] = {}
        errors = whole["error"].to_pylist()
        for number, key in enumerate(
            zip(whole["study"].to_pylist(), whole[OCCURRENCE].to_pylist(), strict=True)
        ):
            if key not in rows or errors[rows[key]]:
                rows[key] = number
        order = [rows.get(key, -1) for key, _ in count_studies(studies)]
        if lacking := order.count(-1):
            raise DataError(
                f"{lacking} of {len(order)} studies have no row in {self.folder}; start the same command again: what"
                " is there is kept."
            )
        result = whole.select(list(COLUMNS)).take(pa.array(order, pa.int64()))
        with replace_file(self.table_path) as tmp_path:
            pq.write_table(result, tmp_path)
        outcomes: Counter[str] = Counter()
        with replace_file(self.output) as tmp_path, tmp_path.open("w", encoding="utf-8", newline="") as file:
            file.write(format_line(COLUMNS))
            for batch in result.to_batches(max_chunksize=1000):
                for row in batch.to_pylist():
                    file.write(format_line(format_cells(row)))
                    outcomes[row["label"] or ""] += 1
        return outcomes

    def _shards(self) -> list[Path]:
        return sorted(self.folder.glob("[!.]*.parquet"))

    def _read(self, path: Path, columns: list[str] | None = None) -> pa.Table:
        with contextlib.suppress(pa.ArrowException, OSError, KeyError):
            table = pq.read_table(path, columns=columns)
            if columns is not None or table.schema.equals(SHARD_SCHEMA):
                return table
        raise UsageError(
            f"{path} is damaged or was written by another version; remove it, and its studies are answered again."
        )
