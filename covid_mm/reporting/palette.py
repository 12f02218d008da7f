"""The project's colours on white: of the page in its light mode, and of everything that is printed."""

from __future__ import annotations

LIGHT = {
    "ground": "#e9edf0",
    "panel": "#ffffff",
    "raised": "#f4f6f8",
    "ink": "#16212b",
    "soft": "#4a5a68",
    "line": "#cdd6dd",
    "accent": "#0d5a78",
    "accent-hover": "#094560",
    "on-accent": "#ffffff",
    "positive": "#9c3d06",
    "positive-ground": "#fcefe6",
    "normal": "#0f6053",
    "normal-ground": "#e6f4f0",
    "warn": "#6f4a00",
    "warn-ground": "#fbf3dc",
    "error": "#9a1c1c",
    "error-ground": "#fceceb",
}
