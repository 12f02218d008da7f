"""Files written whole: to a temporary file, flushed to the disk, renamed. A kill leaves the old one or the new one."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


@contextlib.contextmanager
def replace_file(path: Path, *, flush: bool = True) -> Iterator[Path]:
    """A temporary path in the folder of `path`; what is written there takes the place of `path` at the end.

    The folder is made where it is missing. Nothing is left of the temporary file where writing fails.
    flush: wait until the disk has it; needless for what a new start removes anyway.

    Raises:
        OSError: the folder cannot be written, or the disk is full; `path` is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    tmp_path = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield tmp_path
        if flush:
            with tmp_path.open("rb") as file:
                os.fsync(file.fileno())
        os.replace(tmp_path, path)
    finally:
        tmp_path.unlink(missing_ok=True)


def write_atomically(path: Path, content: bytes | memoryview, *, flush: bool = True) -> None:
    """Write bytes. Raises OSError, see `replace_file`."""
    with replace_file(path, flush=flush) as tmp_path:
        tmp_path.write_bytes(content)


def write_array(path: Path, array: NDArray[Any]) -> None:
    """Write one array as .npy, without a copy of it in memory. Raises OSError, see `replace_file`."""
    with replace_file(path) as tmp_path, tmp_path.open("wb") as file:
        np.save(file, array, allow_pickle=False)


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays by name as .npz, uncompressed. Raises OSError, see `replace_file`."""
    with replace_file(path) as tmp_path, tmp_path.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def hash_file(path: Path) -> str:
    """SHA-256 of a file, as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
