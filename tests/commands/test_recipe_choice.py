"""Which recipe train.py takes, and what it refuses."""

from __future__ import annotations

import pytest

from covid_mm.errors import UsageError
from covid_mm.training.plan import build_parser, check_recipe, make_plan, may_be_served, paper_options


def parse(*arguments: str):
    return build_parser().parse_args(arguments)


@pytest.mark.parametrize("arguments", [("--recipe", "served"), ("--split", "sources")])
def test_served_where_it_is_asked_for(arguments):
    plan = make_plan(parse("--data", "x", *arguments), "train.py")
    assert plan.recipe == "served"
    assert plan.data.split == "paper"  # whose validation images are held out


def test_the_data_decide_where_nothing_is_asked_for():
    assert may_be_served(parse("--data", "x"))
    assert make_plan(parse("--data", "x"), "train.py").recipe == "paper"


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--data", "x", "--recipe", "paper"),
        ("--data", "x", "--split", "grouped"),
        ("--data", "x", "--epochs", "3"),
        ("--data", "x", "--pair", "all"),
        ("--data", "x", "--single", "mobilenet", "--modality", "xray"),
    ],
)
def test_options_of_the_paper_choose_the_paper(arguments):
    assert not may_be_served(parse(*arguments))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--recipe", "served"), "--data"),
        (("--data", "x", "--recipe", "served", "--epochs", "3"), "--epochs"),
        (("--data", "x", "--recipe", "served", "--pair", "all"), "--pair all"),
        (("--data", "x", "--recipe", "paper", "--split", "sources"), "--split sources"),
        (("--data", "x", "--recipe", "paper", "--branch-steps", "3"), "--branch-steps"),
        (("--data", "x", "--recipe", "paper", "--length", "long"), "--length"),
    ],
)
def test_contradictions_are_refused_by_name(arguments, message):
    with pytest.raises(UsageError, match=message):
        check_recipe(parse(*arguments))


def test_steps_below_one_are_refused():
    with pytest.raises(UsageError, match="--branch-steps must be 1 or more"):
        make_plan(parse("--data", "x", "--recipe", "served", "--branch-steps", "0"), "train.py")


def test_a_plan_is_restored_with_its_recipe():
    plan = make_plan(parse("--data", "x", "--recipe", "served", "--branch-steps", "7"), "train.py")
    assert type(plan).from_dict(plan.to_dict()) == plan
    older = plan.to_dict()
    del (
        older["recipe"],
        older["branch_steps"],
        older["lung_steps"],
        older["length"],
    )  # written before there were recipes
    assert type(plan).from_dict(older).recipe == "paper"


def test_defaults_are_no_options_of_the_paper():
    assert paper_options(parse("--data", "x")) == []
