"""What goes wrong with a request, in one line of the log that repeats nothing of what was sent."""

from __future__ import annotations

import logging
import secrets
import traceback
from pathlib import Path

_log = logging.getLogger("covid_mm.requests")


def log_fault(error: BaseException) -> str:
    """Log an error's type and place, not its text, which may hold a file's name; the id in that line."""
    token = secrets.token_hex(4)
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "an unknown place"
    _log.error("error %s: %s in %s", token, type(error).__name__, place)
    return token
