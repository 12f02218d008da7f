"""Solid organs, bones and airways, painted from simple shapes."""

from __future__ import annotations

import numpy as np

from covid_mm.datasets.thorax.anatomy import Anatomy, cage_outline
from covid_mm.datasets.thorax.canvas import AIR, Array, Painter

FAT, MUSCLE, SOFT, CARTILAGE = -95.0, 50.0, 35.0, 90.0  # HU
MARROW, CORTEX = 260.0, 620.0


def paint_limbs(painter: Painter, anatomy: Anatomy) -> None:
    """Upper arms away from the chest, raised or hanging out."""
    for side in (-1, 1):
        shoulder = (side * 156.0 * anatomy.width, 8.0, 108.0)
        hand = (side * 270.0 * anatomy.width, 0.0, 108.0 + 130.0 * anatomy.arm_lift)
        painter.capsule(shoulder, hand, 30 + 0.5 * anatomy.fat, FAT, core=(30, MUSCLE))
        painter.capsule(shoulder, hand, 10.5, CORTEX * anatomy.bone, core=(6.5, MARROW * anatomy.bone))
        painter.ellipsoid(shoulder, (19, 19, 19), MARROW * 0.8 * anatomy.bone)


def paint_organs(painter: Painter, anatomy: Anatomy, wobble: Array) -> None:
    """Heart, great vessels, oesophagus; gas in the stomach."""
    size, blood, r = anatomy.heart_size, anatomy.blood_hu, anatomy.aorta
    shift, depth = anatomy.heart_shift, anatomy.depth
    axes = np.array([[0.78, -0.38, -0.50], [0.44, 0.90, 0.0], [0.45, -0.22, 0.87]])
    low = anatomy.dome_right + 66
    painter.ellipsoid(
        (23 + shift, -20 * depth, -42 + low / 2),
        (68 * size, 50 * size, 55 * size),
        SOFT + 5,
        axes,
        2 * wobble,
    )
    if blood > 100:
        painter.ellipsoid((27 + shift, -14 * depth, -48 + low / 2), (36, 22, 26), blood * 0.8, axes)
    painter.ellipsoid((-18, -16, -32 + low / 2), (30 * size, 34 * size, 44 * size), SOFT + 5)
    painter.capsule((-12, -20, -25), (-10, -18, 42), r * 1.15, blood)  # ascending aorta
    painter.capsule((-10, -18, 44), (14, 30, 48), r * 1.05, blood)  # arch
    painter.capsule((20, 40 * depth, 44), (16, 46 * depth, -190), r * 0.92, blood)  # descending
    painter.capsule((-26, -8, 70), (-24, -10, -15), r * 0.72, blood)  # superior vena cava
    painter.capsule((14, -30, -10), (18, -2, 22), r * 1.1, blood)  # pulmonary trunk
    painter.capsule((16, 0, 18), (-40, 8, 4), r * 0.8, blood)  # right pulmonary artery
    painter.capsule((18, 0, 22), (44, 14, 14), r * 0.75, blood)  # left pulmonary artery
    painter.capsule((-28, 12, -14), (0, 14, -18), r * 0.75, blood)  # veins
    painter.capsule((36, 14, -14), (0, 14, -18), r * 0.75, blood)
    for side in (-1, 1):  # vessels of the neck and shoulder
        painter.capsule((side * 10.0, 0, 58), (side * 26.0, 0, 130), r * 0.5, blood)
    painter.capsule((4, 36 * depth, 120), (6, 38 * depth, -150), 7, SOFT)
    if anatomy.stomach_gas:
        painter.ellipsoid((64, -18, anatomy.dome_left - 28), (30, 26, 15), AIR + 80)


def paint_ribs(painter: Painter, anatomy: Anatomy, wall: Array) -> None:
    """Twelve pairs of hoops, falling from back to front; cartilage near the breastbone."""
    grid = painter.grid
    x, y, z = grid.coordinates(grid.everywhere)
    spacing = anatomy.rib_spacing
    fall = np.float32(anatomy.rib_tilt) * y - np.float32(0.0016) * x * x
    number = (z - fall) / np.float32(spacing) + np.float32(anatomy.rib_phase)
    height = np.abs(number - np.round(number)) * np.float32(spacing)
    behind = np.clip(0.5 + y / np.float32(50), 0, 1)  # ribs are stoutest at the back
    radius = np.float32(2.8) + np.float32(2.0) * behind
    flat = np.abs(wall + 5) * np.float32(1.25)  # they lie outside the pleura
    distance = np.sqrt(flat * flat + (height * np.float32(0.95)) ** 2)
    allowed = (z < 112) & (z - fall > -175)
    front = (y < 0) & (np.abs(x) < (50 - 0.22 * np.minimum(z, 60)) * anatomy.width)
    value = np.where(front, np.float32(CARTILAGE), np.float32(CORTEX * anatomy.bone))
    painter.blend(grid.everywhere, grid.soften(radius - distance) * allowed, value)
    marrow = grid.soften(radius - 2 - distance) * (allowed & ~front)
    painter.blend(grid.everywhere, marrow, MARROW * 1.3 * anatomy.bone)


def paint_spine(painter: Painter, anatomy: Anatomy) -> None:
    """Vertebral bodies with discs between them, canal, arch and processes, muscle beside them."""
    grid, bone, depth = painter.grid, anatomy.bone, anatomy.depth
    centre = 52.0 * depth
    where = grid.window((-62, 62, centre - 30, centre + 80, -260, 260))
    x, y, z = grid.coordinates(where)
    y = y + np.float32(12) * np.clip((z - 70) / 80, 0, 1.4)  # the neck lies further forward
    phase = z / np.float32(anatomy.rib_spacing) + np.float32(anatomy.rib_phase)
    level = np.clip(6 * np.abs(phase - np.round(phase)) - np.float32(0.35), 0, 1)  # 0 in a disc
    radius = np.sqrt((x / np.float32(1.2)) ** 2 + (y - np.float32(centre)) ** 2)
    size = np.float32(15.5) - np.float32(0.02) * np.clip(z, 0, 150)
    painter.blend(where, grid.soften(size + 3 - radius), SOFT)
    back = y - np.float32(centre + 23)
    flank = np.sqrt(((np.abs(x) - 15) / np.float32(1.2)) ** 2 + (back - 9) ** 2)
    painter.blend(where, grid.soften(15 - flank), MUSCLE)
    shell = np.float32(CARTILAGE) + level * np.float32(CORTEX * 0.34 * bone - CARTILAGE)
    painter.blend(where, grid.soften(size - radius), shell)
    core = np.float32(CARTILAGE) + level * np.float32(MARROW * 0.62 * bone - CARTILAGE)
    painter.blend(where, grid.soften(size - 2 - radius), core)
    arch = np.abs(np.sqrt((x * np.float32(0.9)) ** 2 + back * back) - 10)
    process = np.maximum(np.abs(x) - 2.6, np.abs(back - 18) - 9)
    wings = np.maximum(np.abs(back - 3 - np.float32(0.25) * np.abs(x)) - 3.2, np.abs(x) - 30)
    bony = np.minimum(np.minimum(arch - 2.6, process), np.maximum(wings, 10 - np.abs(x)))
    presence = np.float32(0.3) + np.float32(0.6) * level
    painter.blend(where, grid.soften(-bony) * presence, CORTEX * 0.42 * bone)


def paint_girdle(painter: Painter, anatomy: Anatomy, skin: Array) -> None:
    """Breastbone, collarbones, shoulder blades, jaw; skin: distance to it in mm, on the grid."""
    bone = anatomy.bone
    heights = np.array([-70.0, 70.0], np.float32)
    _, depth, back = cage_outline(anatomy, heights)
    low, high = (float(back[i] - depth[i]) - 9 for i in (0, 1))
    for offset in (-8.0, 0.0, 8.0):
        painter.capsule(
            (offset, low, -55), (offset * 1.2, high, 74), 6.5, CORTEX * 0.6 * bone, core=(4.0, MARROW * bone)
        )
    for side in (-1, 1):
        width = anatomy.width
        start, bend = (side * 16.0, high + 2, 84.0), (side * 62.0 * width, high + 14, 101.0)
        end = (side * 140.0 * width, 4.0, 124.0)
        painter.capsule(start, bend, 6.2, CORTEX * 0.8 * bone)
        painter.capsule(bend, end, 5.2, CORTEX * 0.8 * bone)
        paint_blade(painter, anatomy, side, skin)
    painter.ellipsoid((0, -12, 236), (52, 66, 44), CORTEX * 0.7 * bone)
    painter.ellipsoid((0, -12, 236), (46, 60, 38), SOFT)


def paint_blade(painter: Painter, anatomy: Anatomy, side: int, skin: Array) -> None:
    """A shoulder blade: a thin triangle behind the ribs, thicker along its outer border."""
    width, depth, bone = anatomy.width, anatomy.depth, anatomy.bone
    low, high = (85 * width, 152 * width) if side > 0 else (-152 * width, -85 * width)
    where = painter.grid.window((low, high, 30 * depth, 120 * depth, -10, 118))
    x, y, z = painter.grid.coordinates(where)
    out = side * x / np.float32(width)
    plane = np.abs(y / np.float32(depth) - (144 - np.float32(0.52) * out - np.float32(0.1) * z))
    inner, outer = 96 + np.float32(0.1) * (105 - z), 112 + np.float32(0.3) * z
    extent = np.minimum(np.minimum(out - inner, outer - out), np.minimum(z, 106 - z))
    extent = np.minimum(extent, skin[where] - np.float32(5 + anatomy.fat))  # within the flesh
    thick = np.float32(1.4) + 3 * np.clip(1 - (outer - out) / 8, 0, 1)
    painter.blend(where, painter.grid.soften(np.minimum(extent, thick - plane)), CORTEX * 0.6 * bone)


def paint_airways(painter: Painter, anatomy: Anatomy) -> None:
    """Windpipe and main bronchi with their walls."""
    r, shift, y = anatomy.trachea, anatomy.trachea_shift, 22.0 * anatomy.depth
    carina = (shift, y, 22.0)
    tubes = (
        ((shift, y - 14, 175.0), (shift, y, 70.0), r),
        ((shift, y, 70.0), carina, r),
        (carina, (-34.0, y + 2, 2.0), r * 0.72),
        (carina, (40.0, y + 4, -2.0), r * 0.66),
        ((-34.0, y + 2, 2.0), (-42.0, y + 10, -26.0), r * 0.42),
        ((40.0, y + 4, -2.0), (46.0, y + 14, -28.0), r * 0.4),
        ((-34.0, y + 2, 2.0), (-58.0, y - 4, 22.0), r * 0.34),
        ((40.0, y + 4, -2.0), (56.0, y - 2, 20.0), r * 0.34),
    )
    for start, end, radius in tubes:
        painter.capsule(start, end, radius + 1.4, SOFT)
    for start, end, radius in tubes:
        painter.capsule(start, end, radius, AIR + 20)
