"""The studies of each visitor's session, their answers in this process's memory only, and when they are forgotten.

A list is found by its token alone: 256 random bits that the visitor's browser made and keeps for as long as the tab is
open. It ends when the tab is closed, when it was not used for half an hour, when the visitor deletes it, or with the
server. Where room is short, image files, maps and pictures go first, the oldest first; the answers stay.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from covid_mm.errors import UsageError
from covid_mm.evaluation.local_test import LocalTest
from covid_mm.ui.worklist.files import FileKeeper, KeptFiles, measure_files
from covid_mm.ui.worklist.studies import ListedStudy, Visit

TOKEN = re.compile(r"[0-9a-f]{64}")
GONE = "This list of studies is no longer kept: it was deleted, or not used for 30 minutes. Analyse the study again."
NO_STUDY = "This study is no longer in the list; choose another one."
FILES_GONE = (
    "The full-resolution images of this study had to make room for newer ones; its answer and pictures stay."
)
TOKEN_NEEDED = "The list of studies needs a token of 64 hexadecimal digits; open the page anew."
PAGES = 8  # of one list: a tab that was duplicated


class ListGone(UsageError):
    """A list that is no longer kept, or never was."""


@dataclass(frozen=True)
class WorklistLimits:
    """What lists may hold, and for how long.

    idle: seconds without use after which a list is deleted. left: seconds that it outlives its tab, so that a reload
    finds it. studies: of one list. visitor_bytes, total_bytes: of one list and of all, in memory. visitors: lists.
    visitor_file_bytes, total_file_bytes: of one list's image files and of all, on the disk, of which they never take
    more than a quarter of what is free.
    """

    idle: float = 1800.0
    left: float = 60.0
    studies: int = 500
    visitor_bytes: int = 128 * 2**20
    total_bytes: int = 768 * 2**20
    visitors: int = 200
    visitor_file_bytes: int = 512 * 2**20
    total_file_bytes: int = 2 * 2**30


class WorklistStore:
    """All visitors' lists; every method may be called from any thread.

    Args:
        limits: of what is kept.
        clock: seconds that only grow.
        test: the hospital's own, which the operator keeps, for visitors without one of this session.
        keeper: of the studies' image files; None where none are kept.
    """

    def __init__(
        self,
        limits: WorklistLimits = WorklistLimits(),
        clock: Callable[[], float] = time.monotonic,
        test: LocalTest | None = None,
        keeper: FileKeeper | None = None,
    ) -> None:
        self.limits = limits
        self.keeper = keeper
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
                if study.files is not None:
                    study.files.delete()
                return 0
            visit = self._use(token)
            visit.numbers += 1
            self._put(visit, replace(study, number=visit.numbers, added=time.time()))
            self._make_room(visit)
            self._make_file_room(visit)
            return visit.numbers

    def has_list(self, session: str | None) -> bool:
        """Whether what a session analyses is kept."""
        with self._lock:
            return self._tokens.get(session or "", "") in self._visits

    def read_files(
        self, number: int, *, session: str | None = None, token: str = ""
    ) -> tuple[KeptFiles, str]:
        """The files of a study in a session's or a token's list, and the name of the network that answered it.

        Raises:
            UsageError: the study, its files or the whole list is gone.
        """
        with self._lock:
            token = token or self._tokens.get(session or "", "")
            study = self.read(token, number)
            if study.files is None:
                raise UsageError(FILES_GONE)
            self._visits[token].reading.add(number)
            return study.files, study.network

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
                self._remove(visit, number)
            self._count(visit)

    def forget(self, token: str) -> None:
        """Delete a whole list."""
        with self._lock:
            visit = self._visits.pop(token, None)
            if visit is None:
                return
            for session in visit.sessions:
                self._tokens.pop(session, None)
            for number in list(visit.studies):
                self._remove(visit, number)

    def expire(self) -> None:
        """Delete what was not used for too long, or whose tab was closed."""
        with self._lock:
            now = self._clock()
            for token, visit in list(self._visits.items()):
                gone = visit.left is not None and now - visit.left > self.limits.left
                if gone or now - visit.used > self.limits.idle:
                    self.forget(token)

    def measure_read_files(self) -> None:
        """Count what reading has written beside the studies' files, and make room for it."""
        with self._lock:
            read = [(visit, number) for visit in self._visits.values() for number in visit.reading]
            for visit, _ in read:
                visit.reading.clear()
        for visit, number in read:
            files = study.files if (study := visit.studies.get(number)) is not None else None
            sizes = (
                measure_files(files.folder) if files is not None else {}
            )  # without the lock: it may take a while
            with self._lock:
                study = visit.studies.get(number)
                if study is not None and study.files is not None:
                    visit.studies[number] = replace(study, files=replace(study.files, sizes=sizes))
                    self._make_file_room(visit)

    def keep_expiring(self, every: float = 15.0) -> None:
        """Call `expire` and `measure_read_files` again and again, in a thread that ends with the process."""

        def run() -> None:
            while True:
                time.sleep(every)
                self.expire()
                self.measure_read_files()

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
            self._remove(visit, number)
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
                self._drop_files(visit, study.number)  # without its pictures it can't be opened

    def _remove(self, visit: Visit, number: int) -> None:
        study = visit.studies.pop(number, None)
        if study is not None and study.files is not None:
            study.files.delete()

    def _make_file_room(self, visit: Visit) -> None:
        """Delete the oldest files of this list, then of the longest unused ones, until all are within the limits."""
        self._drop_oldest_files(visit, visit.file_size - self.limits.visitor_file_bytes)
        if self.keeper is None:
            return
        total = sum(one.file_size for one in self._visits.values())
        excess = total - min(self.limits.total_file_bytes, (self.keeper.free + total) // 4)
        for other in sorted(self._visits.values(), key=lambda one: one.used):
            excess -= self._drop_oldest_files(other, excess)

    def _drop_oldest_files(self, visit: Visit, excess: int) -> int:
        """Delete files, the oldest study's first, until so many bytes less are held; how many there were."""
        before = size = visit.file_size
        for study in list(visit.studies.values()):
            if before - size >= excess:
                break
            if study.files is not None:
                self._drop_files(visit, study.number)
                size = visit.file_size
        return before - size

    def _drop_files(self, visit: Visit, number: int) -> None:
        study = visit.studies[number]
        if study.files is not None:
            study.files.delete()
            self._put(visit, replace(study, files=None))
