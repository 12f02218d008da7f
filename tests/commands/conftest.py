"""Commands run in this process, on toy networks, with phantoms drawn once for all tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_networks import toy_backbones

from covid_mm.__main__ import main
from covid_mm.commands import exit_with
from covid_mm.commands.train import run

QUICK = [
    "--weights",
    "none",
    "--epochs",
    "1",
    "--steps-per-epoch",
    "2",
    "--batch-size",
    "4",
    "--augmented-copies",
    "1",
]


@dataclass(frozen=True)
class Done:
    """What a command left."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def drawings() -> dict[str, Callable[..., np.ndarray]]:
    """What draws the content check's pictures and phantoms, by name; the same are drawn once on each worker."""
    from covid_mm.evaluation import content_check

    def keep(draw: Callable[..., Any]) -> Callable[..., np.ndarray]:
        @cache
        def drawn(*arguments: Any) -> np.ndarray:
            images: np.ndarray = draw(*arguments)
            images.flags.writeable = False  # the next test gets the same
            return images

        return drawn

    return {name: keep(getattr(content_check, name)) for name in ("stack_negatives", "draw_phantoms")}


@pytest.fixture(scope="module", autouse=True)
def drawn_once(drawings: dict[str, Callable[..., np.ndarray]]) -> Iterator[None]:
    """Every training here would draw them anew, which takes longer than a toy network's training."""
    from covid_mm.evaluation import content_check

    with pytest.MonkeyPatch.context() as patch:
        for name, drawn in drawings.items():
            patch.setattr(content_check, name, drawn)
        yield


@pytest.fixture
def train(capfd: pytest.CaptureFixture[str], small_backbones: None) -> Callable[..., Done]:
    """`train("--data", folder, ...)`: what train.py does."""

    def call(*arguments: object) -> Done:
        capfd.readouterr()
        code = exit_with(lambda: run([str(word) for word in arguments]))
        return Done(code, *capfd.readouterr())

    return call


@pytest.fixture
def covid_mm(capfd: pytest.CaptureFixture[str], small_backbones: None) -> Callable[..., Done]:
    """`covid_mm("predict", "--ct", file)`: what `python -m covid_mm` does."""

    def call(*arguments: object) -> Done:
        capfd.readouterr()
        code = main([str(word) for word in arguments])
        return Done(code, *capfd.readouterr())

    return call


@pytest.fixture(scope="session")
def phantoms(once_per_run: Callable[..., Path]) -> Path:
    """A data root of phantoms: ct/ and xray/, six of each class. Not to be changed."""
    from covid_mm.datasets.phantoms import write_phantoms

    return once_per_run("phantoms", lambda root: write_phantoms(root, per_class=6, size=64))


@dataclass(frozen=True)
class Trained:
    """A finished training: its data, run folder and checkpoint. Not to be changed."""

    data: Path
    run: Path
    checkpoint: Path


@pytest.fixture(scope="session")
def trained(once_per_run: Callable[..., Path], phantoms: Path) -> Trained:
    """The toy pair trained on the phantoms as if they were real images: one epoch, then published."""

    def make(folder: Path) -> None:
        where = ["--runs", folder / "runs", "--run-name", "first", "--output", folder / "checkpoints" / "toy"]
        with toy_backbones():
            code = exit_with(lambda: run([str(word) for word in ("--data", phantoms, *QUICK, *where)]))
        assert code == 0

    folder = once_per_run("trained", make)
    return Trained(phantoms, folder / "runs" / "first", folder / "checkpoints" / "toy")
