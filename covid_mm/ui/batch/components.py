"""The batch tab's own components: the slot for many files, the API's manifest, the panel that its script draws."""

from __future__ import annotations

from typing import Any

import gradio as gr
from gradio.data_classes import FileData

from covid_mm.config import RESEARCH_USE, ImageLimits
from covid_mm.serving.pairing import clean_name
from covid_mm.ui.batch.files import UNNAMED, BatchLimits, Upload
from covid_mm.ui.i18n.language import ENGLISH, Texts
from covid_mm.ui.i18n.static_translations import describe_scripts, draw_markup
from covid_mm.ui.study.slot import OneOrMoreFiles, StublessMeta, UploadSlot
from covid_mm.ui.templates import read_asset, read_scripts, render_template

TEXTS = {  # of the tab's scripts
    "choose": "Choose a ZIP archive, or images and a CSV manifest",
    "sending": "Sending {done} of {total} files",
    "pairing": "Looking which files belong together",
    "several": "{total} files",
    "one": "1 file",
    "unsent": "The files could not be sent to the server; try again.",
    "many": "These are {total} files, and this page takes {limit} at once; send them in parts, or in one ZIP archive.",
    "large": "This archive is larger than {limit} MB; divide it.",
    "starting": "Waiting for the network",
    "finished": "Finished. {gone}",
    "cancelled": "Cancelled: the studies below were answered, the others were not. {gone}",
    "cancelled_early": "Cancelled before the first study. {gone}",
    "gone": "The files have been deleted from the server. Add them again for another run.",
    "busy": "The server did not answer; it may be busy. Add the files again.",
}


class StudyFiles(UploadSlot):
    """Drop, paste or choose many files; a function gets a list of `Upload`.

    Args:
        limits: what is refused before it is sent.
        image_limits: the same of one image.
    """

    data_model = OneOrMoreFiles

    def __init__(
        self,
        *,
        limits: BatchLimits = BatchLimits(),  # noqa: B008 (frozen)
        image_limits: ImageLimits = ImageLimits(),  # noqa: B008 (frozen)
        **options: Any,
    ) -> None:
        template, markup = draw_markup(render_drop)
        super().__init__(
            None,
            html_template=template,
            js_on_load=read_scripts("drop_target", "batch/drop"),
            label="files",
            apply_default_css=False,
            markup=markup,
            texts=describe_scripts(TEXTS),
            max_files=limits.max_files,
            max_bytes=limits.max_bytes,
            max_image_bytes=image_limits.max_bytes,
            **options,
        )

    def preprocess(self, payload: OneOrMoreFiles | None) -> list[Upload]:
        """Each upload with the name that its owner gave it."""
        if payload is None:
            return []
        files = payload.root if isinstance(payload.root, list) else [payload.root]
        return [_to_upload(file) for file in files]


class ManifestFile(UploadSlot):
    """The API's manifest; the page takes it among the other files."""

    def __init__(self, **options: Any) -> None:
        super().__init__(None, label="manifest", js_on_load=None, **options)

    def preprocess(self, payload: FileData | None) -> Upload | None:
        """The upload, or None."""
        return None if payload is None else _to_upload(payload)


class BatchPanel(gr.HTML, metaclass=StublessMeta):
    """Pairing, progress and results, drawn by its script from the objects that the events give."""

    def __init__(self, **options: Any) -> None:
        template, markup = draw_markup(render_panel)
        super().__init__(
            None,
            html_template=template,
            js_on_load=read_asset("batch/panel.js"),
            apply_default_css=False,
            markup=markup,
            texts=describe_scripts(TEXTS),
            **options,
        )

    def postprocess(self, value: Any) -> Any:
        """The object as it is."""
        return value

    def get_block_name(self) -> str:
        """Drawn in the browser as Gradio's HTML component."""
        return "html"


def render_drop(texts: Texts = ENGLISH) -> str:
    """The markup of the slot for many files."""
    return render_template("batch/drop.html", texts, choose=TEXTS["choose"])


def render_panel(texts: Texts = ENGLISH) -> str:
    """The markup of the panel before anything was added."""
    return render_template("batch/panel.html", texts, research_use=RESEARCH_USE)


def _to_upload(file: FileData) -> Upload:
    name = (file.orig_name or "").replace("\\", "/").strip("/")
    return Upload(file.path, clean_name(name) or UNNAMED)
