"""An answered study as bytes and back: what a list needs to show it again, made small.

Maps become 16-bit PNG (a value is off by at most 1/131070), and pictures that only thumbnails are made of are left
out. The bytes never leave this process, so that they may be a pickle.
"""

from __future__ import annotations

import dataclasses
import pickle
import zlib
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from covid_mm.serving.prediction import Prediction
from covid_mm.ui.study.analysis import Analysis

FINEST = 65535  # steps of a map from 0 to 1


def pack_analysis(analysis: Analysis) -> bytes:
    """The answer with its previews and maps, without the checkpoint's meta.json."""
    prediction = analysis.prediction
    maps = {modality: _pack_map(heatmap) for modality, heatmap in prediction.heatmaps.items()}
    plain = dataclasses.replace(prediction, heatmaps=maps, images={})
    return zlib.compress(
        pickle.dumps(dataclasses.replace(analysis, prediction=plain, meta={}), protocol=5), 1
    )


def unpack_analysis(packed: bytes, meta: Mapping[str, Any]) -> Analysis:
    """What `pack_analysis` packed in this process. meta: of the checkpoint that answered."""
    analysis: Analysis = pickle.loads(zlib.decompress(packed))
    prediction: Prediction = analysis.prediction
    maps = {modality: _unpack_map(data) for modality, data in prediction.heatmaps.items()}
    return dataclasses.replace(analysis, prediction=dataclasses.replace(prediction, heatmaps=maps), meta=meta)


def _pack_map(heatmap: NDArray[np.float32]) -> Any:
    levels = np.rint(np.clip(heatmap, 0.0, 1.0) * FINEST).astype(np.uint16)
    return cv2.imencode(".png", levels)[1].tobytes()


def _unpack_map(data: Any) -> NDArray[np.float32]:
    levels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if levels is None:
        raise ValueError("expected a map as PNG bytes")
    heatmap: NDArray[np.float32] = levels.astype(np.float32) / np.float32(FINEST)
    return heatmap
