"""Weights on disk: what is written comes back, and nothing else is taken."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from toy_networks import make_network

from covid_mm.errors import WeightsError
from covid_mm.models.network import Network, build_network
from covid_mm.models.weights_file import load_weights, save_weights

pytestmark = pytest.mark.usefixtures("small_backbones")

BIAS = "logits/bias"
KERNEL = "ct_last_conv/kernel"


@pytest.fixture
def network() -> Network:
    return make_network(size=32, seed=1)


@pytest.fixture
def good_file(network: Network, tmp_path: Path) -> Path:
    path = tmp_path / "good.weights.h5"
    save_weights(network, path)
    return path


def refuse(network: Network, path: Path) -> str:
    """The one sentence or two that the file is refused with; the network stays as it was."""
    before = network.model.get_weights()
    with pytest.raises(WeightsError) as caught:
        load_weights(network, path)
    after = network.model.get_weights()
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    assert len(message) < 400
    assert str(path.parent) not in message
    return message


def test_float32_comes_back_exactly(network, good_file):
    other = build_network(network.config, seed=2)
    load_weights(other, good_file)
    for ours, theirs in zip(network.model.get_weights(), other.model.get_weights(), strict=True):
        assert np.array_equal(ours, theirs)


def test_float16_rounds_kernels_only(network, tmp_path):
    path = tmp_path / "half.weights.h5"
    save_weights(network, path, half=True)
    other = build_network(network.config, seed=2)
    load_weights(other, path)
    rounded = 0
    for ours, theirs in zip(network.model.get_weights(), other.model.get_weights(), strict=True):
        if ours.ndim == 1:
            assert np.array_equal(ours, theirs)
        else:
            assert np.abs(ours - theirs).max() <= np.abs(ours).max() * 2**-11  # half of float16's step
            rounded += not np.array_equal(ours, theirs)
    assert rounded > 0
    with h5py.File(path) as file:
        assert file[KERNEL].dtype == np.float16
        assert file[BIAS].dtype == np.float32


def test_file_says_what_it_holds(network, good_file):
    with h5py.File(good_file) as file:
        layers = {layer.name for layer in network.model.layers if layer.weights}
        assert set(file) == layers
        assert file[BIAS].shape == (2,)


def exchange(name: str, value: Any, **options: Any) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[name]
        file.create_dataset(name, data=value, **options)

    return change


def remove(file: h5py.File) -> None:
    del file[BIAS]


def add_foreign(file: h5py.File) -> None:
    file["extra/kernel"] = np.zeros(3, np.float32)


def add_soft_link(file: h5py.File) -> None:
    del file[BIAS]
    file[BIAS] = h5py.SoftLink("/ct_logits/bias")


def add_external_link(file: h5py.File) -> None:
    del file[BIAS]
    file[BIAS] = h5py.ExternalLink("other.h5", "/logits/bias")


def store_outside(file: h5py.File) -> None:
    del file[BIAS]
    file.create_dataset(BIAS, (2,), "float32", external=[("/etc/passwd", 0, 8)])


def add_virtual(file: h5py.File) -> None:
    del file[BIAS]
    layout = h5py.VirtualLayout((2,), "float32")
    layout[:] = h5py.VirtualSource("other.h5", "x", (2,))
    file.create_virtual_dataset(BIAS, layout)


def add_type(file: h5py.File) -> None:
    del file[BIAS]
    file[BIAS] = np.dtype("float32")


def hold_itself(file: h5py.File) -> None:
    file["logits/again"] = file["logits"]


def add_endless(file: h5py.File) -> None:
    del file[BIAS]
    file.create_dataset(BIAS, (10**13,), "float32", chunks=(1024,), compression="gzip")


def add_unallocated(file: h5py.File) -> None:
    del file[BIAS]
    space, kind = h5py.h5s.create_simple((10**13,)), h5py.h5t.IEEE_F32LE
    h5py.h5d.create(file["logits"].id, b"bias", kind, space)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (remove, "1 are missing"),
        (add_foreign, "1 are foreign (for example extra/kernel)"),
        (exchange(BIAS, np.zeros(3, np.float32)), "should have shape (2,) and has (3,)"),
        (exchange(BIAS, np.float32(0)), "has ()"),
        (exchange(BIAS, np.array([0, np.nan], np.float32)), "not finite in logits/bias"),
        (exchange(BIAS, np.array([0, np.inf], np.float16)), "not finite"),
        (exchange(BIAS, np.array([0, 1e300])), "not a plain array"),  # finite, but not as float32
        (exchange(BIAS, np.array([0, 1])), "not a plain array"),
        (exchange(BIAS, np.array([b"a", b"b"])), "not a plain array"),
        (exchange(BIAS, np.zeros(2, np.float32), compression="gzip"), "not a plain array"),
        (exchange(BIAS, h5py.Empty("float32")), "has None"),
        (add_soft_link, "a link (logits/bias)"),
        (add_external_link, "a link (logits/bias)"),
        (store_outside, "not a plain array"),
        (add_virtual, "not a plain array"),
        (add_type, "not a plain array"),
        (hold_itself, "logits/again"),
        (add_endless, "not a plain array"),
        (add_unallocated, "has (10000000000000,)"),
    ],
)
def test_what_does_not_fit_is_refused(network, good_file, change, named):
    with h5py.File(good_file, "r+") as file:
        change(file)
    assert named in refuse(network, good_file)


def test_missing_file_and_folder_are_refused(network, tmp_path):
    assert "there is no such file" in refuse(network, tmp_path / "none.weights.h5")
    assert "damaged or not HDF5" in refuse(network, tmp_path)
    text = tmp_path / "text.weights.h5"
    text.write_text("not HDF5")
    assert "damaged or not HDF5" in refuse(network, text)
    text.write_bytes(b"")
    assert "damaged or not HDF5" in refuse(network, text)


def test_truncated_anywhere_is_refused(network, good_file, tmp_path):
    content = good_file.read_bytes()
    short = tmp_path / "short.weights.h5"
    for share in np.linspace(0, 1, 40, endpoint=False):
        short.write_bytes(content[: int(len(content) * share)])
        refuse(network, short)
    short.write_bytes(content[:-1])
    refuse(network, short)


def test_a_damaged_byte_is_refused_or_does_no_harm(network, good_file, tmp_path):
    # the arrays carry no checksum (a checkpoint's SHA-256 does): what loads must still be finite
    content = good_file.read_bytes()
    damaged = tmp_path / "damaged.weights.h5"
    rng = np.random.default_rng(0)
    refused = 0
    for position in [*range(0, 96, 4), *rng.integers(0, len(content), 60)]:
        damaged.write_bytes(content[:position] + bytes([content[position] ^ 0xFF]) + content[position + 1 :])
        try:
            load_weights(network, damaged)
        except WeightsError:
            refused += 1
        assert all(np.isfinite(values).all() for values in network.model.get_weights())
    assert refused > 10


def test_failed_write_leaves_the_old_file_and_nothing_else(network, good_file, monkeypatch):
    before = good_file.read_bytes()
    written = 0

    def fail(self: Any, *arguments: Any, **options: Any) -> None:
        nonlocal written
        written += 1
        if written > 3:
            raise OSError(28, "No space left on device")
        create(self, *arguments, **options)

    create = h5py.Group.create_dataset
    monkeypatch.setattr(h5py.Group, "create_dataset", fail)
    with pytest.raises(OSError, match="No space left"):
        save_weights(network, good_file, half=True)
    assert good_file.read_bytes() == before
    assert [path.name for path in good_file.parent.iterdir()] == [good_file.name]


def test_written_over_an_old_file_at_once(network, good_file, tmp_path):
    copy = tmp_path / "copy.weights.h5"
    shutil.copy(good_file, copy)
    other = make_network(size=32, seed=7)
    save_weights(other, copy)
    load_weights(network, copy)
    assert np.array_equal(network.model.get_weights()[0], other.model.get_weights()[0])
