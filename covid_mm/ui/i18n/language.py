"""What the page says in each of its languages. English is the key; a catalogue beside this file is one more language.

`texts.<code>.json` holds `decimal` and `thousands`, the marks in numbers, `texts`, English as the page writes it -> the
translation, and
`sentences`, English as the rest of the package writes it (errors, remarks) -> the translation.
Words in braces are filled in and are the same on both sides.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from html import escape
from typing import Any

from covid_mm.formats import format_percent, round_share
from covid_mm.ui.templates import FOLDER

FIELD = re.compile(r"\{(\w+)\}")
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

    def attribute(self, text: str, /, **values: Any) -> str:
        """The same where it stands in an HTML attribute, between double quotes."""
        return escape(self(text, **values), quote=True)

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

    def value(self, text: str) -> str:
        """What a sentence is filled in with: a word in this language, or a number with its marks."""
        return self.texts.get(text) or (self._mark(text) if NUMBER.fullmatch(text) else text)

    def _mark(self, number: str) -> str:
        return number.translate({ord("."): self.decimal, ord(","): self.thousands})

    def title(self, text: str) -> str:
        """The same where it begins a line: with a capital letter."""
        return _capital(self(text))

    def sentence(self, message: str) -> str:
        """A finished English sentence of the package in this language; as it is where it is not known."""
        if not self.sentences or not message:
            return message
        subject, colon, rest = message.partition(": ")
        if colon and subject in self.sentences:
            rest = self.sentence(_capital(rest))
            return f"{_capital(self.sentences[subject])}: {rest[:1].lower()}{rest[1:]}"
        if message in self.sentences:
            return self.sentences[message]
        for pattern, template in _compile(tuple(self.sentences.items())):
            if result := pattern.fullmatch(message):
                return template.format(
                    **{name: self.sentence(part) for name, part in result.groupdict().items()}
                )
        return message


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


@cache
def _compile(sentences: tuple[tuple[str, str], ...]) -> tuple[tuple[re.Pattern[str], str], ...]:
    """The sentences with braces as patterns, those with most words of their own first."""
    with_fields = [pair for pair in sentences if FIELD.search(pair[0])]
    with_fields.sort(key=lambda pair: len(FIELD.sub("", pair[0])), reverse=True)
    return tuple((_to_pattern(english), other) for english, other in with_fields)


def _to_pattern(text: str) -> re.Pattern[str]:
    parts, seen = [], set()
    for number, part in enumerate(FIELD.split(text)):
        if number % 2 == 0:
            parts.append(re.escape(part))
        else:
            parts.append(f"(?P={part})" if part in seen else f"(?P<{part}>.+?)")
            seen.add(part)
    return re.compile("".join(parts), re.DOTALL)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
