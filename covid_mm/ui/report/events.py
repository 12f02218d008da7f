"""The report as a file in the page, and the API's `report`."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import gradio as gr

from covid_mm.config import ImageLimits
from covid_mm.ui.i18n.language import ENGLISH, Texts
from covid_mm.ui.pictures import to_data_url
from covid_mm.ui.predictors import PredictorPool
from covid_mm.ui.report.content import NOTE_LENGTH, clean_note, describe_report, make_report
from covid_mm.ui.study.analysis import Analysis, analyse_uploads, delete_uploads, explain_error
from covid_mm.ui.study.heatmaps import read_choice
from covid_mm.ui.study.images import SlotUpload
from covid_mm.ui.study.slot_choice import read_choices
from covid_mm.ui.templates import render_template

PDF, JSON = "application/pdf", "application/json"


def report_page(
    networks: PredictorPool,
    limits: ImageLimits,
    ct: SlotUpload,
    xray: SlotUpload,
    network: str | None,
    slices: Any,
    request: Any,
    texts: Texts = ENGLISH,
    complete: Callable[[str | None, Analysis], Analysis] | None = None,
    session: str | None = None,
) -> dict[str, Any]:
    """The report of the study as a PDF or JSON file in memory: `name` and `url`, or an error.

    request: as for `explain_page`, and `note` and `format` (`pdf` or `json`). complete: adds to an analysis what the
    visitor of Gradio's `session` tested.
    """
    try:
        values = request if isinstance(request, Mapping) else {}
        note = clean_note(str(values.get("note") or ""))  # refused before the network is asked
        choice, chosen = read_choice(values), read_choices(slices)
        analysis = analyse_uploads(networks, network, ct, xray, limits, chosen, choice)
        if complete is not None:
            analysis = complete(session, analysis)
        report = make_report(analysis, date=datetime.now(UTC), note=note)
        name = "inconclusive-report" if report.is_inconclusive else "study-report"
        if values.get("format") == "json":
            text = json.dumps(describe_report(report), indent=2, allow_nan=False)
            return {"name": f"{name}.json", "url": to_data_url(text.encode(), JSON)}
        from covid_mm.ui.report.pdf import render_pdf

        return {"name": f"{name}.pdf", "url": to_data_url(render_pdf(report, texts), PDF)}
    except Exception as error:
        return {"error": explain_error(error, texts)}


def report_api(
    networks: PredictorPool, limits: ImageLimits, ct: SlotUpload, xray: SlotUpload, note: str = ""
) -> dict[str, Any]:
    """The API's report: the JSON, and the PDF in base64 under `pdf`; the uploads are deleted.

    Raises:
        gr.Error: with the same sentence that the page would show.
    """
    try:
        cleaned = clean_note(note or "")
        analysis = analyse_uploads(networks, None, ct, xray, limits)
        report = make_report(analysis, date=datetime.now(UTC), note=cleaned)
        from covid_mm.ui.report.pdf import render_pdf

        return describe_report(report) | {"pdf": base64.b64encode(render_pdf(report)).decode()}
    except Exception as error:
        raise gr.Error(explain_error(error), print_exception=False) from None
    finally:
        delete_uploads(ct, xray)


def render_form(texts: Texts = ENGLISH) -> str:
    """The note and the buttons below an answer."""
    return render_template("report/form.html", texts, most=NOTE_LENGTH)
