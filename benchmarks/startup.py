"""Until the page can be opened: `python app.py` beside an empty Gradio page, on this machine.

    python benchmarks/startup.py [--rounds N]

Each is started N times in turn as a process of its own; the time runs from its start until its
address first answers with a page. The network loads behind our page, so the time until it is warmed up, and the
next study waits for nothing, is printed too. ONNX Runtime takes part after `python -m covid_mm export`.
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
from pathlib import Path

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


def time_start(command: list[str], port: int) -> tuple[float, float | None]:
    """Seconds until the page answers, and until the network is ready where there is one."""
    with tempfile.TemporaryDirectory() as temporary:
        environment = {**os.environ, "TMPDIR": temporary, "GRADIO_ANALYTICS_ENABLED": "False"}
        began = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            opened = wait_for(f"http://127.0.0.1:{port}/", began, process)
            ready = None
            if "app.py" in command:
                ready = wait_for(f"http://127.0.0.1:{port}/health", began, process, b"ready")
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()
    return opened, ready


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
    chosen = ["--checkpoint", checkpoint] if checkpoint else []
    ways = {"an empty Gradio page": [sys.executable, "-c", EMPTY]}
    ways["python app.py"] = [sys.executable, "app.py", *chosen, "--port"]
    folder = Path(checkpoint) if checkpoint else ROOT / "checkpoints" / "densenet121-mobilenet"
    if (folder / "onnx").is_dir():
        ways["python app.py --runtime onnx"] = [
            sys.executable,
            "app.py",
            "--runtime",
            "onnx",
            *chosen,
            "--port",
        ]
    opened: dict[str, list[float]] = {name: [] for name in ways}
    ready: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, command in ways.items():
            port = find_port()
            page, network = time_start([*command, str(port)], port)
            if turn:  # the first one reads everything from the disk
                opened[name].append(page)
                ready[name].append(network or 0.0)
    blank = statistics.median(next(iter(opened.values())))
    print(f"median of {rounds} starts each, in turn:        page        to empty   network ready, warmed up")
    for name in ways:
        page = statistics.median(opened[name])
        network = statistics.median(ready[name])
        print(
            f"  {name:32s} {page:8.2f} s {page - blank:+9.2f} s" + (f" {network:12.2f} s" if network else "")
        )


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
