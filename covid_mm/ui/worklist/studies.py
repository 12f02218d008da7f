"""One row of a session's list of studies, and a visitor's whole list; what happens to them: store.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from covid_mm.evaluation.local_test import LocalTest
from covid_mm.ui.worklist.files import Inode, KeptFiles

ROW_BYTES = 4096  # about what a row takes beside its thumbnails


@dataclass(frozen=True)
class Thumbnail:
    """A small picture. modality: which image it shows; url: data URL; width, height: pixels."""

    modality: str
    url: str
    width: int
    height: int


@dataclass(frozen=True)
class ListedStudy:
    """One row of the list.

    number: its own within the list, never given twice. name: as its owner knows it, empty for a study of the slots.
    run: number of the batch run that answered it, 0 for the slots. added: seconds since 1970. label: a class,
    `undetermined`, or empty where it has no answer; then error says why. probability: of covid19_pneumonia as shown,
    0..1; supported: the highest that is shown. disagree: whether the images contradict each other. truth: the class
    that its owner gave it, empty where none. packed: the answer with previews and maps, None where it has none or where
    room was short. meta: of the checkpoint that answered. network: that checkpoint's name. files: its image files, None
    where there are none (any more). changed: counts the list's changes.
    """

    number: int = 0
    name: str = ""
    run: int = 0
    added: float = 0.0
    label: str = ""
    error: str = ""
    probability: float | None = None
    supported: float = 1.0
    disagree: bool = False
    truth: str = ""
    thumbnails: tuple[Thumbnail, ...] = ()
    note: str = ""
    packed: bytes | None = field(default=None, repr=False)
    meta: Mapping[str, Any] = field(default_factory=dict, repr=False)
    network: str = ""
    files: KeptFiles | None = field(default=None, repr=False)
    changed: int = 0

    @property
    def size(self) -> int:
        """Bytes in memory, about."""
        rest = len(self.name) + len(self.note) + sum(len(one.url) for one in self.thumbnails)
        return ROW_BYTES + rest + len(self.packed or b"")

    @property
    def is_wrong(self) -> bool:
        """Whether it was answered, and otherwise than its owner's label; an undetermined one is not wrong."""
        return bool(self.truth) and self.label not in ("", "undetermined", self.truth)


@dataclass
class Visit:
    """One visitor's list.

    pages: open tabs that show it. user: who is logged in. left: when its last tab closed. test: the last of one's own
    labelled studies. reading: numbers of studies whose files were read since they were measured.
    """

    user: str
    used: float
    pages: list[str] = field(default_factory=list)
    sessions: list[str] = field(default_factory=list)
    studies: dict[int, ListedStudy] = field(default_factory=dict)
    changes: int = 0
    numbers: int = 0
    runs: int = 0
    left: float | None = None
    size: int = 0
    test: LocalTest | None = None
    reading: set[int] = field(default_factory=set)

    @property
    def file_size(self) -> int:
        """Bytes of its studies' files on the disk; one that several studies share counts once."""
        sizes: dict[Inode, int] = {}
        for study in self.studies.values():
            if study.files is not None:
                sizes.update(study.files.sizes)
        return sum(sizes.values())
