"""Flags, environment variables, accounts: what a page is served with."""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from live_server import ROOT, LiveServer, Visitor

from covid_mm.errors import UsageError
from covid_mm.evaluation.local_test import LabelledStudy, measure_local_test
from covid_mm.reporting.local_test import describe_json
from covid_mm.ui.server.settings import (
    CHECKPOINTS,
    ServerSettings,
    find_checkpoints,
    read_accounts,
    read_settings,
)

SCRIPT = """
import sys
sys.path[:0] = [{root!r}, {tests!r}]
from fake_predictor import FakePredictor
from pathlib import Path
from covid_mm.ui.server.launch import serve
from covid_mm.ui.server.settings import ServerSettings
settings = ServerSettings(
    port=int(sys.argv[1]), temporary=Path(sys.argv[2]), root_path="/lungs", behind_proxy=True,
    accounts={{"ana": "long word", "bo": "other word"}},
)
sys.exit(serve(settings, {{"fake": lambda: FakePredictor()}}))
"""


def test_defaults_are_local_and_open_to_all():
    settings, checkpoints = read_settings([], {})
    assert settings == ServerSettings()
    assert checkpoints[0] == CHECKPOINTS / "densenet121-mobilenet"


def test_all_checkpoints_are_offered_but_those_of_phantoms(tmp_path):
    for name in ("resnet50-vgg16", "densenet121-mobilenet", "synthetic-resnet50-vgg16", "empty", ".half"):
        (tmp_path / name).mkdir()
        if name != "empty":
            (tmp_path / name / "meta.json").write_text("{}")
    assert [path.name for path in find_checkpoints(tmp_path)] == ["densenet121-mobilenet", "resnet50-vgg16"]
    assert [path.name for path in find_checkpoints(tmp_path / "empty")] == ["densenet121-mobilenet"]


def test_a_space_listens_on_all_addresses():
    settings, _ = read_settings([], {"SPACE_ID": "someone/space", "PORT": "7000"})
    assert (settings.host, settings.port, settings.behind_proxy) == ("0.0.0.0", 7000, True)


def test_a_proxy_is_believed_only_where_one_is_named():
    assert not read_settings([], {})[0].behind_proxy
    assert read_settings(["--root-path", "/lungs"], {})[0].behind_proxy
    assert read_settings([], {"FORWARDED_ALLOW_IPS": "10.0.0.1"})[0].behind_proxy


def test_flags_go_before_variables(tmp_path):
    accounts = tmp_path / "accounts"
    accounts.write_text("# staff\n\nana:long word\nbo:a:b\n")
    environment = {
        "COVID_MM_HOST": "10.0.0.1",
        "COVID_MM_PORT": "1000",
        "COVID_MM_AUTH_FILE": str(accounts),
        "COVID_MM_ROOT_PATH": "/lungs",
        "COVID_MM_CHECKPOINT": "elsewhere",
    }
    settings, checkpoints = read_settings(["--port", "2000"], environment)
    assert (settings.host, settings.port, settings.root_path) == ("10.0.0.1", 2000, "/lungs")
    assert dict(settings.accounts) == {"ana": "long word", "bo": "a:b"}
    assert checkpoints == (Path("elsewhere"),)
    assert settings.admits("ana", "long word")
    assert settings.admits("bo", "a:b")
    for user, password in (("ana", ""), ("", ""), ("nobody", ""), ("ana", "a:b")):
        assert not settings.admits(user, password)
    assert "long word" not in repr(settings)


@pytest.mark.parametrize(
    "words",
    [
        ["--port", "0"],
        ["--port", "70000"],
        ["--port", "x"],
        ["--root-path", "lungs"],
        ["--root-path", "/lungs/"],
        ["--auth-file", "nowhere"],
    ],
)
def test_what_does_not_fit_is_one_sentence(words):
    with pytest.raises(UsageError, match=words[0]):
        read_settings(words, {})


@pytest.mark.parametrize("text", ["", "# nobody\n", "ana", "ana:", ":word", "ana:a\nana:b"])
def test_account_files_are_read_strictly_and_never_repeated(tmp_path, text):
    path = tmp_path / "accounts"
    path.write_text(text)
    with pytest.raises(UsageError) as raised:
        read_accounts(path)
    assert "word" not in str(raised.value).replace("password", "")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="cannot be read"):
        read_accounts(path)


def test_behind_a_proxy_with_accounts(tmp_path):
    script = tmp_path / "serve.py"
    script.write_text(SCRIPT.format(root=str(ROOT), tests=str(Path(__file__).parents[1])))
    server = LiveServer(tmp_path, [sys.executable, str(script), "{port}", "{temporary}"]).wait_until_open()
    try:
        health = httpx.get(f"{server.url}/health", timeout=120)
        assert health.status_code == 200
        assert health.json()["network"] in {"loading", "ready"}
        visitor = Visitor(server.url)
        assert visitor.request("GET", "/config").status_code == 401
        assert visitor.request("POST", "/gradio_api/upload", files={"files": b"x"}).status_code == 401
        wrong = visitor.request("POST", "/login", data={"username": "ana", "password": "word"})
        assert wrong.status_code == 400
        right = visitor.request("POST", "/login", data={"username": "ana", "password": "long word"})
        assert right.status_code == 200
        config = visitor.request("GET", "/config").json()
        assert config["root"].endswith("/lungs")
        guess = {"username": "bo", "password": "word"}
        guesses = (visitor.request("POST", "/login", data=guess) for _ in range(20))
        refused = next(answer for answer in guesses if "wait" in answer.text)  # each wait is twice the last
        assert refused.status_code == 400
        right = guess | {"password": "other word"}
        time.sleep(int(refused.headers["Retry-After"]) + 0.5)
        assert visitor.request("POST", "/login", data=right).status_code == 200
        own = {"Host": "127.0.0.1", "Origin": "https://lungs.example", "X-Forwarded-Host": "lungs.example"}
        foreign = own | {"Origin": "https://evil.example"}
        codes = [
            visitor.request("POST", "/login", data=right, headers=one).status_code for one in (own, foreign)
        ]
        assert codes == [200, 403]
        assert visitor.request("GET", f"/gradio_api/file={ROOT}/app.py").status_code == 403
        assert visitor.request("GET", f"/lungs/gradio_api/file={ROOT}/app.py").status_code in {403, 404}
        assert "long word" not in visitor.received + server.log
    finally:
        assert server.stop() == 0


def test_an_own_test_is_read_and_anything_else_is_one_sentence(tmp_path):
    studies = [LabelledStudy("normal", "", {"xray": 0.2})]
    when = datetime(2026, 3, 4, tzinfo=UTC)
    test = measure_local_test(studies, {}, checkpoint="c", sha256="f" * 64, date=when)
    path = tmp_path / "own.json"
    path.write_text(json.dumps(describe_json(test)))
    assert read_settings(["--own-test", str(path)], {})[0].own_test == test
    for content in ("", "[]", '{"checkpoint": 1}'):
        path.write_text(content)
        with pytest.raises(UsageError, match=r"--own-test own\.json cannot be read"):
            read_settings(["--own-test", str(path)], {})
