"""Benchmarks are not run here, but what they take from the package must be there."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

BENCHMARKS = sorted((Path(__file__).resolve().parents[1] / "benchmarks").glob("*.py"))


def imported_names(path: Path) -> list[tuple[str, str]]:
    """Module and name of every `from covid_mm... import ...`, inside functions too."""
    return [
        (node.module, alias.name)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("covid_mm")
        for alias in node.names
    ]


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.stem)
def test_what_a_benchmark_imports_exists(path: Path) -> None:
    names = imported_names(path)
    assert names
    missing = [
        f"{module}.{name}" for module, name in names if not hasattr(importlib.import_module(module), name)
    ]
    assert missing == []
