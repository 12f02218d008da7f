"""The viewer on the page: its dialog, and the event that brings full-resolution frames to it.

Frames travel inside the event's answer, as the result's pictures do, and not by a route of their own: the
event checks that what it is asked for is an upload, or a study in the list of the session that asks, waits in the
queue with the others, and what was cleared, deleted or has expired is gone for it too. There is no address under which
an image could be fetched.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import gradio as gr

from covid_mm.config import MODALITIES, ImageLimits
from covid_mm.ui.i18n.language import ENGLISH, Texts
from covid_mm.ui.i18n.static_translations import describe_scripts, draw_markup, in_request_language
from covid_mm.ui.pictures import make_colour_bar
from covid_mm.ui.study.analysis import explain_error
from covid_mm.ui.study.events import ScriptChannel, read_number
from covid_mm.ui.study.images import (
    READERS,
    SLOT_TITLES,
    FindListed,
    SlotUpload,
    StudyUploads,
    read_no_list,
)
from covid_mm.ui.study.slot import SCRIPT_TEXTS as SLOT_TEXTS
from covid_mm.ui.study.slot import StublessMeta
from covid_mm.ui.templates import read_asset, render_template
from covid_mm.ui.viewer.assets import find_address
from covid_mm.ui.viewer.frames import read_frames, read_request

READING = 4  # requests for frames at once; two processes read
VIEWER_TEXTS = {  # of the viewer's scripts
    **SLOT_TITLES,
    **{name: SLOT_TEXTS[name] for name in ("lung", "mediastinum", "file", "free", "of")},
    "window": "Level {level}, width {width}",
    "zoom": "{percent} %",
    "both": "CT and X-ray",
    "pair": "{title}: image and map",
    "single": "{title} alone",
    "plain": "image",
    "mapped": "with map",
    "loading": "Loading the full resolution…",
    "smaller": "Only a smaller picture is shown.",
    "kept": "The file of this study is no longer kept; this is its smaller picture.",
    "other": "The map belongs to slice {number}.",
    "lines": "lines at 10, 25, 50 and 75 % of the scale, along the cells that the network knows; thicker: more",
    "undrawn": "There is no map of this slice yet.",
    "unanswered": "The server did not answer; it may be busy. Try again.",
    "missing": "The viewer could not be loaded; reload the page.",
    "picture": "{title}, {kind}. Arrow keys move, plus and minus zoom, question mark lists all keys.",
    "slice": "{title}: slice",
}


class ViewerDialog(gr.HTML, metaclass=StublessMeta):
    """The dialog, closed at first. Its script offers `window.covidMM.viewer`."""

    def __init__(self, **options: Any) -> None:
        template, markup = draw_markup(render_dialog)
        super().__init__(
            None,
            html_template=template,
            js_on_load=read_asset("viewer/opener.js"),
            apply_default_css=False,
            markup=markup,
            texts=describe_scripts(VIEWER_TEXTS),
            scripts=find_address(),
            **options,
        )

    def get_block_name(self) -> str:
        """Drawn in the browser as Gradio's HTML component."""
        return "html"


def render_dialog(texts: Texts = ENGLISH) -> str:
    """The markup of the dialog."""
    return render_template("viewer/viewer.html", texts, colour_bar=make_colour_bar())


def frames_page(
    limits: ImageLimits,
    ct: SlotUpload,
    xray: SlotUpload,
    request: Any,
    texts: Texts = ENGLISH,
    listed: FindListed = read_no_list,
    session: str | None = None,
) -> dict[str, Any]:
    """Frames of one of the study's images, as `read_frames` gives them, or an error; `number` as it was sent.

    listed: finds the study of the list of Gradio's `session` that the request names, in place of the uploads.
    """
    number = read_number(request)
    try:
        frames_request = read_request(request)
        study = listed(session, request) or StudyUploads(ct, xray)
        upload = dict(zip(MODALITIES, (study.ct, study.xray), strict=True))[frames_request.modality]
        return READERS.run(read_frames, upload, limits, frames_request) | number
    except Exception as error:
        return {"error": explain_error(error, texts)} | number


def attach_viewer(slots: list[Any], limits: ImageLimits, listed: FindListed = read_no_list) -> None:
    """Lay the dialog out, and the hidden button that its script presses for frames.

    slots: as `MODALITIES`. listed: finds studies of the list.
    """
    ViewerDialog(elem_id="mm-viewer-host")
    private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    button = gr.Button("frames", elem_id="mm-frames", elem_classes="mm-hidden")
    asked = button.click(
        in_request_language(partial(frames_page, listed=listed), limits),
        [*slots, gr.JSON(visible=False)],
        ScriptChannel("viewer.delivered", elem_classes="mm-hidden"),
        js="() => window.covidMM.viewer.asked()",
        trigger_mode="multiple",
        concurrency_limit=READING,
        **private,
    )
    asked.failure(None, js="() => window.covidMM.viewer.delivered({ failed: true })", **private)
