"""The page's look: Gradio's theme variables set to the project's own colours, system fonts only.

The layout and the result panel are styled in page.css, on the same variables. Text on its
background has a contrast of at least 4.5 to 1 (WCAG AA) in light and dark; a test computes it.
"""

from __future__ import annotations

import gradio as gr

from covid_mm.reporting.palette import LIGHT

FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif")
MONOSPACE = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")

DARK = {
    "ground": "#0b1014",
    "panel": "#131a20",
    "raised": "#1a232b",
    "ink": "#e5ecf1",
    "soft": "#a3b3bf",
    "line": "#2a3741",
    "accent": "#62b8d8",
    "accent-hover": "#83cae4",
    "on-accent": "#06202b",
    "positive": "#ffa66f",
    "positive-ground": "#2d1a0e",
    "normal": "#6ad0bc",
    "normal-ground": "#0e2722",
    "warn": "#f0c869",
    "warn-ground": "#2a210d",
    "error": "#ff9d96",
    "error-ground": "#301514",
}


def make_theme() -> gr.themes.Base:
    """Gradio's plain theme in the project's colours."""
    theme = gr.themes.Base(font=FONTS, font_mono=MONOSPACE)
    pairs = {
        "body_background_fill": "ground",
        "body_text_color": "ink",
        "body_text_color_subdued": "soft",
        "background_fill_primary": "panel",
        "background_fill_secondary": "raised",
        "block_background_fill": "panel",
        "block_border_color": "line",
        "border_color_primary": "line",
        "button_primary_background_fill": "accent",
        "button_primary_background_fill_hover": "accent-hover",
        "button_primary_border_color": "accent",
        "button_primary_text_color": "on-accent",
        "button_secondary_background_fill": "panel",
        "button_secondary_background_fill_hover": "raised",
        "button_secondary_border_color": "line",
        "button_secondary_text_color": "ink",
        "link_text_color": "accent",
        "color_accent": "accent",
    }
    values = {name: LIGHT[colour] for name, colour in pairs.items()}
    values |= {f"{name}_dark": DARK[colour] for name, colour in pairs.items() if name != "color_accent"}
    return theme.set(**values, block_shadow="none", button_large_radius="6px", block_radius="8px")


def make_variables() -> str:
    """The colours as CSS variables, `--mm-ground` and so on, for both modes."""
    light = "".join(f"--mm-{name}:{value};" for name, value in LIGHT.items())
    dark = "".join(f"--mm-{name}:{value};" for name, value in DARK.items())
    return f":root{{{light}}}.dark{{{dark}}}"
