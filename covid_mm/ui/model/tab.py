"""The Model tab: the served checkpoint's card, drawn from its meta.json and from results/."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape

from covid_mm.config import RESEARCH_USE
from covid_mm.errors import CovidMMError
from covid_mm.reporting.card_tables import (
    COLLECTIONS,
    METRICS,
    SHORTCUTS,
    list_reports,
    tabulate_calibration,
    tabulate_confusion,
    tabulate_data,
    tabulate_possibilities,
    tabulate_refusals,
)
from covid_mm.reporting.card_words import (
    HEAD_TITLES,
    HELD_OUT,
    PAIRS_AGREED,
    SPLITS,
    SYNTHETIC,
    TUNED,
    find_tuning,
)
from covid_mm.reporting.card_writer import make_table
from covid_mm.reporting.served_facts import describe_limits
from covid_mm.serving.metadata import word_training
from covid_mm.ui.i18n.language import ENGLISH, Texts
from covid_mm.ui.model.left_out import list_heat_location, list_independence, list_left_out
from covid_mm.ui.model.roc_chart import draw_roc
from covid_mm.ui.model.sections import (
    SHORTCUT_NOTE,
    PageWriter,
    Part,
    Row,
    list_content_check,
    list_networks,
    list_parts,
    read_networks,
)
from covid_mm.ui.predictors import PredictorLoader, PredictorPool
from covid_mm.ui.study.evidence import render_worth
from covid_mm.ui.study.operating_point import find_operating, render_operating
from covid_mm.ui.templates import render_template

INSIDE = (
    "The figures from here to the four possibilities are of validation images of the training collections, split off"
    " as said under Data. They say how well the collections were learned, not what the answer is worth elsewhere."
)


def render_waiting(texts: Texts = ENGLISH) -> str:
    """What stands where the card will be."""
    text = texts("The network is loading; its card appears here.")
    return f'<p class="mm-card-wait" role="status">{text}</p>'


def render_loaded(loader: PredictorLoader, texts: Texts = ENGLISH) -> str:
    """The card of the loaded network, or one sentence where it could not be loaded."""
    try:
        predictor = loader.get()
    except (CovidMMError, RuntimeError) as error:
        sentence = error.message if isinstance(error, CovidMMError) else str(error)
        return f'<p class="mm-card-wait" role="alert">{escape(texts.sentence(sentence))}</p>'
    try:
        networks = () if predictor.meta.get("synthetic") else read_networks()
        return render_model_card(predictor.meta, predictor.info.name, texts, networks)
    except (KeyError, TypeError, ValueError, AttributeError):  # the network answers all the same
        lacking = texts("The meta.json of this checkpoint lacks what its card shows.")
        return f'<p class="mm-card-wait" role="alert">{lacking}</p>'


def render_model_card(
    meta: Mapping[str, Any],
    name: str,
    texts: Texts = ENGLISH,
    networks: Sequence[Mapping[str, Any]] = (),
) -> str:
    """The card as HTML; sections whose fields are lacking are left out.

    meta: the object of meta.json. networks: those of results.json, as `read_networks` gives them.
    """
    write = PageWriter(texts)
    metrics = meta.get("metrics", {}).get("validation", {})
    shortcuts = make_table(SHORTCUTS, (meta.get("left_out") or {}).get("shortcuts", ()), write)
    calibration = tabulate_calibration(metrics, meta.get("temperature", {}), write)
    possibilities = tabulate_possibilities(meta.get("possibilities", ()), write)
    charts = draw_roc(meta.get("operating_points", {}), HEAD_TITLES, texts)
    sections = [
        (
            texts("On hospitals and scanners never seen in training"),
            list_left_out(meta, texts) if meta else [],
        ),
        (texts("Where its heatmaps point"), list_heat_location(meta, texts)),
        (texts("Two images as independent evidence"), list_independence(meta, texts)),
        (texts("Data"), _list_data(meta, texts)),
        (texts("Images that get no answer"), list_parts(tabulate_refusals(meta.get("refusals", ()), write))),
        (texts("Shortcuts"), list_parts(shortcuts, texts(SHORTCUT_NOTE))),
        (texts("Measured inside the training collections"), _list_inside(metrics, texts)),
        (texts("Confusion matrices"), _list_confusion(metrics, texts)),
        (texts("Other thresholds"), _list_thresholds(meta, texts)),
        (texts("ROC curves"), [Row(charts)] if charts else []),
        (texts("Calibration"), list_parts(calibration, texts(TUNED[find_tuning(meta)]))),
        (texts("The four possibilities"), list_parts(possibilities, texts(PAIRS_AGREED))),
        (
            texts("The content check"),
            list_content_check(meta.get("content_check"), meta.get("data", ()), texts),
        ),
    ]
    compared = [
        (
            texts.sentence(one["title"]),
            [texts.sentence(one["text"]), one.get("images", ""), *_list_metrics(one["metrics"], texts)],
        )
        for one in meta.get("comparisons", ())
    ]
    nine = (texts("The paper's nine networks"), list_networks(networks, texts))
    return render_template(
        "model/card.html",
        texts,
        research_use=RESEARCH_USE,
        synthetic=texts(SYNTHETIC) if meta.get("synthetic") else "",
        facts=_list_facts(meta, name, texts),
        sections=[*sections, *compared, nine],
        limits=_list_limits(meta, texts),
        commands=_list_commands(meta),
    )


def _list_facts(meta: Mapping[str, Any], name: str, texts: Texts) -> dict[str, str]:
    return {
        "Checkpoint": name,
        "Network": meta.get("pair", ""),
        "Trained on": texts.sentence(word_training(meta)) if "trained_on" in meta else "",
        "Trained": str(meta.get("trained_at", ""))[:10],
        "SHA-256 of the weights": meta.get("weights", {}).get("sha256", ""),
    }


def _list_data(meta: Mapping[str, Any], texts: Texts) -> list[Part]:
    data, write = meta.get("data", ()), PageWriter(texts)
    if meta.get("recipe") == "served":
        return list_parts(make_table(COLLECTIONS, data, write), texts(HELD_OUT))
    split = SPLITS.get(meta.get("split", {}).get("protocol", ""), "")
    return list_parts(tabulate_data(data, write), texts(split))


def _list_metrics(metrics: Mapping[str, Any], texts: Texts) -> list[Part]:
    table = make_table(METRICS, list_reports(metrics), PageWriter(texts))
    return list_parts(table, texts("In brackets: 95 % intervals."))


def _list_inside(metrics: Mapping[str, Any], texts: Texts) -> list[Part]:
    """The validation figures below the words that say what they are."""
    parts = _list_metrics(metrics, texts)
    return [Markup('<p class="mm-card-note">{}</p>').format(texts(INSIDE)), *parts] if parts else []


def _list_thresholds(meta: Mapping[str, Any], texts: Texts) -> list[Part]:
    """A slider per head over the operating points of the validation images."""
    known = meta.get("decision_threshold", {})
    panels = (
        render_operating(find_operating(meta, head), known.get(head, 0.5), texts, title=texts(title))
        for head, title in HEAD_TITLES.items()
    )
    return [panel for panel in panels if panel]


def _list_confusion(metrics: Mapping[str, Any], texts: Texts) -> list[Part]:
    tables = [
        tabulate_confusion(report["counts"], PageWriter(texts), texts(HEAD_TITLES.get(head, head)))
        for head, report in metrics.items()
    ]
    return [Row(tables)] if tables else []


def _list_limits(meta: Mapping[str, Any], texts: Texts) -> list[tuple[str, str]]:
    """(title, text) of each limit; the data's caveats, which have no title, first."""
    caveats = dict.fromkeys(c for part in meta.get("data", ()) for c in part.get("caveats", ()))
    limits = [("", texts.sentence(caveat)) for caveat in caveats]
    written = meta.get("limits", ())
    # what a sentence of meta.json was made from, where this version would make the same
    made = {one["text"]: one["text"] for one in describe_limits(meta)} if written else {}
    return limits + [
        (texts.sentence(one["title"]), texts.sentence(made.get(one["text"], one["text"]))) for one in written
    ]


def _list_commands(meta: Mapping[str, Any]) -> list[str]:
    earlier = (c for weights in meta.get("initial_weights", {}).values() for c in weights.get("commands", ()))
    return list(dict.fromkeys([*earlier, *([meta["command"]] if "command" in meta else [])]))


def watch_network(
    networks: PredictorPool, network: str | None = None, texts: Texts = ENGLISH
) -> Iterator[tuple[str, str, str]]:
    """A network's state for the page's corner, its card, and what it is worth: loading, then ready or failed."""
    loader = networks.choose(network)
    if not loader.wait(0.0):
        yield (
            render_status("loading", texts),
            render_waiting(texts),
            render_worth(networks.meta(network), texts),
        )
    try:
        predictor = loader.get()
    except (CovidMMError, RuntimeError):
        yield render_status("failed", texts), render_loaded(loader, texts), ""
    else:
        ready = render_status("ready", texts, predictor.info.name)
        yield ready, render_loaded(loader, texts), render_worth(predictor.meta, texts)


def render_status(state: str, texts: Texts = ENGLISH, name: str = "") -> str:
    """Whether the network `name` can answer: `loading`, `ready` or `failed`."""
    text = {
        "loading": texts("Loading the network…"),
        "ready": texts("Network ready: {name}", name=name),
        "failed": texts("The network could not be loaded"),
    }[state]
    dot = '<i aria-hidden="true"></i>'
    return f'<p class="mm-state" data-state="{state}" role="status">{dot}{escape(text)}</p>'
