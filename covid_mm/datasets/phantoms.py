"""Synthetic studies: a CT slice and a chest X-ray of one made-up body, with their lesion masks.

They feed the tests, the examples ("synthetic phantom, not a patient") and training without data.
No patient image goes into them. The two classes differ by the lesions and by nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from covid_mm.config import CLASSES, ImageKind, Modality
from covid_mm.datasets.thorax.anatomy import Anatomy
from covid_mm.datasets.thorax.body import Patient
from covid_mm.datasets.thorax.lungs import Lesions
from covid_mm.datasets.thorax.pictures import CtSettings, FilmSettings, Picture, cut_slice, project_film
from covid_mm.errors import DataError, UsageError
from covid_mm.files import replace_file

_SMALLEST = 32


PHANTOM_MODALITIES: tuple[Modality, ...] = ("ct", "xray")  # that a phantom study has images of


@dataclass(frozen=True)
class PhantomStudy:
    """One study: pictures uint8 0..255 (size, size), masks bool (size, size), label 0 or 1."""

    ct: NDArray[np.uint8]
    xray: NDArray[np.uint8]
    ct_lesions: NDArray[np.bool_]
    xray_lesions: NDArray[np.bool_]
    ct_lungs: NDArray[np.bool_]
    xray_lungs: NDArray[np.bool_]
    label: int

    def image_of(self, kind: ImageKind) -> NDArray[np.uint8]:
        """The image of this kind, for whichever modality is of it."""
        return self.ct if kind == "slice" else self.xray


def make_study(label: int, seed: int, *, size: int = 224, lesion_strength: float = 1.0) -> PhantomStudy:
    """The study number `seed` of a class: label 0 healthy, 1 with ground-glass and consolidation.

    The same seed gives the same body, slice and noise whatever the label. lesion_strength 0..1
    fades the lesions; at 0 both labels give the same images. The same arguments give the same
    study everywhere (a grey level may differ by one where processors round differently).

    Raises:
        UsageError: a label other than 0 and 1, a negative seed, a size below 32.
    """
    patient, ct, film_settings, noise = _draw_body(label, seed, size, lesion_strength)
    xray = project_film(patient, film_settings, noise)
    return PhantomStudy(
        ct=_fit(ct.image, size),
        xray=_fit(xray.image, size),
        ct_lesions=_fit_mask(ct.lesions, size),
        xray_lesions=_fit_mask(xray.lesions, size),
        ct_lungs=_fit_mask(ct.lungs, size),
        xray_lungs=_fit_mask(xray.lungs, size),
        label=label,
    )


def make_image(label: int, seed: int, modality: Modality, *, size: int = 224) -> NDArray[np.uint8]:
    """One picture of `make_study`, uint8 (size, size); a CT slice alone takes a third of the time.

    Raises:
        UsageError: as `make_study`.
    """
    patient, ct, film_settings, noise = _draw_body(label, seed, size, 1.0)
    return _fit((ct if modality == "ct" else project_film(patient, film_settings, noise)).image, size)


def _draw_body(
    label: int, seed: int, size: int, lesion_strength: float
) -> tuple[Patient, Picture, FilmSettings, np.random.Generator]:
    """A body, its CT slice, and what its film is made with; the noise is drawn for the slice first."""
    if label not in (0, 1) or seed < 0 or size < _SMALLEST or not 0 <= lesion_strength <= 1:
        raise UsageError(
            f"A phantom needs label 0 or 1, seed >= 0, size >= {_SMALLEST} and lesion strength 0 to 1;"
            f" got label {label}, seed {seed}, size {size}, lesion strength {lesion_strength}."
        )
    streams = [np.random.default_rng([seed, part]) for part in range(6)]
    anatomy = Anatomy.draw(streams[0])
    ct_settings, film_settings = CtSettings.draw(streams[1]), FilmSettings.draw(streams[2], anatomy)
    lesions = Lesions.draw(streams[3], anatomy, ct_settings.level, lesion_strength) if label else None
    patient, noise = Patient.draw(streams[4], anatomy, lesions), streams[5]
    return patient, cut_slice(patient, ct_settings, noise), film_settings, noise


def _fit(image: NDArray[np.float32], size: int) -> NDArray[np.uint8]:
    """The image at another size, antialiased, rounded to grey levels."""
    if image.shape != (size, size):
        resized = Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC)
        image = np.asarray(resized, np.float32)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def _fit_mask(mask: NDArray[np.bool_], size: int) -> NDArray[np.bool_]:
    """A mask at another size."""
    return _fit(mask * np.float32(255), size) > 127


def write_phantoms(
    root: Path,
    *,
    per_class: int,
    seed: int = 0,
    size: int = 224,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write phantoms as PNG into `root/{ct,xray}/{normal,covid19_pneumonia}/phantom-NNNNN.png`.

    No body is shared between the classes; the two modalities of one study carry the same name.
    Each file appears whole, and those that are there already are kept, so that a broken run goes
    on. progress(done, total) is called after each study.

    Raises:
        UsageError: per_class below 1.
        DataError: the folder cannot be written.
    """
    if per_class < 1:
        raise UsageError(f"Phantoms need at least one study a class; got {per_class}.")
    total = per_class * len(CLASSES)
    for number in range(total):
        label = number % len(CLASSES)
        paths = [
            Path(root) / modality / CLASSES[label] / f"phantom-{number:05d}.png"
            for modality in PHANTOM_MODALITIES
        ]
        if not all(path.exists() for path in paths):
            study = make_study(label, seed * 1_000_003 + number, size=size)
            for modality, path in zip(PHANTOM_MODALITIES, paths, strict=True):
                _write_png(path, getattr(study, modality))
        if progress is not None:
            progress(number + 1, total)


def _write_png(path: Path, image: NDArray[np.uint8]) -> None:
    try:
        with replace_file(path) as tmp_path:
            Image.fromarray(image).save(tmp_path, format="PNG")
    except OSError as error:
        raise DataError(
            f"Phantom {path} could not be written ({error.strerror or error}); choose a folder that can be."
        ) from error
