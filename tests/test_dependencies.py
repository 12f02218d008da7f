"""One list of dependencies: what is imported is in pyproject.toml, and the four files made from it agree."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DIRECT = [Requirement(text) for text in PROJECT["dependencies"]]
EXTRAS = {
    name: [Requirement(text) for text in texts] for name, texts in PROJECT["optional-dependencies"].items()
}
# what the program imports where it is installed
OPTIONAL = [requirement for extra in ("jax", "onnx", "openvino", "ray") for requirement in EXTRAS[extra]]
DEVELOPMENT = [
    requirement
    for listed in EXTRAS["dev"]
    for requirement in (EXTRAS[listed.extras.copy().pop()] if listed.name == "covid-mm" else [listed])
]
PAIRS = [("requirements", DIRECT), ("requirements-dev", DIRECT + DEVELOPMENT)]


def read_pins(name: str) -> dict[str, tuple[str, str, list[str]]]:
    """Version, marker and hashes by canonical name of each requirement in the file.

    Fails on a line that is no pin.
    """
    text = (ROOT / name).read_text(encoding="utf-8")
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    pins: dict[str, tuple[str, str, list[str]]] = {}
    for line in lines:
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        words, *hashes = re.split(r"\s+--hash=", line.strip())
        requirement = Requirement(words)
        (pin,) = requirement.specifier
        assert pin.operator == "==", line
        key = canonicalize_name(requirement.name)
        assert key not in pins, f"{key} stands twice in {name}"
        pins[key] = (pin.version, str(requirement.marker or ""), hashes)
    return pins


def foreign_modules(*names: str) -> set[str]:
    """Top names of the third-party modules that these files and folders import, inside functions too."""
    modules: set[str] = set()
    own = {"covid_mm", *(path.stem for path in (ROOT / "tests").rglob("*.py"))}
    for name in names:
        path = ROOT / name
        for file in [path] if path.suffix == ".py" else sorted(path.rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    modules |= {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    modules.add(node.module.split(".")[0])
    return modules - own - set(sys.stdlib_module_names)


@cache
def find_homes() -> Mapping[str, list[str]]:
    """Distributions by the module that they bring."""
    return packages_distributions()


def unlisted(modules: set[str], listed: list[Requirement]) -> dict[str, list[str]]:
    """Modules, with the distributions that bring them, of which none is listed."""
    homes = find_homes()
    known = {canonicalize_name(requirement.name) for requirement in listed}
    return {
        module: homes.get(module, [])
        for module in sorted(modules)
        if not known & {canonicalize_name(home) for home in homes.get(module, [])}
    }


def test_what_the_program_imports_is_listed():
    modules = foreign_modules("covid_mm", "app.py", "train.py")
    assert modules >= {"numpy", "python_multipart", "cv2"}
    assert unlisted(modules, DIRECT + OPTIONAL) == {}


def test_what_tests_and_scripts_import_is_listed():
    assert unlisted(foreign_modules("tests", "benchmarks", "docs"), DIRECT + DEVELOPMENT) == {}


def test_an_import_that_is_not_listed_is_found():
    modules = foreign_modules("covid_mm")
    fewer = [requirement for requirement in DIRECT if requirement.name != "python-multipart"]
    assert set(unlisted(modules, fewer + OPTIONAL)) == {"python_multipart"}


@pytest.mark.parametrize(("name", "direct"), PAIRS, ids=["requirements", "requirements-dev"])
def test_every_direct_dependency_is_pinned_as_pyproject_allows(name, direct):
    pins = read_pins(f"{name}.txt")
    for requirement in direct:
        version = pins[canonicalize_name(requirement.name)][0]
        assert requirement.specifier.contains(version), f"{requirement} against {version}"
    assert len(pins) > 2 * len(direct)  # what they need in turn, too


@pytest.mark.parametrize("name", ["requirements", "requirements-dev"])
def test_the_lock_file_has_the_same_pins_with_hashes(name):
    plain, locked = read_pins(f"{name}.txt"), read_pins(f"{name}.lock")
    assert {key: pin[:2] for key, pin in plain.items()} == {key: pin[:2] for key, pin in locked.items()}
    assert [key for key, pin in plain.items() if pin[2]] == []
    for key, pin in locked.items():
        assert pin[2], f"{key} has no hash"
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", digest) for digest in pin[2]), key


def test_the_tests_run_on_what_is_served():
    served, tested = read_pins("requirements.lock"), read_pins("requirements-dev.lock")
    assert {key: tested[key][0] for key in served} == {key: pin[0] for key, pin in served.items()}


def test_the_space_installs_the_pinned_gradio():
    sdk = re.search(r"^sdk_version: (\S+)$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sdk is not None
    assert sdk[1] == read_pins("requirements.txt")["gradio"][0]
