"""The page's own files: markup, scripts, style and icons, read once."""

from __future__ import annotations

from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent


@cache
def read_asset(name: str) -> str:
    """The text of one file of the page, such as `study/slot.js`, without blanks around it."""
    return (FOLDER / name).read_text(encoding="utf-8").strip()


def read_icon(name: str) -> str:
    """An icon of icons/ as inline SVG."""
    return read_asset(f"icons/{name}.svg")


def fill_template(asset: str, **values: str) -> str:
    """An asset's markup with a value in the place of each `{{name}}`."""
    filled = read_asset(asset)
    for name, value in values.items():
        filled = filled.replace(f"{{{{{name}}}}}", value)
    return filled
