"""How the page is served: flags first, then environment variables, then defaults.

Nothing here imports Gradio, whose import reads the environment.
"""

from __future__ import annotations

import argparse
import hmac
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from covid_mm.config import CHECKPOINTS, DEFAULT_PAIR, RUNTIMES, ImageLimits
from covid_mm.errors import UsageError
from covid_mm.evaluation.local_test import LocalTest
from covid_mm.serving.metadata import list_checkpoints
from covid_mm.ui.batch.files import BatchLimits

HOSTED = "SPACE_ID"  # set on a Hugging Face Space, which must be reachable from outside
TRUSTED = "FORWARDED_ALLOW_IPS"  # uvicorn's: addresses of proxies whose X-Forwarded-For names the visitor


@dataclass(frozen=True)
class ServerSettings:
    """Where the page is served, to whom, and how much it takes.

        host, port: the address. root_path: the path under which a proxy publishes the page, empty for
        none. accounts: passwords by user name, empty for a page that is open to all. limits: of one
        image. batch: of many studies at once. keep_uploads: seconds until an upload is deleted.
        max_stored: bytes of all uploads that are not deleted yet, and never more than half of the free disk.
    own_test: the hospital's own test, shown to all, None for none. behind_proxy: whether what a proxy says of the
    visitor's address is believed. temporary: where the private folder is made, None for the system's own.
    runtime: what runs the networks, one of RUNTIMES.
    """

    host: str = "127.0.0.1"
    port: int = 7860
    root_path: str = ""
    accounts: Mapping[str, str] = field(default_factory=dict, repr=False)
    limits: ImageLimits = field(default_factory=ImageLimits)
    batch: BatchLimits = field(default_factory=BatchLimits)
    keep_uploads: float = 1800.0
    max_stored: int = 4 * 1024**3
    own_test: LocalTest | None = None
    behind_proxy: bool = False
    temporary: Path | None = None
    runtime: str = RUNTIMES[0]

    def admits(self, user: str, password: str) -> bool:
        """Whether this is one of the accounts; takes the same time for a wrong name as for a wrong password."""
        expected = self.accounts.get(user, "")
        same = hmac.compare_digest(expected.encode(), password.encode())
        return same and user in self.accounts


def build_parser(environment: Mapping[str, str] = os.environ) -> argparse.ArgumentParser:
    """The flags of app.py; each has an environment variable, which it goes before."""
    parser = argparse.ArgumentParser(description="Serve the page. Research use only, not for diagnosis.")

    def add(flag: str, default: str | None, text: str, metavar: str) -> None:
        variable = f"COVID_MM_{flag.upper().replace('-', '_')}"
        parser.add_argument(
            f"--{flag}",
            default=environment.get(variable) or default,
            metavar=metavar,
            help=f"{text}; or {variable} ({'%(default)s' if default else 'none'})",
        )

    add("host", "0.0.0.0" if HOSTED in environment else "127.0.0.1", "address", "ADDRESS")
    add("port", environment.get("PORT") or "7860", "TCP port", "N")
    add("checkpoint", None, "serve this checkpoint only, not all in checkpoints/", "DIR")
    add("runtime", RUNTIMES[0], f"what runs the network: {' or '.join(RUNTIMES)}", "NAME")
    add("auth-file", None, "file of `user:password` lines; only they may enter", "FILE")
    add(
        "own-test",
        None,
        "JSON of a test on this hospital's own studies (batch --report), shown to all",
        "FILE",
    )
    add("root-path", None, "path under which a proxy publishes the page, such as /lungs", "PATH")
    return parser


def read_settings(
    arguments: Sequence[str] | None = None, environment: Mapping[str, str] = os.environ
) -> tuple[ServerSettings, tuple[Path, ...]]:
    """Settings and the checkpoints' folders, the default first, from flags and environment variables.

    Raises:
        UsageError: what does not fit, in one sentence.
    """
    options = build_parser(environment).parse_args(arguments)
    port = str(options.port)
    if not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise UsageError(f"--port is a number from 1 to 65535, not {port!r}.")
    root = options.root_path or ""
    if root and (not root.startswith("/") or root.endswith("/") or "//" in root):
        raise UsageError(f"--root-path begins with one / and does not end with one, unlike {root!r}.")
    if options.runtime not in RUNTIMES:
        raise UsageError(f"--runtime is {' or '.join(RUNTIMES)}, not {options.runtime!r}.")
    settings = ServerSettings(
        host=options.host,
        runtime=options.runtime,
        port=int(port),
        root_path=root,
        accounts=read_accounts(Path(options.auth_file)) if options.auth_file else {},
        own_test=read_own_test(Path(options.own_test)) if options.own_test else None,
        behind_proxy=bool(root) or HOSTED in environment or TRUSTED in environment,
    )
    if options.checkpoint:
        return settings, (Path(options.checkpoint),)
    return settings, tuple(find_checkpoints())


def find_checkpoints(folder: Path = CHECKPOINTS) -> list[Path]:
    """The checkpoints to serve: the default pair's, there or not, then all others but those of phantoms."""
    default = folder / DEFAULT_PAIR
    others = (path for path in list_checkpoints(folder) if path != default)
    return [default, *(path for path in others if not path.name.startswith("synthetic-"))]


def read_accounts(path: Path) -> dict[str, str]:
    """Passwords by user name, from `user:password` lines; empty lines and # comments are left out.

    Raises:
        UsageError: the file cannot be read, has no account, or a line is not one. No line is
            repeated in the message.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"--auth-file {path.name} cannot be read ({type(error).__name__}); give a text file of"
            " user:password lines."
        ) from error
    accounts: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        user, colon, password = line.strip().partition(":")
        if not (user and colon and password) or user in accounts:
            raise UsageError(
                f"--auth-file {path.name}: line {number} is not a new user:password; write one account per line."
            )
        accounts[user] = password
    if not accounts:
        raise UsageError(f"--auth-file {path.name} holds no account; write user:password, one per line.")
    return accounts


def read_own_test(path: Path) -> LocalTest:
    """What `batch --report` or the page wrote as JSON.

    Raises:
        UsageError: it cannot be read, or is no such test.
    """
    try:
        values = json.loads(path.read_bytes())
        return LocalTest.from_dict(values)
    except (OSError, ValueError, TypeError) as error:
        raise UsageError(
            f"--own-test {path.name} cannot be read as the JSON of a test ({error}); write it anew by batch --report."
        ) from error
