"""The image files of a list's studies, for the viewer, other heatmap methods and other slices of a scan.

They lie in the server's private folder, each study's in a folder of its own with a random name, without their owner's
names, and outside what Gradio may serve: nothing reads them but the events of the visitor whose list it is. A file
of the slots is linked, not copied. What reading writes beside them (a scan's slices, decoded) is counted as theirs.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from covid_mm.ui.study.slot_choice import SliceChoice

Inode = tuple[int, int]  # (device, number): what a file is, whatever it is called


@dataclass(frozen=True)
class KeptFiles:
    """The files of one study.

    folder: holds them and nothing else. paths: modality -> its files, in the order in which they were given. choices:
    modality -> the slice and window that were read. sizes: bytes of each file on the disk; one that two studies share
    is the same in both.
    """

    folder: Path
    paths: Mapping[str, tuple[str, ...]]
    choices: Mapping[str, SliceChoice] = field(default_factory=dict)
    sizes: Mapping[Inode, int] = field(default_factory=dict, repr=False)

    def delete(self) -> None:
        """Remove them, and what was written beside them."""
        shutil.rmtree(self.folder, ignore_errors=True)


class FileKeeper:
    """Keeps studies' files below one folder.

    Args:
        folder: made at once, for this user alone (mode 0700); on the disk of the uploads, which are linked into it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, exist_ok=True)

    def keep(
        self,
        sources: Mapping[str, Sequence[str | bytes]],
        choices: Mapping[str, SliceChoice] | None = None,
        most: int | None = None,
    ) -> KeptFiles | None:
        """Link a study's uploads, or write their bytes; None where that fails, or they have more than `most` bytes.

        sources: modality -> paths of uploads, or what they hold.
        """
        if not any(sources.values()):
            return None
        folder = Path(tempfile.mkdtemp(prefix="study-", dir=self._folder))  # mode 0700
        paths: dict[str, tuple[str, ...]] = {}
        try:
            for modality, files in sources.items():
                paths[modality] = tuple(
                    _put(file, folder / f"{modality}-{number}") for number, file in enumerate(files)
                )
        except OSError:  # an upload that is gone, a disk that is full: the answer is kept without its files
            shutil.rmtree(folder, ignore_errors=True)
            return None
        study = KeptFiles(folder, paths, dict(choices or {}), measure_files(folder))
        if most is not None and sum(study.sizes.values()) > most:
            study.delete()
            return None
        return study

    @property
    def free(self) -> int:
        """Bytes that the disk has left."""
        return shutil.disk_usage(self._folder).free


def measure_files(folder: Path) -> dict[Inode, int]:
    """The bytes of each file in a study's folder, those that vanish meanwhile left out."""
    sizes: dict[Inode, int] = {}
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                facts = os.stat(entry.path, follow_symlinks=False)
                sizes[facts.st_dev, facts.st_ino] = facts.st_size
    return sizes


def _put(file: str | bytes, path: Path) -> str:
    if isinstance(file, bytes):
        path.write_bytes(file)
        return str(path)
    try:
        os.link(file, path)
    except FileNotFoundError:
        raise
    except OSError:  # a file system without links
        shutil.copyfile(file, path)
    return str(path)
