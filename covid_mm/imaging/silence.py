"""Libraries that read DICOM tell in logs and warnings what they read; here they don't."""

from __future__ import annotations

import logging
import warnings

_TALKATIVE = ("pydicom", "pylibjpeg", "openjpeg", "jpeg_ls")


def silence_libraries() -> None:
    """Keep header text out of logs and warnings.

    Once for the process, when it imports the decoder: threads share both, and none of them can say
    when another is done.
    """
    for name in _TALKATIVE:
        logger = logging.getLogger(name)
        logger.addHandler(logging.NullHandler())
        logger.disabled, logger.propagate = True, False  # the second ends its children's messages here
        warnings.filterwarnings("ignore", module=rf"{name}(\.|$)")
