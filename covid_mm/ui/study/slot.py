"""The page's image slot: hands the file's own bytes to the project's decoder, unaltered.

Gradio's Image component decodes with Pillow before the function is called (16-bit images are cut
off, damaged ones end in a toast) and shows its preview through a served file. This one uploads the
file as it is, without its name, and previews it inside the browser.
"""

from __future__ import annotations

from abc import ABCMeta
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.component_meta import ComponentMeta, updateable
from gradio.data_classes import FileData, GradioRootModel

from covid_mm.config import ImageLimits
from covid_mm.ui.i18n.language import ENGLISH, Texts
from covid_mm.ui.i18n.static_translations import describe_scripts, draw_markup
from covid_mm.ui.study.scans import SCAN_BYTES, SCAN_FILES
from covid_mm.ui.templates import read_scripts, render_template

SCANS = ("ct",)  # slots that take a whole scan
NOT_SENT = "The image could not be sent to the server; try again."
SCRIPT_TEXTS = {  # of the slot's script
    "lung": "Lung (-600, 1500)",
    "mediastinum": "Mediastinum (40, 400)",
    "file": "The file's own",
    "free": "Free",
    "many": "These are {count} files, and a scan may have {limit} here; send a ZIP.",
    "heavy": "These files have {size} MB, and a scan may have {limit} MB here; leave other series out.",
    "looking": "Looking for a scan in the folder…",
    "none": "There is no scan in this folder: no DICOM file, and not one NIfTI volume or ZIP archive.",
    "large": "This file is larger than {limit} MB; scale it down or save it as JPEG.",
    "unsent": NOT_SENT,
    "of": "{number} of {total}",
    "series": "Series {number}: {slices} slices",
    "apart": ", {spacing} mm apart",
    "checking": "Putting the slices in order…",
}


class StublessMeta(ComponentMeta):
    """Gradio's metaclass without its habit of writing a .pyi file beside the source."""

    def __new__(cls, name: str, bases: tuple[type, ...], attrs: dict[str, Any]) -> type:
        """The class, its `__init__` remembering its arguments as Gradio's metaclass would."""
        if "__init__" in attrs:
            attrs["__init__"] = updateable(attrs["__init__"])
        return ABCMeta.__new__(cls, name, bases, attrs)


@cache
def _describe_upload(model: Any) -> dict[str, Any]:
    """The schema of what a client sends; Gradio asks for it dozens of times before the page opens."""
    schema: dict[str, Any] = model.model_json_schema()
    return schema


class UploadSlot(gr.HTML, metaclass=StublessMeta):
    """What all slots for files have in common: they take uploads, never links, and are never filled."""

    data_model: Any = FileData  # Gradio then checks that the path is one of its own uploads

    def postprocess(self, value: None) -> None:
        """The server never fills a slot."""
        return None

    def api_info(self) -> dict[str, Any]:
        """What a client sends: a file, or several."""
        return deepcopy(_describe_upload(self.data_model))

    def example_payload(self) -> Any:
        """No example: a link to one would need the network."""
        return None

    def example_value(self) -> Any:
        """No example: a link to one would need the network."""
        return None

    async def async_move_resource_to_block_cache(self, url_or_file_path: str | Path | None) -> str | None:
        """Uploads only: a link would make this server fetch what a stranger names."""
        if url_or_file_path is not None and "://" in str(url_or_file_path):
            raise gr.Error("Send the image file itself, not a link to it.", print_exception=False)
        path: str | None = await super().async_move_resource_to_block_cache(url_or_file_path)
        return path

    def get_block_name(self) -> str:
        """Drawn in the browser as Gradio's HTML component."""
        return "html"


class OneOrMoreFiles(GradioRootModel):
    """A list of files, or one alone."""

    root: list[FileData] | FileData


class ImageSlot(UploadSlot):
    """Drop, paste or choose one image file, the files of a DICOM series, or of CT a ZIP or NIfTI volume.

    A function gets the path of the upload, a tuple of several paths, or None.

    Args:
        modality: `ct` or `xray`; the page's scripts find the slot by it.
        title: the slot's name for people.
        hint: one line below the title.
        limits: what the decoder takes; larger files are refused before they are sent.
    """

    data_model = OneOrMoreFiles

    def __init__(
        self,
        modality: str,
        title: str,
        hint: str,
        *,
        limits: ImageLimits = ImageLimits(),  # noqa: B008 (frozen)
        **options: Any,
    ) -> None:
        template, markup = draw_markup(lambda texts: render_slot(modality, title, hint, texts))
        super().__init__(
            None,
            html_template=template,
            js_on_load=read_scripts("drop_target", "study/slot"),
            label=title,
            apply_default_css=False,
            modality=modality,
            markup=markup,
            texts=describe_scripts(SCRIPT_TEXTS),
            max_bytes=SCAN_BYTES if modality in SCANS else limits.max_bytes,
            max_image_bytes=limits.max_bytes,
            max_files=SCAN_FILES,
            folders=modality in SCANS,
            **options,
        )

    def preprocess(self, payload: OneOrMoreFiles | None) -> str | tuple[str, ...] | None:
        """Paths of the uploads; they may have been deleted since."""
        if payload is None:
            return None
        if isinstance(payload.root, list):
            paths = tuple(file.path for file in payload.root)
            return paths[0] if len(paths) == 1 else paths or None
        path: str = payload.root.path
        return path


def render_slot(modality: str, title: str, hint: str, texts: Texts = ENGLISH) -> str:
    """The markup of an image slot."""
    return render_template(
        "study/slot.html",
        texts,
        modality=modality,
        title=texts(title),
        hint=texts(hint),
        folders=modality in SCANS,
    )
