"""Markdown from templates, in which a data set's title is text and never markup."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, UndefinedError
from markupsafe import Markup

TEMPLATES = Path(__file__).resolve().parent / "templates"

_SPECIAL = re.compile(r"[\\`*\[\]~]")
_UNDERSCORE = re.compile(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")  # within a word it is no emphasis
_LINE_START = re.compile(r"^( ?\d*)(?=(?:(?<=\d)[.)]|(?<!\d)(?:[-+]|#{1,6}))(?:\s|$)|(?<!\d)(?:-{2,}|=))")


def escape_markdown(value: object) -> Markup:
    """Text that Markdown shows as it is, on one line; what is Markdown already (`Markup`) stays.

    A `|` stays: `format_table` escapes it in its cells, and elsewhere it means nothing.
    """
    if isinstance(value, Markup):
        return value
    text = re.sub(r"\s+", " ", str(value))
    text = _SPECIAL.sub(lambda match: f"\\{match[0]}", text)
    text = _UNDERSCORE.sub(r"\\_", text)
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return Markup(_LINE_START.sub(r"\1\\", text))


def code_block(text: str) -> Markup:
    """A fenced block whose fence is longer than any in the text."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return Markup(f"{fence}\n{text}\n{fence}")


def render(template: str, **context: Any) -> str:
    """A template of this room as Markdown, blank lines never doubled.

    Every `{{ value }}` is escaped but `Markup`; `| md` marks what has been escaped before, `| code_block` fences.

    Raises:
        KeyError: the template asks for what the context does not have.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        finalize=escape_markdown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"code_block": code_block, "md": Markup}
    try:
        text = environment.get_template(template).render(**context)
    except UndefinedError as error:
        raise KeyError(str(error)) from error
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"
