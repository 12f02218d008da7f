"""How the card's tables are described: columns over rows, and a writer of their words and figures.

This room's writer writes English with all digits, for Markdown; the page's rounds, translates, and leaves out the
columns that are detail.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from covid_mm.evaluation.intervals import Proportion
from covid_mm.reporting.markdown import escape_markdown
from covid_mm.reporting.tables import NOT_MEASURED, format_proportion, format_table, percent

Row = Mapping[str, Any]


class Writer:
    """English Markdown with every digit; a translating page overrides it.

    An estimate is a mapping of `value`, `low` and `high`, 0..1; a share has `successes` and `total` too.
    """

    detailed = True  # whether columns of detail are written

    def word(self, text: str, **values: object) -> str:
        """The card's own words."""
        return text.format(**values) if values else text

    def title(self, text: str) -> str:
        """The same, where they begin a cell."""
        return capitalise(self.word(text))

    def sentence(self, text: str) -> str:
        """What meta.json says in English."""
        return str(escape_markdown(text))

    def data(self, text: object) -> str:
        """A name of a collection, a licence: the same in every language."""
        return str(escape_markdown(text))

    def name(self, kind: str, value: str) -> str:
        """A heatmap's `method` or `layer`."""
        return self.data(value)

    def number(self, value: float, decimals: int = 0, rounded: int | None = None) -> str:
        """decimals: those of the card; rounded: those of the page, the same where None."""
        return f"{value:.{decimals}f}"

    def percent(self, share: float | None) -> str:
        """A share without counts, 0..1."""
        return percent(share)

    def share(self, share: Row | None) -> str:
        """`748/750 = 99.73 % (99.03 to 99.93)`."""
        return format_proportion(None if share is None else Proportion(**share))

    def rate(self, estimate: Row | float | None) -> str:
        """A share with its interval where that was measured, and its counts where there is room."""
        if not isinstance(estimate, Mapping):
            return self.percent(estimate)
        if "total" in estimate:
            return self.share(estimate)
        return (
            f"{self.percent(estimate['value'])} ({100 * estimate['low']:.1f} to {100 * estimate['high']:.1f})"
        )

    def estimate(self, estimate: Row | None, decimals: int = 4, rounded: int = 3) -> str:
        """`0.9987 (0.9951 to 0.9997)`. rounded: the page's decimals."""
        if estimate is None:
            return NOT_MEASURED
        value, low, high = (f"{estimate[name]:.{decimals}f}" for name in ("value", "low", "high"))
        return f"{value} ({low} to {high})"


CARD = Writer()


def capitalise(text: str) -> str:
    """The same with a capital letter."""
    return text[:1].upper() + text[1:]


@dataclass(frozen=True)
class Table:
    """A table with row headings. header: a cell per column; rows: as many cells each, the first is the heading."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    @property
    def markdown(self) -> Markup:
        """The same as Markdown; "" without rows."""
        return Markup(format_table(self.header, self.rows) if self.rows else "")


@dataclass(frozen=True)
class Column:
    """heading: English, "" for the row's own. cell: writes a row's. detail: on the card only."""

    heading: str
    cell: Callable[[Any, Writer], str] = field(repr=False)
    detail: bool = False


def make_table(columns: Iterable[Column], rows: Iterable[Row], write: Writer) -> Table:
    """A row of cells for each row of meta.json."""
    shown = [column for column in columns if write.detailed or not column.detail]
    header = [write.title(column.heading) for column in shown]
    return Table(header, [[column.cell(row, write) for column in shown] for row in rows])
