"""Images that are neither a chest CT slice nor a frontal chest film, for the content check.

Natural and microscopic pictures that ship with scikit-image, scikit-learn and Gradio, and drawn
ones: text, noise, gradients, shapes, and phantoms of other radiological views.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from covid_mm.config import IMAGE_SIZE
from covid_mm.datasets.thorax.views import draw_other_view
from covid_mm.errors import UsageError
from covid_mm.imaging import resize_grey

Grey = NDArray[np.float32]
Part = Literal["train", "validation", "test"]

# by name, so that no crop of a picture is ever on both sides
_TRAIN = (
    "astronaut", "brick", "camera", "cell", "clock", "coins", "colorwheel", "grass", "gravel",
    "hubble_deep_field", "immunohistochemistry", "page", "retina", "rocket", "shepp_logan_phantom",
    "stereo_motorcycle", "china.jpg", "lfw_subset",
)  # fmt: skip
_VALIDATION = ("cat", "coffee", "horse", "logo", "microaneurysms", "moon", "text", "flower.jpg")
_TEST = (
    "cheetah1.jpg",
    "groot.jpeg",
    "lion.jpg",
    "tower.jpg",
    "bus.png",
    "hf-logo_transpng.png",
    "screenshot.gif",
)
_FACES = "lfw_subset"
_SMALLEST_CROP = 0.35  # of a picture's shorter side
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 .,:-/%"


@dataclass(frozen=True)
class Negative:
    """One image and what it is. image: float32 (side, side), 0..255."""

    kind: str
    image: Grey


def make_negatives(count: int, *, seed: int, part: Part = "train", size: int = IMAGE_SIZE) -> list[Negative]:
    """That many negatives of all kinds, the same for the same arguments.

    part: whose pictures are used; no picture is in two parts. The drawn kinds are drawn anew from
    the part's own seeds.

    Raises:
        UsageError: scikit-image or scikit-learn is not installed, or count is negative.
    """
    if count < 0:
        raise UsageError(f"The number of negatives must not be negative; got {count}.")
    pictures = load_pictures(part)
    names, shares = [*_SHARES], np.array([*_SHARES.values()])
    made = []
    for number in range(count):
        rng = np.random.default_rng([seed, ("train", "validation", "test").index(part), number])
        kind = names[int(rng.choice(len(names), p=shares / shares.sum()))]
        if kind == "picture":
            image = crop_picture([*pictures.values()][int(rng.integers(len(pictures)))], rng)
        else:
            image = _DRAWN[kind](rng)
        made.append(Negative(kind, resize_grey(vary_tone(image, rng), size)))
    return made


def load_pictures(part: Part) -> dict[str, Grey]:
    """The pictures of a part, grey float32 0..255, by name, at their own sizes."""
    if part not in get_args(Part):
        raise UsageError(f"Part {part!r} is not known; expected one of {', '.join(get_args(Part))}.")
    if part == "test":
        folder = _find_package("gradio") / "media_assets" / "images"
        return {name: _read_picture(folder / name) for name in _TEST if (folder / name).is_file()}
    try:
        import skimage.data
        from sklearn.datasets import load_sample_image
    except ImportError as error:
        raise UsageError(
            f"The content check is trained on pictures that ship with scikit-image and scikit-learn,"
            f" and {error.name} is not installed; install requirements.txt."
        ) from error
    pictures: dict[str, Grey] = {}
    for name in _TRAIN if part == "train" else _VALIDATION:
        picture = load_sample_image(name) if name.endswith(".jpg") else getattr(skimage.data, name)()
        if name == _FACES:  # many tiny ones as a sheet, a crop of which shows one or a few
            picture = np.concatenate(
                [np.concatenate([*row], axis=1) for row in picture[:100].reshape(10, 10, 25, 25)]
            )
        pictures[name] = to_grey(picture[0] if isinstance(picture, tuple) else picture)
    return pictures


def to_grey(picture: NDArray[np.generic]) -> Grey:
    """Any picture as grey float32 0..255 (height, width)."""
    values = picture.astype(np.float32)
    if picture.dtype == np.bool_ or (np.issubdtype(picture.dtype, np.floating) and values.max() <= 1.0):
        values = values * 255.0
    if values.ndim == 3:
        values = values[..., :3] @ np.array([0.299, 0.587, 0.114], np.float32)
    return values


def crop_picture(picture: Grey, rng: np.random.Generator) -> Grey:
    """The whole picture or a part of it, perhaps mirrored or turned by a quarter."""
    height, width = picture.shape
    if rng.random() < 0.75:
        side = rng.uniform(_SMALLEST_CROP, 1.0, 2) * min(height, width)
        rows, columns = (max(int(value), 8) for value in side)
        top, left = int(rng.integers(height - rows + 1)), int(rng.integers(width - columns + 1))
        picture = picture[top : top + rows, left : left + columns]
    if rng.random() < 0.5:
        picture = picture[:, ::-1]
    if rng.random() < 0.25:
        picture = np.rot90(picture, int(rng.integers(1, 4)))
    return np.ascontiguousarray(picture)


def vary_tone(image: Grey, rng: np.random.Generator) -> Grey:
    """Another gamma, sometimes another contrast, sometimes a negative."""
    shade = np.clip(image / 255.0, 0, 1) ** np.exp(rng.uniform(-0.5, 0.5))
    if rng.random() < 0.3:
        low, high = np.percentile(shade, [2, 98])
        shade = np.clip((shade - low) / max(float(high - low), 0.05), 0, 1)
    if rng.random() < 0.15:
        shade = 1.0 - shade
    return np.asarray(255.0 * shade, np.float32)


def draw_text(rng: np.random.Generator) -> Grey:
    """A page, a form or a label: lines of letters, light on dark or dark on light."""
    side = 224
    ink, paper = (0, int(rng.integers(200, 256))) if rng.random() < 0.7 else (255, int(rng.integers(0, 50)))
    page = Image.new("L", (side, side), paper)
    pen = ImageDraw.Draw(page)
    size = float(rng.uniform(7, 40))
    font = ImageFont.load_default(size=size)
    row = float(rng.uniform(0, 30))
    while row < side:
        letters = rng.choice([*_LETTERS], size=int(rng.integers(3, 60)))
        pen.text((float(rng.uniform(0, 40)), row), "".join(letters), fill=ink, font=font)
        row += size * float(rng.uniform(1.1, 2.5))
    if rng.random() < 0.3:
        for position in np.arange(float(rng.uniform(10, 60)), side, float(rng.uniform(20, 70))):
            pen.line([(0, position), (side, position)], fill=ink)
    return np.asarray(page, np.float32)


def draw_noise(rng: np.random.Generator) -> Grey:
    """White, coarse or cloudy noise, or salt and pepper."""
    side = 160
    kind = int(rng.integers(4))
    if kind == 0:
        values = rng.normal(rng.uniform(60, 200), rng.uniform(10, 80), (side, side))
    elif kind == 1:
        cells = int(rng.integers(3, 40))
        values = cv2.resize(rng.uniform(0, 255, (cells, cells)), (side, side), interpolation=cv2.INTER_CUBIC)
    elif kind == 2:
        frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
        spectrum = np.exp(2j * np.pi * rng.random(frequency.shape)) / np.maximum(
            frequency, 0.005
        ) ** rng.uniform(0.5, 2)
        values = np.fft.irfft2(spectrum, (side, side))
        values = (values - values.min()) / np.ptp(values) * 255
    else:
        values = np.where(rng.random((side, side)) < rng.uniform(0.1, 0.9), 0.0, 255.0)
    return np.clip(values, 0, 255).astype(np.float32)


def draw_gradient(rng: np.random.Generator) -> Grey:
    """One shade, a ramp, a vignette or a test pattern of bars."""
    side = 160
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    angle = rng.uniform(0, 2 * np.pi)
    ramp = np.cos(angle) * x + np.sin(angle) * y
    centre = rng.uniform(-0.5, 0.5, 2)
    shade = (
        lambda: np.full((side, side), rng.uniform(0, 1)),
        lambda: (ramp - ramp.min()) / np.ptp(ramp),
        lambda: np.exp(-rng.uniform(0.3, 4) * ((x - centre[0]) ** 2 + (y - centre[1]) ** 2)),
        lambda: 0.5 + 0.5 * np.sign(np.sin(ramp * rng.uniform(3, 60))),
        lambda: 0.5 + 0.5 * np.sin(ramp * rng.uniform(3, 60)),
    )[int(rng.integers(5))]()
    return (255.0 * shade + rng.normal(0, rng.uniform(0, 6), shade.shape)).clip(0, 255).astype(np.float32)


def draw_shapes(rng: np.random.Generator) -> Grey:
    """Discs, boxes and lines of random shades, sharp or blurred: screens, diagrams, toys."""
    side = 160
    canvas = np.full((side, side), rng.uniform(0, 255), np.float32)
    for _ in range(int(rng.integers(1, 25))):
        shade = float(rng.uniform(0, 255))
        points = rng.integers(-20, side + 20, (2, 2))
        first, second = (tuple(int(value) for value in point) for point in points)
        kind = int(rng.integers(3))
        thickness = -1 if rng.random() < 0.6 else int(rng.integers(1, 6))
        if kind == 0:
            axes = tuple(int(value) for value in rng.integers(3, 70, 2))
            cv2.ellipse(canvas, first, axes, float(rng.uniform(0, 180)), 0, 360, shade, thickness)
        elif kind == 1:
            cv2.rectangle(canvas, first, second, shade, thickness)
        else:
            cv2.line(canvas, first, second, shade, int(rng.integers(1, 8)))
    sigma = float(rng.uniform(0, 4))
    return cv2.GaussianBlur(canvas, (0, 0), sigma) if sigma > 0.5 else canvas


def draw_view(rng: np.random.Generator) -> Grey:
    """A phantom of another radiological view."""
    return draw_other_view(rng).astype(np.float32)


_DRAWN: dict[str, Callable[[np.random.Generator], Grey]] = {
    "text": draw_text,
    "noise": draw_noise,
    "gradient": draw_gradient,
    "shapes": draw_shapes,
    "other view": draw_view,
}
_SHARES = {"picture": 0.5, "text": 0.08, "noise": 0.08, "gradient": 0.07, "shapes": 0.09, "other view": 0.18}


def _find_package(name: str) -> Path:
    """The folder of an installed package, which is not imported: Gradio's import takes seconds."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.submodule_search_locations is None:
        raise UsageError(
            f"The content check is measured on pictures that ship with {name}, which is not installed;"
            " install requirements.txt."
        )
    return Path(next(iter(spec.submodule_search_locations)))


def _read_picture(path: Path) -> Grey:
    """Through Pillow alone: some are GIF, which a user may not hand over."""
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGBA").convert("L"), np.float32)
