"""Gradio's Blocks that log in one line what they cannot read of a client's data."""

from __future__ import annotations

from typing import Any

import gradio as gr

from covid_mm.ui.faults import log_fault


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
