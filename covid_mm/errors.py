"""The package's errors: one small family, drawn here.

    CovidMMError            the root: catch this to catch all that the package raises on purpose
    +-- ImageError          an image cannot be read, or is not one this project takes
    +-- DataError           a data folder is missing, malformed, or too small
    +-- CheckpointError     a checkpoint is missing, damaged, or of a kind not understood
    +-- WeightsError        initial weights cannot be had or do not fit the network
    +-- TrainingError       training cannot start, go on, or be resumed
    +-- UsageError          options that contradict one another
    +-- Cancelled           long work was stopped because the user asked for it

Each message is one sentence or two that say what was expected, what came, and what to do.
The commands print it on standard error and leave with exit code 2; no traceback.
"""

from __future__ import annotations


class CovidMMError(Exception):
    """Root of the family: the user's input or surroundings are wrong, not the program."""


class ImageError(CovidMMError):
    """An image is damaged, empty, too large, animated, or of a kind not taken."""

    def about(self, title: str) -> ImageError:
        """The same error, with the image that it is about named first."""
        reason = str(self)
        return ImageError(f"{title}: {reason[:1].lower()}{reason[1:]}")


class DataError(CovidMMError):
    """A data folder is missing, malformed, or holds too few images."""


class CheckpointError(CovidMMError):
    """A checkpoint is missing, damaged, hostile, or of a version not understood."""


class WeightsError(CovidMMError):
    """Initial weights cannot be downloaded, read, or fitted to the network."""


class TrainingError(CovidMMError):
    """Training cannot start, go on (NaN), or be resumed."""


class UsageError(CovidMMError):
    """Options that contradict one another or name something that does not exist."""


class Cancelled(CovidMMError):
    """Long work was stopped because the user asked for it."""
