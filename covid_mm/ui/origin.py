"""Whether a request that changes something comes from a page of another site."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

READING = ("GET", "HEAD", "OPTIONS")
_PORTS = {"http": 80, "https": 443}


def is_foreign(method: str, headers: Mapping[bytes, bytes], *, behind_proxy: bool = False) -> bool:
    """Whether a browser sent this write for another site's page; programs send neither header and are not.

    What the browser says of itself (Sec-Fetch-Site) goes first: no script can set it, and it holds behind
    every proxy. Browsers leave it out over plain HTTP to another machine; there Origin has to name this host.

    Args:
        method: of the request; one that only reads is never foreign.
        headers: of the request, names in lower case.
        behind_proxy: whether X-Forwarded-Host is a proxy's word; anybody else can write it.
    """
    if method in READING:
        return False
    site = headers.get(b"sec-fetch-site", b"").strip()
    if site:
        return site not in (b"same-origin", b"none")
    if b"origin" not in headers:
        return False
    names = [headers.get(b"host", b"")]
    if behind_proxy:
        names.append(headers.get(b"x-forwarded-host", b"").partition(b",")[0])
    return not _names_one_of(headers[b"origin"].decode("latin-1"), (n.decode("latin-1") for n in names))


def _names_one_of(origin: str, hosts: Iterable[str]) -> bool:
    scheme, _, own = origin.strip().lower().partition("://")
    port = _PORTS.get(scheme)
    if port is None or not own:  # "null" too, which a sandboxed page sends
        return False
    spellings = {own, f"{own}:{port}", own.removesuffix(f":{port}")}  # the usual port may be written or not
    return any(host.strip().lower() in spellings for host in hosts)
