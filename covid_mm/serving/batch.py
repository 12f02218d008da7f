"""Many studies: each one's answer or its reason, in order, one in memory at a time.

A file that cannot be read is a row with its reason, never the end of the run. Rows are appended to
a CSV and flushed as they come; a second start finds what is done by the studies' names.
"""

from __future__ import annotations

import contextlib
import csv
import io
import logging
import re
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol

from covid_mm.config import CLASSES, MODALITIES, POSITIVE, Modality
from covid_mm.errors import CheckpointError, CovidMMError, Message, UsageError
from covid_mm.files import replace_file
from covid_mm.formats import flatten_text, round_share
from covid_mm.imaging import CtScan, DecodedImage
from covid_mm.serving.pairing import ImageFile, Study
from covid_mm.serving.prediction import SCAN_COLUMNS, UNDETERMINED, CheckpointInfo, Prediction
from covid_mm.serving.scan_files import StudyFiles, read_files

try:
    import fcntl
except ImportError:  # Windows: two runs into one file are not noticed there
    fcntl = None  # type: ignore[assignment]

COLUMNS = (
    "study",
    "label",
    "reason",
    "probability_normal",
    "probability_covid19_pneumonia",
    *(f"{modality}_probability" for modality in MODALITIES),
    "evidence_auc",
    "evidence_sensitivity",
    "evidence_specificity",
    *SCAN_COLUMNS,
    "positive_means",
    "warnings",
    "error",
    "checkpoint",
    "sha256",
    "seconds",
)
_OLDER_COLUMNS = tuple(name for name in COLUMNS if name not in SCAN_COLUMNS)  # before scans had their own
_SHA256 = COLUMNS.index("sha256")
_ERROR = COLUMNS.index("error")
# What a formula begins with, full width too, at the start of a cell or of what another separator makes a cell: a
# spreadsheet whose language lists with `;` splits there, and takes away the quotes around.
_FORMULA = re.compile(r"""((?:^|[;,|"']) *)(?=[=+\-@＝＋－＠])""")  # noqa: RUF001
_MAX_LINE = 64 * 1024  # bytes, far above the longest row that this module writes

# a study's files to its images; raises ImageError
Reader = Callable[[Mapping[Modality, ImageFile]], Mapping[Modality, DecodedImage | CtScan]]

_log = logging.getLogger("covid_mm.batch")


class StudyAnswerer(Protocol):
    """What a run needs of a predictor."""

    @property
    def info(self) -> CheckpointInfo:
        """The checkpoint that answers."""

    def predict_images(self, files: StudyFiles) -> Prediction:
        """The answer to one study, images by modality; raises CovidMMError for what it does not take."""


@dataclass(frozen=True)
class Row:
    """What became of one study: an answer, or the reason why there is none. seconds: reading included.

    truth, patient: as its owner gave them in the manifest, empty where not.
    """

    study: str
    prediction: Prediction | None
    error: str
    checkpoint: CheckpointInfo
    seconds: float
    truth: str = ""
    patient: str = ""

    @property
    def outcome(self) -> str:
        """`answered` with a class, `undetermined`, or `failed`."""
        if self.prediction is None:
            return "failed"
        return UNDETERMINED if self.prediction.label == UNDETERMINED else "answered"

    @property
    def is_wrong(self) -> bool:
        """Whether it was answered otherwise than its owner's label."""
        label = self.prediction.label if self.prediction else UNDETERMINED
        return bool(self.truth) and label not in (UNDETERMINED, self.truth)

    def to_dict(self) -> dict[str, Any]:
        """The CSV's columns as typed values, None where a cell is empty; warnings as a list of codes.

        reason: code of why a label is undetermined. evidence_auc, evidence_sensitivity and
        evidence_specificity: 0..1, of such answers on collections left out of training.
        """
        prediction = self.prediction
        evidence = prediction.evidence if prediction else None
        shown = prediction.to_dict() if prediction else {}
        fused, alone = shown.get("probabilities", {}), shown.get("branches", {})
        positive = CLASSES[POSITIVE]
        return {
            "study": self.study,
            "label": prediction.label if prediction else None,
            "reason": prediction.reason if prediction else None,
            **{f"probability_{name}": fused.get(name) for name in CLASSES},
            **{
                f"{m}_probability": alone.get(m, {}).get("probabilities", {}).get(positive)
                for m in MODALITIES
            },
            "evidence_auc": round_share(evidence.auc) if evidence else None,
            "evidence_sensitivity": round_share(evidence.sensitivity) if evidence else None,
            "evidence_specificity": round_share(evidence.specificity) if evidence else None,
            **(
                prediction.scan.summarise() if prediction and prediction.scan else dict.fromkeys(SCAN_COLUMNS)
            ),
            "positive_means": _describe_meaning(prediction) if prediction else None,
            "warnings": [notice.code for notice in prediction.warnings] if prediction else [],
            "error": self.error or None,
            "checkpoint": self.checkpoint.name,
            "sha256": self.checkpoint.sha256,
            "seconds": round(self.seconds, 3),
        }

    def to_cells(self) -> list[str]:
        """The CSV's cells, in the order of COLUMNS; nothing in them is a formula to a spreadsheet."""
        return format_cells(self.to_dict())


def format_cells(values: Mapping[str, Any]) -> list[str]:
    """The CSV's cells of what `Row.to_dict` gives, in the order of COLUMNS."""
    cells = {**values, "warnings": " ".join(values["warnings"])}
    return [_format_cell(cells[name]) for name in COLUMNS]


def _describe_meaning(prediction: Prediction) -> str | None:
    """What the positive label means, where a positive one stands in the row and it is more than COVID-19."""
    said = [
        meaning
        for modality, meaning in prediction.label_meanings.items()
        if CLASSES[POSITIVE] in (prediction.label, prediction.branches[modality].label)
    ]
    return " ".join(said) or None


def answer_studies(
    predictor: StudyAnswerer,
    studies: Iterable[Study],
    read: Reader = read_files,
) -> Iterator[Row]:
    """One row per study, in order, each computed when it is asked for. read: a study's files.

    Raises:
        CheckpointError: the network cannot answer anything; all else becomes a row's error.
    """
    for study in studies:
        began = time.perf_counter()
        prediction, error = None, study.error
        if not error:
            try:
                prediction = predictor.predict_images(read(study.files))
            except Exception as failure:  # one study must not end the run
                error = explain_failure(failure)
        seconds = time.perf_counter() - began
        yield Row(study.name, prediction, error, predictor.info, seconds, study.truth, study.patient)


def explain_failure(failure: Exception) -> str:
    """The error of a study's row: the message where it is one of ours, else a token under which the log has it.

    Raises the failure where it is a CheckpointError: no study can be answered then.
    """
    if isinstance(failure, CheckpointError):
        raise failure
    if isinstance(failure, CovidMMError):
        return failure.message
    token = secrets.token_hex(4)
    _log.error("error %s", token, exc_info=failure)
    return Message(
        "Something went wrong with this study; the log has the details under {token}.", token=token
    )


def neutralise_cell(text: str) -> str:
    """One cell on one line that no spreadsheet takes for a formula, by whichever separator it splits lines.

    An apostrophe goes before each `= + - @` that stands at the start or behind `; , | " '`, spaces left out.
    """
    return _FORMULA.sub(r"\1'", flatten_text(text))


def _format_cell(value: str | float | None) -> str:
    """A number stays one, below zero too."""
    if value is None:
        return ""
    return neutralise_cell(value) if isinstance(value, str) else str(value)


def format_line(cells: Iterable[str]) -> str:
    """One CSV line with its end."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(list(cells))
    return buffer.getvalue()


class ResultFile:
    """The CSV of a run, opened to go on where an earlier run stopped, however it stopped.

    Use it as a context manager. A last line without its end, as a killed run leaves it, is cut off;
    its study is answered again.

    Args:
        path: of the CSV; made, with its folder, where it is not there.
        checkpoint: that answers; a file begun with another is refused.
        retry: take out the rows with an error, so that their studies are answered again.
    """

    def __init__(self, path: Path, checkpoint: CheckpointInfo, *, retry: bool = False) -> None:
        self.path = path
        self._checkpoint = checkpoint
        self._retry = retry
        self._file: IO[bytes] | None = None
        self._done: Counter[str] = Counter()
        self._met: Counter[str] = Counter()

    @property
    def done(self) -> int:
        """Rows that were there when it was opened."""
        return self._done.total()

    def __enter__(self) -> ResultFile:
        """Lock, check and mend what is there.

        Raises:
            UsageError: it cannot be written, another run writes it, it is no file of ours, or it was
                begun with another checkpoint.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._resume(self._open())
        except OSError as error:
            self._close()
            raise UsageError(
                f"--output {self.path} cannot be written ({error.strerror}); name another file."
            ) from error
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def is_done(self, study: Study) -> bool:
        """Whether an earlier run answered it; to be asked once per study, so that doubles count too."""
        key = neutralise_cell(study.name)
        self._met[key] += 1
        return self._met[key] <= self._done[key]

    def append(self, row: Row) -> None:
        """Write one row and flush it. Raises UsageError where the disk is full."""
        self._write(format_line(row.to_cells()))

    def _resume(self, file: IO[bytes]) -> None:
        """Read what is there, cut off a torn line, and stand at the end."""
        header = format_line(COLUMNS).encode()
        file.seek(0)
        first = file.readline(_MAX_LINE)
        if not first.endswith(b"\n") and header.startswith(first):  # new, or killed within its first line
            file.truncate(0)
            self._write(header.decode())
            return
        names = first.removeprefix(b"\xef\xbb\xbf").rstrip(b"\r\n")
        if names == format_line(_OLDER_COLUMNS).encode().rstrip(b"\n"):
            raise UsageError(
                f"--output {self.path} was begun by an earlier version, without the columns of a CT scan"
                f" ({', '.join(SCAN_COLUMNS)}); name another file, and all studies are answered into it."
            )
        if names != header.rstrip(b"\n"):
            raise UsageError(
                f"--output {self.path} is there already and was not written by this command; name another file."
            )
        end = len(first)
        failed = []
        while line := file.readline(_MAX_LINE):
            cells = _parse(line)
            if not line.endswith(b"\n") or len(cells) != len(COLUMNS):
                if file.readline(1):
                    raise UsageError(
                        f"--output {self.path} is damaged after {self.done} rows, before its end; mend that line, or"
                        " name another file."
                    )
                break
            if cells[_SHA256] != self._checkpoint.sha256:
                raise UsageError(
                    f"--output {self.path} was begun with another checkpoint; name another file, or go on with that"
                    " checkpoint."
                )
            if self._retry and cells[_ERROR]:
                failed.append((end, len(line)))
            else:
                self._done[cells[0]] += 1
            end += len(line)
        file.truncate(end)
        if failed:
            self._take_out(failed)

    def _take_out(self, lines: list[tuple[int, int]]) -> None:
        """Rewrite the file without these (offset, length) under another name, then swap it in."""
        dropped = {offset for offset, _ in lines}
        with (
            replace_file(self.path) as tmp_path,
            open(self.path, "rb") as whole,
            open(tmp_path, "wb") as output,
        ):
            offset = 0
            for line in whole:
                if offset not in dropped:
                    output.write(line)
                offset += len(line)
        self._close()
        self._open()

    def _write(self, line: str) -> None:
        assert self._file is not None, "the file is open between __enter__ and __exit__"
        try:
            self._file.write(line.encode())
            self._file.flush()
        except OSError as error:
            raise UsageError(
                f"--output {self.path} cannot be written any further ({error.strerror}); make room and start the"
                " same command again: what is done is kept."
            ) from error

    def _open(self) -> IO[bytes]:
        """Open and lock it; the system lets go of a killed run's lock.

        Raises UsageError where another run holds it.
        """
        self._file = open(self.path, "a+b")  # noqa: SIM115 (closed by __exit__)
        if fcntl is None:
            return self._file
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(
                f"--output {self.path} is being written by another run; wait for it, or name another file."
            ) from error
        return self._file

    def _close(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):  # a full disk, which has been said
                self._file.close()
            self._file = None


def read_rows(path: Path) -> Iterator[dict[str, str]]:
    """The rows of a result file by column, one by one."""
    with open(path, newline="", encoding="utf-8-sig") as file:
        yield from csv.DictReader(file)


def _parse(line: bytes) -> list[str]:
    """The cells of one line; none where it is not a line of ours."""
    try:
        return next(csv.reader([line.decode()], strict=True), [])
    except (UnicodeDecodeError, csv.Error):
        return []
