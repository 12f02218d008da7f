"""What the page says in each of its languages. English is the key; a catalogue beside this file is one more language.

`texts.<code>.json` holds `texts`, English as the page writes it -> the translation, and
`sentences`, the templates of what the rest of the package says (`errors.Message`) -> the translation.
Words in braces are filled in and are the same on both sides.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from html import escape
from typing import Any

from covid_mm.errors import Message
from covid_mm.ui.templates import FOLDER


@dataclass(frozen=True)
class Texts:
    """One language, handed down to whatever draws a part of the page.

    language: its code (BCP 47). texts, sentences: the catalogue; both are empty for English.
    """

    language: str = "en"
    texts: Mapping[str, str] = field(default_factory=dict, repr=False)
    sentences: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __call__(self, text: str, /, **values: Any) -> str:
        """The page's own text in this language, its braces filled with values; English where it is missing."""
        result = self.texts.get(text, text)
        return result.format(**values) if values else result

    def attribute(self, text: str, /, **values: Any) -> str:
        """The same where it stands in an HTML attribute, between double quotes."""
        return escape(self(text, **values), quote=True)

    def title(self, text: str) -> str:
        """The same where it begins a line: with a capital letter."""
        return _capital(self(text))

    def sentence(self, message: str) -> str:
        """A sentence of the package in this language, and the words that its `Message` was filled with; as it is
        where it is not known.
        """
        template = message.template if isinstance(message, Message) else message
        translated = self.sentences.get(template, self.texts.get(template))
        if translated is None:
            return message
        if not isinstance(message, Message):
            return translated
        words = {name: self.sentence(v) if isinstance(v, str) else v for name, v in message.values.items()}
        result = translated.format(**words) if words else translated
        if message.subject:
            return f"{_capital(self.sentence(message.subject))}: {result[:1].lower()}{result[1:]}"
        return result


ENGLISH = Texts()


@cache
def find_languages() -> Mapping[str, Texts]:
    """All languages of the page by code, English first."""
    result = {ENGLISH.language: ENGLISH}
    for path in sorted((FOLDER / "i18n").glob("texts.*.json")):
        code = path.name.split(".")[1]
        catalogue = json.loads(path.read_text(encoding="utf-8"))
        result[code] = Texts(code, catalogue["texts"], catalogue["sentences"])
    return result


def choose_language(accepted: str | None) -> Texts:
    """The language of a request: the browser's first one, as Gradio's own mechanism chooses; else English.

    accepted: the header Accept-Language, `id-ID,id;q=0.9,en;q=0.8`.
    """
    first = (accepted or "").split(",")[0].split(";")[0].strip()
    return find_languages().get(first.split("-")[0].lower(), ENGLISH)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
