"""A CT slot's uploads as one scan: decoded once, kept beside them as plain numbers, and gone with them.

The process that reads strangers' files writes the slices into one array in the private folder; from then on a slice is
a look into that file, without a decoder. Deleted with the uploads, and by the same sweep.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from covid_mm.config import ImageLimits
from covid_mm.errors import ImageError
from covid_mm.files import replace_file, write_atomically
from covid_mm.imaging import WINDOW_PRESETS, CtScan, ImageHeader, SeriesSummary, WindowSettings
from covid_mm.imaging.window import FILE
from covid_mm.serving.archive import ArchiveLimits
from covid_mm.serving.scan_files import open_scan
from covid_mm.ui.pictures import make_preview
from covid_mm.ui.study.slot_choice import FREE, SliceChoice

GONE = "The uploaded image is no longer kept on the server; add it again."
SCAN_BYTES = 200 * 1024 * 1024  # of all files of a scan, as they are uploaded
SCAN_FILES = 600
HU_RANGE = [-1200.0, 1200.0]  # what a free window may span
THUMBNAILS = 5
THUMBNAIL_SIDE = 128  # pixels
_APART = 3  # slices between two thumbnails at least


def find_scan(
    paths: Sequence[str], series: int | None, limits: ImageLimits, title: str, *, strict: bool = True
) -> CtScan | None:
    """The scan of a slot's uploads, from the file beside them where it was read before; None for one image.

    strict: as `read_scan` takes it, of several files. To be called where files are read. Raises ImageError naming the
    slot.
    """
    if (cached := load_scan(paths, series)) is not None:
        return cached
    whole = dataclasses.replace(
        limits, max_series_bytes=SCAN_BYTES, max_series_pixels=limits.max_total_pixels
    )
    if len(paths) > SCAN_FILES:
        raise ImageError(
            "{what} is of {count} files, and a scan may have {limit} here; send a ZIP.",
            what=title,
            count=len(paths),
            limit=SCAN_FILES,
        )
    source: Any = paths[0] if len(paths) == 1 else list(paths)
    if not all(Path(path).is_file() for path in paths):
        raise ImageError(GONE).about(title)
    try:
        archive = ArchiveLimits(max_bytes=SCAN_BYTES)
        scan = open_scan(source, whole, archive, what=title, series=series, strict=strict)
    except ImageError as error:
        raise (error if str(error).startswith(title) else error.about(title)) from error
    if scan is None or not scan.hounsfield:
        return None
    _keep_scan(scan, paths, series)
    return scan


def load_scan(paths: Sequence[str], series: int | None) -> CtScan | None:
    """The scan that `find_scan` kept, its slices read when they are asked for; None where there is none."""
    numbers, facts = _find_files(paths, series)
    try:
        described = json.loads(facts.read_text())
        slices = np.load(numbers, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError):
        return None
    windows = tuple(WindowSettings(*window) for window in described["windows"])
    header = ImageHeader("ct", None, windows, None, 1) if described["header"] else None
    return CtScan(
        slices=tuple(slices),
        positions=tuple(described["positions"]),
        header=header,
        series=tuple(SeriesSummary(*part) for part in described["series"]),
        chosen=described["chosen"],
        left_out=described["left_out"],
    )


def delete_scan(paths: Sequence[str]) -> None:
    """Remove what was kept beside uploads, of every series."""
    if paths:
        first = Path(paths[0])
        for file in first.parent.glob(f"{first.name}.scan-*"):
            file.unlink(missing_ok=True)


def _keep_scan(scan: CtScan, paths: Sequence[str], series: int | None) -> None:
    numbers, facts = _find_files(paths, series)
    if len({(part.shape, part.dtype.str) for part in scan.slices}) > 1:
        return  # of several sizes: read anew each time
    with replace_file(numbers, flush=False) as tmp_path, open(tmp_path, "wb") as file:
        np.lib.format.write_array_header_1_0(
            file,
            {
                "descr": scan.slices[0].dtype.str,
                "fortran_order": False,
                "shape": (len(scan), *scan.slices[0].shape),
            },
        )
        for part in scan.slices:
            file.write(np.ascontiguousarray(part).data)
    windows = scan.header.windows if scan.header else ()
    described = {
        "header": scan.header is not None,
        "windows": [dataclasses.astuple(window) for window in windows],
        "positions": list(scan.positions),
        "series": [dataclasses.astuple(part) for part in scan.series],
        "chosen": scan.chosen,
        "left_out": dict(scan.left_out),
    }
    write_atomically(facts, json.dumps(described).encode(), flush=False)


def _find_files(paths: Sequence[str], series: int | None) -> tuple[Path, Path]:
    """Where a scan's numbers and facts are kept: beside the first upload, named after all of them."""
    name = hashlib.sha256("\n".join(paths).encode()).hexdigest()[:16]
    stem = f"{paths[0]}.scan-{name}-{'' if series is None else series}"
    return Path(f"{stem}.npy"), Path(f"{stem}.json")


def preview_scan(scan: CtScan, choice: SliceChoice) -> dict[str, Any]:
    """What a slot shows of a scan; as `images.preview_stack`, and `series`: of each its slices and spacing."""
    frame = scan.find_first_choice() if choice.frame is None else choice.frame
    window = scan.find_window(choice.window)
    own = [FILE] if scan.header is not None and scan.header.windows else []
    return {
        "url": make_preview(scan.render(frame, choice.window)).url,
        "frames": len(scan),
        "frame": frame,
        "windows": [*WINDOW_PRESETS, *own, FREE],
        "window": choice.window if isinstance(choice.window, str) else None,
        "level": None if window is None else window.level,
        "width": None if window is None else window.width,
        "range": HU_RANGE,
        "left_out": sum(scan.left_out.values()),
        "scan": True,
        "series": [{"slices": part.slices, "spacing": part.spacing_mm} for part in scan.series],
        "chosen": scan.chosen,
    }


def choose_thumbnails(probabilities: Sequence[float | None], count: int = THUMBNAILS) -> list[int]:
    """Numbers of the most suspicious slices, the highest first, none close to another."""
    order = sorted(
        (index for index, value in enumerate(probabilities) if value is not None),
        key=lambda index: -(probabilities[index] or 0.0),
    )
    chosen: list[int] = []
    for index in order:
        if all(abs(index - other) >= _APART for other in chosen):
            chosen.append(index)
        if len(chosen) == count:
            break
    return chosen
