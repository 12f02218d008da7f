"""The page's own files: markup, scripts, style and icons, read once."""

from __future__ import annotations

from functools import cache
from pathlib import Path

ASSETS = Path(__file__).with_name("assets")


@cache
def read_asset(name: str) -> str:
    """The text of one file in assets/, without blanks around it."""
    return (ASSETS / name).read_text(encoding="utf-8").strip()
