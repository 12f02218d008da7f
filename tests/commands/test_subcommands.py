"""Every subcommand keeps its own function, whatever its options are called."""

from __future__ import annotations

import pytest

from covid_mm.__main__ import COMMANDS, build_parser
from covid_mm.commands import evaluate


def test_the_run_option_of_evaluate_does_not_take_the_place_of_its_function():
    options = build_parser().parse_args(["evaluate", "--data", "d", "--leave-out", "source", "--run", "r"])
    assert options.function is evaluate.run
    assert options.run == "r"


@pytest.mark.parametrize("module", COMMANDS, ids=lambda module: module.__name__.rpartition(".")[2])
def test_every_command_is_a_module_with_options_and_a_function(module):
    assert module.__doc__
    assert callable(module.add_arguments)
    assert callable(module.run)
