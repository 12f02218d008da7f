"""What docs/results.md says of the served network, drawn from its meta.json so that no figure outlives it."""

from __future__ import annotations

import textwrap
from typing import Any

from covid_mm.errors import UsageError
from covid_mm.reporting.markdown import render
from covid_mm.reporting.model_card import describe_card

README_START, README_END = "<!-- served -->", "<!-- /served -->"
_WIDTH = 125


def render_readme_results(meta: dict[str, Any], name: str) -> str:
    """Markdown from README_START to README_END, both included.

    Raises:
        UsageError: a checkpoint of another recipe than `served`.
        KeyError, TypeError, ValueError, AttributeError: meta lacks what it is drawn from.
    """
    if meta.get("recipe", "paper") != "served":
        raise UsageError(
            f"Expected a checkpoint of the recipe served, but {name} is of the recipe"
            f" {meta.get('recipe', 'paper')}; its figures are in its model card."
        )
    text = render("readme_results.md.j2", **describe_card(meta, name))
    return "\n".join(_wrap(line) for line in text.splitlines()) + "\n"


def _wrap(line: str) -> str:
    """A long paragraph or list item as lines of the page's width; tables and comments stay."""
    if line.startswith(("|", "<!--")):
        return line
    indent = "  " if line.startswith(("- ", "  ")) else ""
    held = line.replace(" %", "\0%")  # a figure and its sign stay on one line
    lines = textwrap.wrap(
        held, _WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return "\n".join(lines).replace("\0", " ")
