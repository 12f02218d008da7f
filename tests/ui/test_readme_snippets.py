"""The Python snippets of docs/usage.md, each run as it stands, as a program of its own beside its images.

The one that loads the committed network is run in tests/test_default_checkpoint.py, which has it loaded.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from gradio_client import Client, handle_file
from live_server import ROOT, LiveServer
from made_images import make_png

ADDRESS = "http://127.0.0.1:7860"
USAGE = (ROOT / "docs" / "usage.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", USAGE, flags=re.DOTALL)


def run_snippet(word: str, folder: Path, url: str = ADDRESS) -> str:
    """What the one snippet with this word prints, run in this folder against the server at `url`."""
    (snippet,) = (text for text in SNIPPETS if word in text)
    done = subprocess.run(
        [sys.executable, "-c", snippet.replace(ADDRESS, url)],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def folder(tmp_path, bright, dark) -> Path:
    """The files that the snippets name."""
    (tmp_path / "slice.png").write_bytes(bright)
    (tmp_path / "film.jpeg").write_bytes(dark)
    with zipfile.ZipFile(tmp_path / "studies.zip", "w") as packed:
        packed.writestr("first_ct.png", bright)
        packed.writestr("first_xray.png", bright)
        packed.writestr("second_xray.png", make_png(0.5)[:80])
        packed.writestr("notes.txt", "hello")
    return tmp_path


def test_every_snippet_is_run_here():
    words = ["load_predictor", "/diagnose", "/report", "/batch"]
    assert [sum(word in text for text in SNIPPETS) for word in words] == [1, 1, 1, 1]
    assert len(SNIPPETS) == len(words)


def test_diagnose(server: LiveServer, folder):
    printed = run_snippet("/diagnose", folder, server.url)
    assert "branches_disagree" in printed
    assert "covid19_pneumonia" in printed


def test_report(server: LiveServer, folder):
    run_snippet("/report", folder, server.url)
    assert (folder / "report.pdf").read_bytes().startswith(b"%PDF-")


def test_batch(server: LiveServer, folder):
    first, second, left_out = run_snippet("/batch", folder, server.url).splitlines()[-3:]
    assert first.split() == ["first", "covid19_pneumonia"]
    assert second.startswith("second X-ray:")  # its reason
    assert "notes.txt" in left_out


def test_the_fields_of_the_table_are_those_of_the_answer(server: LiveServer, folder):
    """The table of the answer's fields names all of them and no other."""
    client = Client(server.url, verbose=False)
    result = client.predict(ct=handle_file(str(folder / "slice.png")), api_name="/diagnose")
    section = USAGE.split("| field of `diagnose` | type |")[1].split("\n\n")[0]
    named = re.findall(r"^\| `(\w+)` \|", section, flags=re.MULTILINE)
    assert named == list(result), json.dumps(list(result))
