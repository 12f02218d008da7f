"""The page's own files: scripts, style and icons as they are, markup through Jinja2 with everything in it escaped."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from covid_mm.config import CLASS_TITLES

FOLDER = Path(__file__).parent


@cache
def read_asset(name: str) -> str:
    """The text of one file of the page, such as `study/slot.js`, without blanks around it."""
    return (FOLDER / name).read_text(encoding="utf-8").strip()


def read_scripts(*names: str) -> str:
    """Scripts one after the other, such as `study/slot`, as one component's."""
    return "\n".join(read_asset(f"{name}.js") for name in names)


def read_icon(name: str) -> Markup:
    """An icon of icons/ as inline SVG."""
    return Markup(read_asset(f"icons/{name}.svg"))


def render_template(name: str, texts: Callable[..., str], **values: Any) -> Markup:
    """One of the page's templates, such as `study/result.html`; what is no Markup is escaped.

    texts: the language, which the template asks for its words.
    """
    return Markup(_environment().get_template(name).render(texts=texts, **values).strip())


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"icon": read_icon, "class_titles": CLASS_TITLES}
    return environment
