"""Links, commands, settings and figures of README and its pages in docs/ are those of the code."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml

import covid_mm
import covid_mm.__main__ as shell
from covid_mm.config import DEFAULT_PAIR
from covid_mm.reporting.readme_results import README_END, README_START, render_readme_results
from covid_mm.training.plan import build_parser as training_parser
from covid_mm.ui.server.settings import build_parser as server_parser

ROOT = Path(__file__).resolve().parents[1]
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]
}
README = PAGES["README.md"]
RESULTS = PAGES["docs/results.md"]
LINES = [
    line.split("#")[0].strip()
    for page in PAGES.values()
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```", page, flags=re.DOTALL | re.MULTILINE)
    if not language
    for line in block.splitlines()
]
MAX_README_LINES = 200


def commands(program: str) -> list[list[str]]:
    """The arguments of each of the program's command lines in the pages' blocks."""
    return [shlex.split(line.removeprefix(program)) for line in LINES if line.startswith(program)]


def test_readme_is_short_and_leads_to_every_page():
    assert len(README.splitlines()) <= MAX_README_LINES
    links = re.findall(r"\]\(([^)#]+)", README)
    assert [page for page in PAGES if page != "README.md" and page not in links] == []


def test_readme_says_what_it_is_not_for():
    assert "**Research use only, not for diagnosis." in README


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    folder = (ROOT / page).parent
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", PAGES[page])
    missing = [link for link in links if "://" not in link and not (folder / link).exists()]
    assert missing == []


@pytest.mark.parametrize("page", PAGES)
def test_links_into_a_page_find_their_heading(page):
    for place, anchor in re.findall(r"\]\(([^):]*)#([^)]+)\)", PAGES[page]):
        target = (ROOT / page).parent / place if place else ROOT / page
        text = target.read_text(encoding="utf-8")
        headings = [
            re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
            for heading in re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
        ]
        assert anchor in headings


def test_paths_that_contributors_are_sent_to_are_there():
    named = re.findall(r"`([\w./-]+/[\w./-]*)`", PAGES["CONTRIBUTING.md"])
    assert len(named) > 30
    assert [path for path in named if not (ROOT / path).exists()] == []


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
    section = PAGES["docs/usage.md"].split("## From the shell")[1].split("\n## ")[0]
    names = re.findall(r"^    ([a-z][\w-]*)\b", shell.build_parser().format_help(), flags=re.MULTILINE)
    assert {"predict", "content-check", "export"} <= set(names)
    for name in names:
        assert re.search(rf"`{name}\b", section) or f"covid_mm {name}" in section, name


def test_server_settings_are_those_of_the_table():
    rows = dict(
        re.findall(r"^\| `(--[\w-]+)` \| `(COVID_MM_\w+)`", PAGES["docs/hosting.md"], flags=re.MULTILINE)
    )
    flags = set(re.findall(r"^  (?:-\w, )?(--[\w-]+)", server_parser({}).format_help(), flags=re.MULTILINE))
    flags.remove("--help")
    assert sorted(rows) == sorted(flags)
    for flag, variable in rows.items():
        value = "7" if flag == "--port" else "/given"
        options = server_parser({variable: value}).parse_args([])
        assert str(getattr(options, flag[2:].replace("-", "_"))) == value


def test_measured_shares_are_those_of_the_card_and_the_results():
    """No figure outlives the network that it was measured on."""
    shares = re.findall(
        r"\d+/\d+ = [\d.]+ %(?: \([\d.]+ to [\d.]+\))?", RESULTS + README + PAGES["docs/paper.md"]
    )
    assert len(shares) > 30
    pages = ("checkpoints/densenet121-mobilenet/README.md", "results/README.md")
    sources = "".join((ROOT / page).read_text() for page in pages)
    assert [share for share in shares if share not in sources] == []


def test_the_served_networks_part_is_drawn_from_its_checkpoint():
    meta = json.loads((ROOT / "checkpoints" / DEFAULT_PAIR / "meta.json").read_text())
    part = RESULTS[RESULTS.index(README_START) : RESULTS.index(README_END) + len(README_END)]
    if meta.get("recipe") != "served":
        pytest.skip("the committed checkpoint is of the paper's recipe: its part is written by hand")
    assert part == render_readme_results(meta, DEFAULT_PAIR).rstrip(), (
        "paste `python -m covid_mm card --readme` into docs/results.md"
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


def test_compose_has_the_settings_of_the_docker_command():
    """The same hardening by `docker compose up` and by the command in the Dockerfile's head."""
    command = " ".join(
        re.findall(r"^# +(docker run .*|--.*)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    )
    flags = shlex.split(command.replace("\\", ""))
    service = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["page"]
    assert service["read_only"] is ("--read-only" in flags) is True
    for flag, key in (("--tmpfs", "tmpfs"), ("--cap-drop", "cap_drop"), ("--security-opt", "security_opt")):
        assert service[key] == [flags[flags.index(flag) + 1]]
    assert service["ports"] == [flags[flags.index("-p") + 1]]


def test_the_citation_names_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == covid_mm.__version__
    assert citation["references"][0]["authors"][0]["family-names"] == "Hilmizen"
    assert f"## {covid_mm.__version__}" in PAGES["CHANGELOG.md"]
