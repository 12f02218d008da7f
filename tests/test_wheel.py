"""The wheel, built and installed where this repository cannot be seen."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import time
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from live_server import LiveServer, Visitor
from PIL import Image
from test_architecture import PACKAGE, ROOT, project_files

import covid_mm
from covid_mm.config import DEFAULT_PAIR
from covid_mm.datasets.phantoms import make_study

pytestmark = pytest.mark.slow

IMPORT_ALL = """
import importlib, pkgutil, covid_mm
names = [m.name for m in pkgutil.walk_packages(covid_mm.__path__, "covid_mm.") if not m.name.endswith("__main__")]
for name in names:
    importlib.import_module(name)
print(len(names), covid_mm.__file__)
"""

Program = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=300)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def programs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the commands of an environment that holds the wheel; what it needs is lent by this one."""
    environment = tmp_path_factory.mktemp("installed")
    venv.create(environment, with_pip=True, symlinks=True)
    install = [environment / "bin" / "python", "-m", "pip", "install", "--no-index", "--no-deps", wheel]
    subprocess.run(install, check=True, capture_output=True, timeout=300)
    (site,) = environment.glob("lib/python*/site-packages")
    (site / "lent.pth").write_text(f"{sysconfig.get_path('purelib')}\n{sysconfig.get_path('platlib')}\n")
    return environment / "bin"


@pytest.fixture
def run(programs: Path, tmp_path: Path) -> Program:
    """`run("covid-mm", "--version")` in an empty folder, without this repository on the path."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}

    def call(name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [programs / name, *map(str, arguments)],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )

    return call


def test_the_wheel_holds_every_file_of_the_package_and_no_other(wheel):
    with zipfile.ZipFile(wheel) as packed:
        names = {name for name in packed.namelist() if ".dist-info/" not in name}
    expected = {path.relative_to(ROOT).as_posix() for path in project_files() if PACKAGE in path.parents}
    assert "covid_mm/py.typed" in expected
    assert names == expected


def test_every_module_is_imported_from_the_wheel(run, programs):
    done = run("python", "-c", IMPORT_ALL)
    assert done.returncode == 0, done.stderr
    count, home = done.stdout.split()[-2:]
    assert int(count) > 100
    assert Path(home).is_relative_to(programs.parent)


def test_the_commands_are_those_of_the_repository(run):
    assert run("covid-mm", "--version").stdout.strip() == covid_mm.__version__
    for name, word in (("covid-mm", "predict"), ("covid-mm-app", "--root-path")):
        done = run(name, "--help")
        assert done.returncode == 0, done.stderr
        assert word in done.stdout


def test_without_a_checkpoint_the_sentence_says_where_one_is(run, tmp_path):
    Image.fromarray(make_study(1, seed=3).ct).save(tmp_path / "ct.png")
    for done in (run("covid-mm", "predict", "--ct", "ct.png"), run("covid-mm-app")):
        assert done.returncode == 2, done.stderr
        assert "Traceback" not in done.stderr
        assert "--checkpoint" in done.stderr
        assert "clone of the repository" in done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"ct.png"}


def test_a_study_is_answered(run, tmp_path):
    """With a checkpoint that is named, and with the one in the folder where the command is started."""
    Image.fromarray(make_study(1, seed=3).ct).save(tmp_path / "ct.png")
    question = ("covid-mm", "predict", "--ct", "ct.png", "--json")
    named = run(*question, "--checkpoint", ROOT / "checkpoints" / DEFAULT_PAIR)
    assert named.returncode == 0, named.stderr
    (tmp_path / "checkpoints").symlink_to(ROOT / "checkpoints")
    result = run(*question)
    assert result.returncode == 0, result.stderr
    answers = [json.loads(done.stdout) for done in (named, result)]
    assert answers[0]["checkpoint"]["name"] == DEFAULT_PAIR
    assert answers[0]["probabilities"] == answers[1]["probabilities"]


def test_the_page_opens(programs, tmp_path):
    checkpoint = ROOT / "checkpoints" / DEFAULT_PAIR
    command = [str(programs / "covid-mm-app"), "--port", "{port}", "--checkpoint", str(checkpoint)]
    server = LiveServer(tmp_path, command, environment={"PYTHONPATH": ""}).wait_until_open()
    try:
        assert Visitor(server.url).request("GET", "/").status_code == 200
        end = time.monotonic() + 60.0
        while (
            not server.log.endswith("\n") and time.monotonic() < end
        ):  # it answers a moment before it says so
            time.sleep(0.05)
    finally:
        code = server.stop()
    assert code == 0, server.log  # while the network was still loading
    assert server.log == f"Open {server.url} (Ctrl-C ends it)\n"
