"""`python -m covid_mm COMMAND`: predict, batch, evaluate, audit and the others of COMMANDS; see --help of each."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from covid_mm import __version__
from covid_mm.commands import (
    audit,
    batch,
    card,
    check_data,
    content_check,
    evaluate,
    exit_with,
    export,
    figures,
    predict,
)
from covid_mm.config import RESEARCH_USE

COMMANDS = (predict, batch, evaluate, content_check, audit, check_data, card, figures, export)


def build_parser() -> argparse.ArgumentParser:
    """One parser with a subcommand for each command module."""
    parser = argparse.ArgumentParser(
        prog="python -m covid_mm",
        description=f"Normal or COVID-19 pneumonia from a chest CT slice and a chest X-ray. {RESEARCH_USE}",
    )
    parser.add_argument("--version", action="version", version=__version__)
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in COMMANDS:
        name = module.__name__.rpartition(".")[2].replace("_", "-")
        summary = (module.__doc__ or "").splitlines()[0]
        subparser = subparsers.add_parser(name, help=summary, description=summary)
        module.add_arguments(subparser)
        subparser.set_defaults(function=module.run)  # not `run`: that is an option of evaluate
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Exit codes: 0 done, 2 the input is wrong, 1 a bug."""
    options = build_parser().parse_args(argv)
    return exit_with(lambda: int(options.function(options)))


if __name__ == "__main__":
    sys.exit(main())
