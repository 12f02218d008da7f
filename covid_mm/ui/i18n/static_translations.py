"""The page's fixed parts in every language, by Gradio's own mechanism: the browser chooses, before it draws."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

import gradio as gr
from gradio.i18n import I18nData

from covid_mm.ui.i18n.language import Texts, choose_language, find_languages

CHOOSE = "document.documentElement.lang"  # set by Gradio to the language that it chose


class StaticTranslations:
    """Gathers labels and markup while the page is laid out; `i18n` then goes to `Blocks.launch`."""

    def __init__(self) -> None:
        self._texts: dict[str, dict[str, str]] = {code: {} for code in find_languages()}

    def label(self, text: str) -> I18nData:
        """A component's label or a button's text."""
        for code, texts in find_languages().items():
            self._texts[code][text] = texts(text)
        return I18nData(text)

    def draw(self, name: str, render: Callable[[Texts], str]) -> str:
        """The value of an HTML component under a name of its own. render: draws it in a language."""
        for code, texts in find_languages().items():
            self._texts[code][name] = render(texts)
        return str(I18nData(name))

    @property
    def i18n(self) -> gr.I18n:
        """All that was gathered."""
        return gr.I18n(**self._texts)


def draw_markup(render: Callable[[Texts], str]) -> tuple[str, dict[str, str]]:
    """A template for an HTML component whose value is no text, and its property `markup`."""
    markup = {code: render(texts) for code, texts in find_languages().items()}
    return f"${{markup[{CHOOSE}] ?? markup.en}}", markup


def describe_scripts(table: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """A script's texts by language; it takes that which Gradio chose."""
    return {
        code: {key: texts(text) for key, text in table.items()} for code, texts in find_languages().items()
    }


def in_request_language(function: Callable[..., Any], *context: Any) -> Callable[..., Any]:
    """`function(*context, *inputs, texts=...)` as an event's function, in the language of its request.

    A function with a parameter `session` gets the name of Gradio's session too.
    """
    has_session = "session" in inspect.signature(function).parameters

    def read(request: gr.Request) -> dict[str, Any]:
        session = {"session": getattr(request, "session_hash", None)} if has_session else {}
        return {"texts": read_language(request)} | session

    if inspect.isgeneratorfunction(function):

        def stream(request: gr.Request, *inputs: Any) -> Iterator[Any]:
            yield from function(*context, *inputs, **read(request))

        return stream

    if inspect.isasyncgenfunction(function):

        async def stream_async(request: gr.Request, *inputs: Any) -> AsyncIterator[Any]:
            async for given in function(*context, *inputs, **read(request)):
                yield given

        return stream_async

    def answer(request: gr.Request, *inputs: Any) -> Any:
        return function(*context, *inputs, **read(request))

    return answer


def read_language(request: gr.Request | None) -> Texts:
    """The language that the visitor's browser asks for."""
    headers = getattr(request, "headers", None)
    return choose_language(headers.get("accept-language") if headers is not None else None)
