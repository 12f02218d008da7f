"""Guessing passwords is slow: each wrong one makes the next try from there wait, twice as long each time.

What waits is an account at an address, never an account alone: strangers elsewhere cannot keep its owner
out. Who guesses from many addresses gets as many tries as addresses. An address that tries many accounts
waits too, a minute at most, as a clinic behind one address has many who mistype.
"""

from __future__ import annotations

import hashlib
import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextvars import ContextVar

FREE, LONGEST = 3, 900.0  # wrong passwords that cost nothing; s of the longest wait: an account at an address
ADDRESS_FREE, ADDRESS_LONGEST = 30, 60.0  # the same for an address, whatever the account
WAITS = "After three wrong passwords each further try has to wait longer, at most 15 minutes."
MOST_KEPT = 10_000  # entries of each kind; the longest untouched is forgotten first

client_address: ContextVar[str] = ContextVar(
    "client_address", default=""
)  # of the request that is being answered


class FailureCounts:
    """Wrong passwords by key, each of which is forgiven after `longest` seconds.

    Args:
        free: how many cost nothing.
        longest: seconds of the longest wait.
        clock: gives seconds.
    """

    def __init__(self, free: int, longest: float, clock: Callable[[], float]) -> None:
        self._free = free
        self._longest = longest
        self._clock = clock
        self._entries: OrderedDict[bytes, tuple[float, float]] = OrderedDict()  # count, time of the last

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._entries)

    def find_wait(self, key: bytes) -> float:
        """Seconds until the next try, 0 where there is nothing to wait for."""
        count, last = self._entries.get(key, (0.0, 0.0))
        if count < self._free:
            return 0.0
        wait = min(self._longest, math.exp2(min(count - self._free, 60.0)))
        return max(0.0, last + wait - self._clock())

    def add(self, key: bytes) -> None:
        """One more wrong password."""
        now = self._clock()
        count, last = self._entries.pop(key, (0.0, now))
        self._entries[key] = (max(0.0, count - (now - last) / self._longest) + 1.0, now)
        while len(self._entries) > MOST_KEPT:
            self._entries.popitem(last=False)

    def forget(self, key: bytes) -> None:
        """A right password."""
        self._entries.pop(key, None)


class SlowLogin:
    """Asks `check` for a user's password, but not before the wait is over.

    Args:
        check: whether a user has this password.
        clock: gives seconds.
    """

    def __init__(
        self, check: Callable[[str, str], bool], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._check = check
        self.accounts = FailureCounts(FREE, LONGEST, clock)
        self.addresses = FailureCounts(ADDRESS_FREE, ADDRESS_LONGEST, clock)

    def admits(self, user: str, password: str) -> bool:
        """Whether this user may enter; for `auth` of Gradio's `launch`.

        Raises:
            HTTPException: the wait is not over. 400, which is what Gradio's login page shows as refused.
        """
        from starlette.exceptions import HTTPException

        address = network_of(client_address.get()).encode()
        # a hash, so that a long name costs no memory; of unknown names too, or the wait would tell who is known
        account = hashlib.sha256(address + b"\0" + user.encode(errors="replace")).digest()
        wait = math.ceil(max(self.accounts.find_wait(account), self.addresses.find_wait(address)))
        if wait > 0:
            sentence = f"Too many wrong passwords; wait {wait} s, then try again."
            raise HTTPException(400, sentence, {"Retry-After": str(wait)})
        if self._check(user, password):
            self.accounts.forget(account)
            return True
        self.accounts.add(account)
        self.addresses.add(address)
        return False


def network_of(address: str) -> str:
    """The address that one visitor has: of IPv6 the first 64 bits, as the rest is free to choose."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:  # a Unix socket, or none
        return ""
    if parsed.version == 4:
        return str(parsed)
    return str(ipaddress.ip_network((int(parsed) >> 64 << 64, 64)).network_address)
