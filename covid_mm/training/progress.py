"""Progress in the terminal: one bar per training, one line per epoch."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import keras
from tqdm import tqdm


class ProgressBar(keras.callbacks.Callback):
    """A bar over all steps with loss, accuracy and time left; a line with the epoch's figures after each."""

    def __init__(self, title: str, epochs: int, steps_per_epoch: int) -> None:
        super().__init__()
        self.title = title
        self.epochs = epochs
        self.steps_per_epoch = steps_per_epoch
        self.bar: Any = None

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Open the bar where a resumed training stands."""
        if self.bar is None:
            self.bar = open_bar(self.title, self.epochs * self.steps_per_epoch, epoch * self.steps_per_epoch)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Move on by a step."""
        figures = logs or {}
        self.bar.set_postfix(
            loss=f"{figures.get('loss', float('nan')):.3f}",
            accuracy=f"{figures.get('accuracy', float('nan')):.3f}",
            refresh=False,
        )
        self.bar.update()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Print the epoch's line above the bar."""
        figures = logs or {}
        left = self.bar.format_dict
        rate = left["rate"] or 1.0
        minutes = (self.epochs - epoch - 1) * self.steps_per_epoch / rate / 60
        self.bar.write(
            f"{self.title}: epoch {epoch + 1}/{self.epochs}"
            f"  loss {figures.get('loss', 0):.4f}  accuracy {figures.get('accuracy', 0):.4f}"
            f"  validation loss {figures.get('val_loss', 0):.4f}"
            f"  accuracy {figures.get('val_accuracy', 0):.4f}  about {minutes:.1f} min left",
            file=sys.stdout,
        )
        sys.stdout.flush()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Close the bar."""
        if self.bar is not None:
            self.bar.close()


def open_bar(title: str, total: int, done: int = 0, unit: str = "step") -> Any:
    """A tqdm bar on standard error; where that is no terminal it is redrawn once a minute only."""
    terminal = sys.stderr.isatty()
    return tqdm(
        total=total,
        initial=done,
        desc=title,
        unit=unit,
        mininterval=0.2 if terminal else 60.0,
        dynamic_ncols=terminal,
        file=sys.stderr,
    )


class OverallProgress:
    """Where a run of several trainings stands: which one, how much in all, about how long yet.

    work: a share of the work each, in any unit, by name, in order. done: those that need none.
    """

    def __init__(self, work: dict[str, float], done: set[str]) -> None:
        self.names = list(work)
        self.left = {name: share for name, share in work.items() if name not in done}
        self.total = sum(self.left.values())
        self.started = time.monotonic()

    def skip(self, name: str) -> None:
        """Say that a training is up to date."""
        print(f"[{self._place(name)}] {name}: up to date, nothing to do", flush=True)

    def begin(self, name: str) -> None:
        """Say which training begins, and when all will be done."""
        finished = self.total - sum(self.left.values())
        text = f"[{self._place(name)}] {name} (overall {100 * finished / self.total:.0f} %"
        if finished > 0:
            elapsed = time.monotonic() - self.started
            text += f", about {elapsed / finished * (self.total - finished) / 60:.1f} min left"
        print(f"{text})", flush=True)

    def finish(self, name: str) -> None:
        """Count a training as done."""
        del self.left[name]

    def _place(self, name: str) -> str:
        return f"{self.names.index(name) + 1}/{len(self.names)}"


class LazyBar:
    """A progress bar that opens with the first report, so that what is cached shows none."""

    def __init__(self, title: str, total: int, unit: str) -> None:
        self._title, self._total, self._unit = title, total, unit
        self._bar: Any = None

    def __enter__(self) -> Callable[[int, int], None]:
        return self._show

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def _show(self, done: int, _: int) -> None:
        if self._bar is None:
            self._bar = open_bar(self._title, self._total, unit=self._unit)
        self._bar.update(done - self._bar.n)
