"""The notices beside an answer, in the page's language: found by their codes, for their sentences are English."""

from __future__ import annotations

from covid_mm.config import CLASS_TITLES, MODALITIES, MODALITY_TITLES
from covid_mm.serving.prediction import Notice, Prediction
from covid_mm.ui.i18n.language import ENGLISH, Texts
from covid_mm.ui.study.evidence import find_reasons, split_code, word_reason

NOTICES = {  # by code without its modality; serving writes the English ones itself, with more detail
    "branches_disagree": "The two images disagree: the CT alone {ct}, the X-ray alone {xray}. No patient with two"
    " such images was in training, so go by each image rather than by the combined answer.",
    "single_modality": "Answered from the {used} alone; the other image was not given.",
    "no_positive_evidence": "The network found no positive evidence for {target} on the {modality}, so its heatmap"
    " is empty.",
    "content_not_judged": "This checkpoint has no judge of image content: whatever the images show, they are"
    " answered.",
    "synthetic_checkpoint": "This checkpoint was trained on synthetic phantoms, not on patients: its answer means"
    " nothing for a person.",
    "swapped_inputs": "The two images are in each other's place: the CT slot holds an X-ray and the X-ray slot a CT."
    " Swap them; until then there is no answer.",
    "modality_mismatch": "By its header the file in the {modality} slot belongs into the {other} slot. Move it to"
    " the other slot; until then there is no answer.",
    "wrong_modality": "The image in the {modality} slot looks like one for the {other} slot. Move it to the other"
    " slot; until then there is no answer.",
    "not_a_chest_image": "The image in the {modality} slot does not look like a chest image of its kind, so there is"
    " no answer. Replace or remove it.",
    "lungs_not_found": "No lungs were found on the {modality}, and this network reads lungs only, so there is no"
    " answer. Give an image that shows both lungs, or remove it.",
    "in_abstain_zone": "The probability lies in the abstain zone, where the network was wrong too often on hospitals"
    " it never saw, so neither class is named.",
    "unlike_training": "The image in the {modality} slot is too unlike the images that the network was trained on, so"
    " there is no answer. Replace or remove it.",
}
SHORT_NOTICES = {  # in a table, where the full sentence would be too long
    "branches_disagree": "CT and X-ray disagree",
    "single_modality": "answered from one image",
    "no_positive_evidence_ct": "no positive evidence on the CT",
    "no_positive_evidence_xray": "no positive evidence on the X-ray",
    "synthetic_checkpoint": "network trained on phantoms: no meaning for a person",
}


def word_notice(notice: Notice, prediction: Prediction, texts: Texts = ENGLISH) -> str:
    """A notice's sentence; the English one where the language does not know its code."""
    code, modality = split_code(notice.code)
    known = NOTICES.get(code)
    if texts == ENGLISH or known is None or known not in texts.texts:
        return notice.message
    labels = {m: texts(CLASS_TITLES[answer.label]) for m, answer in prediction.branches.items()}
    others = [m for m in MODALITIES if m != modality]
    return texts(
        known,
        ct=labels.get("ct", ""),
        xray=labels.get("xray", ""),
        used=texts(" and ").join(texts(MODALITY_TITLES[m]) for m in prediction.modalities),
        target=texts(CLASS_TITLES[prediction.heatmap_class]),
        modality=texts(MODALITY_TITLES[modality]) if modality else "",
        other=texts(MODALITY_TITLES[others[0]]),
    )


def shorten_notice(notice: Notice, prediction: Prediction, texts: Texts = ENGLISH) -> str:
    """A notice in a few words, or its whole sentence where there are none."""
    if notice in find_reasons(prediction):
        return word_reason(notice, prediction, texts)
    short = SHORT_NOTICES.get(notice.code)
    return word_notice(notice, prediction, texts) if short is None else texts(short)
