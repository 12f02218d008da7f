"""The package from outside: public names, light imports, commands, and how they refuse."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import covid_mm

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("tensorflow", "keras", "gradio")
COMMANDS = ("predict", "evaluate")


def run_python(*arguments: str | Path, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """Start the tests' Python in the repository's root."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def test_public_names_are_there():
    assert set(covid_mm.__all__) == {
        "CovidMMError",
        "Prediction",
        "Predictor",
        "__version__",
        "load_predictor",
    }
    for name in covid_mm.__all__:
        assert getattr(covid_mm, name) is not None
    assert callable(covid_mm.load_predictor)
    assert issubclass(covid_mm.CovidMMError, Exception)


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="no attribute 'diagnose'"):
        _ = covid_mm.diagnose


def test_version_is_the_projects():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert covid_mm.__version__ == project["version"]


def test_all_errors_are_of_one_family():
    from covid_mm import errors

    kinds = [
        value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)
    ]
    assert len(kinds) >= 7
    assert all(issubclass(kind, covid_mm.CovidMMError) for kind in kinds)


@pytest.mark.parametrize("arguments", [("-m", "covid_mm"), ("train.py",), ("app.py",)], ids=" ".join)
def test_help_is_given_without_loading_a_network(arguments):
    target = arguments[-1]
    heavy = HEAVY[:2] if target == "app.py" else HEAVY  # the page may load Gradio
    start = f"runpy.run_module({target!r}," if arguments[0] == "-m" else f"runpy.run_path({target!r},"
    code = (
        f"import runpy, sys\nsys.argv = [{target!r}, '--help']\n"
        f"try:\n    {start} run_name='__main__')\n"
        "except SystemExit as end:\n    code = end.code\n"
        f"print([m for m in {heavy!r} if m in sys.modules], file=sys.stderr)\nsys.exit(code)"
    )
    done = run_python("-c", code)
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout
    assert done.stderr.strip() == "[]"


def test_help_names_the_commands():
    done = run_python("-m", "covid_mm", "--help")
    assert done.returncode == 0, done.stderr
    assert all(command in done.stdout for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help(command):
    done = run_python("-m", "covid_mm", command, "--help")
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["-m", "covid_mm", "predict"], "--ct"),
        (["-m", "covid_mm", "predict", "--ct", "{folder}/missing.png"], "missing.png"),
        (["-m", "covid_mm", "predict", "--ct", "{folder}/text.png"], ""),
        (["-m", "covid_mm", "predict", "--ct", "{folder}/ct.png", "--checkpoint", "{folder}/none"], "none"),
        (["-m", "covid_mm", "evaluate", "--data", "{folder}/missing"], "missing"),
        (["train.py", "--data", "{folder}/missing"], "missing"),
        (["train.py", "--pair", "alexnet-lenet"], "alexnet-lenet"),
        (["train.py", "--single", "mobilenet"], "--modality"),
        (["train.py", "--resume", "{folder}/no-run"], "no-run"),
    ],
    ids=lambda value: " ".join(value).replace("{folder}/", "") if isinstance(value, list) else "",
)
def test_users_mistakes_are_one_line_and_code_two(arguments, named, tmp_path, image_file):
    image_file("ct.png")
    (tmp_path / "text.png").write_text("not an image")
    # runs go to the temporary folder, in case a refusal comes too late
    extra = ["--runs", str(tmp_path / "runs")] if arguments[0] == "train.py" else []
    done = run_python(*(word.format(folder=tmp_path) for word in arguments), *extra)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert named in done.stderr


@pytest.mark.parametrize(
    "arguments", [["-m", "covid_mm", "no-such-command"], ["train.py", "--no-such-option"]], ids=" ".join
)
def test_unknown_options_show_the_usage_and_code_two(arguments):
    done = run_python(*arguments)
    assert done.returncode == 2
    assert "usage:" in done.stderr
    assert "Traceback" not in done.stderr
