"""All reports of a list as one ZIP archive, written piece by piece: one study's report is in memory at a time."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime

from covid_mm.config import CLASS_TITLES
from covid_mm.formats import round_probability
from covid_mm.serving.batch import format_line, neutralise_cell
from covid_mm.ui.i18n.language import ENGLISH, Texts
from covid_mm.ui.report.content import describe_report, make_report
from covid_mm.ui.study.analysis import Analysis
from covid_mm.ui.worklist.studies import ListedStudy
from covid_mm.ui.worklist.view import name_study

FORMATS = ("pdf", "json")
INDEX = "index.csv"
COLUMNS = ("file", "study", "answer", "probability_covid19_pneumonia", "labelled", "note", "error")


def write_report(
    study: ListedStudy, analysis: Analysis, kind: str, date: datetime, texts: Texts = ENGLISH
) -> bytes:
    """One study's report with its note. analysis: its answer. kind: of FORMATS."""
    report = make_report(analysis, date=date, note=study.note)
    if kind == "json":
        return json.dumps(describe_report(report), indent=2, allow_nan=False).encode()
    from covid_mm.ui.report.pdf import render_pdf

    return render_pdf(report, texts)


def write_archive(
    studies: Sequence[ListedStudy],
    unpack: Callable[[ListedStudy], Analysis | None],
    kind: str,
    date: datetime,
    texts: Texts = ENGLISH,
) -> Iterator[bytes]:
    """The bytes of a ZIP: a report of each study that has one, and a table of all that names its file.

    unpack: gives a study's answer, None where it is not kept.
    """
    buffer = _Pieces()
    lines = [format_line(COLUMNS)]
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for study in studies:
            analysis = unpack(study)
            file = name_file(study, kind, texts) if analysis else ""
            if analysis:
                archive.writestr(file, write_report(study, analysis, kind, date, texts))
                yield buffer.take()
            lines.append(format_line(neutralise_cell(cell) for cell in _list_cells(study, file, texts)))
        archive.writestr(INDEX, "\ufeff" + "".join(lines))
    yield buffer.take()


def name_file(study: ListedStudy, kind: str, texts: Texts = ENGLISH) -> str:
    """`007-patient7.pdf`: the study's number, and of its name what any system takes."""
    name = re.sub(r"[^\w.-]+", "-", name_study(study, texts)).strip("-.")[:60]
    return f"{study.number:03}-{name}.{kind}"


def _list_cells(study: ListedStudy, file: str, texts: Texts) -> tuple[str, ...]:
    probability = (
        "" if study.probability is None else str(round_probability(study.probability, study.supported))
    )
    return (
        file,
        name_study(study, texts),
        CLASS_TITLES[study.label] if study.label else "",
        probability,
        study.truth,
        study.note,
        study.error,
    )


class _Pieces:
    """A file that can only be written: what was written since the last `take`."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        """Remember it."""
        self._parts.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing waits."""

    def close(self) -> None:
        """Nothing is open."""

    def take(self) -> bytes:
        """All that was written since the last call."""
        data, self._parts = b"".join(self._parts), []
        return data
