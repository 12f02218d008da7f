"""The house keeps its plan: who imports whom, what loads when, how large things are."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "covid_mm"
MODULES = sorted(PACKAGE.rglob("*.py"))
CHECKPOINTS = sorted(path.parent for path in ROOT.glob("checkpoints/*/meta.json"))
SOURCES = sorted([*MODULES, *ROOT.glob("*.py"), *(ROOT / "benchmarks").rglob("*.py")])

# what each room may import: rooms to its left in one line, so that there is no circle
#   imaging -> datasets -> models -> explain -> serving -> training -> evaluation -> reporting -> publishing
# the page stands beside the line: it serves, and shows what was measured
ALLOWED = {
    "imaging": set(),
    "datasets": {"imaging"},
    "models": {"imaging", "datasets"},
    "explain": {"imaging", "models"},
    "serving": {"imaging", "models", "explain"},
    "training": {"imaging", "datasets", "models"},
    "evaluation": {"imaging", "datasets", "models", "explain", "serving", "training"},
    "reporting": {"imaging", "datasets", "models", "training", "evaluation"},
    "publishing": {
        "imaging",
        "datasets",
        "models",
        "explain",
        "serving",
        "training",
        "evaluation",
        "reporting",
    },
    "ui": {"imaging", "models", "explain", "serving", "evaluation", "reporting"},
}
# the page's examples are phantoms, drawn when asked for: no room on the way needs them
EXCEPTIONS = {"covid_mm/ui/study/examples.py": {"covid_mm.datasets.phantoms"}}
ROOMS = set(ALLOWED)
# the page's wings, and which others each may import; page.py and server/ put them together
WINGS = {
    "i18n": set(),
    "study": {"i18n"},
    "report": {"i18n", "study"},
    "batch": {"i18n", "study"},
    "worklist": {"i18n", "study", "report"},
    "model": {"i18n", "study"},
    "viewer": {"i18n", "study"},
    "server": {"i18n", "study", "batch", "viewer", "worklist"},
}
ALLOWED["commands"] = ROOMS - {"ui"}  # composes them; the page has its own entry
FOUNDATIONS = {"config", "errors", "files", "formats", "json_record"}  # import no room
HEAVY = ("tensorflow", "keras", "gradio", "tf_keras_vis")
MAX_LINES = 400
MAX_CHECKPOINT_BYTES = 25 * 1000 * 1000


def imported_modules(path: Path) -> set[str]:
    """Full names of all modules that the file imports, inside functions too."""
    names: set[str] = set()
    own = path.relative_to(ROOT).with_suffix("").parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            # a relative import counts its dots from the file's own package
            base = list(own[: len(own) - node.level]) if node.level else []
            module = ".".join(base + ([node.module] if node.module else []))
            names |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    return names


def imported_rooms(path: Path) -> set[str]:
    """Rooms and foundations of covid_mm that the file imports, but for its exceptions."""
    excepted = tuple(EXCEPTIONS.get(relative(path), ()))
    parts = [name.split(".") for name in imported_modules(path) if not name.startswith(excepted)]
    known = ROOMS | FOUNDATIONS | {"commands"}
    return {name[1] for name in parts if len(name) > 1 and name[0] == "covid_mm"} & known


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_no_files_import_each_other_in_a_circle():
    """Not for types alone either, nor inside functions."""
    names = {module_name(path): path for path in MODULES}
    imports = {
        name: {other for other in imported_modules(path) if other in names and other != name}
        for name, path in names.items()
        if path.name != "__init__.py"
    }
    done: set[str] = set()
    while free := {name for name, others in imports.items() if not (others & imports.keys()) - done} - done:
        done |= free
    assert not imports.keys() - done, "these import each other, or what does"


def test_every_folder_of_the_page_is_a_known_wing():
    folders = {path.relative_to(PACKAGE / "ui").parts[0] for path in (PACKAGE / "ui").glob("*/*.py")}
    assert folders == set(WINGS)


def test_every_folder_of_the_package_is_a_known_room():
    folders = {path.relative_to(PACKAGE).parts[0] for path in MODULES if path.parent != PACKAGE}
    assert folders == ROOMS | {"commands"}


@pytest.mark.parametrize("room", sorted(ALLOWED))
def test_rooms_import_only_to_their_left(room):
    wrong = {
        relative(path): sorted(extra)
        for path in sorted((PACKAGE / room).rglob("*.py"))
        if (extra := imported_rooms(path) - ALLOWED[room] - FOUNDATIONS - {room})
    }
    assert wrong == {}, f"{room} may import only {sorted(ALLOWED[room])}"


@pytest.mark.parametrize("wing", sorted(WINGS))
def test_wings_of_the_page_import_only_those_below_them(wing):
    paths = sorted((PACKAGE / "ui" / wing).rglob("*.py"))
    result = {
        parts[2]
        for path in paths
        for name in imported_modules(path)
        if len(parts := name.split(".")) > 2 and parts[:2] == ["covid_mm", "ui"]
    }
    assert paths
    assert result & set(WINGS) <= WINGS[wing] | {wing}


@pytest.mark.parametrize("name", sorted(FOUNDATIONS))
def test_foundations_import_no_room(name):
    assert imported_rooms(PACKAGE / f"{name}.py") <= FOUNDATIONS


def test_only_the_app_imports_the_ui():
    importers = {
        relative(path)
        for path in SOURCES
        if "ui" in imported_rooms(path) and PACKAGE / "ui" not in path.parents
    }
    # measuring the page, or taking pictures of it, needs the page
    assert {name for name in importers if not name.startswith("benchmarks/")} <= {"app.py"}


def test_the_import_reader_sees_relative_and_local_imports(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    path = tmp_path / "covid_mm" / "imaging" / "probe.py"
    path.parent.mkdir(parents=True)
    path.write_text(
        "from ..serving import x\nfrom covid_mm import ui\ndef f():\n    import covid_mm.models.y\n"
    )
    assert imported_rooms(path) == {"serving", "ui", "models"}


@pytest.mark.parametrize("name", ["covid_mm", "covid_mm.imaging", "covid_mm.datasets", "covid_mm.evaluation"])
def test_importing_loads_nothing_heavy(name):
    code = f"import sys, {name}; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_files_are_renamed_in_one_place():
    # serving renames checkpoint folders, and a CSV that it holds open
    result = {relative(path) for path in MODULES if "os.replace(" in path.read_text(encoding="utf-8")}
    assert result == {"covid_mm/files.py"}


def test_files_stay_short():
    counts = {relative(path): len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    assert {name: count for name, count in counts.items() if count > MAX_LINES} == {}


def test_no_module_is_named_after_nothing():
    vague = {"utils", "util", "helpers", "misc", "common"}
    assert [relative(path) for path in MODULES if path.stem in vague or path.parent.name in vague] == []


def test_every_module_says_what_it_is_for():
    assert [
        relative(path) for path in SOURCES if not ast.get_docstring(ast.parse(path.read_text("utf-8")))
    ] == []


def test_no_file_names_a_machines_folders():
    # put together here, or this file would name them itself
    forbidden = [f"/{name}/".encode() for name in ("work", "root")]
    results = {}
    for path in project_files():
        content = path.read_bytes()
        if b"\0" in content[:8192]:  # not text
            continue
        if hits := [name.decode() for name in forbidden if name in content]:
            results[relative(path)] = hits
    assert results == {}


def project_files() -> list[Path]:
    """What git holds or would add; outside a checkout, all files but hidden and cached ones."""
    if (ROOT / ".git").exists():
        listing = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            check=True,
        ).stdout
        paths = [ROOT / os.fsdecode(name) for name in listing.split(b"\0") if name]
        return [path for path in paths if path.is_file()]
    return [
        path
        for path in ROOT.rglob("*")
        if path.is_file()
        and not any(
            part.startswith(".") or part in {"__pycache__", "venv", "runs"}
            for part in path.relative_to(ROOT).parts
        )
    ]


@pytest.mark.parametrize("folder", CHECKPOINTS, ids=lambda path: path.name)
def test_checkpoints_are_small_enough_for_git(folder):
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= MAX_CHECKPOINT_BYTES


def test_no_two_test_modules_share_a_name():
    """Pytest collects modules by their bare names: two of one name stop the whole run."""
    names = [path.name for path in (ROOT / "tests").rglob("*.py") if path.name != "conftest.py"]
    assert sorted(names) == sorted(set(names))


THEIRS = {"_exit", "_stylesheets", "_get_theme_css"}  # of Python and of Gradio's themes, which tests may read


def find_private(tree: ast.Module) -> list[str]:
    """Names with one leading underscore that a module imports, or reads from anything but its own `self`."""
    imported = [
        alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names
    ]
    read = [
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"))
    ]
    return [name for name in imported + read if name.startswith("_") and not name.startswith("__")]


@pytest.mark.parametrize("folder", ["tests", "benchmarks", "docs"])
def test_nothing_outside_the_package_reads_what_is_private(folder: str) -> None:
    seen = ast.parse("from a import _b, c\nd = a._e\nself._f\na.__class__")
    assert find_private(seen) == ["_b", "_e"]
    found = {
        path.name: set(find_private(ast.parse(path.read_text()))) - THEIRS
        for path in (ROOT / folder).rglob("*.py")
    }
    assert found
    assert {name: private for name, private in found.items() if private} == {}
