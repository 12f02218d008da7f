"""Runs the page: private folder, environment, Gradio's settings, a clean end.

Gradio reads parts of its environment while it is imported, so nothing here imports it before
`serve` has set that up.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from covid_mm.errors import UsageError
from covid_mm.ui.predictors import PredictorLoader, PredictorPool, StudyPredictor
from covid_mm.ui.server.settings import ServerSettings
from covid_mm.ui.server.upload_folder import PrivateFolder

if TYPE_CHECKING:
    from covid_mm.ui.i18n.static_translations import (
        StaticTranslations,  # with Gradio, which is not imported before it is time
    )
    from covid_mm.ui.worklist.store import WorklistStore

REPOSITORY = Path(__file__).resolve().parents[3]
HEAD_START = 1.0  # s for the page alone: importing Keras holds Python's lock; a visitor begins it too
LOOK_UP = 1.0  # s; a signal that the system gives to another thread is acted on when the main one looks up
HEALTH = "/health"  # for a container's health check; open without an account
EVENTS = 64  # of the queue under way at once: 50 visitors' analyses, which wait in the networks' own line, and others
STYLES = (
    "page",
    "study/evidence",
    "study/series",
    "viewer/viewer",
    "model/model",
    "batch/batch",
    "worklist/worklist",
)
SCRIPTS = (
    "page",
    "study/evidence",
    "study/series",
    "worklist/worklist",
)  # each a function, called once when the page opens


def serve(
    settings: ServerSettings,
    loads: Mapping[str, Callable[[], StudyPredictor]],
    metas: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    preload: Callable[[], None] | None = None,
) -> int:
    """Serve the page until the process is asked to end; the exit code.

    Args:
        settings: address and limits.
        loads: by checkpoint name, what makes the predictor, in the background; the first is the
            page's default and is loaded at once, others when they are chosen.
        metas: by name, meta.json where it is known already: the page says from it what a network is worth
            while that is still loading.
        preload: run in a thread beside the page's own start, so it must not hold Python's lock; the default then
            loads as soon as the page can be opened.

    Raises:
        CovidMMError: the checkpoint cannot be served, or the port is taken.
    """
    _check_port(settings)  # said before all the rest is imported
    os.umask(0o077)
    with _ending_cleanly(), PrivateFolder(settings.temporary, keep=settings.keep_uploads) as folder:
        prepare_environment(folder.path, folder.uploads)
        networks = PredictorPool(loads, metas)
        if preload is not None:
            threading.Thread(target=preload, name="preload", daemon=True).start()
        from covid_mm.ui.i18n.static_translations import StaticTranslations
        from covid_mm.ui.page import build_page
        from covid_mm.ui.server.connections import watch_connections
        from covid_mm.ui.study.examples import ExampleStudies
        from covid_mm.ui.worklist.files import FileKeeper
        from covid_mm.ui.worklist.store import WorklistStore

        examples, translations = ExampleStudies(), StaticTranslations()
        worklists = WorklistStore(test=settings.own_test, keeper=FileKeeper(folder.path / "studies"))
        worklists.keep_expiring()
        page = build_page(networks, examples, settings.limits, settings.batch, translations, worklists)
        _import_server()
        try:
            page.launch(**launch_options(settings, networks.default, folder.path, translations, worklists))
            watch_connections(page.server)
        except OSError as error:
            raise UsageError(
                f"The server did not start on {settings.host}:{settings.port}; if the machine is busy, try"
                " again, else choose another address with --host and --port."
            ) from error
        print(f"Open http://{settings.host}:{settings.port}{settings.root_path} (Ctrl-C ends it)", flush=True)
        try:
            if preload is None:
                time.sleep(HEAD_START)
                examples.start()
            loader = networks.choose()
            while not loader.wait(LOOK_UP):
                pass
            if preload is not None:  # there in a second or two, which drawing them would make three
                examples.start()
            loader.get()
            while True:
                time.sleep(LOOK_UP)
        finally:
            page.close(verbose=False)
    return 0


def prepare_environment(temporary: Path, uploads: Path) -> None:
    """Everything temporary goes into the private folder; nothing is reported to anyone."""
    os.environ.update(
        GRADIO_TEMP_DIR=str(uploads),
        TMPDIR=str(temporary),
        GRADIO_ANALYTICS_ENABLED="False",
        GRADIO_SHARE="False",
        GRADIO_MCP_SERVER="False",
        GRADIO_RUN_HISTORY="False",
        HF_HUB_DISABLE_TELEMETRY="1",
    )
    os.environ.setdefault(
        "TF_FORCE_GPU_ALLOW_GROWTH", "true"
    )  # a GPU is shared with whatever else runs there
    os.environ.setdefault(
        "TF_CPP_MIN_LOG_LEVEL", "3"
    )  # what fails is raised too; the server's log is for people
    tempfile.tempdir = str(temporary)
    for name in ("GRADIO_ALLOWED_PATHS", "GRADIO_BLOCKED_PATHS"):  # an empty list would fall back to them
        os.environ.pop(name, None)


def launch_options(
    settings: ServerSettings,
    loader: PredictorLoader,
    folder: Path | None = None,
    translations: StaticTranslations | None = None,
    worklists: WorklistStore | None = None,
) -> dict[str, Any]:
    """All arguments of `Blocks.launch`.

    Args:
        settings: address and limits.
        loader: answers for the network's health.
        folder: the private folder, whose size is limited; None for no limit.
        translations: the page's static texts in every language, gathered by `build_page`.
        worklists: the visitors' lists of studies, which `build_page` was given.
    """
    from starlette.middleware import Middleware
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    from covid_mm.config import RESEARCH_USE
    from covid_mm.ui.i18n.language import find_languages
    from covid_mm.ui.server.login import WAITS, SlowLogin
    from covid_mm.ui.server.request_body import UploadLimits
    from covid_mm.ui.server.request_limits import MAX_JSON, RequestGuard
    from covid_mm.ui.server.upload_folder import UploadRoom
    from covid_mm.ui.style import make_theme, make_variables
    from covid_mm.ui.templates import FOLDER, read_asset
    from covid_mm.ui.viewer.assets import make_route
    from covid_mm.ui.worklist.routes import make_routes

    largest = max(settings.limits.max_bytes, settings.batch.max_bytes)
    guard = Middleware(
        RequestGuard,
        uploads=UploadLimits(file=settings.limits.max_bytes, archive=largest, field=MAX_JSON),
        room=None if folder is None else UploadRoom(folder, settings.max_stored),
        behind_proxy=settings.behind_proxy,
    )

    def report_health(request: object) -> JSONResponse:
        state = loader.state
        return JSONResponse({"network": state}, status_code=503 if state == "failed" else 200)

    return {
        "server_name": settings.host,
        "server_port": settings.port,
        "prevent_thread_lock": True,
        "quiet": True,
        "inbrowser": False,
        "share": False,
        "show_error": False,
        "run_history": False,
        "enable_monitoring": False,
        "mcp_server": False,
        "ssr_mode": False,
        "pwa": False,
        "strict_cors": True,
        "max_file_size": largest,
        "max_threads": EVENTS,
        "state_session_capacity": 200,
        "allowed_paths": [],
        "blocked_paths": [str(REPOSITORY)],
        "footer_links": ["api"],
        "favicon_path": str(FOLDER / "favicon.png"),
        "theme": make_theme(),
        "css": make_variables() + "".join(read_asset(f"{name}.css") for name in STYLES),
        "js": "() => {" + "".join(f"({read_asset(f'{name}.js')})();" for name in SCRIPTS) + "}",
        "root_path": settings.root_path or None,
        "auth": SlowLogin(settings.admits).admits if settings.accounts else None,
        "auth_message": " ".join(
            f"{texts(RESEARCH_USE)} {texts(WAITS)}" for texts in find_languages().values()
        ),
        "i18n": None if translations is None else translations.i18n,
        "app_kwargs": {
            "middleware": [guard],
            "routes": [
                Route(HEALTH, report_health),
                make_route(),
                *(make_routes(worklists, settings.limits) if worklists else ()),
            ],
            "docs_url": None,
            "redoc_url": None,
            "openapi_url": None,
        },
    }


def _check_port(settings: ServerSettings) -> None:
    """Raises UsageError where the address is taken or not this machine's."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((settings.host, settings.port))
    except (OSError, OverflowError) as error:
        raise UsageError(
            f"Port {settings.port} on {settings.host} cannot be used; give a free one with --port."
        ) from error


def _import_server() -> None:
    """Gradio gives its server thread 5 s to start; a busy machine needs them for uvicorn's imports."""
    import uvicorn

    async def application(scope: object, receive: object, send: object) -> None:
        """Never called."""

    uvicorn.Config(application, log_config=None).load()  # type: ignore[arg-type]


class _Ended(BaseException):
    """The process was asked to end; no `except Exception` on the way may hold that up."""


@contextlib.contextmanager
def _ending_cleanly() -> Iterator[None]:
    """SIGTERM and SIGHUP unwind the stack like Ctrl-C, so that the private folder is removed."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise _Ended

    if threading.current_thread() is threading.main_thread():
        for name in ("SIGTERM", "SIGHUP"):
            if number := getattr(signal, name, None):
                signal.signal(number, leave)
    try:
        yield
    except _Ended:
        pass
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
