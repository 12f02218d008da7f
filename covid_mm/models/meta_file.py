"""meta.json as a file: written whole, with a digest of its own content, and read only where that fits.

The digest is for damage: a flipped bit, a lost line, a hasty edit. It is no signature: who forges a
checkpoint computes the digest of the forgery too.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from covid_mm.errors import CheckpointError
from covid_mm.files import hash_file, write_atomically

META_NAME = "meta.json"
ONNX_FOLDER = "onnx"  # of a checkpoint that was exported for ONNX Runtime
DIGEST = "content_sha256"  # the field of meta.json that covers all others


def write_meta(folder: Path, meta: Mapping[str, Any]) -> None:
    """Write a checkpoint folder's meta.json with its digest.

    Raises ValueError or TypeError for what JSON cannot hold, before anything is written; NaN is such a value.
    """
    write_atomically(folder / META_NAME, encode_meta(meta))


def read_meta(folder: Path) -> dict[str, Any]:
    """The content of a checkpoint folder's meta.json, without the digest that was checked.

    Nothing passes but what `write_meta` would write of the same content; line ends may be those of
    another system. Raises CheckpointError for no file, and for a damaged or edited one.
    """
    name = Path(os.path.abspath(folder)).name  # "." has none
    try:
        text = (folder / META_NAME).read_text(encoding="utf-8")
        meta = json.loads(text)
        if not isinstance(meta, dict):
            raise TypeError
        fits = text.encode() == encode_meta(meta)
    except FileNotFoundError as error:
        raise CheckpointError(
            f"There is no checkpoint in {folder}: it has no {META_NAME}; name a folder that has one, with"
            " --checkpoint or load_predictor: one of checkpoints/ in a clone of the repository (the installed"
            " package brings none), or what train.py made."
        ) from error
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise CheckpointError(
            f"The {META_NAME} of checkpoint {name} is damaged ({type(error).__name__}); put back the"
            " published one, or train again."
        ) from error
    if DIGEST not in meta:
        raise CheckpointError(
            f"The {META_NAME} of checkpoint {name} has no {DIGEST}, by which damage would be noticed: an older"
            " version of train.py wrote it; train again with this one, or put back the published checkpoint."
        )
    if not fits:
        raise CheckpointError(
            f"The {META_NAME} of checkpoint {name} is not as it was written (its {DIGEST} does not fit): it is"
            " damaged or was edited; put back the published one, or train again."
        )
    del meta[DIGEST]
    return meta


def encode_meta(meta: Mapping[str, Any]) -> bytes:
    """What stands in the file: JSON for people to read, its digest last. Raises as `write_meta` does."""
    content = json.loads(json.dumps({key: meta[key] for key in meta if key != DIGEST}, allow_nan=False))
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    return (json.dumps(content | {DIGEST: digest}, indent=2) + "\n").encode()


CLASSIFIER_NAME = "content_classifier.npz"


LUNGS_NAME = "lungs.npz"


def find_part(folder: Path, name: str, sha256: str, most_bytes: int, checkpoint: str) -> Path:
    """A checkpoint's further file, its hash checked. Raises CheckpointError."""
    file = Path(os.path.abspath(folder)) / name
    usable = file.is_file() and not file.is_symlink() and file.stat().st_size <= most_bytes
    if not usable or hash_file(file) != sha256:
        raise CheckpointError(
            f"The {name} of checkpoint {checkpoint} is missing or not the file that its {META_NAME} describes"
            " (SHA-256 differs); put back the published one."
        )
    return file
