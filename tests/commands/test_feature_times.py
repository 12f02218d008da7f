"""How long features took is told rightly although a kill fell between the two sides of a split."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from covid_mm.commands import reproduction
from covid_mm.training.plan import build_parser, make_plan
from covid_mm.training.run import RunFolder

SECONDS = {"training": 0.3, "validation": 0.12}


class Killed(Exception):
    """Stands for the end of the process."""


@pytest.fixture
def work(tmp_path, monkeypatch) -> SimpleNamespace:
    """A run whose features take as long as SECONDS says, and which can be killed before one side."""
    run = SimpleNamespace(folder=RunFolder(tmp_path / "run"), killed_before=None)
    (run.folder.path / "features").mkdir(parents=True)

    def cut(network, modality, samples, training, cache, *, copies) -> None:
        path = cache / f"{modality}-{samples}.npy"
        if path.exists():
            return
        if samples == run.killed_before:
            raise Killed
        time.sleep(SECONDS[samples])
        path.touch()

    monkeypatch.setattr(reproduction, "extract_features", cut)
    return run


def compute(work) -> object:
    plan = make_plan(build_parser().parse_args(["--pair", "resnet50-vgg16"]), "train.py")
    data = SimpleNamespace(training={"ct": "training"}, validation={"ct": "validation"})
    return reproduction.compute_cached(work, plan, None, "ct", data)


def test_both_sides_are_kept_although_the_run_was_killed_between_them(work):
    work.killed_before = "validation"
    with pytest.raises(Killed):
        compute(work)
    work.killed_before = None
    step = compute(work)
    seconds = work.folder.read_json("features.json")["resnet50"]
    assert seconds["train"] >= 0.3
    assert seconds["validation"] >= 0.1
    assert not step.reused


def test_what_is_there_already_keeps_its_time(work):
    compute(work)
    before = work.folder.read_json("features.json")
    assert compute(work).reused
    assert work.folder.read_json("features.json") == before
