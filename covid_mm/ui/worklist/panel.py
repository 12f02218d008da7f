"""The list's place in the page, and the one event that opens it: behind a login where there is one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr

from covid_mm.errors import UsageError
from covid_mm.serving.batch import Row
from covid_mm.serving.prediction import CheckpointInfo
from covid_mm.ui.i18n.static_translations import StaticTranslations
from covid_mm.ui.study.analysis import Analysis
from covid_mm.ui.study.events import ScriptChannel, read_number
from covid_mm.ui.worklist.own_test import add_own_test, label_row, measure_rows
from covid_mm.ui.worklist.store import TOKEN_NEEDED, ListedStudy, WorklistStore
from covid_mm.ui.worklist.view import list_analysis, list_row, render_panel


class SessionStudies:
    """Keeps the studies of one session's slots in its list. session: Gradio's name of it."""

    def __init__(self, store: WorklistStore, session: str | None) -> None:
        self._store = store
        self._session = session

    def keep(self, analysis: Analysis) -> Analysis:
        """The analysis with what the visitor tested, kept in the list."""
        self._store.add(self._session, list_analysis(analysis))
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

    def keep(self, session: str | None, run: int, row: Row, meta: Mapping[str, Any]) -> int:
        """The row's own number in the list, 0 where the session has none."""
        return self._store.add(session, list_row(row, meta, run)) if run else 0

    def finish_run(
        self, session: str | None, rows: Sequence[Row], meta: Mapping[str, Any], checkpoint: CheckpointInfo
    ) -> None:
        """Measure the run's labelled rows, where it has any, for the session's own test."""
        studies = [label_row(row) for row in rows if row.truth]
        if studies:
            self._store.set_test(session, measure_rows(studies, meta, checkpoint))


def build_worklist(store: WorklistStore, translations: StaticTranslations) -> None:
    """The list and the hidden button that opens it; to be called in the column of the slots."""
    listed = translations.draw("mm-worklist", render_panel)
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
