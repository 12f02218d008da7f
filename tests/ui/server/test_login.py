"""Guessing passwords is slow, for one account and for many, and nobody is locked out by strangers."""

from __future__ import annotations

import itertools

import pytest
from made_clock import Clock
from starlette.exceptions import HTTPException

from covid_mm.ui.server import login
from covid_mm.ui.server.login import (
    ADDRESS_FREE,
    FREE,
    LONGEST,
    FailureCounts,
    SlowLogin,
    client_address,
    network_of,
)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def door(clock: Clock) -> SlowLogin:
    return SlowLogin(lambda user, password: user in ("ana", "bo") and password == "right", clock)


def knock(door: SlowLogin, user: str, password: str, address: str = "192.0.2.1") -> bool | int:
    """Whether it opened, or the seconds to wait."""
    client_address.set(address)
    try:
        return door.admits(user, password)
    except HTTPException as refused:
        return int(refused.headers["Retry-After"])


def test_each_wrong_password_doubles_the_wait(door, clock):
    waits = []
    for _ in range(FREE):
        assert knock(door, "ana", "wrong") is False
    for _ in range(12):
        waits.append(knock(door, "ana", "right"))  # even the right one waits, or guessing would go on
        clock.now += waits[-1]
        assert knock(door, "ana", "wrong") is False
    assert waits[:6] == [1, 2, 4, 8, 16, 32]
    assert LONGEST / 2 < waits[-1] <= LONGEST
    assert waits == sorted(waits)


def test_guessing_for_ten_minutes_gets_a_handful_of_tries(door, clock):
    tried = 0
    for _ in range(600 * 60):
        tried += knock(door, "ana", "wrong") is False
        clock.now += 1 / 60
    assert tried <= 15  # 36,000 before


def test_the_refusal_says_how_long_and_names_nobody(door):
    for _ in range(FREE):
        knock(door, "ana", "wrong")
    with pytest.raises(HTTPException, match="wait 1 s") as refused:
        door.admits("ana", "right")
    assert refused.value.status_code == 400  # what Gradio's login page shows as refused
    assert "ana" not in refused.value.detail


def test_the_right_password_after_the_wait_opens_and_forgets(door, clock):
    for _ in range(FREE + 2):
        knock(door, "ana", "wrong")
        clock.now += 5
    assert knock(door, "ana", "right") is True
    assert knock(door, "ana", "wrong") is False
    assert knock(door, "ana", "right") is True


def test_trying_while_it_waits_makes_it_no_longer(door, clock):
    for _ in range(FREE):
        knock(door, "ana", "wrong")
    for _ in range(1000):
        assert knock(door, "ana", "wrong") == 1
    clock.now += 1
    assert knock(door, "ana", "right") is True


def test_strangers_at_other_addresses_lock_nobody_out(door):
    for number in range(50):
        for _ in range(10):
            knock(door, "ana", "wrong", f"198.51.100.{number}")
    assert knock(door, "ana", "right", "192.0.2.1") is True


def test_an_account_waits_alone_at_an_address(door):
    for _ in range(FREE + 1):
        knock(door, "ana", "wrong")
    assert knock(door, "ana", "right") == 1
    assert knock(door, "bo", "right") is True


def test_an_address_that_tries_many_accounts_waits_too(door, clock):
    tried = sum(knock(door, f"user{number}", "x") is False for number in range(10 * ADDRESS_FREE))
    assert tried == ADDRESS_FREE
    clock.now += 60
    assert knock(door, "ana", "right") is True


def test_an_unknown_name_waits_like_a_known_one(door):
    assert [knock(door, "ana", "x") for _ in range(6)] == [knock(door, "nobody", "x") for _ in range(6)]


def test_memory_is_bounded(clock, monkeypatch):
    monkeypatch.setattr(login, "MOST_KEPT", 100)
    counts = FailureCounts(FREE, LONGEST, clock)
    for number in range(1000):
        counts.add(str(number).encode())
    assert len(counts) == 100
    door = SlowLogin(lambda user, password: False, clock)
    for number in range(1000):
        knock(door, "x" * 100_000 + str(number), "y", f"10.0.{number // 250}.{number % 250}")
    assert len(door.accounts) == len(door.addresses) == 100
    assert {len(key) for key in door.accounts} == {32}


def test_wrong_passwords_are_forgiven_in_time(door, clock):
    for _, _ in itertools.product(range(30), range(2)):
        assert knock(door, "ana", "wrong") is False
        clock.now += LONGEST


def test_of_ipv6_only_the_network_counts():
    assert network_of("2001:db8::1") == network_of("2001:db8::ffff:1") != network_of("2001:db8:0:1::1")
    assert network_of("192.0.2.1") == "192.0.2.1" != network_of("192.0.2.2")
    assert network_of("") == network_of("testclient") == ""
