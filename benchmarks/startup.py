"""Until the page can be opened: `python app.py` beside an empty Gradio page, on this machine.

    python benchmarks/startup.py [--rounds N]

Each is started N times in turn as a process of its own; the time runs from its start until its
address first answers with a page. The network loads behind our page, so its time is printed too.
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


def measure(rounds: int) -> None:
    """Print the medians and their difference."""
    ours: list[float] = []
    network: list[float] = []
    empty: list[float] = []
    for turn in range(rounds + 1):
        port = find_port()
        plain, _ = time_start([sys.executable, "-c", EMPTY, str(port)], port)
        port = find_port()
        page, ready = time_start([sys.executable, "app.py", "--port", str(port)], port)
        if turn:  # the first one reads everything from the disk
            empty.append(plain)
            ours.append(page)
            network.append(ready or 0.0)
    blank, page = statistics.median(empty), statistics.median(ours)
    print(f"median of {rounds} starts each, in turn:")
    print(f"  an empty Gradio page        {blank:6.2f} s")
    print(f"  python app.py               {page:6.2f} s   {page - blank:+.2f} s, {page / blank:.2f} times")
    print(f"  its network ready           {statistics.median(network):6.2f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    measure(parser.parse_args().rounds)
