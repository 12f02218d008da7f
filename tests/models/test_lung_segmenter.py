"""The lung segmenter: shapes, any image size, one file for both modalities, damage named."""

from __future__ import annotations

import io

import numpy as np
import pytest
from toy_networks import grey_images, shake_weights

from covid_mm.errors import CheckpointError
from covid_mm.models.lung_segmenter import (
    MAX_LUNGS_BYTES,
    LungSegmenter,
    build_segmenter,
    prepare_for_segmenter,
    read_lung_segmenter,
)


@pytest.fixture(scope="module")
def segmenter():
    networks = {}
    for seed, modality in enumerate(("ct", "xray")):
        networks[modality] = build_segmenter(seed)
        shake_weights(networks[modality], seed)
    return LungSegmenter(networks)


@pytest.fixture
def written(segmenter, tmp_path):
    path = tmp_path / "toy" / "lungs.npz"
    path.parent.mkdir()
    path.write_bytes(segmenter.to_bytes())
    return path


def images_of_all_sizes():
    return [grey_images(1, size, seed=size)[0][: size - 7] for size in (64, 200, 513)]


def test_one_probability_map_per_image(segmenter):
    maps = segmenter.probabilities(images_of_all_sizes(), "ct")
    assert maps.shape == (3, 64, 64)
    assert maps.dtype == np.float32
    assert 0.0 <= maps.min() < maps.max() <= 1.0
    assert segmenter.probabilities([], "ct").shape == (0, 64, 64)
    assert segmenter.find([], "xray") == []
    assert len(segmenter.find(images_of_all_sizes(), "xray")) == 3


def test_each_modality_has_its_own_weights(segmenter):
    images = images_of_all_sizes()
    ct, xray = segmenter.probabilities(images, "ct"), segmenter.probabilities(images, "xray")
    assert np.abs(ct - xray).max() > 0.01


def test_an_image_is_answered_alike_alone_and_in_a_batch(segmenter):
    images = list(grey_images(34, 40))  # more than one batch
    together = segmenter.probabilities(images, "ct")
    assert together.shape[0] == 34
    alone = segmenter.probabilities(images[33:], "ct")
    assert np.abs(together[33:] - alone).max() < 1e-4


def test_the_window_does_not_change_what_it_reads():
    image = grey_images(1, 100)[0]
    prepared = prepare_for_segmenter(image)
    assert prepared.shape == (128, 128)
    assert (prepared.min(), prepared.max()) == (0.0, 1.0)
    assert np.abs(prepared - prepare_for_segmenter(0.3 * image + 40)).max() < 1e-4
    assert np.isfinite(prepare_for_segmenter(np.full((9, 9), 7.0, np.float32))).all()


def test_written_and_read_it_says_the_same(segmenter, written):
    again = read_lung_segmenter(written)
    assert set(again.networks) == {"ct", "xray"}
    for modality in ("ct", "xray"):
        for ours, theirs in zip(
            segmenter.networks[modality].get_weights(), again.networks[modality].get_weights(), strict=True
        ):
            assert np.array_equal(ours.astype(np.float16).astype(np.float32), theirs)  # half precision
        images = images_of_all_sizes()
        difference = segmenter.probabilities(images, modality) - again.probabilities(images, modality)
        assert np.abs(difference).max() < 0.02
    assert again.to_bytes() == read_lung_segmenter(written).to_bytes()
    assert len(segmenter.to_bytes()) < MAX_LUNGS_BYTES


def test_one_modality_alone_is_read(segmenter, tmp_path):
    path = tmp_path / "lungs.npz"
    path.write_bytes(LungSegmenter({"xray": segmenter.networks["xray"]}).to_bytes())
    assert set(read_lung_segmenter(path).networks) == {"xray"}


def as_npz(arrays):
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def spoil(data: bytes, how: str) -> bytes:
    """The file, damaged or exchanged."""
    with np.load(io.BytesIO(data)) as file:
        arrays = {name: file[name] for name in file.files}
    if how == "flipped":
        middle = len(data) // 2
        return data[:middle] + bytes(255 - b for b in data[middle : middle + 200]) + data[middle + 200 :]
    if how == "array":
        buffer = io.BytesIO()
        np.save(buffer, arrays["ct_000"])
        return buffer.getvalue()
    changed = {
        "missing": {name: v for name, v in arrays.items() if name != "ct_003"},
        "shape": arrays | {"ct_000": arrays["ct_000"][..., :5]},
        "nan": arrays | {"xray_001": np.full_like(arrays["xray_001"], np.nan)},
        "words": arrays | {"ct_000": np.array("weights")},
        "objects": arrays | {"ct_000": np.array([{}], object)},
        "further": arrays | {"ct_999": np.zeros(3)},
        "none": {"other": np.zeros(3)},
    }
    if how in changed:
        return as_npz(changed[how])
    return {"empty": b"", "text": b"not an archive", "cut": data[: len(data) // 2]}[how]


HOWS = "empty text cut flipped array missing shape nan words objects further none"


@pytest.mark.parametrize("how", HOWS.split())
def test_a_damaged_or_foreign_file_is_refused(written, how):
    written.write_bytes(spoil(written.read_bytes(), how))
    with pytest.raises(CheckpointError, match=r"lungs\.npz of checkpoint toy cannot be read"):
        read_lung_segmenter(written)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_lung_segmenter(tmp_path / "lungs.npz")
