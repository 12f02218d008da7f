"""The paper's own figures, to stand beside ours: Table III.

Source: Hilmizen, Bustamam, Sarwinda, Table III; validation set of 359 normal and 391 positive
(Table I). The counts are the only ones that give the printed percentages. The abstract gives
ResNet50's accuracy as 98.00, the table as 98.27, which is what the other two columns imply.
"""

from __future__ import annotations

from dataclasses import dataclass

from covid_mm.evaluation.metrics import ConfusionMatrix


@dataclass(frozen=True)
class PaperRow:
    """One row of Table III.

    name: as `NetworkConfig.name`. title: as printed, with the modality where it is one.
    accuracy, sensitivity, specificity: per cent, as printed. counts: what they imply.
    """

    name: str
    title: str
    accuracy: float
    sensitivity: float
    specificity: float
    counts: ConfusionMatrix


def _row(
    name: str, title: str, percentages: tuple[float, float, float], missed: int, false_alarms: int
) -> PaperRow:
    """The row of `missed` of 391 positives and `false_alarms` of 359 normals."""
    return PaperRow(
        name,
        title,
        *percentages,
        counts=ConfusionMatrix(
            true_positive=391 - missed,
            true_negative=359 - false_alarms,
            false_positive=false_alarms,
            false_negative=missed,
        ),
    )


PAPER_TABLE: tuple[PaperRow, ...] = (
    _row("resnet50-vgg16", "ResNet50 and VGG16", (99.87, 99.74, 100.0), 1, 0),
    _row("densenet121-mobilenet", "DenseNet121 and MobileNet", (99.87, 99.74, 100.0), 1, 0),
    _row("xception-inceptionv3", "Xception and InceptionV3", (98.80, 98.98, 98.61), 4, 5),
    _row("ct-resnet50", "ResNet50 (CT)", (98.27, 98.21, 98.33), 7, 6),
    _row("xray-vgg16", "VGG16 (X-ray)", (98.93, 98.98, 98.89), 4, 4),
    _row("ct-densenet121", "DenseNet121 (CT)", (98.27, 98.47, 98.05), 6, 7),
    _row("xray-mobilenet", "MobileNet (X-ray)", (97.87, 97.95, 97.77), 8, 8),
    _row("ct-xception", "Xception (CT)", (96.00, 95.14, 96.94), 19, 11),
    _row("xray-inceptionv3", "InceptionV3 (X-ray)", (98.27, 97.95, 98.61), 8, 5),
)


def find_paper_row(name: str) -> PaperRow | None:
    """The paper's row for a network's name, None where the paper has no such network."""
    return next((row for row in PAPER_TABLE if row.name == name), None)
