"""The list's place in the page, and the one event that opens it: behind a login where there is one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import gradio as gr

from covid_mm.errors import UsageError
from covid_mm.serving.batch import Row
from covid_mm.serving.pairing import ImageFile
from covid_mm.serving.prediction import CheckpointInfo
from covid_mm.ui.i18n.static_translations import StaticTranslations
from covid_mm.ui.study.analysis import Analysis
from covid_mm.ui.study.events import ScriptChannel, read_number
from covid_mm.ui.study.images import StudyUploads, list_paths
from covid_mm.ui.study.slot_choice import SliceChoice
from covid_mm.ui.worklist.files import KeptFiles
from covid_mm.ui.worklist.own_test import add_own_test, label_row, measure_rows
from covid_mm.ui.worklist.store import TOKEN_NEEDED, WorklistStore
from covid_mm.ui.worklist.studies import ListedStudy
from covid_mm.ui.worklist.view import list_analysis, list_row, render_panel


class SessionStudies:
    """Keeps the studies of one session's slots in its list. session: Gradio's name of it."""

    def __init__(self, store: WorklistStore, session: str | None) -> None:
        self._store = store
        self._session = session

    def keep(self, analysis: Analysis, study: StudyUploads) -> Analysis:
        """The analysis with what the visitor tested, kept in the list with the uploads that it was made of."""
        if self._store.has_list(self._session):
            sources = {m: list_paths(getattr(study, m)) for m in analysis.previews}
            files = keep_files(self._store, sources, study.choices)
            self._store.add(self._session, replace(list_analysis(analysis), files=files))
        return add_own_test(self._store, self._session, analysis)

    def keep_failure(self, sentence: str) -> None:
        """A study that could not be read, with the reason."""
        self._store.add(self._session, ListedStudy(error=sentence))


class BatchRows:
    """Keeps a batch's rows in the list of the session that runs it."""

    def __init__(self, store: WorklistStore) -> None:
        self._store = store

    def begin_run(self, session: str | None) -> int:
        """The number of a new run."""
        return self._store.begin_run(session)

    def keep(
        self, session: str | None, run: int, row: Row, meta: Mapping[str, Any], files: Mapping[str, ImageFile]
    ) -> int:
        """The row's own number in the list, 0 where the session has none. files: modality -> what it was read from."""
        if not run or not self._store.has_list(session):
            return 0
        listed = list_row(row, meta, run)
        if row.prediction is not None:
            sources = {m: [_read_source(file)] for m, file in files.items()}
            listed = replace(listed, files=keep_files(self._store, sources))
        return self._store.add(session, listed)

    def finish_run(
        self, session: str | None, rows: Sequence[Row], meta: Mapping[str, Any], checkpoint: CheckpointInfo
    ) -> None:
        """Measure the run's labelled rows, where it has any, for the session's own test."""
        studies = [label_row(row) for row in rows if row.truth]
        if studies:
            self._store.set_test(session, measure_rows(studies, meta, checkpoint))


def keep_files(
    store: WorklistStore,
    sources: Mapping[str, Sequence[str | bytes]],
    choices: Mapping[str, SliceChoice] | None = None,
) -> KeptFiles | None:
    """A study's files in the visitor's private folder; None where none are kept, or these are too many."""
    if store.keeper is None:
        return None
    return store.keeper.keep(sources, choices, store.limits.visitor_file_bytes)


def find_listed(store: WorklistStore, session: str | None, request: Any) -> StudyUploads | None:
    """The files of the study that a request names as `listed`, of the session's own list; None where it names none.

    Raises:
        UsageError: the study or its files are gone.
    """
    number = request.get("listed") if isinstance(request, Mapping) else None
    if type(number) is not int:
        return None
    files, network = store.read_files(number, session=session)
    return StudyUploads(files.paths.get("ct"), files.paths.get("xray"), network, files.choices)


def _read_source(file: ImageFile) -> str | bytes:
    """A batch's file: its upload, to be linked, or what a ZIP holds of it."""
    return file.read() if file.path is None else str(file.path)


def build_worklist(store: WorklistStore, translations: StaticTranslations) -> None:
    """The list and the hidden button that opens it; to be called in the column of the slots."""
    listed = translations.draw("mm-worklist", partial(render_panel, limits=store.limits))
    gr.HTML(listed, elem_id="mm-worklist", apply_default_css=False)

    def open_list(request: gr.Request, values: Any) -> dict[str, Any]:
        return open_worklist(store, values, request)

    ticket = gr.JSON(visible=False)  # filled by the browser: the list's token, and the tab's own name
    gr.Button("Open the list", elem_id="mm-worklist-open", elem_classes="mm-hidden").click(
        open_list,
        ticket,
        ScriptChannel("worklistOpened", elem_classes="mm-hidden"),
        js="() => window.covidMM.worklistTicket()",
        queue=False,
        api_visibility="private",
        show_progress="hidden",
    )


def build_opened_study() -> None:
    """Where a study of the list is shown, in place of the result; to be called in the result's column."""
    gr.HTML("", elem_id="mm-kept", apply_default_css=False)


def open_worklist(store: WorklistStore, ticket: Any, request: gr.Request) -> dict[str, Any]:
    """Show the visitor's list in this tab; what this Gradio session analyses is kept in it from now on."""
    values = ticket if isinstance(ticket, dict) else {}
    token, page = values.get("token"), values.get("page")
    if not isinstance(token, str) or not isinstance(page, str) or not request.session_hash:
        raise gr.Error(TOKEN_NEEDED, print_exception=False)
    try:
        store.open(token, page[:64], request.session_hash, request.username or "")
    except UsageError as error:
        raise gr.Error(str(error), print_exception=False) from None
    return {"page": page} | read_number(values)
