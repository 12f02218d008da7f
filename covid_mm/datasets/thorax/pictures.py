"""The two pictures of one body: an axial cut in a lung window, and a frontal X-ray projection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from covid_mm.datasets.thorax.anatomy import Anatomy, skin_outline
from covid_mm.datasets.thorax.body import Patient, sample_body
from covid_mm.datasets.thorax.canvas import Array, Grid
from covid_mm.datasets.thorax.organs import MUSCLE

WORKING_SIZE = 224  # pixels per side at which both pictures are made
_MARGIN = 0.05  # of the frame, on each side, for turning it
_WATER = 0.019  # attenuation of water per mm at about 70 keV
_LESION_CUT = 0.35  # share of a CT pixel that counts as lesion
_LESION_DEPTH = 7.0  # mm of water that a lesion adds to a ray before it counts on the film
_LUNG_DEPTH = 60.0  # mm of lung that a ray crosses before the film counts as lung there


class Picture(NamedTuple):
    """One picture: image float32 0..255, and bool masks of lesions and lungs, all (224, 224)."""

    image: Array
    lesions: NDArray[np.bool_]
    lungs: NDArray[np.bool_]


@dataclass(frozen=True)
class CtSettings:
    """How the slice is taken: heights and margins in mm, window in HU, noise in HU, blur in pixels."""

    level: float
    window_level: float
    window_width: float
    margins: tuple[float, float, float, float]  # left, right, front, back
    rotation: float  # degrees
    noise: float
    thickness: float  # of the slice in mm, thins out small vessels
    sharpness: float  # below 0: blur of that many pixels; above 0: edge enhancement

    @classmethod
    def draw(cls, rng: np.random.Generator) -> CtSettings:
        """Settings from the generator's next numbers."""
        return cls(
            level=float(rng.uniform(-72, 68)),
            window_level=float(rng.normal(-525, 35)),
            window_width=float(rng.normal(1500, 70)),
            margins=tuple(rng.uniform(-16, 4, 4).tolist()),
            rotation=float(rng.normal(0, 2)),
            noise=float(rng.uniform(5, 30)),
            thickness=float(rng.uniform(1.5, 5)),
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
    compression: float  # 0: shade linear in what is passed through; more lifts the dark parts
    brightness: float  # 0..255 of the densest part
    crispness: float  # local contrast added by the detector's processing
    blur: float  # pixels

    @classmethod
    def draw(cls, rng: np.random.Generator, anatomy: Anatomy) -> FilmSettings:
        """Settings from the generator's next numbers."""
        half = 156 * anatomy.width + anatomy.fat
        return cls(
            left=-half + float(rng.uniform(-14, 16)),
            right=half + float(rng.uniform(-16, 14)),
            top=float(rng.uniform(140, 180)),
            bottom=anatomy.dome_right - float(rng.uniform(48, 86)),
            rotation=float(rng.normal(0, 2.5)),
            scatter=float(rng.uniform(0.1, 0.5)),
            noise=float(rng.uniform(0.004, 0.012)),
            compression=float(rng.uniform(1.8, 5.5)),
            brightness=float(rng.uniform(195, 235)),
            crispness=float(rng.uniform(0.25, 0.75)),
            blur=float(rng.uniform(0.3, 1.1)),
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
    blurred: Array = sides[0] @ image @ sides[1].T
    return blurred


def _stamp(field: Array, rows: Array, columns: Array, radii: Array, peaks: Array, ball: bool) -> None:
    """Put discs (ball: as deep as spheres) on a field in place; the larger value stays.

    rows, columns, radii in pixels (n,); peaks (n,) the value where a disc fills a pixel.
    """
    reach = np.ceil(radii + 0.5).astype(int)
    for size in np.unique(reach):
        chosen = reach == size
        row, column, radius, peak = (v[chosen, None, None] for v in (rows, columns, radii, peaks))
        i = np.rint(row).astype(int) + np.arange(-size, size + 1)[None, :, None]
        j = np.rint(column).astype(int) + np.arange(-size, size + 1)[None, None, :]
        distance = np.sqrt((i - row) ** 2 + (j - column) ** 2)
        value = np.clip(radius - distance + 0.5, 0, 1) * np.minimum(2 * radius, 1) * peak
        if ball:
            value *= np.sqrt(np.clip(1 - (distance / (radius + 0.5)) ** 2, 0, 1))
        inside = (i >= 0) & (i < field.shape[0]) & (j >= 0) & (j < field.shape[1]) & (value > 0)
        path = np.broadcast_to(i * field.shape[1] + j, value.shape)[inside]
        np.maximum.at(field.reshape(-1), path, value[inside].astype(np.float32))


def _frame(image: Array, degrees: float) -> Array:
    """The middle of a picture that was taken with a margin, turned about its centre, at full size."""
    rows, columns = image.shape
    turn = np.deg2rad(degrees)
    across = columns / (1 + 2 * _MARGIN) / WORKING_SIZE
    down = rows / (1 + 2 * _MARGIN) / WORKING_SIZE
    half = WORKING_SIZE / 2
    a, b = across * np.cos(turn), across * np.sin(turn)
    d, e = -down * np.sin(turn), down * np.cos(turn)
    affine = (a, b, columns / 2 - half * (a + b), d, e, rows / 2 - half * (d + e))
    framed = Image.fromarray(np.ascontiguousarray(image)).transform(
        (WORKING_SIZE, WORKING_SIZE), Image.Transform.AFFINE, affine, Image.Resampling.BICUBIC
    )
    return np.asarray(framed, np.float32)


def _axis(low: float, high: float, count: int) -> Array:
    """Positions from low to high with the margin on both sides."""
    spare = (high - low) * _MARGIN
    return np.linspace(low - spare, high + spare, count)


def cut_slice(patient: Patient, settings: CtSettings, rng: np.random.Generator) -> Picture:
    """The CT slice with its masks; the frame is fitted to the body.

    The frame is stretched to a square as the data set's slices are when the network reads them.
    """
    half, depth = (float(v[0]) for v in skin_outline(patient.anatomy, np.array([settings.level], np.float32)))
    left, right, front, back = settings.margins
    count = int(WORKING_SIZE * (1 + 2 * _MARGIN))
    x, y = _axis(-half - left, half + right, count), _axis(-depth - front, depth + back, count)
    grid = Grid.of(x, y, np.array([settings.level]), edge=1.4)
    body = sample_body(patient, grid)
    hu = body.hu[0]
    vessels = np.zeros_like(hu)
    points, radii = patient.vessels.points, patient.vessels.radii
    height = np.abs(points[:, 2] - settings.level)
    near = height < radii
    pitch = x[1] - x[0]
    cut = np.sqrt(radii[near] ** 2 - height[near] ** 2)
    share = np.minimum(2 * cut / settings.thickness, 1)
    rows = (points[near, 1] - y[0]) / (y[1] - y[0])
    columns = (points[near, 0] - x[0]) / pitch
    _stamp(vessels, rows, columns, cut / pitch, share, ball=False)
    hu = hu + body.lungs[0] * vessels * np.maximum(MUSCLE - hu, 0)
    noise = rng.normal(0, 1, hu.shape).astype(np.float32)
    hu = hu + settings.noise * (0.6 * noise + blur(noise, 1.0))
    soft = blur(hu, 1.2 if settings.sharpness > 0 else -settings.sharpness)
    hu = hu + settings.sharpness * (hu - soft) if settings.sharpness > 0 else soft
    hu = _frame(hu, settings.rotation)
    low = settings.window_level - settings.window_width / 2
    image = np.clip((hu - low) / settings.window_width, 0, 1) * 255
    lesions = _frame(body.lesions[0], settings.rotation) > _LESION_CUT
    lungs = _frame(body.lungs[0], settings.rotation) > 0.5
    return Picture(image.astype(np.float32), lesions, lungs)


def cut_volume(
    patient: Patient, levels: Array, side: int, thickness: float, noise: float, rng: np.random.Generator
) -> tuple[Array, Array, Array, float]:
    """A CT scan of the body in one frame: HU, coverage by lung and by lesion, each (levels, side, side); mm per pixel.

    levels: heights of the slices in mm. thickness: of each, in mm. noise: in HU.
    """
    half = 1.06 * max(
        float(outline.max()) for outline in skin_outline(patient.anatomy, np.asarray(levels, np.float32))
    )
    axis = np.linspace(-half, half, side)
    pitch = float(axis[1] - axis[0])
    body = sample_body(patient, Grid.of(axis, axis, np.asarray(levels), edge=pitch))
    slices = []
    points, radii = patient.vessels.points, patient.vessels.radii
    for number, level in enumerate(levels):
        hu, vessels = body.hu[number], np.zeros(body.hu.shape[1:], np.float32)
        height = np.abs(points[:, 2] - level)
        near = height < radii
        cut = np.sqrt(radii[near] ** 2 - height[near] ** 2)
        rows, columns = ((points[near, part] + half) / pitch for part in (1, 0))
        _stamp(vessels, rows, columns, cut / pitch, np.minimum(2 * cut / thickness, 1), ball=False)
        hu = hu + body.lungs[number] * vessels * np.maximum(MUSCLE - hu, 0)
        grain = rng.normal(0, 1, hu.shape).astype(np.float32)
        slices.append(hu + np.float32(noise) * (np.float32(0.6) * grain + blur(grain, 1.0)))
    return np.stack(slices), body.lungs, body.lesions, pitch


def project_film(patient: Patient, settings: FilmSettings, rng: np.random.Generator) -> Picture:
    """The frontal X-ray with the masks of rays that cross lesions and lung.

    Beer-Lambert along parallel rays from back to front, scatter and noise in intensity, then the
    logarithm and the display curve; the patient's right is at the left.
    """
    count = 160
    x, z = _axis(settings.left, settings.right, count), _axis(settings.bottom, settings.top, count)
    half = float(skin_outline(patient.anatomy, z)[1].max())
    y = np.linspace(-half, half, 56)
    step = float(y[1] - y[0])
    grid = Grid.of(x, y, z, edge=3.0)
    body = sample_body(patient, grid)
    density = np.maximum(1 + body.hu * np.float32(0.001), 0)
    density += np.float32(0.005) * np.maximum(body.hu - 150, 0)  # calcium stops more than its density
    path = density.sum(axis=1) * np.float32(step)
    points, radii = patient.vessels.points, patient.vessels.radii
    pitch = float(x[1] - x[0])
    threads = np.zeros_like(path)
    rows, columns = (points[:, 2] - z[0]) / (z[1] - z[0]), (points[:, 0] - x[0]) / pitch
    _stamp(threads, rows, columns, radii / pitch, 1.8 * radii, ball=True)
    path = path + threads * np.clip(body.lungs.sum(axis=1) * step / 30, 0, 1)
    if patient.lesions is None:
        added = np.zeros_like(path)
    else:
        excess = np.maximum(body.hu - patient.anatomy.lung_hu, 0) * body.lesions
        added = excess.sum(axis=1) * np.float32(step * 0.001)
    depth = body.lungs.sum(axis=1) * np.float32(step)
    path, added, depth = (_frame(part[::-1], settings.rotation) for part in (path, added, depth))
    return Picture(_develop(np.maximum(path, 0), settings, rng), added > _LESION_DEPTH, depth > _LUNG_DEPTH)


def _develop(path: Array, settings: FilmSettings, rng: np.random.Generator) -> Array:
    """Film brightness 0..255 from mm of water along each ray."""
    intensity = np.exp(-_WATER * path)
    dose = intensity + settings.scatter * blur(np.minimum(intensity, 0.3), 18)
    noise = rng.normal(0, 1, path.shape).astype(np.float32)
    dose = dose * (1 + settings.noise * noise / np.sqrt(np.maximum(dose, 0.01)))
    signal = -np.log(np.maximum(blur(dose, settings.blur), 1e-4))
    signal = signal + settings.crispness * (signal - blur(signal, 11))
    low, high = np.percentile(signal[signal > 0.6], [0.5, 99.6])
    low = low * 0.1
    shade = np.clip((signal - low) / (high - low), 0, 1)
    shade = np.log1p(settings.compression * shade) / np.log1p(settings.compression)
    return np.asarray(shade * settings.brightness, np.float32)
