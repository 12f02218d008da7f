"""Test it here first, on the page: a batch's labelled studies measured, the figure beside an answer, its own tab."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from covid_mm.config import CLASSES, POSITIVE, RESEARCH_USE
from covid_mm.evaluation.local_test import FUSED, LabelledStudy, LocalTest, measure_local_test
from covid_mm.reporting.local_test import describe_local_test
from covid_mm.serving.batch import Row
from covid_mm.serving.prediction import UNDETERMINED, CheckpointInfo
from covid_mm.ui.i18n.language import ENGLISH, Texts
from covid_mm.ui.study.analysis import Analysis
from covid_mm.ui.templates import render_template
from covid_mm.ui.worklist.store import WorklistStore

TITLE = "Test it here first"


def label_row(row: Row) -> LabelledStudy:
    """A batch's row with its label, without any picture."""
    prediction, positive = row.prediction, CLASSES[POSITIVE]
    if prediction is None:
        return LabelledStudy(row.truth, row.patient, failed=True)
    alone = {
        modality: branch.probabilities[positive]
        for modality, branch in prediction.branches.items()
        if positive in branch.probabilities
    }
    is_fused = len(prediction.modalities) > 1 and positive in prediction.probabilities
    fused = {FUSED: prediction.probabilities[positive]} if is_fused else {}
    undetermined = [FUSED] if is_fused and prediction.label == UNDETERMINED else []
    undetermined += [m for m in alone if prediction.branches[m].label == UNDETERMINED]
    return LabelledStudy(row.truth, row.patient, fused | alone, frozenset(undetermined))


def measure_rows(
    studies: Sequence[LabelledStudy], meta: Mapping[str, Any], checkpoint: CheckpointInfo
) -> LocalTest:
    """A run's labelled studies, measured. Raises DataError where there is none."""
    name, sha256 = checkpoint.name, checkpoint.sha256
    return measure_local_test(studies, meta, checkpoint=name, sha256=sha256, date=datetime.now(UTC))


def add_own_test(store: WorklistStore, session: str | None, analysis: Analysis, token: str = "") -> Analysis:
    """An analysis with the own figure of the head that answers, of a session or of a list, by the same weights."""
    test = store.find_test(session=session, token=token)
    if test is None or test.sha256 != analysis.prediction.checkpoint.sha256:
        return analysis
    return replace(analysis, own_test=test.find(analysis.head))


def render_tab(texts: Texts = ENGLISH) -> str:
    """What the tab says before there is a test."""
    return render_template("worklist/own_test_tab.html", texts, research_use=RESEARCH_USE)


def render_own_test(test: LocalTest, texts: Texts = ENGLISH) -> str:
    """The figures of a test, each head's above those on hospitals never seen."""
    return render_template("worklist/own_test.html", texts, said=describe_local_test(test, texts))
