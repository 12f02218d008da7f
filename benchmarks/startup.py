"""Until the page can be opened, and until a study is answered: `python app.py` beside an empty Gradio page, here.

    python benchmarks/startup.py [--rounds N]

Each is started N times in turn as a process of its own; the time runs from its start until its
address first answers with a page, until the network is ready and warmed up, and until the answer to a study
of two phantoms that is posted as soon as the page answers. The runtime `keras` is TensorFlow through Keras's own
layers, as all networks were served once. ONNX Runtime takes part after `python -m covid_mm export`. The same study is
posted again: the first answer must be the second's, digit by digit.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from gradio_client import Client, handle_file
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from covid_mm.datasets.phantoms import make_study

ROOT = Path(__file__).resolve().parents[1]
EMPTY = (
    "import sys, gradio\n"
    "with gradio.Blocks(analytics_enabled=False) as page:\n    pass\n"
    "page.launch(server_port=int(sys.argv[1]), quiet=True)\n"
)
PATIENCE = 180.0  # seconds


def find_port() -> int:
    """A free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Start:
    """Seconds from a process's start: until its page answers, its network is ready, a study is answered."""

    page: float
    ready: float = 0.0
    answer: float = 0.0


def time_start(command: list[str], port: int, study: dict[str, str]) -> Start:
    """Start a server, post a study, end it. study: its files by the names that the endpoint gives them."""
    with tempfile.TemporaryDirectory() as temporary:
        environment = {**os.environ, "TMPDIR": temporary, "GRADIO_ANALYTICS_ENABLED": "False"}
        began = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        address = f"http://127.0.0.1:{port}/"
        try:
            opened = wait_for(address, began, process)
            if "app.py" not in command:
                return Start(opened)
            with ThreadPoolExecutor(1) as pool:
                posted = pool.submit(post_study, address, study, began)
                ready = wait_for(f"{address}health", began, process, b"ready")
                answered = posted.result()
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()
    return Start(opened, ready, answered)


def post_study(address: str, study: dict[str, str], began: float) -> float:
    """Seconds from `began` to the study's answer; SystemExit where a second answer is another one."""
    client = Client(address, verbose=False)
    files = {name: handle_file(path) for name, path in study.items()}
    first = client.predict(**files, api_name="/diagnose")
    answered = time.perf_counter() - began
    second = client.predict(**files, api_name="/diagnose")
    if first | {"timing_ms": None} != second | {"timing_ms": None}:
        raise SystemExit(f"the first answer is not the second:\n{first}\n{second}")
    return answered


def wait_for(url: str, began: float, process: subprocess.Popen[bytes], content: bytes = b"") -> float:
    """Seconds from `began` until the address answers with this content."""
    while time.perf_counter() - began < PATIENCE:
        if process.poll() is not None:
            raise SystemExit(f"the server ended with exit code {process.returncode}")
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                if content in answer.read():
                    return time.perf_counter() - began
        except (urllib.error.URLError, OSError):
            pass
        time.sleep(0.02)
    raise SystemExit(f"no answer within {PATIENCE:.0f} s")


def measure(rounds: int, checkpoint: str | None) -> None:
    """Print the medians beside those of an empty page."""
    ours = [sys.executable, "app.py", *(["--checkpoint", checkpoint] if checkpoint else [])]
    folder = Path(checkpoint) if checkpoint else ROOT / "checkpoints" / "densenet121-mobilenet"
    ways = {"an empty Gradio page": [sys.executable, "-c", EMPTY], "python app.py": [*ours, "--port"]}
    for runtime in ("keras", *(["onnx"] if (folder / "onnx").is_dir() else [])):
        ways[f"python app.py --runtime {runtime}"] = [*ours, "--runtime", runtime, "--port"]
    starts: dict[str, list[Start]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory() as place:
        study = make_study(1, seed=0)
        files = {m: str(Path(place, f"{m}.png")) for m in ("ct", "xray")}
        for modality, path in files.items():
            Image.fromarray(getattr(study, modality)).save(path)
        for turn in range(rounds + 1):
            for name, command in ways.items():
                port = find_port()
                start = time_start([*command, str(port)], port, files)
                if turn:  # the first one reads everything from the disk
                    starts[name].append(start)
    print(f"median of {rounds} starts each, in turn, s:   page   network ready   first answer")
    for name, times in starts.items():
        page, ready, answer = (
            statistics.median(getattr(start, part) for start in times) for part in ("page", "ready", "answer")
        )
        print(f"  {name:38s} {page:8.2f}" + (f" {ready:15.2f} {answer:14.2f}" if answer else ""))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    parser.add_argument(
        "--checkpoint", metavar="DIR", help="serve this one only (default: all of checkpoints/)"
    )
    options = parser.parse_args()
    measure(options.rounds, options.checkpoint)
