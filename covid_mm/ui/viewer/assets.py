"""The viewer's scripts, which the page loads when it is first opened: a fixed list, sent compressed.

Nothing here is a visitor's: images travel in the answers of an event that takes one's own uploads only.
"""

from __future__ import annotations

import gzip
import hashlib
from functools import cache

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from covid_mm.ui.templates import FOLDER

LIBRARY = "openseadragon.min.js"
SCRIPTS = ("viewer.js", "film.js", "pane.js", LIBRARY)
PREFIX = "/viewer-scripts"
YEAR = 31_536_000  # s; the address changes with what it holds


@cache
def read_scripts() -> dict[str, bytes]:
    """Each script by its name, gzip-compressed."""
    return {name: gzip.compress((FOLDER / "viewer" / name).read_bytes(), 9, mtime=0) for name in SCRIPTS}


@cache
def find_address() -> str:
    """Where the scripts are, below the page's own address: the last part is a hash of all of them."""
    digest = hashlib.sha256(b"".join(read_scripts().values())).hexdigest()
    return f"{PREFIX}/{digest[:16]}"


def send_script(request: Request) -> Response:
    """One of the scripts; 404 for every other name."""
    packed = read_scripts().get(request.path_params["name"])
    if packed is None:
        return Response("There is no such script.", status_code=404)
    headers = {"cache-control": f"public, max-age={YEAR}, immutable", "vary": "accept-encoding"}
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(packed, headers={**headers, "content-encoding": "gzip"}, media_type="text/javascript")
    return Response(gzip.decompress(packed), headers=headers, media_type="text/javascript")


def make_route() -> Route:
    """The route of the scripts."""
    return Route(f"{PREFIX}/{{version}}/{{name}}", send_script)
