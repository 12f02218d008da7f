"""Colours that can be read, fonts that need no network, settings as meant."""

from __future__ import annotations

import re

import pytest

from covid_mm.ui.predictors import PredictorLoader
from covid_mm.ui.server.launch import launch_options
from covid_mm.ui.server.settings import ServerSettings
from covid_mm.ui.style import DARK, LIGHT, make_theme, make_variables
from covid_mm.ui.templates import FOLDER, read_asset
from covid_mm.ui.viewer.assets import LIBRARY

# text on ground, as page.css puts them together
TEXTS = [
    *[(text, ground) for text in ("ink", "soft") for ground in ("ground", "panel", "raised")],
    *[("accent", ground) for ground in ("ground", "panel", "raised")],
    *[("on-accent", ground) for ground in ("accent", "accent-hover")],
    *[(tone, f"{tone}-ground") for tone in ("positive", "normal", "warn", "error")],
    *[(text, f"{tone}-ground") for tone in ("positive", "normal") for text in ("ink", "soft")],
    ("ink", "warn-ground"),
    ("ink", "error-ground"),
    ("error", "panel"),
    ("warn", "raised"),
]


def luminance(colour: str) -> float:
    """Relative luminance, WCAG 2.1."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("mode", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize(("text", "ground"), TEXTS)
def test_text_has_the_contrast_of_wcag_aa(mode, text, ground):
    assert contrast(mode[text], mode[ground]) >= 4.5


@pytest.mark.parametrize("mode", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("tone", ["positive", "normal", "accent", "ink"])
def test_bars_and_ticks_stand_out_from_their_track(mode, tone):
    assert contrast(mode[tone], mode["raised"]) >= 3.0


def test_both_modes_have_the_same_colours_and_the_style_sheet_knows_them_all():
    assert set(LIGHT) == set(DARK)
    used = set(re.findall(r"--mm-([a-z-]+)", read_asset("page.css"))) - {"tone", "tone-ground"}
    assert used <= set(LIGHT)
    assert all(f"--mm-{name}:" in make_variables() for name in LIGHT)


def test_nothing_in_the_page_names_another_host():
    for path in FOLDER.rglob("*"):
        if (
            path.name == LIBRARY
        ):  # it knows formats of other servers by their addresses, and is asked for none
            continue
        if path.suffix in {
            ".css",
            ".html",
            ".js",
            ".json",
            ".svg",
        }:  # fonts and their licence stay on the server
            assert "://" not in path.read_text(encoding="utf-8"), path.name
    theme = make_theme()
    assert theme._stylesheets == []
    # the namespace in inline SVG is a name, nothing that is fetched
    assert set(re.findall(r"//([\w.-]+)", theme._get_theme_css())) <= {"www.w3.org"}


def test_launch_settings_are_the_strict_ones():
    options = launch_options(ServerSettings(port=7999), PredictorLoader(lambda: 1 / 0))
    expected = {
        "server_name": "127.0.0.1",
        "server_port": 7999,
        "share": False,
        "show_error": False,
        "run_history": False,
        "enable_monitoring": False,
        "mcp_server": False,
        "pwa": False,
        "ssr_mode": False,
        "strict_cors": True,
        "allowed_paths": [],
        "max_file_size": 200 * 2**20,
    }
    assert {key: options[key] for key in expected} == expected
