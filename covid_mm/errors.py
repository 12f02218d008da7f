"""The package's errors and what they say: one small family, drawn here.

    CovidMMError            the root: catch this to catch all that the package raises on purpose
    +-- ImageError          an image cannot be read, or is not one this project takes
    +-- DataError           a data folder is missing, malformed, or too small
    +-- CheckpointError     a checkpoint is missing, damaged, or of a kind not understood
    +-- WeightsError        initial weights cannot be had or do not fit the network
    +-- TrainingError       training cannot start, go on, or be resumed
    +-- UsageError          options that contradict one another
    +-- Cancelled           long work was stopped because the user asked for it

Each message is one sentence or two that say what was expected, what came, and what to do.
The commands print it on standard error and leave with exit code 2; no traceback. Where the page may
show it, it is given as a template and the values of its braces, so that the page can translate it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self


class Message(str):
    """A finished English sentence that knows what it was made from.

    template: its text with words in braces; without values it is the whole sentence, and braces in it are plain
    letters. values: what the braces were filled with; one that has a translation of its own is a word of the
    catalogue or again a Message.
    """

    template: str
    values: Mapping[str, Any]
    subject: str = ""

    def __new__(cls, template: str, /, **values: Any) -> Self:
        """The sentence with its braces filled."""
        message = super().__new__(cls, template.format(**values) if values else template)
        message.template, message.values = str(template), values
        return message

    def about(self, subject: str) -> Message:
        """The same sentence with what it is about named first: `CT slice: the image is empty`."""
        message = Message(f"{subject}: {self[:1].lower()}{self[1:]}")
        message.template, message.values, message.subject = self.template, self.values, subject
        return message


class CovidMMError(Exception):
    """Root of the family: the user's input or surroundings are wrong, not the program.

    template, values: of its `Message`; a Message or a finished sentence is taken as it is.
    """

    def __init__(self, template: str, /, **values: Any) -> None:
        as_it_is = isinstance(template, Message) and not values
        super().__init__(template if as_it_is else Message(template, **values))

    @property
    def message(self) -> Message:
        """What it says."""
        message: Message = self.args[0]
        return message

    def about(self, subject: str) -> Self:
        """The same error, with what it is about named first."""
        return type(self)(self.message.about(subject))


class ImageError(CovidMMError):
    """An image is damaged, empty, too large, animated, or of a kind not taken."""


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
