"""The recipe of the served network: which images a branch learns from, and which are left out.

A fold is what one network never sees: a CT collection, or a group of scanners of a film collection.
Images of a patient who occurs in the fold are left out of training too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from covid_mm.config import CLASSES, IMAGE_SIZE, MODALITIES, ImageKind, Length, Modality, Pooling
from covid_mm.datasets.collections import site_groups
from covid_mm.datasets.index import Collection
from covid_mm.errors import DataError
from covid_mm.training.branch_batches import STEPS_TOGETHER, BranchConfig, BranchSamples
from covid_mm.training.crops import OTHER, LungCrops
from covid_mm.training.lungs import SegmenterConfig

SCANNER_GROUPS = 3
SCANNERS = "scanners"  # a fold's name: siim-covid19-scanners-1
_SMALL_SOURCE = 40  # images: smaller sites of a collection are one source together

FROZEN_UNTIL = {
    "mobilenet": "conv_pw_3_relu",
    "densenet121": "pool3_pool",
}  # the first blocks: edges, textures


@dataclass(frozen=True)
class Refinement:
    """A second training of a branch, from its weights, on images that differ little from what is served.

    Strong variation keeps a branch from learning what its own collections look like as they are (He et al., Data
    augmentation revisited, 2019). The branch as it was is the teacher, so that what it knows of other hospitals stays.

    steps, batch_size, learning_rate, label_smoothing, averaging, mild, taught: as in BranchConfig.
    most_draws: how often an image is drawn at most, on average.
    """

    steps: int
    batch_size: int
    mild: float = 1.0
    most_draws: int = 25
    learning_rate: float = 5e-4
    label_smoothing: float = 0.02
    averaging: float = 0.99
    taught: float = 0.5


_REFINED_SEED = 100  # further than any teacher's: other batches than those learned from before


@dataclass(frozen=True)
class ServedRecipe:
    """How `train.py --recipe served` trains, by kind of image where that differs.

    training_size, image_size: pixels per side of the varied crops that a branch learns from, and of those that it is
    measured on and served with. The second is a little larger, as variation enlarges what is seen in training
    (Touvron et al., Fixing the train-test resolution discrepancy, 2019), and less so where it learned on from images
    that vary mildly.
    steps, learning_rate: of the branch that is served and of each left-out one (8e-4 was worse on
    films, on those learned from too: AUC 0.90 against 0.93). frozen_until: by backbone, see
    BranchConfig, by default FROZEN_UNTIL; a backbone that it does not name learns as a whole.
    most_draws: how often an image is drawn at most, on average: few images, fewer steps.
    teachers: backbones of networks that are trained before a branch, on the same images with seeds of
    their own, and whose answers it learns; teacher_steps: of each, as a share of the branch's.
    refinement: how a branch learns on; one of a kind that is not named does not.
    """

    training_size: int = IMAGE_SIZE
    image_size: int = 160
    steps: Mapping[ImageKind, int] = field(default_factory=lambda: {"slice": 1000, "film": 1200})
    learning_rate: Mapping[ImageKind, float] = field(default_factory=lambda: {"slice": 8e-4, "film": 5e-4})
    branch: BranchConfig = field(default_factory=BranchConfig)
    most_draws: int = 16
    lung_steps: int = SegmenterConfig().steps
    pooling: Pooling = "attention"
    frozen_until: Mapping[str, str] | None = None
    teachers: Mapping[ImageKind, tuple[str, ...]] = field(default_factory=dict)
    teacher_steps: float = 2 / 3
    refinement: Mapping[ImageKind, Refinement] = field(default_factory=dict)

    def branch_config(self, modality: Modality, backbone: str, seed: int, images: int) -> BranchConfig:
        """The recipe of one branch that learns from so many images."""
        kind = MODALITIES[modality].kind
        frozen_until = FROZEN_UNTIL if self.frozen_until is None else self.frozen_until
        return replace(
            self.branch,
            steps=_limit_steps(self.steps[kind], self.most_draws, images, self.branch.batch_size),
            learning_rate=self.learning_rate[kind],
            frozen_until=frozen_until.get(backbone),
            seed=seed,
        )

    def refined_config(
        self, modality: Modality, backbone: str, seed: int, images: int
    ) -> BranchConfig | None:
        """The recipe by which a branch learns on; None where it does not."""
        refinement = self.refinement.get(MODALITIES[modality].kind)
        if refinement is None:
            return None
        settings = asdict(refinement)
        most_draws = settings.pop("most_draws")
        settings["steps"] = _limit_steps(refinement.steps, most_draws, images, refinement.batch_size)
        return replace(self.branch_config(modality, backbone, seed + _REFINED_SEED, images), **settings)

    def shortened(self, steps: int) -> ServedRecipe:
        """The same with so many steps for each branch, and no more to refine it."""
        return replace(
            self,
            steps=dict.fromkeys(self.steps, steps),
            refinement={k: replace(r, steps=min(r.steps, steps)) for k, r in self.refinement.items()},
        )

    def teacher_configs(
        self, modality: Modality, seed: int, images: int
    ) -> tuple[tuple[str, BranchConfig], ...]:
        """Backbone and recipe of each teacher of a branch."""
        configs = []
        for number, backbone in enumerate(self.teachers.get(MODALITIES[modality].kind, ()), 1):
            config = self.branch_config(modality, backbone, seed + number, images)
            configs.append(
                (backbone, replace(config, steps=_round_steps(int(self.teacher_steps * config.steps))))
            )
        return tuple(configs)


def _limit_steps(steps: int, most_draws: int, images: int, batch_size: int) -> int:
    """So many steps, fewer where an image would be drawn more often than that."""
    return _round_steps(min(steps, most_draws * images // batch_size))


def _round_steps(steps: int) -> int:
    """Whole calls of the compiled loop where there is one, so that it is compiled for one number of steps only."""
    return max(1, steps if steps < STEPS_TOGETHER else steps - steps % STEPS_TOGETHER)


# short: what two processors train in two hours; long: what a GPU trains in minutes
BY_LENGTH: Mapping[Length, ServedRecipe] = {
    "short": ServedRecipe(),
    "long": ServedRecipe(
        steps={"slice": 2400, "film": 3000},
        learning_rate={"slice": 5e-4, "film": 5e-4},
        most_draws=51,
        frozen_until={},
        teachers={"slice": ("densenet121", "densenet121"), "film": ("densenet121", "mobilenet")},
        refinement={
            "slice": Refinement(steps=2500, batch_size=32),
            "film": Refinement(steps=2400, batch_size=64),
        },
    ),
}


@dataclass(frozen=True)
class Fold:
    """What a network is measured on and never sees.

    name: `medseg-ct`, or `siim-covid19-scanners-1`. rows: by collection, bool over its images.
    """

    name: str
    modality: Modality
    rows: Mapping[str, NDArray[np.bool_]]


def has_both_classes(collection: Collection) -> bool:
    """Whether a collection has normal and positive images."""
    return min(collection.counts[:2]) > 0


def gives_hosts(collection: Collection) -> bool:
    """Whether opacities are drawn on its normal images: slices, whose lungs are seen without bones."""
    return MODALITIES[collection.modality].kind == "slice" and collection.counts[0] > 0


def trainable(collections: Sequence[Collection]) -> tuple[Collection, ...]:
    """Those with both classes, real or drawn; others would teach that a source is negative."""
    return tuple(c for c in collections if has_both_classes(c) or gives_hosts(c))


def make_folds(collections: Sequence[Collection], groups: int = SCANNER_GROUPS) -> tuple[Fold, ...]:
    """Every two-class collection in turn; where one has several sites, groups of its sites instead of all that.

    Scanners of one population ask the same question; a collection of other patients (children) another.
    Where the sites' classes cannot be spread over the groups, the collection is left out as a whole.
    Collections of one class that can be trained on are dealt to the folds, so that each is left out once.
    """
    folds: list[Fold] = []
    for collection in filter(has_both_classes, collections):
        sites = np.array([image.site for image in collection.images])
        group_of = _group_sites(collection, groups)
        if group_of is None:
            rows = {collection.name: np.ones(len(sites), np.bool_)}
            folds.append(Fold(collection.name, collection.modality, rows))
            continue
        number = np.array([group_of[site] for site in sites.tolist()])
        folds += [
            Fold(
                f"{collection.name}-{SCANNERS}-{group + 1}",
                collection.modality,
                {collection.name: number == group},
            )
            for group in range(groups)
        ]
    scanners = [fold for fold in folds if f"-{SCANNERS}-" in fold.name]
    folds = scanners or folds
    others = [c for c in trainable(collections) if not has_both_classes(c)]
    for turn, collection in enumerate(others if folds else ()):
        fold = folds[turn % len(folds)]
        rows = {**fold.rows, collection.name: np.ones(len(collection.images), np.bool_)}
        folds[turn % len(folds)] = replace(fold, rows=rows)
    return tuple(folds)


def _group_sites(collection: Collection, groups: int) -> dict[str, int] | None:
    """Each site's group; None where there are too few sites, or too few with one of the classes."""
    if len({image.site for image in collection.images} - {""}) < 2 * groups:
        return None
    try:
        return site_groups(collection, groups)
    except DataError:
        return None


def choose_training_rows(
    collections: Sequence[Collection],
    crops: Mapping[str, LungCrops],
    fold: Fold | None,
    held_out: frozenset[Path] = frozenset(),
) -> dict[str, NDArray[np.bool_]]:
    """Rows of each collection to learn from: labelled, with lungs, no image or patient of the fold.

    held_out: files that no network learns from, whatever the fold: the paper's validation images.
    """
    hidden = set()
    for collection in collections:
        rows = fold.rows.get(collection.name) if fold is not None else None
        if rows is not None:
            hidden |= {i.patient for i, out in zip(collection.images, rows, strict=True) if out and i.patient}
    chosen = {}
    for collection in trainable(collections):
        part = crops[collection.name]
        keep = part.has_lungs & (part.labels != OTHER)
        keep &= np.array([image.patient not in hidden or not image.patient for image in collection.images])
        keep &= np.array([image.path not in held_out for image in collection.images])
        if fold is not None and collection.name in fold.rows:
            keep &= ~fold.rows[collection.name]
        chosen[collection.name] = keep
    return chosen


def gather_samples(
    collections: Sequence[Collection],
    crops: Mapping[str, LungCrops],
    rows: Mapping[str, NDArray[np.bool_]],
) -> BranchSamples:
    """The crops of the chosen rows, with a number for each source: a collection, or a scanner in it.

    Raises:
        DataError: a class without a chosen row, so that nothing could be learned.
    """
    parts: dict[str, list[NDArray[np.generic]]] = {
        name: [] for name in ("crops", "lungs", "labels", "targets", "located", "hosts")
    }
    names: list[str] = []
    for collection in collections:
        keep = rows.get(collection.name)
        if keep is None or not keep.any():
            continue
        part = crops[collection.name]
        parts["crops"].append(part.wide[keep])
        parts["lungs"].append(part.lungs[keep])
        parts["labels"].append(part.labels[keep])
        parts["targets"].append(part.targets[keep])
        parts["located"].append(part.located[keep])
        parts["hosts"].append((part.labels[keep] == 0) & gives_hosts(collection))
        sites = np.array([image.site for image in collection.images])[keep]
        counts = dict(zip(*np.unique(sites, return_counts=True), strict=True))
        names += [
            f"{collection.name}/{site if counts[site] >= _SMALL_SOURCE else ''}" for site in sites.tolist()
        ]
    labels = np.concatenate([np.zeros(0, np.int64), *parts["labels"]]).astype(np.int64)
    if len(set(labels.tolist())) < len(CLASSES):
        raise DataError(
            "Expected images of both classes to learn from, but too few are left"
            f" ({int((labels == 0).sum())} normal, {int((labels == 1).sum())} positive) in"
            f" {', '.join(c.name for c in collections)}; add a collection that has both."
        )
    _, sources = np.unique(names, return_inverse=True)
    return BranchSamples(
        crops=np.concatenate(parts["crops"]).astype(np.uint8),
        lungs=np.concatenate(parts["lungs"]).astype(np.uint8),
        labels=labels,
        sources=sources.astype(np.int64),
        targets=np.concatenate(parts["targets"]).astype(np.uint8),
        located=np.concatenate(parts["located"]).astype(np.bool_),
        hosts=np.concatenate(parts["hosts"]).astype(np.bool_),
    )
