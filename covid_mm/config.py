"""The paper's parameters and every choice it leaves open, as names and frozen dataclasses.

Source of the numbers: Hilmizen, Bustamam, Sarwinda, "The Multimodal Deep Learning for Diagnosing
COVID-19 Pneumonia from Chest CT-Scan and X-Ray Images" (Table I, Table II, section II).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import pydantic

from covid_mm.errors import UsageError

ImageKind = Literal["slice", "film"]


def _check_modality(name: str) -> str:
    if name not in MODALITIES:
        raise ValueError(f"modality {name!r} is not one of {', '.join(MODALITIES)}")
    return name


Modality = Annotated[str, pydantic.AfterValidator(_check_modality)]  # a key of MODALITIES, in records too
ClassName = Literal["normal", "covid19_pneumonia"]
FineTune = Literal["frozen", "last-block", "full"]
SplitProtocol = Literal["paper", "grouped"]
Pooling = Literal["average", "attention"]
Length = Literal["short", "long"]  # of the served recipe
OutputStride = Literal[32, 16]
RestoredEpoch = Literal["best", "last"]


@dataclass(frozen=True)
class ModalityInfo:
    """What there is to know of one kind of image; a further modality is one more entry of MODALITIES.

    title: for people. content: what its slot asks for. kind: a `slice` is a cut through the body, whose lungs
    may be few pixels, and which displays may mirror; a `film` is a projection of the whole chest, which never
    is. paper_backbones: those that the paper gives it, in its order. dicom_codes: DICOM's Modality (0008,0060).
    """

    title: str
    content: str
    kind: ImageKind
    paper_backbones: tuple[str, ...] = ()
    dicom_codes: tuple[str, ...] = ()


MODALITIES: dict[Modality, ModalityInfo] = {  # in the order of a network's inputs
    "ct": ModalityInfo(
        "CT", "an axial chest CT slice", "slice", ("resnet50", "densenet121", "xception"), ("CT",)
    ),
    "xray": ModalityInfo(
        "X-ray",
        "a frontal chest X-ray",
        "film",
        ("vgg16", "mobilenet", "inceptionv3"),
        ("CR", "DX", "RG", "XR"),
    ),
}


def join_titles(modalities: Iterable[Modality]) -> str:
    """`CT and X-ray`."""
    return " and ".join(MODALITIES[m].title for m in modalities)


VALIDATION_IMAGES = "validation images of {name}"  # on which a content check was measured

# what an image is left with, to see what else than the lungs a network reads
SHORTCUT_TITLES: dict[str, str] = {
    "whole": "whole image",
    "blank_lungs": "lungs blanked out",
    "blank_hull": "lungs and their outline blanked out",
    "border_only": "border only",
    "border_beyond_lungs": "border only, without lungs",
    "lungs_only": "lungs only",
    "shuffle_outside": "shuffled outside the lungs",
}
# why an image gets no answer, as it is counted by collection
REFUSAL_TITLES: dict[str, str] = {
    "lungs_not_found": "lungs not found",
    "unlike_training": "unlike the training images",
    "taken_for_something_else": "taken for something else",
}
CLASSES: tuple[ClassName, ...] = ("normal", "covid19_pneumonia")  # index 0, index 1
CLASS_TITLES: dict[str, str] = {
    "normal": "Normal",
    "covid19_pneumonia": "COVID-19 pneumonia",
    "undetermined": "Undetermined",
}
POSITIVE = 1  # index of covid19_pneumonia in CLASSES

IMAGE_SIZE = 150  # pixels per side, paper section II.A
CHANNELS = 3

BACKBONES: tuple[str, ...] = tuple(name for one in MODALITIES.values() for name in one.paper_backbones)
PAIRS: tuple[str, ...] = ("resnet50-vgg16", "densenet121-mobilenet", "xception-inceptionv3")
DEFAULT_PAIR = "densenet121-mobilenet"  # the paper's recommendation (section IV)

# beside the package in a clone of the repository; an installed package has none: those where it is started
_BESIDE_THE_PACKAGE = Path(__file__).resolve().parents[1] / "checkpoints"
CHECKPOINTS = _BESIDE_THE_PACKAGE if _BESIDE_THE_PACKAGE.is_dir() else Path("checkpoints")
DEFAULT_CHECKPOINT = CHECKPOINTS / DEFAULT_PAIR

# what may run a network that is served
RUNTIMES = ("tensorflow", "keras", "openvino", "openvino-bfloat16", "onnx")
RESEARCH_USE = "Research use only, not for diagnosis."


@dataclass(frozen=True)
class ImageLimits:
    """What the decoder takes at most, all of it told by the file's first bytes.

    max_bytes: of a file; 20 MB hold an uncompressed film of 10 megapixels, or a CT stack of 38
    slices. max_pixels: of one picture. max_side: its longer side, pixels; memory goes with rows too.
    max_aspect: longer side by shorter. max_frames: of a DICOM file. max_total_pixels: of all its
    frames; 150 million are 570 CT slices. max_series_slices, max_series_pixels, max_series_bytes: of all files of a CT
    scan together; twice as many slices, uncompressed.
    """

    max_bytes: int = 20 * 1024 * 1024
    max_pixels: int = 25_000_000
    max_side: int = 10_000
    max_aspect: float = 20.0
    max_frames: int = 2000
    max_total_pixels: int = 150_000_000
    max_series_slices: int = 2000
    max_series_pixels: int = 300_000_000
    max_series_bytes: int = 640 * 1024 * 1024


@dataclass(frozen=True)
class TableI:
    """The paper's counts, the same in each modality (Table I)."""

    normal: int = 1243
    positive: int = 1257
    train_normal: int = 884
    train_positive: int = 866

    @property
    def totals(self) -> tuple[int, int]:
        """Images per class, in the order of CLASSES."""
        return (self.normal, self.positive)

    @property
    def train_fractions(self) -> tuple[float, float]:
        """Share of each class that trains, in the order of CLASSES: 0.711, 0.689."""
        return (self.train_normal / self.normal, self.train_positive / self.positive)


@dataclass(frozen=True)
class NetworkConfig:
    """One description for all networks: one branch, or several whose features are concatenated.

    branches: (modality, backbone) in input order. head_width and dropout: the fully connected
    ReLU layer before the two logits, not stated by the paper. image_size: pixels per side, 150 in
    the paper. pooling: how a feature map becomes features, its mean or an average weighted by
    attention. output_stride: pixels of the image per cell of the last feature map; 16 gives a map
    twice as fine as the backbones' own 32.
    """

    branches: tuple[tuple[Modality, str], ...]
    head_width: int = 256
    dropout: float = 0.3
    image_size: int = IMAGE_SIZE
    pooling: Pooling = "average"
    output_stride: OutputStride = 32

    def __post_init__(self) -> None:
        if not self.branches or len({m for m, _ in self.branches}) != len(self.branches):
            raise UsageError("A network needs one or more branches of different modalities.")
        for modality, backbone in self.branches:
            if modality not in MODALITIES:
                raise UsageError(f"Modality {modality!r} is not one of {', '.join(MODALITIES)}.")
            if backbone not in BACKBONES:
                raise UsageError(f"Backbone {backbone!r} is not one of {', '.join(BACKBONES)}.")
        if self.pooling not in get_args(Pooling):
            raise UsageError(f"Pooling {self.pooling!r} is not one of {', '.join(get_args(Pooling))}.")
        if self.output_stride not in get_args(OutputStride):
            raise UsageError(
                f"Output stride {self.output_stride!r} is not one of {', '.join(map(str, get_args(OutputStride)))}."
            )

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """The inputs' names, in order."""
        return tuple(modality for modality, _ in self.branches)

    @property
    def is_concatenated(self) -> bool:
        """True for several branches."""
        return len(self.branches) > 1

    @property
    def name(self) -> str:
        """`densenet121-mobilenet`, a backbone per branch; `ct-densenet121` for a single network."""
        if self.is_concatenated:
            return "-".join(backbone for _, backbone in self.branches)
        return "-".join(self.branches[0])

    @classmethod
    def pair(cls, name: str = DEFAULT_PAIR, **options: Any) -> NetworkConfig:
        """The concatenated network `<ct backbone>-<xray backbone>`."""
        parts = name.split("-")
        if len(parts) != 2 or any(part not in BACKBONES for part in parts):
            raise UsageError(
                f"Pair {name!r} is not known; expected <ct backbone>-<xray backbone>, for example"
                f" one of the paper's: {', '.join(PAIRS)}."
            )
        return cls(branches=(("ct", parts[0]), ("xray", parts[1])), **options)

    @classmethod
    def single(cls, backbone: str, modality: Modality, **options: Any) -> NetworkConfig:
        """The single-modality network of Table III."""
        return cls(branches=((modality, backbone),), **options)

    @classmethod
    def paper_networks(cls, **options: Any) -> tuple[NetworkConfig, ...]:
        """The nine networks of Table III, in its order: three concatenated, then each one's two single ones."""
        pairs = [cls.pair(name, **options) for name in PAIRS]
        singles = [cls.single(name, m, **options) for pair in pairs for m, name in pair.branches]
        return (*pairs, *singles)

    def resized(self, image_size: int) -> NetworkConfig:
        """The same network for images of another size."""
        return dataclasses.replace(self, image_size=image_size)


@dataclass(frozen=True)
class DataConfig:
    """Which images, and how they are divided.

    positives: which CoronaHack films count as positive: every `Pnemonia` row as in the paper, or
    only those marked COVID-19. validation is what the split leaves over from training.
    """

    split: SplitProtocol = "paper"
    seed: int = 0
    positives: Literal["pneumonia", "covid-19"] = "pneumonia"
    balance: bool = True  # CoronaHack: choose 1,243 + 1,257 films as in Table I


_COPIES = pydantic.AliasChoices("augmented_copies", "views")  # the second in older files
_RESTORED = pydantic.AliasChoices("restored_epoch", "kept_epoch")  # likewise


@dataclass(frozen=True)
class TrainingConfig:
    """Table II, and what it leaves open.

    learning_rate falls to final_learning_rate along a half cosine over all epochs. augmented_copies:
    how many of each image are cached where a part is frozen (the first is the image itself; 1 turns
    augmentation off there). augmentation: its strength, 0 turns it off.
    batch_norm_momentum replaces Keras's 0.99 in the layers that train, which would lag behind in
    short runs. restored_epoch: whose weights the network ends with, the best one's on the validation
    images, or the last one's, which nothing is chosen for.
    """

    learning_rate: float = 2e-3
    final_learning_rate: float = 1e-3
    batch_size: int = 32
    steps_per_epoch: int = 100
    epochs: int = 20
    fine_tune: FineTune = "frozen"
    augmentation: float = 1.0
    augmented_copies: Annotated[int, pydantic.Field(validation_alias=_COPIES)] = 4
    label_smoothing: float = 0.0
    weight_decay: float = 0.0
    batch_norm_momentum: float = 0.9
    seed: int = 0
    restored_epoch: Annotated[RestoredEpoch, pydantic.Field(validation_alias=_RESTORED)] = "best"


def read_restored_epoch(training: Mapping[str, Any]) -> RestoredEpoch:
    """Whose weights a network has, by a file's object of a `TrainingConfig`, which may have the older name."""
    return "last" if "last" in (training.get("restored_epoch"), training.get("kept_epoch")) else "best"
