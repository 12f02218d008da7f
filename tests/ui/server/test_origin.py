"""Which writes come from a page of another site."""

from __future__ import annotations

import pytest

from covid_mm.ui.server.request_limits import is_foreign

HOST = "lungs.example:8443"


def ask(method: str = "POST", *, behind_proxy: bool = False, **headers: str) -> bool:
    named = {key.replace("_", "-").encode(): value.encode() for key, value in headers.items()}
    return is_foreign(method, named, behind_proxy=behind_proxy)


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_reading_is_never_foreign(method):
    assert not ask(method, host=HOST, origin="https://evil.example", sec_fetch_site="cross-site")


def test_programs_send_no_origin():
    assert not ask(host=HOST)


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        (HOST, "https://lungs.example:8443"),
        ("LUNGS.example", "https://lungs.example"),
        ("lungs.example", "https://lungs.example:443"),
        ("lungs.example:80", "http://lungs.example"),
        ("[::1]:7860", "http://[::1]:7860"),
        ("[::1]", "http://[::1]"),
    ],
)
def test_the_servers_own_page(host, origin):
    assert not ask(host=host, origin=origin)


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "https://lungs.example",  # another port
        "https://lungs.example:8443.evil.example",
        "https://evil-lungs.example:8443",
        "null",
        "",
        "file://",
        "chrome-extension://lungs.example:8443",
    ],
)
def test_any_other_page(origin):
    assert ask(host=HOST, origin=origin)
    assert ask("DELETE", host=HOST, origin=origin)


@pytest.mark.parametrize(
    ("site", "foreign"), [("same-origin", False), ("none", False), ("same-site", True), ("cross-site", True)]
)
def test_what_the_browser_says_of_itself_goes_first(site, foreign):
    assert ask(host="127.0.0.1:7860", origin="https://lungs.example", sec_fetch_site=site) is foreign
    assert ask(host=HOST, origin=f"https://{HOST}", sec_fetch_site=site) is foreign
    assert ask(host=HOST, sec_fetch_site=site) is foreign


def test_a_proxy_is_believed_only_where_there_is_one():
    sent = {
        "host": "127.0.0.1:7860",
        "origin": "https://lungs.example",
        "x_forwarded_host": "lungs.example, inner",
    }
    assert ask(**sent)
    assert not ask(**sent, behind_proxy=True)
    assert ask(**{**sent, "x_forwarded_host": "evil.example"}, behind_proxy=True)
    assert ask(**{**sent, "x_forwarded_host": ""}, behind_proxy=True)
