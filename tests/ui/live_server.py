"""Starts the real page as a process of its own, and talks to it without a browser."""

from __future__ import annotations

import json
import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).resolve().parents[2]
PORTS = range(20_000, 32_000)  # below those that Linux gives to clients
WORKERS = 8  # of pytest-xdist, each with its own part of PORTS
KEPT = "studies"  # the private folder's part that lists of studies keep
HOLD = "hold"  # the fake predictor's file, see `LiveServer.slow`
FAKE = Path(__file__).with_name("fake_predictor.py")


class LiveServer:
    """One server process. `command` may hold {port} and {temporary}; without it the fake serves.

    environment: variables that go before the tests' own.
    """

    def __init__(
        self,
        temporary: Path,
        command: list[str] | None = None,
        *,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.temporary = temporary
        self.port = find_free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = temporary / f"server-{self.port}.log"
        default = [sys.executable, str(FAKE), "{port}", "{temporary}"]
        filled = [part.format(port=self.port, temporary=temporary) for part in command or default]
        own = {"PYTHONPATH": str(ROOT), "TMPDIR": str(temporary)}
        variables = {**os.environ, **own, **(environment or {})}
        variables.pop("GRADIO_TEMP_DIR", None)
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(filled, cwd=ROOT, env=variables, stdout=log, stderr=log)

    @contextmanager
    def slow(self, seconds: float) -> Iterator[Callable[[], None]]:
        """Inside, the fake predictor takes so long for each study; what is given ends that at once."""
        hold = self.temporary / HOLD
        hold.write_text(str(seconds))
        try:
            yield hold.unlink
        finally:
            hold.unlink(missing_ok=True)

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def uploads(self) -> list[Path]:
        """All files in the server's private folder but its lock and what the lists of studies keep."""
        return [path for path in self._files() if path.name != "lock" and path.parent.parent.name != KEPT]

    @property
    def kept(self) -> list[Path]:
        """The files of the studies in visitors' lists."""
        return [path for path in self._files() if path.parent.parent.name == KEPT]

    def _files(self) -> list[Path]:
        folders = self.temporary.glob("covid-mm-*")
        return [path for folder in folders for path in folder.rglob("*") if path.is_file()]

    def wait_until_open(self, seconds: float = 180.0) -> LiveServer:
        """Itself, once it answers; ended where it does not (a busy machine starts it slowly)."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            assert self.process.poll() is None, f"the server ended: {self.log}"
            try:
                if httpx.get(self.url, timeout=5).status_code == 200:
                    return self
            except httpx.TransportError:
                time.sleep(0.1)
        self.stop(signal.SIGKILL)
        raise AssertionError(f"the server did not open within {seconds} s: {self.log}")

    def stop(self, number: int = signal.SIGTERM, seconds: float = 180.0) -> int:
        """The exit code; a busy machine ends it slowly too, and one that hangs says where."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGUSR1)  # each thread's stack goes to the log
            time.sleep(2)
            self.process.kill()
            raise AssertionError(f"the server did not end within {seconds} s: {self.log}") from None


class Visitor:
    """What a browser sends, by hand: uploads, the page's events, everything that comes back."""

    def __init__(self, url: str) -> None:
        self.client = httpx.Client(base_url=url, timeout=120, verify=False)  # reading certificates takes time
        self.session = secrets.token_hex(5)
        self.received = ""  # all bodies and headers so far

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        response = self.client.request(method, path, **options)
        self.received += f"{response.headers}\n{response.text}\n"
        return response

    def upload(self, data: bytes, name: str = "image.png") -> dict[str, Any]:
        response = self.request("POST", "/gradio_api/upload", files={"files": (name, data, "image/png")})
        response.raise_for_status()
        return file_data(response.json()[0], name)

    def read_config(self) -> dict[str, Any]:
        """What Gradio tells the browser of the page: components, and their events as `dependencies`."""
        config: dict[str, Any] = self.request("GET", "/config").json()
        return config

    def find_event(self, target: str, event: str = "click") -> int:
        """The number of the first event of the component with this element id, or of an API name."""
        config = self.read_config()
        ids = {c["id"] for c in config["components"] if c["props"].get("elem_id") == target}
        for dependency in config["dependencies"]:
            if dependency["api_name"] == target or any([i, event] in _pairs(dependency) for i in ids):
                number: int = dependency["id"]
                return number
        raise AssertionError(f"no event for {target}")

    def join(self, number: int, data: list[Any]) -> httpx.Response:
        body = {"data": data, "fn_index": number, "session_hash": self.session}
        return self.request("POST", "/gradio_api/queue/join", json=body)

    def ask(self, target: str, data: list[Any]) -> dict[str, Any]:
        """Run one event through the queue; its `process_completed` message."""
        self.join(self.find_event(target), data).raise_for_status()
        return self.listen()

    def call(self, target: str | int, data: list[Any]) -> list[Any]:
        """Run one event that does without the queue, named as in `find_event` or by its number; what it gives."""
        number = target if isinstance(target, int) else self.find_event(target)
        body = {"data": data, "fn_index": number, "session_hash": self.session}
        response = self.request("POST", "/gradio_api/run/predict", json=body)
        response.raise_for_status()
        given: list[Any] = response.json()["data"]
        return given

    def listen(self) -> dict[str, Any]:
        """The next `process_completed` message of this visitor's queue."""
        path = f"/gradio_api/queue/data?session_hash={self.session}"
        with self.client.stream("GET", path) as stream:
            for line in stream.iter_lines():
                self.received += line + "\n"
                if line.startswith("data:"):
                    message = json.loads(line[5:])
                    if message["msg"] == "process_completed":
                        done: dict[str, Any] = message
                        return done
        raise AssertionError("the queue closed without an answer")

    def analyse(self, ct: bytes | None, xray: bytes | None, name: str = "image.png") -> str:
        """The result panel for two images, as the page's button gets it."""
        data = [None if image is None else self.upload(image, name) for image in (ct, xray)]
        panel: str = self.ask("mm-analyse", [*data, None, None])["output"]["data"][0]
        return panel


def file_data(path: str, name: str | None = None) -> dict[str, Any]:
    """Gradio's file object for an uploaded path."""
    return {"path": path, "orig_name": name, "meta": {"_type": "gradio.FileData"}}


def _pairs(dependency: dict[str, Any]) -> list[list[Any]]:
    return [list(target) for target in dependency["targets"]]


def find_free_port() -> int:
    """A port that nothing else takes before the server does.

    Not one that the system hands out: another worker, or any client, could be given it in between.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % WORKERS
    share = len(PORTS) // WORKERS
    own = PORTS[worker * share : (worker + 1) * share]
    for port in random.SystemRandom().sample(own, len(own)):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError(f"no free port in {own}")
