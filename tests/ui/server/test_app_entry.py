"""`python app.py`: flags, and refusing in one sentence."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from covid_mm.errors import CheckpointError
from covid_mm.ui.predictors import PredictorLoader

ROOT = Path(__file__).resolve().parents[3]


def run_app(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "app.py", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.parametrize(("space", "host"), [("", "127.0.0.1"), ("someone/space", "0.0.0.0")])
def test_the_host_is_local_but_on_a_space(space, host):
    done = run_app("--help", **({"SPACE_ID": space} if space else {}))
    assert done.returncode == 0
    text = " ".join(done.stdout.split())
    assert f"COVID_MM_HOST ({host})" in text
    assert "COVID_MM_PORT (7860)" in text


def test_a_missing_checkpoint_is_one_sentence_and_exit_code_2(tmp_path):
    done = run_app("--checkpoint", str(tmp_path / "none"), "--port", "1", TMPDIR=str(tmp_path))
    assert done.returncode == 2
    assert done.stdout == ""
    assert "There is no checkpoint in" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_taken_port_is_one_sentence_and_exit_code_2(tmp_path):
    code = (
        "import sys\nsys.path[:0] = sys.argv[3:]\nfrom fake_predictor import FakePredictor\n"
        "from covid_mm.ui.server.launch import serve\nfrom covid_mm.ui.server.settings import ServerSettings\n"
        "from covid_mm.errors import CovidMMError\n"
        "from pathlib import Path\n"
        "try:\n    serve(ServerSettings(port=int(sys.argv[1]), temporary=Path(sys.argv[2])), {'x': FakePredictor})\n"
        "except CovidMMError as error:\n    sys.exit(str(error))\n"
    )
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        folder = str(Path(__file__).parents[1])
        done = subprocess.run(
            [sys.executable, "-c", code, port, str(tmp_path), str(ROOT), folder],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    assert done.returncode == 1
    assert f"Port {port} on 127.0.0.1 cannot be used" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_network_that_cannot_be_loaded_is_the_same_sentence_for_all():
    def load():
        raise CheckpointError("The weights are damaged.")

    loader = PredictorLoader(load)
    loader.start()
    for _ in range(2):
        with pytest.raises(CheckpointError, match="The weights are damaged"):
            loader.get()
    assert loader.state != "ready"


def test_a_bug_while_loading_is_not_shown_as_the_users_error():
    loader = PredictorLoader(lambda: 1 / 0)
    loader.start()
    with pytest.raises(RuntimeError, match="could not be loaded"):
        loader.get()


def test_importing_the_server_loads_no_gradio():
    code = (
        "import sys, covid_mm.ui.server.launch; print([m for m in ('gradio', 'keras') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_network_is_not_imported_before_the_page_is_served():
    """TensorFlow's import takes longer than the page's own start."""
    program = (
        "import sys\nfrom covid_mm.ui import app\n"
        "app.serve = lambda settings, loads, metas, **options: print('tensorflow' in sys.modules, list(loads)) or 0\n"
        "sys.exit(app.main([]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.stdout.strip() == "False ['densenet121-mobilenet']", done.stderr
