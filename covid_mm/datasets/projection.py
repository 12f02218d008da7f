"""The two pictures of one body: an axial cut in a lung window, and a frontal X-ray projection."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from covid_mm.datasets.lesions import Lesions, LungTexture, Vessels
from covid_mm.datasets.thorax import MUSCLE, Anatomy, Array, Grid, sample_body, skin_outline

WORKING_SIZE = 224  # pixels a side at which both pictures are made
_WATER = 0.019  # attenuation of water per mm at about 70 keV
_LESION_CUT = 0.35  # share of a CT pixel that counts as lesion
_LESION_DEPTH = 4.0  # mm of water that a lesion adds to a ray before it counts on the film


@dataclass(frozen=True)
class Patient:
    """One body with its lungs' contents; lesions is None where there are none."""

    anatomy: Anatomy
    texture: LungTexture
    vessels: Vessels
    lesions: Lesions | None


@dataclass(frozen=True)
class CtSettings:
    """How the slice is taken: heights and margins in mm, window in HU, noise in HU, blur in pixels."""

    level: float
    window_level: float
    window_width: float
    margins: tuple[float, float, float, float]  # left, right, front, back
    rotation: float  # degrees
    noise: float
    sharpness: float  # below 0: blur of that many pixels; above 0: edge enhancement

    @classmethod
    def draw(cls, rng: np.random.Generator) -> CtSettings:
        """Settings from the generator's next numbers."""
        return cls(
            level=float(rng.uniform(-50, 68)),
            window_level=float(rng.normal(-500, 35)),
            window_width=float(rng.normal(1500, 70)),
            margins=tuple(rng.uniform(-12, 6, 4).tolist()),
            rotation=float(rng.normal(0, 2)),
            noise=float(rng.uniform(8, 45)),
            sharpness=float(rng.uniform(-1.0, 0.9)),
        )


@dataclass(frozen=True)
class FilmSettings:
    """How the film is taken: frame in mm, rotation in degrees, detector and display."""

    left: float
    right: float
    top: float
    bottom: float
    rotation: float
    scatter: float  # share of the primary beam
    noise: float
    contrast: float  # exponent of the display curve
    crispness: float  # local contrast added by the detector's processing
    blur: float  # pixels

    @classmethod
    def draw(cls, rng: np.random.Generator, anatomy: Anatomy) -> FilmSettings:
        """Settings from the generator's next numbers."""
        half = 168 * anatomy.width + anatomy.fat
        return cls(
            left=-half + float(rng.uniform(-14, 16)),
            right=half + float(rng.uniform(-16, 14)),
            top=float(rng.uniform(150, 190)),
            bottom=anatomy.dome_right - float(rng.uniform(48, 86)),
            rotation=float(rng.normal(0, 2.5)),
            scatter=float(rng.uniform(0.05, 0.3)),
            noise=float(rng.uniform(0.004, 0.012)),
            contrast=float(rng.uniform(0.85, 1.25)),
            crispness=float(rng.uniform(0.2, 0.6)),
            blur=float(rng.uniform(0.3, 0.8)),
        )


def blur(image: Array, sigma: float) -> Array:
    """A Gaussian blur of sigma pixels; the weights are renormalised at the border."""
    if sigma <= 0:
        return image
    sides = []
    for count in image.shape:
        index = np.arange(count)
        weights = np.exp(-0.5 * ((index[:, None] - index[None, :]) / sigma) ** 2)
        sides.append((weights / weights.sum(axis=1, keepdims=True)).astype(np.float32))
    return sides[0] @ image @ sides[1].T


def _stamp(
    field: Array, rows: NDArray, columns: NDArray, radii: NDArray, peaks: NDArray, round_: bool
) -> None:
    """Put discs (round_: half spheres seen from above) on a field; the larger value stays.

    rows, columns, radii in pixels (n,); peaks (n,) the value of a full pixel.
    """
    reach = int(np.ceil(radii.max(initial=0) + 1))
    span = np.arange(-reach, reach + 1)
    row, column = np.round(rows).astype(int)[:, None, None], np.round(columns).astype(int)[:, None, None]
    i, j = row + span[None, :, None], column + span[None, None, :]
    distance = np.hypot(i - rows[:, None, None], j - columns[:, None, None])
    radius = radii[:, None, None]
    value = np.clip(radius - distance + 0.5, 0, 1) * np.minimum(2 * radius, 1)
    if round_:
        value = value * np.sqrt(np.clip(1 - (distance / (radius + 0.5)) ** 2, 0, 1))
    i, j, value = np.broadcast_arrays(i, j, value * peaks[:, None, None])
    inside = (i >= 0) & (i < field.shape[0]) & (j >= 0) & (j < field.shape[1]) & (value > 0)
    np.maximum.at(field, (i[inside], j[inside]), value[inside].astype(np.float32))


def _turn(image: Array, degrees: float, fill: float) -> Array:
    """The image turned about its centre."""
    turned = Image.fromarray(image).rotate(degrees, Image.Resampling.BICUBIC, fillcolor=fill)
    return np.asarray(turned, np.float32)


def cut_slice(
    patient: Patient, settings: CtSettings, rng: np.random.Generator
) -> tuple[Array, NDArray[np.bool_]]:
    """The CT slice, float32 0..255 (224, 224), and its lesion mask; the frame is fitted to the body.

    The frame is stretched to a square as the data set's slices are when the network reads them.
    """
    half, depth = (float(v[0]) for v in skin_outline(patient.anatomy, np.array([settings.level], np.float32)))
    left, right, front, back = settings.margins
    x = np.linspace(-half - left, half + right, WORKING_SIZE)
    y = np.linspace(-depth - front, depth + back, WORKING_SIZE)
    grid = Grid.of(x, y, np.array([settings.level]), edge=1.4)
    body = sample_body(patient.anatomy, grid, patient.texture, patient.lesions)
    hu = body.hu[0]
    vessels = np.zeros_like(hu)
    points, radii = patient.vessels.points, patient.vessels.radii
    height = np.abs(points[:, 2] - settings.level)
    near = height < radii
    pitch = x[1] - x[0]
    cut = np.sqrt(radii[near] ** 2 - height[near] ** 2)
    rows = (points[near, 1] - y[0]) / (y[1] - y[0])
    columns = (points[near, 0] - x[0]) / pitch
    _stamp(vessels, rows, columns, cut / pitch, np.ones(len(cut)), round_=False)
    hu = hu + body.lungs[0] * vessels * np.maximum(MUSCLE - hu, 0)
    noise = rng.normal(0, 1, hu.shape).astype(np.float32)
    hu = hu + settings.noise * (0.6 * noise + blur(noise, 1.0))
    if settings.sharpness < 0:
        hu = blur(hu, -settings.sharpness)
    else:
        hu = hu + settings.sharpness * (hu - blur(hu, 1.2))
    hu = _turn(hu, settings.rotation, -1000)
    low = settings.window_level - settings.window_width / 2
    image = np.clip((hu - low) / settings.window_width, 0, 1) * 255
    lesions = _turn(body.lesions[0], settings.rotation, 0) > _LESION_CUT
    return image.astype(np.float32), lesions


def project_film(
    patient: Patient, settings: FilmSettings, rng: np.random.Generator
) -> tuple[Array, NDArray[np.bool_]]:
    """The frontal X-ray, float32 0..255 (224, 224), and the mask of rays that cross lesions.

    Beer-Lambert along parallel rays from back to front, scatter and noise in intensity, then the
    logarithm and the display curve; the patient's right is at the left.
    """
    count = WORKING_SIZE * 3 // 4
    x = np.linspace(settings.left, settings.right, count)
    z = np.linspace(settings.bottom, settings.top, count)
    y = np.linspace(-150, 150, 60)
    step = float(y[1] - y[0])
    grid = Grid.of(x, y, z, edge=3.0)
    body = sample_body(patient.anatomy, grid, patient.texture, patient.lesions)
    density = np.maximum(1 + body.hu * np.float32(0.001), 0)
    density += np.float32(0.0012) * np.maximum(body.hu - 120, 0)  # calcium stops more than its density
    path = density.sum(axis=1) * np.float32(step)
    points, radii = patient.vessels.points, patient.vessels.radii
    pitch = float(x[1] - x[0])
    threads = np.zeros_like(path)
    rows, columns = (points[:, 2] - z[0]) / (z[1] - z[0]), (points[:, 0] - x[0]) / pitch
    _stamp(threads, rows, columns, radii / pitch, 1.8 * radii, round_=True)
    path = path + threads * np.clip(body.lungs.sum(axis=1) * step / 30, 0, 1)
    if patient.lesions is None:
        added = np.zeros_like(path)
    else:
        excess = np.maximum(body.hu - patient.anatomy.lung_hu, 0) * body.lesions
        added = excess.sum(axis=1) * np.float32(step * 0.001)
    path, added = (
        np.asarray(
            Image.fromarray(np.ascontiguousarray(part[::-1])).resize(
                (WORKING_SIZE, WORKING_SIZE), Image.Resampling.BICUBIC
            ),
            np.float32,
        )
        for part in (path, added)
    )
    path, added = _turn(path, settings.rotation, 0), _turn(added, settings.rotation, 0)
    return _develop(np.maximum(path, 0), settings, rng), added > _LESION_DEPTH


def _develop(path: Array, settings: FilmSettings, rng: np.random.Generator) -> Array:
    """Film brightness 0..255 from mm of water along each ray."""
    intensity = np.exp(-_WATER * path)
    dose = intensity + settings.scatter * blur(np.minimum(intensity, 0.3), 18)
    noise = rng.normal(0, 1, path.shape).astype(np.float32)
    dose = dose * (1 + settings.noise * noise / np.sqrt(np.maximum(dose, 0.01)))
    signal = -np.log(np.maximum(blur(dose, settings.blur), 1e-4))
    signal = signal + settings.crispness * (signal - blur(signal, 9))
    low, high = np.percentile(signal[signal > 0.6], [0.5, 99.6])
    low = low * 0.35
    shade = np.clip((signal - low) / (high - low), 0, 1) ** settings.contrast
    return (shade * 255).astype(np.float32)
