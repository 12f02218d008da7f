"""The studies of each visitor's session, in this process's memory only, and when they are forgotten.

A list is found by its token alone: 256 random bits that the visitor's browser made and keeps for as long as the tab is
open. It ends when the tab is closed, when it was not used for half an hour, when the visitor deletes it, or with the
server. Where room is short, maps and pictures go first, the oldest first; the answers stay.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from covid_mm.errors import UsageError
from covid_mm.evaluation.local_test import LocalTest

TOKEN = re.compile(r"[0-9a-f]{64}")
GONE = "This list of studies is no longer kept: it was deleted, or not used for 30 minutes. Analyse the study again."
NO_STUDY = "This study is no longer in the list; choose another one."
TOKEN_NEEDED = "The list of studies needs a token of 64 hexadecimal digits; open the page anew."
ROW_BYTES = 4096  # about what a row takes beside its thumbnails
PAGES = 8  # of one list: a tab that was duplicated


class ListGone(UsageError):
    """A list that is no longer kept, or never was."""


@dataclass(frozen=True)
class WorklistLimits:
    """What lists may hold, and for how long.

    idle: seconds without use after which a list is deleted. left: seconds that it outlives its tab, so that a reload
    finds it. studies: of one list. visitor_bytes, total_bytes: of one list and of all, in memory. visitors: lists.
    """

    idle: float = 1800.0
    left: float = 60.0
    studies: int = 500
    visitor_bytes: int = 128 * 2**20
    total_bytes: int = 768 * 2**20
    visitors: int = 200


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
    that its owner gave it, empty where none. packed: the answer with views and maps, None where it has none or where
    room was short. meta: of the checkpoint that answered. changed: counts the list's changes.
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
    """One visitor's list. pages: open tabs that show it; user: who is logged in; left: when its last tab closed; test:
    the last of one's own labelled studies.
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


class WorklistStore:
    """All visitors' lists; every method may be called from any thread.

    Args:
        limits: of what is kept.
        clock: seconds that only grow.
        test: the hospital's own, which the operator keeps, for visitors without one of this session.
    """

    def __init__(
        self,
        limits: WorklistLimits = WorklistLimits(),
        clock: Callable[[], float] = time.monotonic,
        test: LocalTest | None = None,
    ) -> None:
        self.limits = limits
        self._test = test
        self._clock = clock
        self._lock = threading.RLock()
        self._visits: dict[str, Visit] = {}  # by token
        self._tokens: dict[str, str] = {}  # of Gradio's sessions

    @property
    def visitors(self) -> int:
        """How many lists there are."""
        return len(self._visits)

    @property
    def size(self) -> int:
        """Bytes of all lists, about."""
        with self._lock:
            return sum(visit.size for visit in self._visits.values())

    def open(self, token: str, page: str, session: str, user: str = "") -> None:
        """Show a list in one more tab, made where there is none; another user's is deleted first.

        token: 64 hexadecimal digits. page: the tab's own name. session: Gradio's, whose answers are kept from now on.

        Raises:
            UsageError: no such token.
        """
        if not TOKEN.fullmatch(token) or not page:
            raise UsageError(TOKEN_NEEDED)
        with self._lock:
            self.expire()
            if token in self._visits and self._visits[token].user != user:
                self.forget(token)
            if token not in self._visits:
                while len(self._visits) >= self.limits.visitors:
                    self.forget(self._longest_unused())
                self._visits[token] = Visit(user, self._clock())
            visit = self._use(token)
            visit.pages = [*(one for one in visit.pages if one != page), page][-PAGES:]
            visit.sessions = [*visit.sessions, session]
            for old in visit.sessions[:-PAGES]:
                self._tokens.pop(old, None)
            visit.sessions = visit.sessions[-PAGES:]
            self._tokens[session] = token

    def leave(self, token: str, page: str) -> None:
        """A tab was closed or is being loaded again; with its last tab a list ends, a minute later."""
        with self._lock:
            visit = self._visits.get(token)
            if visit is not None:
                visit.pages = [one for one in visit.pages if one != page]
                visit.left = None if visit.pages else self._clock()

    def come_back(self, token: str, page: str) -> None:
        """A tab that was left is shown again, from the browser's cache. Raises UsageError where the list is gone."""
        with self._lock:
            visit = self._use(token)
            visit.pages = [*(one for one in visit.pages if one != page), page][-PAGES:]

    def begin_run(self, session: str | None) -> int:
        """The number of a new batch run of this session, from 1; 0 where it has no list."""
        with self._lock:
            visit = self._visits.get(self._tokens.get(session or "", ""))
            if visit is None:
                return 0
            visit.runs += 1
            return visit.runs

    def add(self, session: str | None, study: ListedStudy) -> int:
        """Keep one study in the list of a session; its number, 0 where the session has no list."""
        with self._lock:
            token = self._tokens.get(session or "", "")
            if token not in self._visits:
                return 0
            visit = self._use(token)
            visit.numbers += 1
            self._put(visit, replace(study, number=visit.numbers, added=time.time()))
            self._make_room(visit)
            return visit.numbers

    def set_test(self, session: str | None, test: LocalTest) -> None:
        """Keep a visitor's own test with the list of a session, in place of the one before."""
        with self._lock:
            token = self._tokens.get(session or "", "")
            if token in self._visits:
                self._use(token).test = test

    def find_test(self, *, session: str | None = None, token: str = "") -> LocalTest | None:
        """The last own test of a session or of a list, else the operator's; None where there is neither."""
        with self._lock:
            visit = self._visits.get(token or self._tokens.get(session or "", ""))
            return visit.test if visit is not None and visit.test is not None else self._test

    def list_changes(self, token: str, since: int) -> tuple[int, list[int], list[ListedStudy]]:
        """(count of changes, the numbers of all studies, the studies that changed after `since`).

        Raises:
            UsageError: the list is gone.
        """
        with self._lock:
            visit = self._use(token)
            return (
                visit.changes,
                list(visit.studies),
                [study for study in visit.studies.values() if study.changed > since],
            )

    def read(self, token: str, number: int) -> ListedStudy:
        """One study. Raises UsageError where it, or the whole list, is gone."""
        with self._lock:
            study = self._use(token).studies.get(number)
            if study is None:
                raise UsageError(NO_STUDY)
            return study

    def annotate(self, token: str, number: int, note: str) -> None:
        """Write a study's note. Raises UsageError where the study is gone."""
        with self._lock:
            self._put(self._use(token), replace(self.read(token, number), note=note))

    def delete(self, token: str, numbers: Iterable[int]) -> None:
        """Take studies out of a list; those that are gone are gone. Raises UsageError where the list is."""
        with self._lock:
            visit = self._use(token)
            for number in numbers:
                visit.studies.pop(number, None)
            self._count(visit)

    def forget(self, token: str) -> None:
        """Delete a whole list."""
        with self._lock:
            visit = self._visits.pop(token, None)
            for session in visit.sessions if visit else ():
                self._tokens.pop(session, None)

    def expire(self) -> None:
        """Delete what was not used for too long, or whose tab was closed."""
        with self._lock:
            now = self._clock()
            for token, visit in list(self._visits.items()):
                gone = visit.left is not None and now - visit.left > self.limits.left
                if gone or now - visit.used > self.limits.idle:
                    self.forget(token)

    def keep_expiring(self, every: float = 15.0) -> None:
        """Call `expire` again and again, in a thread that ends with the process."""

        def run() -> None:
            while True:
                time.sleep(every)
                self.expire()

        threading.Thread(target=run, name="worklist-expiry", daemon=True).start()

    def _use(self, token: str) -> Visit:
        self.expire()
        visit = self._visits.get(token)
        if visit is None:
            raise ListGone(GONE)
        visit.used, visit.left = self._clock(), None
        return visit

    def _longest_unused(self) -> str:
        return min(self._visits, key=lambda token: self._visits[token].used)

    def _put(self, visit: Visit, study: ListedStudy) -> None:
        visit.changes += 1
        visit.studies[study.number] = replace(study, changed=visit.changes)
        self._count(visit)

    def _count(self, visit: Visit) -> None:
        visit.size = sum(study.size for study in visit.studies.values())

    def _make_room(self, visit: Visit) -> None:
        """Maps and pictures go before answers, the longest unused visitor's before others'."""
        for number in list(visit.studies)[: max(0, len(visit.studies) - self.limits.studies)]:
            del visit.studies[number]
        self._count(visit)
        self._drop_details(visit, visit.size - self.limits.visitor_bytes)
        while (excess := self.size - self.limits.total_bytes) > 0 and self._visits:
            token = self._longest_unused()
            oldest = self._visits[token]
            if any(study.packed for study in oldest.studies.values()):
                self._drop_details(oldest, excess)
            else:
                self.forget(token)

    def _drop_details(self, visit: Visit, excess: int) -> None:
        for study in list(visit.studies.values()):
            if excess <= 0:
                return
            if study.packed:
                excess -= len(study.packed)
                self._put(visit, replace(study, packed=None))
