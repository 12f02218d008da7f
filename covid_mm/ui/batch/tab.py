"""The tab for many studies, and the API's `batch`: pair, show, run one study at a time, stop when asked.

No state is kept between two requests: a run's rows go to the visitor who started it and are kept by
that visitor's own browser only, which also makes the CSV from them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

import gradio as gr

from covid_mm.config import ImageLimits
from covid_mm.serving.batch import Row, answer_studies
from covid_mm.serving.pairing import ImageFile, Pairing, clean_name
from covid_mm.serving.prediction import CheckpointInfo
from covid_mm.serving.scan_files import read_files
from covid_mm.ui.batch.components import BatchPanel, ManifestFile, StudyFiles
from covid_mm.ui.batch.files import BatchLimits, Upload, keep_uploads, pair_uploads
from covid_mm.ui.batch.view import (
    MANIFEST_RULE,
    PRIVACY,
    RULE,
    csv_head,
    describe_pairing,
    describe_progress,
    describe_row,
    describe_study,
    render_pairing,
    render_problem,
    render_run_head,
)
from covid_mm.ui.i18n.language import ENGLISH, Texts
from covid_mm.ui.i18n.static_translations import (
    StaticTranslations,
    in_request_language,
)
from covid_mm.ui.predictors import BatchAnswerer, PredictorPool
from covid_mm.ui.study.analysis import delete_uploads, explain_error
from covid_mm.ui.study.images import READERS

RUNS = 3  # batches that run side by side, one study each in turn; the next waits in the queue
MAX_NAMES = 500  # of files that were not sent
TITLE = "Many studies"
API_DESCRIPTION = (
    "Answer many studies: one ZIP, or images named <study>_ct.* and <study>_xray.*, or any names with a CSV"
    " manifest (columns study, ct, xray). Gives `studies` (study, label, probabilities, branches, modalities,"
    " warnings, lungs, evidence, scan, error), `left_out` (file, reason) and `checkpoint`."
)
MEASURE = (
    "At most {studies} studies at once; files of {size} MB together."
    " For more: <code>python -m covid_mm batch</code>."
)
TESTED = "The labelled studies were measured: see Test it here first."


class RowKeeper(Protocol):
    """Keeps the rows of a visitor's runs in the session's list."""

    def begin_run(self, session: str | None) -> int:
        """The number of a new run."""

    def keep(
        self, session: str | None, run: int, row: Row, meta: Mapping[str, Any], files: Mapping[str, ImageFile]
    ) -> int:
        """The row's own number in the list, 0 where it was not kept.

        meta: of the checkpoint that answered. files: modality -> what was read.
        """

    def finish_run(
        self, session: str | None, rows: Sequence[Row], meta: Mapping[str, Any], checkpoint: CheckpointInfo
    ) -> None:
        """Measure the run's labelled rows, where it has any. rows: without pictures."""


def build_batch_tab(
    networks: PredictorPool,
    chooser: gr.Dropdown,
    image_limits: ImageLimits,
    limits: BatchLimits,
    translations: StaticTranslations,
    keeper: RowKeeper | None = None,
) -> None:
    """The tab's layout and events, and the API's `batch`; to be called inside the tab.

    keeper: keeps each row in the visitor's list of studies; None keeps nothing.
    """
    with gr.Row(elem_id="mm-batch"):
        with gr.Column(elem_id="mm-batch-side"):
            files = StudyFiles(limits=limits, image_limits=image_limits, elem_id="mm-batch-files")
            with gr.Row(elem_id="mm-batch-actions"):
                run = gr.Button(
                    translations.label("Run"), variant="primary", interactive=True, elem_id="mm-batch-run"
                )
                cancel = gr.Button(translations.label("Cancel"), elem_id="mm-batch-cancel")
                clear = gr.Button(translations.label("Clear"), elem_id="mm-batch-clear")
            gr.HTML(translations.draw("mm-batch-help", partial(render_help, limits)), apply_default_css=False)
        with gr.Column(elem_id="mm-batch-main"):
            panel = BatchPanel(elem_id="mm-batch-panel")

    private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    unsent = gr.JSON(visible=False)  # filled by the browser: names of images that are too large
    context = (image_limits, limits)
    gr.Button("Pair", elem_id="mm-batch-pair", elem_classes="mm-hidden").click(
        in_request_language(pair_page, *context),
        [files, unsent],
        panel,
        js="() => window.covidMM.batch.ask()",
        concurrency_limit=4,
        **private,
    ).failure(None, js="() => window.covidMM.batch.failed('pairing')", **private)
    running = run.click(
        in_request_language(partial(run_page, keeper=keeper), networks, *context),
        [files, unsent, chooser],
        panel,
        js="(files, unsent, network) => [...window.covidMM.batch.start(), network]",
        trigger_mode="multiple",  # a cancelled run counts as running for "once"
        concurrency_id="batch",
        concurrency_limit=RUNS,
        **private,
    )
    running.then(None, js="() => window.covidMM.batch.ended()", **private)
    running.failure(None, js="() => window.covidMM.batch.failed('running')", **private)
    cancel.click(None, js="() => window.covidMM.batch.cancelled()", cancels=[running], **private)
    gr.Button("Delete", elem_id="mm-batch-delete", elem_classes="mm-hidden").click(
        delete_page,
        files,
        None,
        js="() => window.covidMM.batch.leave()",
        trigger_mode="multiple",  # one set's files after another's, none forgotten
        concurrency_limit=None,
        **private,
    )
    clear.click(None, js="() => window.covidMM.batch.clear()", cancels=[running], **private)

    # The API's own event, on a button that nobody can see or press.
    manifest = ManifestFile(visible=False)
    answer = gr.JSON(visible=False, label="answer")
    gr.Button(visible=False).click(
        _name_inputs(partial(run_api, networks, *context)),
        [files, manifest],
        answer,
        api_name="batch",
        api_description=API_DESCRIPTION,
        concurrency_id="batch",
        concurrency_limit=RUNS,
    )


def pair_page(
    image_limits: ImageLimits,
    limits: BatchLimits,
    files: list[Upload],
    unsent: Any = None,
    texts: Texts = ENGLISH,
) -> dict[str, Any]:
    """What the panel shows before a run; errors are sentences in it."""
    try:
        pairing = pair_uploads(files, too_large=_read_names(unsent), limits=limits, image_limits=image_limits)
    except Exception as error:
        return _describe_problem(error, texts)
    return {
        "kind": "paired",
        "html": render_pairing(pairing, texts),
        "status": describe_pairing(pairing, texts),
        "ready": any(study.files for study in pairing.studies),
    }


def run_page(
    networks: PredictorPool,
    image_limits: ImageLimits,
    limits: BatchLimits,
    files: list[Upload],
    unsent: Any = None,
    network: str | None = None,
    texts: Texts = ENGLISH,
    keeper: RowKeeper | None = None,
    session: str | None = None,
) -> Iterator[dict[str, Any]]:
    """The panel's object again and again, with one more row each time; the uploads are gone in the end.

    Ends early, between two studies, where the visitor cancels or leaves. keeper: keeps each row in the list of Gradio's
    `session`.
    """
    try:
        pairing = pair_uploads(files, too_large=_read_names(unsent), limits=limits, image_limits=image_limits)
        keep_uploads(files)
        shown: dict[str, Any] = {"kind": "run", "total": len(pairing.studies), "csv": csv_head(), "rows": []}
        began, done = 0.0, list[Row]()
        run = keeper.begin_run(session) if keeper else 0
        for info, row in _answer(networks, pairing, network):
            if row is None:
                began = time.monotonic()
                shown["html"] = render_run_head(len(pairing.studies), info, texts)
            else:
                study = pairing.studies[len(done)]
                meta = networks.choose(network).get().meta
                number = keeper.keep(session, run, row, meta, study.files) if keeper else 0
                shown["rows"] = [*shown["rows"], describe_row(row, study.remark, texts, number)]
                done.append(_drop_pictures(row))
            seconds = time.monotonic() - began
            outcomes = [one.outcome for one in done]
            shown["status"] = describe_progress(outcomes, len(pairing.studies), seconds, texts)
            yield dict(shown)
        if keeper and any(one.truth for one in done):
            keeper.finish_run(session, done, networks.choose(network).get().meta, info)
            yield shown | {"tested": texts(TESTED)}
    except Exception as error:
        yield _describe_problem(error, texts)
    finally:
        delete_uploads(*(one.path for one in files))


def run_api(
    networks: PredictorPool,
    image_limits: ImageLimits,
    limits: BatchLimits,
    files: list[Upload],
    manifest: Upload | None,
) -> Iterator[dict[str, Any]]:
    """The API's object with one more study each time, so that a client can follow and cancel.

    Raises:
        gr.Error: with the same sentence that the page would show.
    """
    uploads = [*files, *([manifest] if manifest else [])]
    try:
        pairing = pair_uploads(files, manifest, limits=limits, image_limits=image_limits)
        keep_uploads(uploads)
        studies: list[dict[str, Any]] = []
        left_out = [{"file": one.name, "reason": one.reason} for one in pairing.left_out]
        for info, row in _answer(networks, pairing):
            if row is not None:
                studies = [*studies, describe_study(row)]
            yield {"studies": studies, "left_out": left_out, "checkpoint": _describe_checkpoint(info)}
    except Exception as error:
        raise gr.Error(explain_error(error), print_exception=False) from None
    finally:
        delete_uploads(*(one.path for one in uploads))


def delete_page(files: list[Upload]) -> None:
    """Remove a visitor's uploads."""
    delete_uploads(*(one.path for one in files))


def _answer(
    networks: PredictorPool, pairing: Pairing, network: str | None = None
) -> Iterator[tuple[CheckpointInfo, Row | None]]:
    """The checkpoint alone as soon as it is loaded, then with each study's row."""
    predictor = BatchAnswerer(networks.choose(network).get(), networks.lock)
    yield predictor.info, None

    for row in answer_studies(predictor, pairing.studies, partial(read_files, run=READERS.run)):
        yield predictor.info, row


def _drop_pictures(row: Row) -> Row:
    """The row for counting, without what takes room."""
    if row.prediction is None:
        return row
    return replace(row, prediction=replace(row.prediction, images={}, heatmaps={}))


def _describe_problem(error: Exception, texts: Texts) -> dict[str, Any]:
    sentence = explain_error(error, texts)
    return {"kind": "problem", "html": render_problem(sentence, texts), "sentence": sentence}


def _describe_checkpoint(info: CheckpointInfo) -> dict[str, Any]:
    return {
        "name": info.name,
        "sha256": info.sha256,
        "pair": info.pair,
        "trained_on": info.trained_on,
        "decision_threshold": info.decision_threshold,
    }


def _read_names(values: Any) -> list[str]:
    """File names from the browser, of which nothing is believed."""
    names = values if isinstance(values, list) else []
    return [clean_name(name) for name in names[:MAX_NAMES] if isinstance(name, str)]


def _name_inputs(run: Any) -> Any:
    """The same generator with the argument names that the API shows."""

    def batch(files: list[Upload], manifest: Upload | None = None) -> Iterator[Mapping[str, Any]]:
        yield from run(files, manifest)

    return batch


def render_help(limits: BatchLimits, texts: Texts = ENGLISH) -> str:
    """What may be dropped, how files are paired, and how much at once, as HTML."""
    measure = texts(MEASURE, studies=limits.max_studies, size=f"{limits.max_bytes / 2**20:g}")
    return (
        f'<div class="mm-batch-help"><h2>{texts("How files are paired")}</h2>'
        f"<p>{texts(RULE)}</p><p>{texts(MANIFEST_RULE)}</p><p>{measure}</p><p>{texts(PRIVACY)}</p></div>"
    )
