"""Text stays text in Markdown, whatever it holds."""

from __future__ import annotations

import pytest
from markupsafe import Markup

from covid_mm.reporting.markdown import code_block, escape_markdown


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("siim-covid19 v2.1, Chest_xray", "siim-covid19 v2.1, Chest_xray"),
        ("a\n\n# b", "a # b"),
        ("# b", "\\# b"),
        ("1. b", "1\\. b"),
        ("0.851 (0.8 to 0.9)", "0.851 (0.8 to 0.9)"),
        ("- b", "\\- b"),
        ("--- ", "\\--- "),
        ("-0.5", "-0.5"),
        ("<b>&", "&lt;b&gt;&amp;"),
        ("[a](b)", "\\[a\\](b)"),
        ("_a_ **b** `c` ~d~ \\", "\\_a\\_ \\*\\*b\\*\\* \\`c\\` \\~d\\~ \\\\"),
        ("a | b", "a | b"),
        (3, "3"),
    ],
)
def test_text_is_escaped(text, escaped):
    assert escape_markdown(text) == escaped


def test_markdown_is_not_escaped_again():
    assert escape_markdown(Markup("**a**")) == "**a**"


def test_a_fence_is_longer_than_any_within():
    assert code_block("a ```` b") == "`````\na ```` b\n`````"
