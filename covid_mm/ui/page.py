"""The page: two slots, one button, examples, and the result beside them.

The functions behind the events come first, the layout after. An answer depends on its two uploads only, so users
never see each other's; what is kept of it lies in the visitor's own list (worklist/store.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

import gradio as gr

from covid_mm.config import MODALITIES, ImageLimits
from covid_mm.errors import ImageError
from covid_mm.ui.batch.files import BatchLimits
from covid_mm.ui.batch.tab import TITLE as BATCH_TITLE
from covid_mm.ui.batch.tab import build_batch_tab
from covid_mm.ui.i18n.language import ENGLISH, Texts
from covid_mm.ui.i18n.static_translations import StaticTranslations, in_request_language
from covid_mm.ui.model.tab import render_status, render_waiting, watch_network
from covid_mm.ui.predictors import STUDIES, PredictorPool, Ticket, run_in_thread
from covid_mm.ui.report.events import render_form, report_api, report_page
from covid_mm.ui.server.error_log import QuietBlocks
from covid_mm.ui.study.analysis import (
    analyse_uploads,
    delete_uploads,
    describe_prediction,
    explain_error,
)
from covid_mm.ui.study.events import StudyEvents, read_number
from covid_mm.ui.study.evidence import render_worth
from covid_mm.ui.study.examples import ExampleStudies, render_examples
from covid_mm.ui.study.images import (
    READERS,
    SLOT_TITLES,
    SlotUpload,
    StudyUploads,
    preview_upload,
)
from covid_mm.ui.study.result import render_analysis, render_empty, render_error
from covid_mm.ui.study.slot import ImageSlot
from covid_mm.ui.study.slot_choice import SliceChoice, read_choices
from covid_mm.ui.study.waiting import render_queue, render_reading
from covid_mm.ui.templates import render_template
from covid_mm.ui.viewer.events import attach_viewer
from covid_mm.ui.worklist.own_test import TITLE as OWN_TEST_TITLE
from covid_mm.ui.worklist.own_test import add_own_test, render_tab
from covid_mm.ui.worklist.panel import (
    BatchRows,
    SessionStudies,
    build_opened_study,
    build_worklist,
    find_listed,
)
from covid_mm.ui.worklist.store import WorklistStore

DOCUMENT = "Chest CT + X-ray: normal or COVID-19 pneumonia"  # the browser tab
HELP = (
    "<kbd>Enter</kbd> analyses. One slot may stay empty. PNG, JPEG or DICOM; deleted from the server when cleared, with"
    " its study in the list, and after 30 minutes. Text burned into an image stays in it: check that it names nobody."
)
CT_HINT = "One axial slice, or a whole scan: DICOM files, ZIP, NIfTI"
NETWORK = "network"  # concurrency group of what asks it
SIGN = 1.0  # s between two looks at how many studies come before one's own
QUEUE_SIZE = 256  # events that may wait, a few of each of 50 visitors at once; the next is refused with 503


def build_page(
    networks: PredictorPool,
    studies: ExampleStudies,
    limits: ImageLimits | None = None,
    batch_limits: BatchLimits | None = None,
    translations: StaticTranslations | None = None,
    worklists: WorklistStore | None = None,
) -> gr.Blocks:
    """The Gradio page around networks that may still be loading.

    Args:
        networks: give the predictors; the page shows that one loads, and a study waits for it.
        studies: the examples; the page shows placeholders until they are drawn.
        limits: what an image may measure.
        batch_limits: what many studies at once may measure.
        translations: gathers the fixed parts' texts in every language, which `launch_options` wants too.
        worklists: keeps each visitor's answered studies; `launch_options` wants it too.

    Returns:
        Blocks with its queue set up, to be launched with `launch_options`.
    """
    limits, translations = limits or ImageLimits(), translations or StaticTranslations()
    worklists = worklists or WorklistStore()
    page = QuietBlocks(title=DOCUMENT, analytics_enabled=False)
    with page:
        with gr.Row(elem_id="mm-header"):
            gr.HTML(translations.draw("mm-header", render_header), apply_default_css=False)
            chooser = gr.Dropdown(
                list(networks.names),
                value=networks.names[0],
                label=translations.label("Network"),
                visible=len(networks.names) > 1,
                filterable=False,
                elem_id="mm-network",
            )
            loading = translations.draw("mm-status", partial(render_status, "loading"))
            status = gr.HTML(loading, elem_id="mm-status", apply_default_css=False)
        with gr.Tabs(elem_id="mm-tabs"):
            with gr.Tab(translations.label("Study"), id="study"), gr.Row(elem_id="mm-main"):
                figures = translations.draw("mm-worth", partial(render_worth, networks.meta()))
                worth = gr.HTML(figures, elem_id="mm-worth", apply_default_css=False)
                with gr.Column(elem_id="mm-study"):
                    with gr.Row(elem_id="mm-slots"):
                        ct = ImageSlot("ct", SLOT_TITLES["ct"], CT_HINT, limits=limits)
                        xray = ImageSlot("xray", SLOT_TITLES["xray"], "Frontal film", limits=limits)
                    with gr.Row(elem_id="mm-actions"):
                        analyse = gr.Button(
                            translations.label("Analyse"), variant="primary", elem_id="mm-analyse"
                        )
                        clear = gr.Button(translations.label("Clear"), elem_id="mm-clear")
                    line = gr.HTML("", elem_id="mm-line", apply_default_css=False)
                    stop = gr.Button(translations.label("Cancel"), elem_id="mm-stop-analysis")
                    help_text = translations.draw("mm-help", render_help)
                    gr.HTML(help_text, elem_id="mm-help", apply_default_css=False)
                    waiting = translations.draw("mm-examples", partial(render_examples, ()))
                    examples = gr.HTML(waiting, elem_id="mm-examples", apply_default_css=False)
                    build_worklist(worklists, translations)
                with gr.Column(elem_id="mm-answer-column"):
                    build_opened_study()
                    empty = translations.draw("mm-result", render_empty)
                    result = gr.HTML(empty, elem_id="mm-result", apply_default_css=False)
                    form = translations.draw("mm-report-form", render_form)
                    gr.HTML(form, elem_id="mm-report-form", apply_default_css=False)
            with gr.Tab(translations.label(BATCH_TITLE), id="batch"):
                build_batch_tab(
                    networks,
                    chooser,
                    limits,
                    batch_limits or BatchLimits(),
                    translations,
                    BatchRows(worklists),
                )
            with gr.Tab(translations.label(OWN_TEST_TITLE), id="own-test"):
                own_test = translations.draw("mm-own-test", render_tab)
                gr.HTML(own_test, elem_id="mm-own-test", apply_default_css=False)
            with gr.Tab(translations.label("Model"), id="model"):
                card = gr.HTML(
                    translations.draw("mm-card", render_waiting), elem_id="mm-card", apply_default_css=False
                )

        slots = [ct, xray]
        note = gr.Textbox("", visible=False, label="note")  # a value makes it optional to API clients
        slices = gr.JSON(visible=False)  # filled by the browser: which slice and window of DICOM files
        study = [*slots, chooser, slices]
        # `always_last`: a press while the same event is under way comes after it; by default it would be lost.
        private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        answered = analyse.click(
            in_request_language(partial(stream_page, worklists=worklists), networks, limits),
            study,
            [result, line],
            js="async (ct, xray, network) => [...(await window.covidMM.collect()), network, window.covidMM.slices()]",
            trigger_mode="always_last",
            concurrency_limit=None,  # they wait in the networks' own line, which can say how long it is
            **private,
        )
        stop.click(
            None, None, line, cancels=[answered], js="() => (window.covidMM.series.stopped(), '')", **private
        )
        reported = partial(report_page, complete=partial(add_own_test, worklists))
        listed = partial(find_listed, worklists)
        StudyEvents(networks, limits, listed).attach(study, reported, NETWORK)
        attach_viewer(slots, limits, listed)
        # A hidden button, for the reason in `StudyEvents.attach`: only an event checks that a path is an upload.
        for modality, slot in zip(MODALITIES, slots, strict=True):
            ask = gr.Button("Preview", elem_id=f"mm-preview-{modality}", elem_classes="mm-hidden")
            shown = gr.JSON(visible=False)
            asked = ask.click(
                in_request_language(preview_slot, limits, modality),
                [slot, slices],
                shown,
                js=f"() => window.covidMM.slots.{modality}.ask()",
                trigger_mode="always_last",
                concurrency_limit=4,
                **private,
            )
            asked.then(
                None, shown, js=f"(preview) => window.covidMM.slots.{modality}.show(preview)", **private
            )
        answered.then(None, js="() => window.covidMM.finished()", **private)
        answered.failure(None, js="() => window.covidMM.failed()", **private)
        cleared = clear.click(
            in_request_language(clear_study),
            slots,
            result,
            js="() => window.covidMM.clear()",
            queue=False,
            **private,
        )
        cleared.then(None, js="() => window.covidMM.finished()", **private)
        gr.on(
            [page.load, chooser.change],
            in_request_language(watch_network, networks),
            chooser,
            [status, card, worth],
            trigger_mode="always_last",
            concurrency_limit=None,
            **private,
        )
        chooser.change(None, js="() => window.covidMM.replaced()", **private)
        # Not through the queue: Gradio ends a visitor's stream with its last event, and one that joins in that very
        # moment is never heard of again. So nothing but the network's state travels there while the page opens.
        drawn = in_request_language(show_examples, studies)
        page.load(drawn, None, examples, queue=False, **private)

        # The API's own event, on a button that nobody can see or press.
        answer = gr.JSON(visible=False, label="answer")
        gr.Button(visible=False).click(
            _name_inputs(partial(answer_api, networks, limits)),
            slots,
            answer,
            api_name="diagnose",
            api_description="The object of `predict --json`; either image may be left out, not both.",
            concurrency_id=NETWORK,
            concurrency_limit=STUDIES,
        )
        gr.Button(visible=False).click(
            _name_report_inputs(partial(report_api, networks, limits)),
            [*slots, note],
            answer,
            api_name="report",
            api_description="The study's report: the object of `diagnose` with thresholds, images, note and versions,"
            " and the PDF in base64 as `pdf`.",
            concurrency_id=NETWORK,
            concurrency_limit=STUDIES,
        )
    page.queue(max_size=QUEUE_SIZE, api_open=False, default_concurrency_limit=1)
    return page


def answer_page(
    networks: PredictorPool,
    limits: ImageLimits,
    ct: SlotUpload,
    xray: SlotUpload,
    network: str | None = None,
    slices: Any = None,
    texts: Texts = ENGLISH,
    ticket: Ticket | None = None,
    listed: SessionStudies | None = None,
    read: Callable[[float], None] | None = None,
) -> str:
    """The result panel for two uploads; errors are sentences in it, never exceptions.

    listed: keeps the study in the visitor's list. read: gets the share of a scan's slices that were read.
    """
    try:
        choices = read_choices(slices)
        analysis = analyse_uploads(networks, network, ct, xray, limits, choices, ticket=ticket, read=read)
        if listed is not None:
            analysis = listed.keep(analysis, StudyUploads(ct, xray, network, choices))
        return render_analysis(analysis, texts)
    except Exception as error:
        sentence = explain_error(error, texts)
        if listed is not None and isinstance(error, ImageError):
            listed.keep_failure(sentence)
        return render_error(sentence, texts)


async def stream_page(
    networks: PredictorPool,
    limits: ImageLimits,
    ct: SlotUpload,
    xray: SlotUpload,
    network: str | None = None,
    slices: Any = None,
    texts: Texts = ENGLISH,
    worklists: WorklistStore | None = None,
    session: str | None = None,
) -> AsyncIterator[tuple[Any, str]]:
    """(result panel, how many studies come before this one): the panel comes last, when `answer_page` has drawn it.

    worklists: where the study is kept, in the list of Gradio's `session`; None keeps nothing.
    """
    listed = None if worklists is None else SessionStudies(worklists, session)
    ticket = networks.queue.join(watched=True)
    drawn: Future[str] = Future()
    drawn.add_done_callback(lambda _: ticket.leave())
    read = [0.0]  # the share of a scan so far
    answer = partial(
        answer_page,
        networks,
        limits,
        ct,
        xray,
        network,
        slices,
        texts,
        ticket,
        listed,
        partial(read.__setitem__, 0),
    )
    run_in_thread(drawn, answer, "analysis")
    waited = asyncio.wrap_future(drawn)
    while not waited.done():
        await asyncio.wait([waited], timeout=SIGN)
        if not waited.done():
            yield gr.skip(), render_queue(ticket.see(), texts) or render_reading(read[0], texts)
    yield waited.result(), ""


def preview_slot(
    limits: ImageLimits, modality: str, upload: SlotUpload, slices: Any, texts: Texts = ENGLISH
) -> dict[str, Any]:
    """What a slot shows of a file that the browser cannot draw; `{}` where the server cannot either.

    `number` comes back as it was sent, so that the slot knows which of its files this is of.
    """
    number = read_number(slices)
    try:
        choice = read_choices(slices).get(modality, SliceChoice())
        shown = READERS.run(preview_upload, upload, modality, limits, choice)
        return shown | number if shown else {}
    except Exception as error:
        return {"error": explain_error(error, texts)} | number


def answer_api(
    networks: PredictorPool, limits: ImageLimits, ct: SlotUpload, xray: SlotUpload
) -> dict[str, Any]:
    """The JSON for two uploads, which are deleted whatever the answer.

    Raises:
        gr.Error: with the same sentence that the page would show.
    """
    try:
        return describe_prediction(analyse_uploads(networks, None, ct, xray, limits).prediction)
    except Exception as error:
        raise gr.Error(explain_error(error), print_exception=False) from None
    finally:
        delete_uploads(ct, xray)


def show_examples(studies: ExampleStudies, texts: Texts = ENGLISH) -> str:
    """The examples, as soon as they are drawn."""
    return render_examples(studies.get(), texts)


def clear_study(ct: SlotUpload, xray: SlotUpload, texts: Texts = ENGLISH) -> str:
    """Delete the uploads; the result panel is empty again, the browser empties the slots."""
    delete_uploads(ct, xray)
    return render_empty(texts)


def _name_inputs(answer: Any) -> Any:
    """The same function with the argument names that the API shows."""

    def diagnose(ct: str | None = None, xray: str | None = None) -> dict[str, Any]:
        result: dict[str, Any] = answer(ct, xray)
        return result

    return diagnose


def _name_report_inputs(answer: Any) -> Any:
    """The same function with the argument names that the API shows."""

    def report(ct: str | None = None, xray: str | None = None, note: str = "") -> dict[str, Any]:
        result: dict[str, Any] = answer(ct, xray, note)
        return result

    return report


def render_help(texts: Texts = ENGLISH) -> str:
    """One line below the buttons."""
    return f'<p class="mm-help">{texts(HELP)}</p>'


def render_header(texts: Texts = ENGLISH) -> str:
    """Title, purpose, and the button for dark mode."""
    return render_template("header.html", texts, document=texts(DOCUMENT))
