"""What lets the tests run in several processes: fixtures made once, ports that two workers never share."""

from __future__ import annotations

import socket

import live_server
import pytest


def test_what_is_made_once_is_shared(once_per_run):
    made = []

    def make(folder):
        made.append(folder)
        (folder / "file").write_text("text")

    first, second = once_per_run("probe", make), once_per_run("probe", make)
    assert first == second
    assert (second / "file").read_text() == "text"
    assert len(made) <= 1  # 0 where another worker was first


def test_what_failed_is_made_anew(once_per_run):
    def fail(folder):
        (folder / "half").touch()
        raise ValueError("stopped half-way")

    with pytest.raises(ValueError, match="half-way"):
        once_per_run("failing", fail)
    assert list(once_per_run("failing", lambda folder: (folder / "whole").touch()).iterdir()) != []
    assert not (once_per_run("failing", fail) / "half").exists()


def test_workers_take_ports_of_their_own(monkeypatch):
    results = []
    for worker in range(live_server.WORKERS):
        monkeypatch.setenv("PYTEST_XDIST_WORKER", f"gw{worker}")
        results.append({live_server.find_free_port() for _ in range(20)})
    every = set().union(*results)
    assert sum(map(len, results)) == len(every)
    assert all(port in live_server.PORTS for port in every)


def test_a_taken_port_is_not_given(monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        monkeypatch.setattr(live_server, "PORTS", range(port, port + 1))
        monkeypatch.setattr(live_server, "WORKERS", 1)
        with pytest.raises(AssertionError, match="no free port"):
            live_server.find_free_port()
