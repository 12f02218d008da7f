"""What a modality's positive images were, where that is more than COVID-19: the label means no more than they did."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

# by collection: what its makers call positive
POSITIVES = {
    "coronahack": "{images} of {title}, mostly bacterial and viral pneumonia of children",
    "siim-covid19": "{images} of {title}, COVID-19 with typical findings",
}
OTHER_POSITIVES = "{images} of {title}"
BROADER = ("coronahack",)  # whose positives are not COVID-19 alone
MEANING = "On the {modality} positive means pneumonia-like, not COVID-19 alone; the positive images were: {sources}."

Say = Callable[..., str]  # fills a sentence with values, in the reader's language


@dataclass(frozen=True)
class PositiveSource:
    """The positive images of one collection that a modality's branch learned from."""

    collection: str
    title: str
    images: int


def read_positive_sources(raw: Mapping[str, Any], modality: str) -> tuple[PositiveSource, ...]:
    """Of meta.json: the collections whose positive images taught a modality; none where all are of COVID-19."""
    sources = tuple(_list(raw, modality))
    return sources if any(one.collection in BROADER for one in sources) else ()


def describe_positives(sources: tuple[PositiveSource, ...], title: str, say: Say = str.format) -> str:
    """One sentence; empty without sources. title: of the modality, in the language of `say`."""
    if not sources:
        return ""
    parts = [
        say(POSITIVES.get(one.collection, OTHER_POSITIVES), images=one.images, title=one.title)
        for one in sources
    ]
    return say(MEANING, modality=title, sources="; ".join(parts))


def _list(raw: Mapping[str, Any], modality: str) -> Iterator[PositiveSource]:
    for part in raw.get("data") or ():
        try:
            images = int(part["counts"]["covid19_pneumonia"])
            if part["modality"] == modality and part["use"] == "training" and images:
                yield PositiveSource(part["name"], part["title"], images)
        except (KeyError, TypeError, ValueError):  # an older checkpoint's data are described otherwise
            continue
