"""Where uploads live for a short while: one private folder per server, wiped at start and at exit.

Gradio writes uploads to GRADIO_TEMP_DIR and Python writes half-received ones to its own temporary
folder. Both are pointed here, so that removing one folder removes all of it.

    <temporary folder>/covid-mm-XXXX/     mode 0700
        lock                              held open and locked while the server lives
        uploads/                          GRADIO_TEMP_DIR
        studies/                          files of the studies in visitors' lists, which worklist/store.py deletes

The system drops the lock when a process dies, however it dies, so the next server can tell what a
killed one left behind from what a living one uses.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import IO

try:
    import fcntl
except ImportError:  # Windows: an open file cannot be deleted there, which serves as the lock
    fcntl = None  # type: ignore[assignment]

PREFIX = "covid-mm-"
NEWBORN = 60.0  # seconds in which a folder without a lock may still get one
SWEEP_EVERY = 60.0  # seconds


class PrivateFolder:
    """A folder that only this user can enter and that is gone when its server is.

    Use it as a context manager. `uploads` is the folder for Gradio. Opening one first removes the
    folders of servers that died without cleaning up.

    Args:
        base: where to make it; None takes the system's temporary folder.
        keep: seconds after which a file in it is deleted while the server runs.
    """

    def __init__(self, base: Path | None = None, *, keep: float = 1800.0) -> None:
        self._base = Path(base if base is not None else tempfile.gettempdir())
        self._keep = keep
        self._stop = threading.Event()
        self._path: Path | None = None
        self._lock: IO[bytes] | None = None

    @property
    def path(self) -> Path:
        """The folder itself; only while it is open."""
        if self._path is None:
            raise RuntimeError("The private folder is not open.")
        return self._path

    @property
    def uploads(self) -> Path:
        """Where Gradio keeps what is uploaded."""
        return self.path / "uploads"

    def __enter__(self) -> PrivateFolder:
        remove_abandoned(self._base)
        self._path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=self._base))  # mode 0700
        self._lock = open(self._path / "lock", "wb")
        if fcntl is not None:
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        self.uploads.mkdir(mode=0o700)
        threading.Thread(target=self._sweep, name="upload-sweep", daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        for _ in range(3):  # a request that is still running may write once more
            shutil.rmtree(self.path, ignore_errors=True)
            if not self.path.exists():
                break
            time.sleep(0.1)
        if self._lock is not None:
            self._lock.close()
        shutil.rmtree(self.path, ignore_errors=True)  # Windows: only now can the lock go

    def _sweep(self) -> None:
        while not self._stop.wait(min(SWEEP_EVERY, self._keep)):
            remove_older(self.uploads, self._keep)


class UploadRoom:
    """How much may still be stored: a fixed ceiling, and never more than half of the disk's free space.

    Args:
        folder: where uploads lie until they are deleted.
        most: bytes that all of them may have, where the disk is large.
    """

    def __init__(self, folder: Path, most: int) -> None:
        self._folder = folder
        self._most = most

    def takes(self, size: int) -> bool:
        """Whether so many bytes more may be stored, by what lies there and what is free at this moment."""
        stored = count_bytes(self._folder)
        free = shutil.disk_usage(self._folder).free
        return stored + size <= min(self._most, (free + stored) // 2)


def count_bytes(folder: Path) -> int:
    """Bytes of all files under a folder, one of two names once, those that vanish meanwhile left out."""
    sizes: dict[tuple[int, int], int] = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                facts = os.stat(os.path.join(parent, name))
                sizes[facts.st_dev, facts.st_ino] = facts.st_size
    return sum(sizes.values())


def remove_abandoned(base: Path) -> int:
    """Delete the folders under `base` whose server no longer lives; how many there were."""
    count = 0
    for folder in base.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            if folder.is_dir() and not folder.is_symlink() and _is_abandoned(folder):
                shutil.rmtree(folder, ignore_errors=True)
                count += 1
    return count


def remove_older(folder: Path, seconds: float) -> int:
    """Delete the files under `folder` that are older than `seconds`; how many there were."""
    count = 0
    limit = time.time() - seconds
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # another thread may be faster
            if path.is_file() and path.stat().st_mtime < limit:
                path.unlink()
                count += 1
    return count


def _is_abandoned(folder: Path) -> bool:
    if hasattr(os, "getuid") and folder.stat().st_uid != os.getuid():
        return False
    lock = folder / "lock"
    if not lock.exists():
        return time.time() - folder.stat().st_mtime > NEWBORN
    if fcntl is None:
        try:
            lock.unlink()
        except OSError:
            return False
        return True
    with open(lock, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
    return True
