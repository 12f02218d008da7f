"""The example notebook runs, and shows what it shows here."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "docs" / "example.ipynb"
MAX_BYTES = 300_000


def printed(notebook: Any) -> list[str]:
    """What each cell prints to standard output."""
    return [
        "".join(part["text"] for part in cell.get("outputs", []) if part.get("name") == "stdout")
        for cell in notebook.cells
    ]


def test_it_is_small_and_was_run_from_top_to_bottom():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert NOTEBOOK.stat().st_size < MAX_BYTES
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))


@pytest.mark.slow
def test_it_runs_and_prints_what_it_holds(monkeypatch):
    from nbclient import NotebookClient

    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    monkeypatch.setenv("PYTHONPATH", path)
    committed = nbformat.read(NOTEBOOK, as_version=4)
    again = nbformat.read(NOTEBOOK, as_version=4)
    folder = {"metadata": {"path": str(NOTEBOOK.parent)}}
    NotebookClient(again, timeout=900, startup_timeout=300, kernel_name="python3", resources=folder).execute()
    assert printed(again) == printed(committed), (
        "run `PYTHONPATH=$PWD jupyter execute --inplace docs/example.ipynb`"
    )
