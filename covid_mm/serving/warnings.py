"""Every warning that an answer can come with: one catalogue of code, sentence and short forms.

The braces of a sentence are filled in with values: numbers, and words that have a translation of their own. API,
shell and JSON give the English sentence; the page translates the sentence and the words in it by themselves.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from covid_mm.config import MODALITIES
from covid_mm.errors import Message
from covid_mm.imaging.scan import FOREIGN, LOCALIZER, NOT_AXIAL, OTHER_SERIES, UNREADABLE
from covid_mm.serving.prediction import ABSTAINED, DISAGREE, Notice


@dataclass(frozen=True)
class WarningText:
    """One warning. code: stable, without its modality; two sentences may share one.

    text: the whole sentence. reason: why a study is undetermined, where this is such a reason. short: a few words.
    """

    code: str
    text: str
    reason: str = ""
    short: str = ""


_LUNGS_REASON = "No lungs were found on the {modality}."
_SWAPPED_REASON = "The two images are in each other's slot."
_LEFT_OUT = "files left out of the scan"
_ABSTAINS = (
    "The probability lies between {low} and {high}, where the network was wrong too often on hospitals never seen in"
    " training, so no class is named."
)
NO_COMBINED = "CT and X-ray disagree: no combined answer"
_SAID_ALONE = (
    "The {first} alone says {first_label}, the {second} alone {second_label}. No patient with two such images was in"
    " training, so go by each image."
)
WARNINGS: dict[str, WarningText] = {  # by the name that `warn` takes
    DISAGREE: WarningText(
        DISAGREE,
        f"{{first}} and {{second}} disagree: no combined answer. {_SAID_ALONE}",
        _SAID_ALONE,
        NO_COMBINED,
    ),
    "single_modality": WarningText(
        "single_modality",
        "Answered from the {modality} alone; no other image was given.",
        short="answered from one image",
    ),
    "missing_images": WarningText(
        "missing_images",
        "The image that is missing ({missing}) is one that this network reads together with the others, so the answer"
        " adds up what each image says by itself. How good such answers are was not measured.",
        short="not all images were given",
    ),
    "no_positive_evidence": WarningText(
        "no_positive_evidence",
        "The network found no positive evidence for {target} on the {modality}, so its heatmap is empty.",
        short="no positive evidence on the {modality}",
    ),
    "heat_outside_lungs": WarningText(
        "heat_outside_lungs",
        "{share} of the evidence on the {modality} lies outside the lungs as they were found, where an attention map"
        " draws nothing: more than on 95 of 100 positive images with marked lesions that the network never saw. It may"
        " go by something else than the lungs. Of such images {beyond} had the map's hottest point on a lesion, of the"
        " others {within}.",
        short="evidence outside the lungs on the {modality}",
    ),
    "methods_contradict": WarningText(
        "methods_contradict",
        "Two heatmap methods contradict each other on the {modality}: {first} and {second} point to different places,"
        " farther apart than on 95 of 100 positive images that the network never saw. Of such images {beyond} had the"
        " map's hottest point on a lesion, of the others {within}.",
        short="heatmap methods contradict each other on the {modality}",
    ),
    "content_not_checked": WarningText(
        "content_not_judged",
        "This checkpoint has no content check: whatever the images show, they are answered.",
    ),
    "synthetic_checkpoint": WarningText(
        "synthetic_checkpoint",
        "This checkpoint was trained on synthetic phantoms, not on patients: its answer means nothing for a person.",
        short="network trained on phantoms: no meaning for a person",
    ),
    "swapped_by_content": WarningText(
        "swapped_inputs",
        "The two images seem to be swapped: the {first} slot shows {first_kind}, the {second} slot {second_kind}. Swap"
        " them; until then there is no answer.",
        _SWAPPED_REASON,
    ),
    "swapped_by_header": WarningText(
        "swapped_inputs",
        "The two files are swapped: by its header each of them belongs into the other's slot ({first}, {second}). Swap"
        " them; until then there is no answer.",
        _SWAPPED_REASON,
    ),
    "modality_mismatch": WarningText(
        "modality_mismatch",
        "By its header the file in the {modality} slot belongs into the {other} slot. Move it to the other slot; until"
        " then there is no answer.",
        "By its header the file in the {modality} slot is of the other kind.",
    ),
    "wrong_modality": WarningText(
        "wrong_modality",
        "The image in the {modality} slot looks like {kind}. Move it to the {other} slot; until then there is"
        " no answer.",
        "The {modality} slot holds an image of the other kind.",
    ),
    "not_a_chest_image": WarningText(
        "not_a_chest_image",
        "The image in the {modality} slot does not look like {kind}, so there is no answer. Replace or remove it.",
        "The image in the {modality} slot is not a chest image of its kind.",
    ),
    "unlike_training": WarningText(
        "unlike_training",
        "The image in the {modality} slot is too unlike the images that the network was trained on (distance"
        " {distance}), so there is no answer. Replace or remove it.",
        "The {modality} is too unlike the images of the training collections.",
    ),
    "lungs_not_found": WarningText(
        "lungs_not_found",
        "No lungs were found on the {modality}, so there is no answer. Replace it.",
        _LUNGS_REASON,
    ),
    "lungs_not_found_on_one": WarningText(
        "lungs_not_found",
        "No lungs were found on the {modality}, so there is no answer. Replace or remove it: the {other} can be"
        " analysed alone.",
        _LUNGS_REASON,
    ),
    "scan_not_calibrated": WarningText(
        "scan_not_calibrated",
        "How the slices of a scan become one answer was not measured for this checkpoint: the scan's probability is"
        " that of its most suspicious slices, calibrated as of single slices, and too high.",
        short="scan answered as its most suspicious slices",
    ),
    "left_out_series": WarningText(
        "slices_left_out", "{count} files are of another series and were left out.", short=_LEFT_OUT
    ),
    "left_out_localizers": WarningText(
        "slices_left_out", "{count} localizers were left out.", short=_LEFT_OUT
    ),
    "left_out_reformats": WarningText(
        "slices_left_out", "{count} files are not axial slices and were left out.", short=_LEFT_OUT
    ),
    "left_out_others": WarningText(
        "slices_left_out", "{count} files are not DICOM and were left out.", short=_LEFT_OUT
    ),
    "left_out_unreadable": WarningText(
        "slices_left_out",
        "{count} DICOM files hold no image that can be read and were left out: slices may be missing.",
        short=_LEFT_OUT,
    ),
    ABSTAINED: WarningText(ABSTAINED, _ABSTAINS, _ABSTAINS),
}
LEFT_OUT_WARNINGS = {  # by why `imaging.read_scan` left files out
    OTHER_SERIES: "left_out_series",
    LOCALIZER: "left_out_localizers",
    NOT_AXIAL: "left_out_reformats",
    FOREIGN: "left_out_others",
    UNREADABLE: "left_out_unreadable",
}
REASONS: dict[str, str] = {one.code: one.reason for one in WARNINGS.values() if one.reason}
SHORT_FORMS: dict[str, str] = {one.code: one.short for one in WARNINGS.values() if one.short}
WITHOUT_MODALITY = (DISAGREE, "single_modality")  # the code is whole, whatever the sentence names


def warn(name: str, modality: str | None = None, **values: str) -> Notice:
    """A warning of the catalogue, about one modality where the sentence names one.

    values: what else the sentence is filled in with, in English.
    """
    entry = WARNINGS[name]
    if modality is not None:
        values["modality"] = MODALITIES[modality].title
    code = entry.code if modality is None or name in WITHOUT_MODALITY else f"{entry.code}_{modality}"
    return Notice(code, Message(entry.text, **values))


def split_code(code: str) -> tuple[str, str]:
    """`wrong_modality_ct` is `wrong_modality` of `ct`; a code without a modality is whole."""
    for modality in MODALITIES:
        if code.endswith(f"_{modality}"):
            return code.removesuffix(f"_{modality}"), modality
    return code, ""


def find_reasons(warnings: Iterable[Notice]) -> tuple[Notice, ...]:
    """Those of an undetermined study's warnings for which it is undetermined."""
    return tuple(one for one in warnings if split_code(one.code)[0] in REASONS)
