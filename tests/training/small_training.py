"""A training of seconds, as tests and the processes that they kill start it.

As a script: `python small_training.py RUN_FOLDER FINE_TUNE` trains, or goes on.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from toy_networks import grey_images, make_network, toy_backbones

SIZE = 48
_COMPUTED: dict[tuple[Any, ...], Any] = {}  # what `cut` gave before in this process


class SmallTraining:
    """The toy pair, 12 images per modality and side, 3 epochs of 3 batches of 4."""

    def __init__(
        self, folder: Path, *, head: str = "fused", seed: int = 0, dropout: float = 0.3, **options: Any
    ) -> None:
        from covid_mm.config import TrainingConfig
        from covid_mm.training.batches import ModalitySamples
        from covid_mm.training.run import RunFolder

        settings = {
            "fine_tune": "frozen",
            "epochs": 3,
            "steps_per_epoch": 3,
            "batch_size": 4,
            "augmented_copies": 2,
        }
        self.config = TrainingConfig(**(settings | options), seed=seed)
        self.run = RunFolder(folder)
        self.head = head
        self.network = make_network(size=SIZE, seed=seed, dropout=dropout)
        self.modalities = ("ct", "xray") if head == "fused" else (head,)
        labels = np.arange(12) % 2
        self.training, self.validation = (
            {
                m: ModalitySamples(
                    np.clip(
                        grey_images(12, SIZE, seed=10 * side + k) * 0.6 + 90 * labels[:, None, None], 0, 255
                    ),
                    labels,
                )
                for k, m in enumerate(self.modalities)
            }
            for side in (1, 2)
        )

    def cut(self, side: str) -> dict[str, Any]:
        """The samples of a side at the boundary; what frozen layers of the same seed give is computed once."""
        from covid_mm.training.batches import prepare_bottleneck

        samples = self.training if side == "training" else self.validation
        copies = self.config.augmented_copies if side == "training" else 1
        bottleneck = {}
        for m in self.modalities:
            images = samples[m].images.tobytes()
            key = (m, images, self.config.fine_tune, self.config.augmentation, copies, self.config.seed)
            if key not in _COMPUTED:
                _COMPUTED[key] = prepare_bottleneck(
                    self.network,
                    m,
                    samples[m],
                    fine_tune=self.config.fine_tune,
                    copies=copies,
                    seed=self.config.seed,
                )
            bottleneck[m] = _COMPUTED[key]
        return bottleneck

    def fit(self, *callbacks: Any) -> Any:
        """Train, or go on."""
        from covid_mm.training.fit import fit_network

        training, validation = self.cut("training"), self.cut("validation")
        return fit_network(
            self.network, training, validation, self.config, self.run, head=self.head, callbacks=callbacks
        )


if __name__ == "__main__":
    with toy_backbones():
        training = SmallTraining(Path(sys.argv[1]), fine_tune=sys.argv[2], epochs=4)
        print("ready", flush=True)
        training.fit()
