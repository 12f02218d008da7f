"""What docs/results.md says of the served network is drawn from meta.json, and has the card's figures."""

from __future__ import annotations

import re

import pytest

from covid_mm.errors import CheckpointError, UsageError
from covid_mm.models.meta_file import read_meta
from covid_mm.publishing import card as card_command
from covid_mm.reporting.model_card import render_card
from covid_mm.reporting.readme_results import README_END, README_START, render_readme_results

SHARE = r"\d+/\d+ = [\d.]+ %(?: \([\d.]+ to [\d.]+\))?"


def test_shares_are_those_of_the_card(served):
    text = render_readme_results(served, "densenet121-mobilenet")
    card = render_card(served, "densenet121-mobilenet")
    shares = re.findall(SHARE, text)
    assert len(shares) > 20
    assert [share for share in shares if share not in card] == []


def test_it_stands_between_its_markers_in_lines_of_readme_width(served):
    lines = render_readme_results(served, "x").splitlines()
    assert (lines[0], lines[-1]) == (README_START, README_END)
    assert max(len(line) for line in lines if not line.startswith("|")) <= 125
    assert "the worst, medseg-ct" in " ".join(line.strip() for line in lines)


def test_what_was_not_measured_is_said(served):
    del served["left_out"]
    assert "Not measured: no collection was left out" in render_readme_results(served, "x")


def test_another_recipe_is_refused(served):
    del served["recipe"]
    with pytest.raises(UsageError, match="recipe served"):
        render_readme_results(served, "x")


def test_the_command_prints_and_a_foreign_meta_is_one_sentence(served, tmp_path, capsys):
    card_command.print_readme_results(tmp_path / "name", served)
    assert capsys.readouterr().out == render_readme_results(served, "name")
    with pytest.raises(CheckpointError, match="lacks what a model card is drawn from"):
        card_command.print_readme_results(tmp_path / "name", {"recipe": "served"})
    with pytest.raises(CheckpointError, match="lacks what"):
        card_command.write_card(tmp_path, {"recipe": "served"})


def test_the_command_draws_the_card_again(served, tmp_path):
    card_command.write_card(tmp_path, served)
    assert (tmp_path / "README.md").read_text() == render_card(served, tmp_path.name)
    assert read_meta(tmp_path) == served
