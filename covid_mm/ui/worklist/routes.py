"""What worklist.js asks the server: a route of the list's own, outside Gradio's queue, and one for archives.

Each request carries the list's token in its body, so that no other site's page can send one for a visitor and no
address holds it. A token that was never opened by an event of the page, where a login is asked for, finds nothing.
"""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from covid_mm.config import ImageLimits
from covid_mm.errors import CovidMMError, UsageError
from covid_mm.evaluation.local_test import LocalTest
from covid_mm.reporting.local_test import describe_json, draw_local_test
from covid_mm.ui.i18n.language import Texts, choose_language
from covid_mm.ui.report.content import clean_note
from covid_mm.ui.study.analysis import Analysis, draw_thumbnails, explain_error
from covid_mm.ui.study.images import READERS, decode_scan
from covid_mm.ui.study.scans import load_scan
from covid_mm.ui.study.slot_choice import SliceChoice
from covid_mm.ui.worklist.export import FORMATS, write_archive, write_report
from covid_mm.ui.worklist.own_test import add_own_test, render_own_test
from covid_mm.ui.worklist.packing import unpack_analysis
from covid_mm.ui.worklist.store import ListGone, WorklistStore
from covid_mm.ui.worklist.studies import ListedStudy
from covid_mm.ui.worklist.view import (
    NOT_KEPT,
    describe_files,
    describe_row,
    render_comparison,
    render_study,
)

PATH, ARCHIVE = "/worklist", "/worklist/archive"
ARCHIVES = 2  # made at once, of all visitors
NOT_ASKED = "The list of studies did not understand this request; reload the page."
NOT_TESTED = "There is no test of your own studies in this session; run labelled studies first."
BUSY = "The server is making reports for others; try again in a minute."

Values = Mapping[str, Any]


def make_routes(store: WorklistStore, limits: ImageLimits = ImageLimits()) -> list[Route]:  # noqa: B008 (frozen)
    """The two routes around a store. limits: of the images that its studies were read from."""
    running = threading.BoundedSemaphore(ARCHIVES)

    async def answer(request: Request) -> Response:
        return await _answer(request, lambda values, texts: _do(store, limits, values, texts))

    async def archive(request: Request) -> Response:
        return await _answer(request, lambda values, texts: _stream(store, running, values, texts))

    return [Route(PATH, answer, methods=["POST"]), Route(ARCHIVE, archive, methods=["POST"])]


async def _answer(request: Request, act: Callable[[Values, Texts], Response]) -> Response:
    """What `act` gives for the request's JSON; an error is a sentence, 404 where the list is gone."""
    texts = choose_language(request.headers.get("accept-language"))
    try:
        values = json.loads(await request.body())
        if not isinstance(values, dict) or not isinstance(values.get("token"), str):
            raise UsageError(NOT_ASKED)
        response = await run_in_threadpool(act, values, texts)
    except Exception as error:
        failure = (
            UsageError(NOT_ASKED) if isinstance(error, UnicodeDecodeError | json.JSONDecodeError) else error
        )
        status = 404 if isinstance(error, ListGone) else 400 if isinstance(failure, CovidMMError) else 500
        response = JSONResponse({"error": explain_error(failure, texts)}, status)
    response.headers["cache-control"] = "no-store"
    return response


def _do(store: WorklistStore, limits: ImageLimits, values: Values, texts: Texts) -> Response:
    """The list's small requests, by `action`."""
    token, action = values["token"], values.get("action")
    if action == "changes":
        count, numbers, changed = store.list_changes(token, _read_number(values, "since"))
        rows = [describe_row(study, texts) for study in changed]
        test = store.find_test(token=token)
        return JSONResponse(
            {"changes": count, "numbers": numbers, "rows": rows, "test": test.date if test else ""}
        )
    if action in ("test", "test-report"):
        store.list_changes(token, 0)  # the list must be there
        return _answer_test(store.find_test(token=token), values, texts)
    if action == "study":
        study = store.read(token, _read_number(values, "number"))
        analysis = _add_thumbnails(store, token, study, limits)
        files = describe_files(study) if analysis else None
        return JSONResponse({"html": render_study(study, analysis, texts), "files": files})
    if action == "compare":
        numbers = sorted((_read_number(values, "number"), _read_number(values, "other")))
        pairs = [_need(store, token, number) for number in numbers]
        return JSONResponse({"html": render_comparison(pairs, texts)})
    if action == "note":
        store.annotate(token, _read_number(values, "number"), clean_note(str(values.get("note") or "")))
    elif action == "delete":
        store.delete(token, _read_numbers(values))
    elif action == "forget":
        store.forget(token)
    elif action == "leave":
        store.leave(token, str(values.get("page")))
    elif action == "return":
        store.come_back(token, str(values.get("page")))
    elif action == "report":
        kind = _read_format(values)
        study, analysis = _need(store, token, _read_number(values, "number"))
        return _send(write_report(study, analysis, kind, datetime.now(UTC), texts), kind)
    else:
        raise UsageError(NOT_ASKED)
    return JSONResponse({})


def _add_thumbnails(
    store: WorklistStore, token: str, study: ListedStudy, limits: ImageLimits
) -> Analysis | None:
    """A study's answer; the thumbnails of a batch's scan are drawn here, as long as its files are there."""
    analysis = _unpack(store, token, study)
    if analysis is None or analysis.prediction.scan is None or analysis.thumbnails:
        return analysis
    try:
        files, _ = store.read_files(study.number, token=token)
        paths, choice = files.paths["ct"], files.choices.get("ct", SliceChoice())
        READERS.run(decode_scan, paths, limits, choice)
    except CovidMMError:  # gone; the answer is shown without them
        return analysis
    scan = load_scan(paths, choice.series)
    if scan is None:
        return analysis
    return replace(analysis, thumbnails=draw_thumbnails(scan, analysis.prediction, choice))


def _stream(
    store: WorklistStore, running: threading.BoundedSemaphore, values: Values, texts: Texts
) -> Response:
    """A ZIP of the reports of `numbers`, as it is made."""
    kind, numbers = _read_format(values), set(_read_numbers(values))
    store.list_changes(values["token"], 0)  # a list that is gone is said before anything is sent
    studies = [study for study in store.list_changes(values["token"], 0)[2] if study.number in numbers]
    if not running.acquire(blocking=False):
        raise UsageError(BUSY)

    def write() -> Iterator[bytes]:
        try:
            yield from write_archive(
                studies, partial(_unpack, store, values["token"]), kind, datetime.now(UTC), texts
            )
        finally:
            running.release()

    pieces = write()
    first = next(pieces)  # begun here, or nothing would give the semaphore back where the visitor left before
    return StreamingResponse(itertools.chain([first], pieces), media_type="application/zip")


def _answer_test(test: LocalTest | None, values: Values, texts: Texts) -> Response:
    """The own test's figures as HTML, or as a file where a format is asked for."""
    if test is None:
        raise UsageError(NOT_TESTED)
    if values.get("action") == "test":
        return JSONResponse({"html": render_own_test(test, texts)})
    kind = _read_format(values)
    return _send(
        draw_local_test(test, texts) if kind == "pdf" else json.dumps(describe_json(test), indent=2).encode(),
        kind,
    )


def _send(content: bytes, kind: str) -> Response:
    return Response(content, media_type="application/pdf" if kind == "pdf" else "application/json")


def _unpack(store: WorklistStore, token: str, study: ListedStudy) -> Analysis | None:
    if not study.packed:
        return None
    return add_own_test(store, None, unpack_analysis(study.packed, study.meta), token)


def _need(store: WorklistStore, token: str, number: int) -> tuple[ListedStudy, Analysis]:
    study = store.read(token, number)
    analysis = _unpack(store, token, study)
    if analysis is None:
        raise UsageError(study.error or NOT_KEPT)
    return study, analysis


def _read_number(values: Values, key: str) -> int:
    number = values.get(key)
    if isinstance(number, bool) or not isinstance(number, int):
        raise UsageError(NOT_ASKED)
    return number


def _read_numbers(values: Values) -> list[int]:
    numbers = values.get("numbers")
    if not isinstance(numbers, list) or not all(type(number) is int for number in numbers):
        raise UsageError(NOT_ASKED)
    return numbers


def _read_format(values: Values) -> str:
    kind = values.get("format")
    if kind not in FORMATS:
        raise UsageError(NOT_ASKED)
    return str(kind)
