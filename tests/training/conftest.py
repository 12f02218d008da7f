"""A small training: a toy pair on a few images whose brightness tells the class."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_training import SmallTraining


@pytest.fixture
def small_training(tmp_path: Path, small_backbones: None) -> Callable[..., Any]:
    """`small_training("name", fine_tune="full")`: a training whose run folder is `name`."""

    def make(name: str = "run", **options: Any) -> SmallTraining:
        return SmallTraining(tmp_path / name, **options)

    return make
