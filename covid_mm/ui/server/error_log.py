"""What goes wrong with a request, in one line of the log that repeats nothing of what was sent."""

from __future__ import annotations

import logging
import secrets
import traceback
from pathlib import Path
from typing import Any

import gradio as gr

_log = logging.getLogger("covid_mm.requests")


def log_fault(error: BaseException) -> str:
    """Log an error's type and line, not its text, which may hold a file's name; the id in that line."""
    token = secrets.token_hex(4)
    frames = traceback.extract_tb(error.__traceback__)
    source = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "an unknown line"
    _log.error("error %s: %s in %s", token, type(error).__name__, source)
    return token


class QuietBlocks(gr.Blocks):
    """A page whose events' functions explain their own errors: any other is of what a client sent.

    Gradio would print it with its traceback, and in it the paths and names that were sent.
    """

    async def process_api(self, *positional: Any, **named: Any) -> dict[str, Any]:
        """One event's answer.

        Raises:
            gr.Error: a function's own sentence, or the id of the line in the log.
        """
        try:
            answer: dict[str, Any] = await super().process_api(*positional, **named)
        except gr.Error:
            raise
        except Exception as error:
            sentence = (
                f"The server could not read this request; its log has the details under {log_fault(error)}."
            )
            raise gr.Error(sentence, print_exception=False) from None
        return answer
