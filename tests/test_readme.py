"""The README's links, commands and settings are those of the code."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from covid_mm import __main__ as shell
from covid_mm.commands.plan import build_parser as training_parser
from covid_mm.config import DEFAULT_PAIR
from covid_mm.reporting.readme_results import README_END, README_START, render_readme_results
from covid_mm.ui.settings import build_parser as server_parser

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
LINES = [
    line.split("#")[0].strip()
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)
    if not language
    for line in block.splitlines()
]


def commands(program: str) -> list[list[str]]:
    """The arguments of each of the program's command lines in the README's blocks."""
    return [shlex.split(line.removeprefix(program)) for line in LINES if line.startswith(program)]


def test_links_lead_somewhere():
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", README)
    assert len(links) > 5
    missing = [link for link in links if "://" not in link and not (ROOT / link).exists()]
    assert missing == []


def test_links_into_a_page_find_their_heading():
    for place, anchor in re.findall(r"\]\(([^):]*)#([^)]+)\)", README):
        text = (ROOT / (place or "README.md")).read_text()
        headings = [
            re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
            for heading in re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
        ]
        assert anchor in headings


def test_training_commands_are_understood():
    lines = commands("python train.py")
    assert len(lines) > 4
    for arguments in lines:
        training_parser().parse_args(arguments)


def test_shell_commands_are_understood():
    lines = commands("python -m covid_mm")
    assert {arguments[0] for arguments in lines} >= {"predict", "batch"}
    for arguments in lines:
        shell.build_parser().parse_args(arguments)


def test_all_shell_commands_are_named():
    section = README.split("## From the shell")[1].split("\n## ")[0]
    choices = next(
        action.choices for action in shell.build_parser()._actions if isinstance(action.choices, dict)
    )
    for name in choices:
        assert re.search(rf"`{name}\b", section) or f"covid_mm {name}" in section, name


def test_server_settings_are_those_of_the_table():
    rows = dict(re.findall(r"^\| `(--[\w-]+)` \| `(COVID_MM_\w+)`", README, flags=re.MULTILINE))
    flags = [
        option
        for action in server_parser({})._actions
        for option in action.option_strings
        if option.startswith("--") and option != "--help"
    ]
    assert sorted(rows) == sorted(flags)
    for flag, variable in rows.items():
        value = "7" if flag == "--port" else "/given"
        options = server_parser({variable: value}).parse_args([])
        assert str(getattr(options, flag[2:].replace("-", "_"))) == value


def test_measured_shares_are_those_of_the_card_and_the_results():
    """No figure outlives the network that it was measured on."""
    section = README.split("## Results")[1].split("\n## ")[0]
    shares = re.findall(r"\d+/\d+ = [\d.]+ %(?: \([\d.]+ to [\d.]+\))?", section)
    assert len(shares) > 30
    pages = ("checkpoints/densenet121-mobilenet/README.md", "results/README.md")
    sources = "".join((ROOT / page).read_text() for page in pages)
    assert [share for share in shares if share not in sources] == []


def test_the_served_networks_part_is_drawn_from_its_checkpoint():
    meta = json.loads((ROOT / "checkpoints" / DEFAULT_PAIR / "meta.json").read_text())
    part = README[README.index(README_START) : README.index(README_END) + len(README_END)]
    if meta.get("recipe") != "served":
        pytest.skip("the committed checkpoint is of the paper's recipe: its part is written by hand")
    assert part == render_readme_results(meta, DEFAULT_PAIR).rstrip(), (
        "paste `python -m covid_mm card --readme`"
    )


@pytest.mark.parametrize("folder", ["covid_mm", "."])
def test_the_map_names_every_room(folder):
    section = README.split("## Map")[1].split("\n## ")[0]
    names = [
        child.name
        for child in (ROOT / folder).iterdir()
        if child.is_dir()
        and not child.name.startswith((".", "_"))
        and (folder != "." or any(child.rglob("*.py")))
    ]
    missing = [
        name for name in names if name not in ("runs", "results", "venv") and f"{name}/" not in section
    ]
    assert missing == []
