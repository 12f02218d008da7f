"""What the commands do: the only place that composes all rooms but the page."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from covid_mm.errors import CovidMMError

USER_ERROR = 2


def exit_with(command: Callable[[], int]) -> int:
    """Run a command; what the user can mend becomes one sentence on standard error and exit code 2."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow's start-up chatter hides real messages
    try:
        return command()
    except CovidMMError as error:
        print(f"error: {error}", file=sys.stderr)
        return USER_ERROR
