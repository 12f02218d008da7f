"""What the page says while a study waits or a scan is read."""

from __future__ import annotations

from html import escape

from covid_mm.ui.i18n.language import ENGLISH, Texts


def render_queue(before: int, texts: Texts = ENGLISH) -> str:
    """How many studies come before the visitor's own; nothing where it is the first."""
    if not before:
        return ""
    text = texts(
        "{count} study before yours" if before == 1 else "{count} studies before yours", count=before
    )
    return f'<p class="mm-line" role="status">{escape(text)}</p>'


def render_reading(share: float, texts: Texts = ENGLISH) -> str:
    """How much of a CT scan has been read, beside which the page shows its button to stop; else nothing."""
    if not 0 < share < 1:
        return ""
    text = escape(texts("Reading the slices: {percent} %", percent=round(100 * share)))
    return f'<p class="mm-reading"><span>{text}</span><progress value="{share:.3f}" aria-hidden="true"></progress></p>'
