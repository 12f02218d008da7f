"""The folder for uploads: private, and gone whatever ends the server."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from live_server import FAKE, LiveServer, Visitor

from covid_mm.ui.server.launch import HEAD_START
from covid_mm.ui.server.upload_folder import NEWBORN, PREFIX, PrivateFolder, remove_abandoned, remove_older

# all threads but one, which came first, never get the signal
SIGNALLED_ELSEWHERE = """
import signal, sys, threading, time
sys.path.insert(0, {tests!r})
from fake_predictor import main

threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
sys.exit(main())
"""
posix = pytest.mark.skipif(os.name != "posix", reason="file modes and signals of POSIX systems")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@posix
def test_only_this_user_can_enter_and_nothing_is_left(tmp_path):
    with PrivateFolder(tmp_path) as folder:
        assert (mode(folder.path), mode(folder.uploads)) == (0o700, 0o700)
        (folder.uploads / "deep").mkdir()
        (folder.uploads / "deep" / "image").write_bytes(b"x")
    assert list(tmp_path.iterdir()) == []


def test_it_is_removed_after_an_error_too(tmp_path):
    with pytest.raises(KeyboardInterrupt), PrivateFolder(tmp_path):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_living_servers_folder_is_left_alone(tmp_path):
    with PrivateFolder(tmp_path) as first, PrivateFolder(tmp_path) as second:
        assert remove_abandoned(tmp_path) == 0
        assert first.path.exists()
        assert second.path.exists()


@posix
def test_what_a_killed_server_left_is_removed(tmp_path):
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom covid_mm.ui.server.upload_folder import PrivateFolder\n"
        "with PrivateFolder(Path(sys.argv[1])) as folder:\n"
        "    (folder.uploads / 'patient').write_text('x')\n    print('ready', flush=True)\n    time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    assert remove_abandoned(tmp_path) == 0  # it lives
    process.kill()
    process.wait()
    assert len(list(tmp_path.rglob("patient"))) == 1
    assert remove_abandoned(tmp_path) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_only_just_made_is_left_alone(tmp_path):
    fresh = tmp_path / "covid-mm-fresh"
    fresh.mkdir()
    assert remove_abandoned(tmp_path) == 0
    old = time.time() - NEWBORN - 5
    os.utime(fresh, (old, old))
    assert remove_abandoned(tmp_path) == 1


def test_foreign_folders_are_left_alone(tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "covid-mm-link").symlink_to(tmp_path / "other")
    assert remove_abandoned(tmp_path) == 0
    assert (tmp_path / "other").exists()


def test_old_files_are_removed_while_the_server_runs(tmp_path):
    with PrivateFolder(tmp_path, keep=0.3) as folder:
        (folder.uploads / "image").write_bytes(b"x")
        end = time.monotonic() + 120
        while (folder.uploads / "image").exists() and time.monotonic() < end:
            time.sleep(0.05)
        assert not (folder.uploads / "image").exists()


def test_young_files_stay(tmp_path):
    (tmp_path / "young").write_bytes(b"x")
    (tmp_path / "old").write_bytes(b"x")
    os.utime(tmp_path / "old", (1, 1))
    assert remove_older(tmp_path, 60) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["young"]


@posix
def test_a_server_wipes_its_uploads_at_sigterm_and_the_next_one_those_of_a_killed_one(tmp_path, dark):
    first = LiveServer(tmp_path).wait_until_open()
    try:
        Visitor(first.url).upload(dark)
        (left,) = first.uploads
        assert mode(left) == 0o600
        assert {mode(folder) for folder in left.parents if tmp_path in folder.parents} == {0o700}
    finally:
        first.stop(signal.SIGKILL)
    assert left.exists()

    second = LiveServer(tmp_path).wait_until_open()
    try:
        assert not left.exists()
        Visitor(second.url).upload(dark)
        assert len(second.uploads) == 1
    finally:
        code = second.stop(signal.SIGTERM)
    assert code == 0
    assert [path for path in tmp_path.iterdir() if path.suffix != ".log"] == []


@posix
def test_a_server_ends_where_another_thread_gets_the_signal(tmp_path):
    script = tmp_path / "serve.py"
    script.write_text(SIGNALLED_ELSEWHERE.format(tests=str(FAKE.parent)))
    server = LiveServer(tmp_path, [sys.executable, str(script), "{port}", "{temporary}"]).wait_until_open()
    time.sleep(2 * HEAD_START)  # by then the main thread waits for nothing but its end
    assert server.stop(signal.SIGTERM) == 0
    assert not list(tmp_path.glob(f"{PREFIX}*"))
