"""Results as Markdown tables: for model cards, the README, and the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from covid_mm.errors import UsageError
from covid_mm.evaluation.intervals import Estimate, Proportion
from covid_mm.evaluation.report import BinaryReport
from covid_mm.reporting.paper_table import PaperRow, find_paper_row

NOT_MEASURED = "n/a"


def format_proportion(share: Proportion | None) -> str:
    """`748/750 = 99.73 % (99.03 to 99.93)`; `n/a` for None."""
    if share is None:
        return NOT_MEASURED
    return (
        f"{share.successes}/{share.total} = {_percent(share.value)} %"
        f" ({_percent(share.low)} to {_percent(share.high)})"
    )


def percent(value: float | None) -> str:
    """`12.3 %`; `n/a` for None. value: 0..1."""
    return NOT_MEASURED if value is None else f"{100 * value:.1f} %"


def format_estimate(estimate: Estimate | None) -> str:
    """`0.9987 (0.9951 to 0.9997)`; `n/a` for None."""
    if estimate is None:
        return NOT_MEASURED
    return f"{estimate.value:.4f} ({estimate.low:.4f} to {estimate.high:.4f})"


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table without a final newline; `|` within a cell is escaped.

    Raises:
        UsageError: a row with another number of cells than the header.
    """
    for row in rows:
        if len(row) != len(header):
            raise UsageError(
                f"A table row needs {len(header)} cells like its header, but has {len(row)}: {row}."
            )
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def paper_comparison_table(reports: Mapping[str, BinaryReport]) -> str:
    """Table III: ours beside the paper's figures, in per cent; the paper's intervals are Wilson's.

    Args:
        reports: by `NetworkConfig.name`, in the order wanted; a network that the paper does not
            have shows `n/a` in its columns.
    """
    rows = []
    for name, report in reports.items():
        paper = find_paper_row(name)
        rows.append(
            [
                paper.title if paper else name,
                format_proportion(report.accuracy),
                _paper_accuracy(paper),
                _rate(report.sensitivity),
                f"{paper.sensitivity:.2f}" if paper else NOT_MEASURED,
                _rate(report.specificity),
                f"{paper.specificity:.2f}" if paper else NOT_MEASURED,
            ]
        )
    header = [
        "network",
        *(
            f"{measure}, {whose}"
            for measure in ("accuracy", "sensitivity", "specificity")
            for whose in ("ours", "paper")
        ),
    ]
    return format_table(header, rows)


def _paper_accuracy(paper: PaperRow | None) -> str:
    if paper is None:
        return NOT_MEASURED
    return format_proportion(Proportion.of(paper.counts.correct, paper.counts.total))


def _rate(share: Proportion | None) -> str:
    return NOT_MEASURED if share is None else _percent(share.value)


def _percent(value: float) -> str:
    return f"{value * 100:.2f}"
