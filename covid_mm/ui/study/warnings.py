"""The warnings beside an answer in the page's language: each sentence and the words in it by themselves."""

from __future__ import annotations

from covid_mm.config import MODALITIES
from covid_mm.errors import Message
from covid_mm.serving import warnings
from covid_mm.serving.prediction import ABSTAINED, DISAGREE, UNDETERMINED, Notice, Prediction
from covid_mm.ui.i18n.language import ENGLISH, Texts

# why it names no class, and that one image was given, which is no fault
SAID_WITH_ANSWER = (ABSTAINED, DISAGREE, "single_modality")


def list_warnings(prediction: Prediction) -> tuple[Notice, ...]:
    """The warnings to show beside an answer; what is said with the answer itself is none."""
    return tuple(notice for notice in prediction.warnings if notice.code not in SAID_WITH_ANSWER)


def word_warning(notice: Notice, texts: Texts = ENGLISH) -> str:
    """A warning's whole sentence; as it is where it was not made from the catalogue."""
    return texts.sentence(notice.message)


def find_reasons(prediction: Prediction) -> tuple[Notice, ...]:
    """The warnings for which a study is undetermined; none where it is answered."""
    return warnings.find_reasons(prediction.warnings) if prediction.label == UNDETERMINED else ()


def word_reason(notice: Notice, texts: Texts = ENGLISH) -> str:
    """A reason of `find_reasons` in one sentence."""
    code, modality = warnings.split_code(notice.code)
    # of the abstain zone its bounds, of a disagreement what each image says, else the modality
    named = {"modality": MODALITIES[modality].title} if modality else {}
    values = notice.message.values if isinstance(notice.message, Message) else named
    words = texts.sentence(Message(warnings.REASONS[code], **values))
    return words[:1].upper() + words[1:]


def shorten_warning(notice: Notice, prediction: Prediction, texts: Texts = ENGLISH) -> str:
    """A warning in a few words, or its whole sentence where there are none."""
    code, modality = warnings.split_code(notice.code)
    short = warnings.SHORT_FORMS.get(code)
    if short is None:
        return (word_reason if notice in find_reasons(prediction) else word_warning)(notice, texts)
    return texts(short, modality=texts(MODALITIES[modality].title) if modality else "")
