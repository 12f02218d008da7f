"""What the page says in each of its languages. English is the key; a catalogue beside this file is one more language.

`texts.<code>.json` holds `texts`, English as the page writes it -> the translation, and
`sentences`, the templates of what the rest of the package says (`errors.Message`) -> the translation.
Words in braces are filled in and are the same on both sides.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from covid_mm.errors import Message
from covid_mm.formats import format_percent, round_share
from covid_mm.ui.templates import FOLDER

NUMBER = re.compile(r"\d[\d,]*(\.\d+)?( %)?")


@dataclass(frozen=True)
class Texts:
    """One language, handed down to whatever draws a part of the page.

    language: its code (BCP 47). texts, sentences: the catalogue; both are empty for English. decimal, thousands:
    the marks in its numbers.
    """

    language: str = "en"
    texts: Mapping[str, str] = field(default_factory=dict, repr=False)
    sentences: Mapping[str, str] = field(default_factory=dict, repr=False)
    decimal: str = "."
    thousands: str = ","

    def __call__(self, text: str, /, **values: Any) -> str:
        """The page's own text in this language, its braces filled with values; English where it is missing."""
        result = self.texts.get(text, text)
        return result.format(**values) if values else result

    def number(self, value: float, decimals: int = 0) -> str:
        """A number with this language's marks: `3,000`, `0.91`."""
        return self._mark(f"{value:,.{decimals}f}")

    def percent(self, share: float, decimals: int | None = None) -> str:
        """A share, 0..1, in percent: `84 %`; without decimals one where it has one, as of `47.5 %`."""
        return self._mark(format_percent(share) if decimals is None else f"{100 * share:.{decimals}f} %")

    def interval(self, low: float, high: float, decimals: int | None = None) -> str:
        """`80 to 88 %` of shares 0..1; with decimals the values themselves, `0.89 to 0.93`."""
        if decimals is not None:
            return self("{low} to {high}", low=self.number(low, decimals), high=self.number(high, decimals))
        return self("{low} to {high}", low=self.percent(low).removesuffix(" %"), high=self.percent(high))

    def estimate(self, value: float, low: float, high: float, decimals: int | None = None) -> str:
        """A measured value and its interval: `84 % (80 to 88 %)`, or with decimals `0.91 (0.89 to 0.93)`."""
        if decimals is not None:
            return f"{self.number(value, decimals)} ({self.interval(low, high, decimals)})"
        return f"{self.percent(value, 0)} ({self.interval(round_share(low), round_share(high))})"

    def _mark(self, number: str) -> str:
        return number.translate({ord("."): self.decimal, ord(","): self.thousands})

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
            return self._mark(message) if NUMBER.fullmatch(message) else message
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
        result[code] = Texts(code, **catalogue)
    return result


def choose_language(accepted: str | None) -> Texts:
    """The language of a request: the browser's first one, as Gradio's own mechanism chooses; else English.

    accepted: the header Accept-Language, `id-ID,id;q=0.9,en;q=0.8`.
    """
    first = (accepted or "").split(",")[0].split(";")[0].strip()
    return find_languages().get(first.split("-")[0].lower(), ENGLISH)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
