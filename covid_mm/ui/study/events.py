"""What happens after an answer: other heatmaps, a map as a file. Functions behind events, no layout.

Each reads the uploads again, or the files of a study of the visitor's own list, and keeps nothing, so that one visitor
never meets another's study. The objects that they give go to the page's scripts; an error is one sentence in them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import gradio as gr

from covid_mm.config import MODALITIES, ImageLimits
from covid_mm.errors import Cancelled, UsageError
from covid_mm.ui.i18n.language import ENGLISH, Texts
from covid_mm.ui.i18n.static_translations import in_request_language
from covid_mm.ui.pictures import draw_outlines
from covid_mm.ui.predictors import STUDIES, PredictorPool
from covid_mm.ui.study.analysis import (
    Analysis,
    analyse_uploads,
    explain_error,
)
from covid_mm.ui.study.heatmaps import CancellableTask, describe_map, draw_overlay, read_choice
from covid_mm.ui.study.images import (
    READERS,
    SLOT_TITLES,
    FindListed,
    SlotUpload,
    StudyUploads,
    read_no_list,
    read_slot_image,
)
from covid_mm.ui.study.slot import StublessMeta
from covid_mm.ui.study.slot_choice import SliceChoice, choose_slice, read_choices

NO_ANSWER = "There is no answer to make this of; analyse the study first."


class ScriptChannel(gr.HTML, metaclass=StublessMeta):
    """Hands each object that an event gives to one function of the page's scripts; shows nothing."""

    def __init__(self, function: str, **options: Any) -> None:
        super().__init__(
            None,
            html_template="",
            js_on_load=f"watch('value', () => props.value && window.covidMM.{function}(props.value));",
            apply_default_css=False,
            **options,
        )

    def postprocess(self, value: Any) -> Any:
        """The object as it is."""
        return value

    def get_block_name(self) -> str:
        """Drawn in the browser as Gradio's HTML component."""
        return "html"


def explain_page(
    networks: PredictorPool,
    limits: ImageLimits,
    ct: SlotUpload,
    xray: SlotUpload,
    network: str | None,
    slices: Any,
    request: Any,
    texts: Texts = ENGLISH,
    listed: FindListed = read_no_list,
    session: str | None = None,
) -> Iterator[dict[str, Any]]:
    """The chosen heatmaps for the page: signs of life, then `maps` by modality, or an error.

    Stopped where the visitor cancels or leaves. request: `method`, `layer` and `target`, and `number`, which comes
    back with each object, so that the page knows an answer from one that it no longer waits for. listed: finds the
    study of the list of Gradio's `session` that the request names, in place of the uploads.
    """
    number = read_number(request)
    try:
        choice = read_choice(request)
        study = listed(session, request) or StudyUploads(ct, xray, network, read_choices(slices))
        chosen = choose_slice(study.choices, request)
        task = CancellableTask()
        # the lock is the working thread's, for a reader may leave at any yield
        call = partial(analyse_uploads, networks, study.network, study.ct, study.xray, limits, chosen, choice)
        for share in task.run(call):
            yield {"progress": round(share, 3)} | number
        analysis: Analysis = task.result
        if not analysis.prediction.heatmaps:
            raise UsageError(NO_ANSWER)
        yield {"maps": describe_maps(analysis, texts)} | describe_slice(analysis, chosen, texts) | number
    except Cancelled:
        yield {"cancelled": True} | number
    except Exception as error:
        yield {"error": explain_error(error, texts)} | number


def describe_maps(analysis: Analysis, texts: Texts = ENGLISH) -> dict[str, dict[str, str | None]]:
    """What the page shows of each heatmap, by modality."""
    target = analysis.prediction.heatmap_class
    return {
        modality: describe_map(
            heatmap,
            texts(SLOT_TITLES[modality]),
            target,
            analysis.kind,
            texts,
            analysis.prediction.heat_location.get(modality),
            analysis.prediction.find_heat_cells(modality),
        )
        for modality, heatmap in analysis.prediction.heatmaps.items()
    }


def describe_slice(
    analysis: Analysis, chosen: Mapping[str, SliceChoice], texts: Texts = ENGLISH
) -> dict[str, Any]:
    """Of one slice of a scan, whose maps were asked for: `slice`, its number, picture and outlines; else `{}`."""
    choice = chosen.get("ct", SliceChoice())
    if not choice.alone or "ct" not in analysis.previews:
        return {}
    title = texts(SLOT_TITLES["ct"])
    words = texts("{title}: outline of the lungs, and the part that was read", title=title)
    return {
        "slice": {
            "index": choice.frame,
            "url": analysis.previews["ct"].url,
            "outline": draw_outlines(analysis.prediction, "ct"),
            "read_outline": draw_outlines(analysis.prediction, "ct", words),
        }
    }


def download_page(
    networks: PredictorPool,
    limits: ImageLimits,
    ct: SlotUpload,
    xray: SlotUpload,
    network: str | None,
    slices: Any,
    request: Any,
    texts: Texts = ENGLISH,
    listed: FindListed = read_no_list,
    session: str | None = None,
) -> dict[str, Any]:
    """One heatmap over its image as a PNG at the image's own resolution: `name` and `url`, or an error.

    request: as for `explain_page`, and `modality` and `opacity` (0..1).
    """
    try:
        choice = read_choice(request)
        modality, opacity = _read_download(request)
        study = listed(session, request) or StudyUploads(ct, xray, network, read_choices(slices))
        chosen = choose_slice(study.choices, request)
        path = {"ct": study.ct, "xray": study.xray}[modality]
        analysis = analyse_uploads(networks, study.network, study.ct, study.xray, limits, chosen, choice)
        heatmap = analysis.prediction.heatmaps.get(modality)
        if path is None or heatmap is None:
            raise UsageError(NO_ANSWER)
        slice_ = chosen.get(modality, SliceChoice())
        if modality == "ct" and analysis.prediction.slice is not None:
            slice_ = dataclasses.replace(slice_, frame=analysis.prediction.slice)
        grey = READERS.run(read_slot_image, path, modality, limits, slice_).grey
        drawn = analysis.prediction.draw_heatmap(modality, *grey.shape)
        return {"name": f"{modality}-{analysis.kind.method}.png", "url": draw_overlay(grey, drawn, opacity)}
    except Exception as error:
        return {"error": explain_error(error, texts)}


def read_number(values: Any) -> dict[str, int]:
    """`number`, the page's own count of its requests, to be given back with the answer; `{}` where it sent none."""
    number = values.get("number") if isinstance(values, Mapping) else None
    return {"number": number} if isinstance(number, int) else {}


@dataclasses.dataclass(frozen=True)
class StudyEvents:
    """The components that these events need beside the study's own."""

    networks: PredictorPool
    limits: ImageLimits
    listed: FindListed = read_no_list

    def attach(self, study: list[Any], report_page: Callable[..., Any], concurrency_id: str) -> None:
        """Hidden buttons that the page's scripts press. study: slots, chooser, slices. report_page: makes it."""
        # Not `gr.HTML(server_functions=...)`: what is sent there is not checked to be one's own upload, does not wait
        # in the queue with the others and cannot be cancelled.
        private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        request = gr.JSON(visible=False)
        inputs = [*study, request]
        collect = "async (ct, xray, network) => await window.covidMM.request(network)"

        def press(name: str, function: Any, channel: ScriptChannel) -> Any:
            button = gr.Button(name, elem_id=f"mm-{name}", elem_classes="mm-hidden")
            event = button.click(
                in_request_language(function, self.networks, self.limits),
                inputs,
                channel,
                js=collect,
                trigger_mode="multiple",  # a cancelled event counts as running for "once"
                concurrency_id=concurrency_id,
                concurrency_limit=STUDIES,
                **private,
            )
            event.failure(None, js=f"() => window.covidMM.refused('{name}')", **private)
            return event

        explain, download = (partial(one, listed=self.listed) for one in (explain_page, download_page))
        explained = press("explain", explain, ScriptChannel("explained", elem_classes="mm-hidden"))
        press("download", download, ScriptChannel("saved", elem_classes="mm-hidden"))
        press("report", report_page, ScriptChannel("saved", elem_classes="mm-hidden"))
        stop = gr.Button("stop", elem_id="mm-stop-explain", elem_classes="mm-hidden")
        stop.click(None, cancels=[explained], **private)


def _read_download(request: Any) -> tuple[str, float]:
    values = request if isinstance(request, Mapping) else {}
    modality, opacity = values.get("modality"), values.get("opacity")
    known = isinstance(modality, str) and modality in MODALITIES
    if not known or not isinstance(opacity, (int, float)) or not 0 <= opacity <= 1:
        raise UsageError("A heatmap is saved with a modality and an opacity from 0 to 1; choose it again.")
    return str(modality), float(opacity)
