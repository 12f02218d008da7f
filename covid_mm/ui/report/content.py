"""The study report: what it holds, and the same as JSON; report_pdf.py draws it."""

from __future__ import annotations

import dataclasses
import platform
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

import numpy as np

from covid_mm import __version__
from covid_mm.config import CLASS_TITLES, CLASSES, MODALITIES, POSITIVE, RESEARCH_USE
from covid_mm.errors import UsageError
from covid_mm.formats import round_share
from covid_mm.reporting.card_words import HEAD_TITLES
from covid_mm.serving.prediction import DISAGREE, UNDETERMINED, Evidence, Prediction
from covid_mm.serving.warnings import NO_COMBINED
from covid_mm.ui.i18n.language import ENGLISH, Texts
from covid_mm.ui.study.analysis import FUSED, Analysis, describe_prediction
from covid_mm.ui.study.evidence import read_evidence, read_supported, read_zone
from covid_mm.ui.study.result import join_modalities
from covid_mm.ui.study.warnings import find_reasons

NOTE_LENGTH = 1500  # characters: with NOTE_LINES, what leaves the report two pages long
NOTE_LINES = 20  # lines as typed, before the report breaks long ones
PACKAGES = ("tensorflow", "keras")  # named in the report beside covid_mm and Python
LINE_ENDS = re.compile("\r\n|[\r\n\v\f\x85\u2028\u2029]")
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True)
class Reading:
    """What one head says of the study, and what it was measured to be worth on left-out images.

    head: `fused`, `ct` or `xray`. answers: whether the study's answer is this head's.
    label: a class, or `undetermined`; outside the abstain zone probability is None then.
    probability: of covid19_pneumonia, 0..1, calibrated; supported: the highest that is shown.
    threshold: from where on it is positive. zone: lowest and highest probability inside which the
    head abstains. evidence: None where it was not measured on left-out images.
    """

    head: str
    title: str
    answers: bool
    label: str
    probability: float | None
    supported: float
    threshold: float
    zone: tuple[float, float] | None
    evidence: Evidence | None


@dataclass(frozen=True)
class Report:
    """All that a report says, built by `make_report`; it holds no file name and no identifier.

    note: free text, cleaned. date: when it was made, UTC.
    versions: package -> version.
    """

    analysis: Analysis
    readings: tuple[Reading, ...]
    note: str
    date: datetime
    versions: dict[str, str]

    @property
    def prediction(self) -> Prediction:
        """The answer that is reported."""
        return self.analysis.prediction

    @property
    def is_inconclusive(self) -> bool:
        """Whether the study names no class: its report then says so, with the reason, before anything else."""
        return self.prediction.label == UNDETERMINED

    @property
    def method(self) -> str:
        """Name of the heatmaps' method."""
        return self.analysis.kind.title

    @property
    def answering(self) -> Reading | None:
        """The head whose probability is the study's; None where it has none."""
        return next((reading for reading in self.readings if reading.answers), None)


def make_report(
    analysis: Analysis,
    *,
    date: datetime,
    note: str | None = "",
    versions: Mapping[str, str] | None = None,
) -> Report:
    """Gather what the report of one study says.

    Args:
        analysis: the study's answer with its images and thresholds; what the meta.json in it lacks is
            reported as not measured.
        date: when the report is made, with its time zone.
        note: free text of the user, at most NOTE_LENGTH characters and NOTE_LINES lines.
        versions: package -> version; those of this process without it.

    Raises:
        UsageError: a note that is too long, or a date without a time zone.
    """
    if date.tzinfo is None:
        raise UsageError("The report's date must have a time zone, but this one has none; give one in UTC.")
    return Report(
        analysis=analysis,
        readings=tuple(_read_heads(analysis)),
        note=clean_note(note or ""),
        date=date.astimezone(UTC).replace(microsecond=0),
        versions=dict(versions) if versions is not None else find_versions(),
    )


def describe_report(report: Report) -> dict[str, Any]:
    """The report as a JSON object: that of `diagnose`, and what the PDF says beyond it.

    images: modality -> data URL of the image as shown. thresholds: head -> its threshold, abstain
    zone and left-out evidence, null where there is none. reasons: codes of the warnings for which it
    is undetermined. own_test: what the answering head was worth on this hospital's own studies, null where it was not
    tested here. report: `answer`, or `inconclusive` for an undetermined study. outlines: modality -> the
    lungs' closed polygons. date: ISO 8601, UTC.
    """
    prediction = report.prediction
    described = describe_prediction(prediction)
    answering = report.answering
    code, message = describe_agreement(prediction)
    return described | {
        "checkpoint": described["checkpoint"] | {"trained_at": prediction.checkpoint.trained_at},
        "report": "inconclusive" if report.is_inconclusive else "answer",
        "answered_by": answering.head if answering else None,
        "agreement": {"code": code, "message": message},
        "reasons": [notice.code for notice in find_reasons(prediction)],
        "thresholds": {
            r.head: {
                "threshold": r.threshold,
                "abstain_zone": None if r.zone is None else list(r.zone),
                "evidence": None if r.evidence is None else _describe_figures(r.evidence),
            }
            for r in report.readings
        },
        "own_test": None if report.analysis.own_test is None else report.analysis.own_test.to_dict(),
        "heatmap_class": prediction.heatmap_class,
        "heatmap_method": report.method,
        "heatmap_layer": report.analysis.kind.layer,
        "heat_location": {m: dataclasses.asdict(part) for m, part in prediction.heat_location.items()},
        "outlines": {m: [np.round(o, 4).tolist() for o in part] for m, part in prediction.outlines.items()},
        "images": {m: preview.url for m, preview in report.analysis.previews.items()},
        "note": report.note,
        "date": report.date.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "versions": report.versions,
        "research_use": RESEARCH_USE,
    }


def describe_agreement(prediction: Prediction, texts: Texts = ENGLISH) -> tuple[str, str]:
    """Whether CT and X-ray say the same: a code (`agree`, `disagree`, `single`,
    `undetermined`), a sentence."""
    labels = {m: answer.label for m, answer in prediction.branches.items()}
    if not prediction.probabilities:
        return UNDETERMINED, texts("There is no answer, so CT and X-ray are not compared.")
    if len(labels) < 2:
        used = join_modalities(prediction.modalities, texts)
        only = "Only the {used} was given; there is no second image to compare it with."
        return "single", texts(only, used=used)
    if prediction.reason == DISAGREE:
        return "disagree", texts(NO_COMBINED) + "."
    if UNDETERMINED in labels.values():
        said = ", ".join(
            texts(
                "the {modality} alone says {label}",
                modality=texts(MODALITIES[m].title),
                label=texts(CLASS_TITLES[n]),
            )
            for m, n in labels.items()
        )
        return UNDETERMINED, texts("CT and X-ray can't be compared: {said}.", said=said)
    shared = next(iter(labels.values()))
    sentence = texts("CT and X-ray agree: each alone says {label}", label=texts(CLASS_TITLES[shared]))
    if shared != prediction.label:
        given = texts(CLASS_TITLES[prediction.label])
        return "agree", sentence + texts(", but combined they give {label}.", label=given)
    return "agree", f"{sentence}."


def clean_note(note: str) -> str:
    """The note in composed Unicode (NFC) with plain line ends; control characters become U+FFFD.

    Marks that only steer the writing direction or join signs are left out: they could make the
    report read otherwise than it is stored.

    Raises:
        UsageError: more than NOTE_LENGTH characters or NOTE_LINES lines.
    """
    text = "\n".join(LINE_ENDS.split(note)).replace("\t", " ").strip()
    if len(text) > NOTE_LENGTH:
        raise UsageError(
            "The note has {count} characters, at most {most} fit; shorten it.",
            count=len(text),
            most=NOTE_LENGTH,
        )
    if (lines := text.count("\n") + 1) > NOTE_LINES:
        raise UsageError(
            "The note has {count} lines, at most {most} fit; join some of them.", count=lines, most=NOTE_LINES
        )
    return "".join(_clean_character(sign) for sign in unicodedata.normalize("NFC", text)).strip()


def find_versions() -> dict[str, str]:
    """Versions of covid_mm, PACKAGES and Python in this process; nothing is imported for it."""
    versions = {"covid_mm": __version__}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions | {"python": platform.python_version()}


def _clean_character(sign: str) -> str:
    category = unicodedata.category(sign)
    if category == "Cf":
        return ""
    return REPLACEMENT if category in ("Cc", "Cs") and sign != "\n" else sign


def _describe_figures(evidence: Evidence) -> dict[str, Any]:
    interval = {"auc_low": round_share(evidence.auc_low), "auc_high": round_share(evidence.auc_high)}
    return (
        evidence.to_dict() | interval | {"ece": None if evidence.ece is None else round_share(evidence.ece)}
    )


def _read_heads(analysis: Analysis) -> list[Reading]:
    """The heads of this study: together where it has two images, then each image alone."""
    prediction, meta = analysis.prediction, analysis.meta
    together = len(prediction.modalities) > 1
    readings = []
    for head in ((FUSED,) if together else ()) + prediction.modalities:
        branch = prediction.branches.get(head)
        answers = head == analysis.head
        label, probabilities = UNDETERMINED, {}
        if answers:
            label, probabilities = prediction.label, prediction.probabilities
        elif branch is not None:
            label, probabilities = branch.label, branch.probabilities
        readings.append(
            Reading(
                head=head,
                title=HEAD_TITLES[head],
                answers=answers and bool(probabilities),
                label=label,
                probability=probabilities.get(CLASSES[POSITIVE]),
                supported=prediction.supported_probability if answers else read_supported(meta, head),
                threshold=analysis.thresholds[head],
                zone=prediction.abstain_zone if answers else read_zone(meta, head),
                evidence=prediction.evidence if answers else read_evidence(meta, head),
            )
        )
    return readings
