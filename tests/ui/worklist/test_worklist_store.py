"""What a list keeps, for whom and how long: tokens, tabs, time, room."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fake_predictor import INFO, META, FakePredictor
from made_clock import Clock

from covid_mm.errors import UsageError
from covid_mm.evaluation.local_test import LabelledStudy, LocalTest
from covid_mm.ui.study.analysis import Analysis, analyse_study
from covid_mm.ui.worklist.own_test import add_own_test, measure_rows
from covid_mm.ui.worklist.packing import FINEST, pack_analysis, unpack_analysis
from covid_mm.ui.worklist.store import ListGone, WorklistLimits, WorklistStore
from covid_mm.ui.worklist.studies import ListedStudy

ONE, TWO = "1" * 64, "2" * 64


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock) -> WorklistStore:
    opened = WorklistStore(WorklistLimits(studies=4, visitor_bytes=65_000, total_bytes=100_000), clock)
    opened.open(ONE, "tab", "session")
    return opened


@pytest.fixture
def analysis(tmp_path, bright, dark) -> Analysis:
    (tmp_path / "ct").write_bytes(bright)
    (tmp_path / "xray").write_bytes(dark)
    return analyse_study(FakePredictor(), str(tmp_path / "ct"), str(tmp_path / "xray"))


def numbers(store: WorklistStore, token: str = ONE) -> list[int]:
    return store.list_changes(token, 0)[1]


def test_a_packed_answer_is_the_same_but_for_the_maps_rounding(analysis):
    again = unpack_analysis(pack_analysis(analysis), META)
    before, after = analysis.prediction, again.prediction
    assert (after.label, after.probabilities, after.branches, after.warnings, after.evidence) == (
        before.label,
        before.probabilities,
        before.branches,
        before.warnings,
        before.evidence,
    )
    assert (again.previews, again.thresholds, again.kind, again.meta) == (
        analysis.previews,
        analysis.thresholds,
        analysis.kind,
        META,
    )
    assert after.images == {}
    for modality, heatmap in before.heatmaps.items():
        assert after.heatmaps[modality].dtype == np.float32
        np.testing.assert_allclose(after.heatmaps[modality], heatmap, rtol=0, atol=0.51 / FINEST)
        np.testing.assert_array_equal(after.outlines[modality][0], before.outlines[modality][0])


def test_changes_come_once_and_numbers_never_again(store):
    assert store.add("session", ListedStudy(name="a", label="normal")) == 1
    assert store.add("session", ListedStudy(name="b", label="normal")) == 2
    count, known, changed = store.list_changes(ONE, 0)
    assert (known, [study.name for study in changed]) == ([1, 2], ["a", "b"])
    assert store.list_changes(ONE, count)[2] == []
    store.annotate(ONE, 1, "left lung")
    assert [(study.number, study.note) for study in store.list_changes(ONE, count)[2]] == [(1, "left lung")]
    store.delete(ONE, [2, 77])
    assert store.add("session", ListedStudy()) == 3
    assert numbers(store) == [1, 3]
    with pytest.raises(UsageError, match="no longer in the list"):
        store.read(ONE, 2)


def test_a_list_is_found_by_its_own_token_only(store):
    store.add("session", ListedStudy(name="a"))
    store.open(TWO, "tab", "other")
    assert (numbers(store), numbers(store, TWO)) == ([1], [])
    assert store.add("unknown session", ListedStudy()) == store.add(None, ListedStudy()) == 0
    for token in ("", "1", "1" * 63, "g" * 64, "1" * 65):
        with pytest.raises(UsageError, match="64 hexadecimal"):
            store.open(token, "tab", "session")
        with pytest.raises(ListGone):
            store.list_changes(token, 0)


def test_another_user_in_the_same_browser_finds_nothing(clock):
    store = WorklistStore(clock=clock)
    store.open(ONE, "tab", "session", "ada")
    store.add("session", ListedStudy(name="hers"))
    store.open(ONE, "tab", "later", "bob")
    assert numbers(store) == []
    assert store.add("session", ListedStudy(name="hers")) == 0


def test_half_an_hour_without_use_ends_a_list_and_use_does_not(store, clock):
    store.add("session", ListedStudy())
    clock.now += 1799
    assert numbers(store) == [1]
    clock.now += 1799
    store.expire()
    assert store.visitors == 1
    clock.now += 2
    store.expire()
    assert (store.visitors, store.size) == (0, 0)
    assert store.add("session", ListedStudy()) == 0
    with pytest.raises(ListGone, match="30 minutes"):
        store.read(ONE, 1)


def test_a_reload_finds_the_list_and_a_closed_tab_takes_it_along(store, clock):
    store.add("session", ListedStudy())
    store.leave(ONE, "tab")
    clock.now += 30
    store.open(ONE, "the tab again", "session two")
    clock.now += 600
    assert numbers(store) == [1]
    store.leave(ONE, "the tab again")
    store.come_back(ONE, "the tab again")
    clock.now += 600
    assert numbers(store) == [1]
    store.leave(ONE, "the tab again")
    clock.now += 61
    store.expire()
    assert store.visitors == 0


def test_the_last_of_two_tabs_ends_the_list(store, clock):
    store.open(ONE, "second", "session two")
    store.leave(ONE, "tab")
    clock.now += 600
    store.expire()
    assert store.visitors == 1
    store.leave(ONE, "second")
    clock.now += 61
    store.expire()
    assert store.visitors == 0


def test_pictures_and_maps_go_before_answers_and_the_oldest_first(store):
    for name in "abc":
        store.add("session", ListedStudy(name=name, label="normal", packed=bytes(25_000)))
    assert [(s.name, s.packed is not None) for s in store.list_changes(ONE, 0)[2]] == [
        ("a", False),
        ("b", True),
        ("c", True),
    ]
    for name in "de":
        store.add("session", ListedStudy(name=name))
    assert numbers(store) == [2, 3, 4, 5]  # four studies a list


def test_all_lists_together_have_an_end_and_the_longest_unused_pays(store, clock):
    for _ in range(2):
        store.add("session", ListedStudy(packed=bytes(25_000)))
    clock.now += 1
    store.open(TWO, "tab", "other")
    for _ in range(2):
        store.add("other", ListedStudy(packed=bytes(20_000)))
    assert store.size <= 100_000
    assert [s.packed is not None for s in store.list_changes(TWO, 0)[2]] == [True, True]
    assert [s.packed is not None for s in store.list_changes(ONE, 0)[2]] == [False, True]


def test_there_are_no_more_lists_than_allowed(clock):
    store = WorklistStore(WorklistLimits(visitors=2), clock)
    for number in range(3):
        store.open(f"{number:064}", "tab", f"session {number}")
        clock.now += 1
    assert store.visitors == 2
    with pytest.raises(ListGone):
        store.list_changes(f"{0:064}", 0)


def test_runs_are_counted_for_each_list(store):
    assert [store.begin_run("session"), store.begin_run("session"), store.begin_run("nobody")] == [1, 2, 0]


def test_the_operators_own_test_is_for_those_without_one(analysis, clock):
    def measure(sha256: str) -> LocalTest:
        labelled = [
            LabelledStudy("normal", "", {"fused": 0.1}),
            LabelledStudy("covid19_pneumonia", "", {"fused": 0.9}),
        ]
        return measure_rows(labelled, META, replace(INFO, sha256=sha256))

    own_test, own = measure(INFO.sha256), measure("0" * 64)
    store = WorklistStore(clock=clock, test=own_test)
    store.open(ONE, "tab", "session")
    assert add_own_test(store, "session", analysis).own_test == own_test.find("fused")
    store.set_test("session", own)  # of another network
    assert (store.find_test(session="session"), store.find_test(token=ONE)) == (own, own)
    assert add_own_test(store, "session", analysis).own_test is None
    assert store.find_test(session="another") == own_test
