"""meta.json as a file: what is written is read, and nothing else is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from covid_mm.errors import CheckpointError
from covid_mm.models.meta_file import DIGEST, encode_meta, read_meta, write_meta

META = {
    "pair": "densenet121-mobilenet",
    "decision_threshold": {"fused": 0.5, "ct": 1e-05},
    "zone": [0.3, 0.58],
    "title": "Größe \U0001fac1, née",
    "none": None,
    "synthetic": False,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_meta(tmp_path, META)
    return tmp_path


def refuse(folder: Path, content: bytes) -> str:
    (folder / "meta.json").write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        read_meta(folder)
    message = str(caught.value)
    assert message.count("\n") == 0
    assert message.endswith((".", "--checkpoint."))
    return message


def test_what_is_written_is_read_in_its_order(folder):
    assert read_meta(folder) == META
    assert list(read_meta(folder)) == list(META)
    assert [path.name for path in folder.iterdir()] == ["meta.json"]
    written = json.loads((folder / "meta.json").read_text())
    assert list(written) == [*META, DIGEST]
    assert len(written[DIGEST]) == 64


def test_the_digest_is_of_the_content_whatever_its_order_and_whatever_digest_was_there():
    digest = json.loads(encode_meta(META))[DIGEST]
    turned = dict(reversed(META.items())) | {DIGEST: "of another file"}
    assert json.loads(encode_meta(turned))[DIGEST] == digest
    assert json.loads(encode_meta(META | {"synthetic": True}))[DIGEST] != digest
    assert encode_meta({"zone": (0.3, 0.58)}) == encode_meta({"zone": [0.3, 0.58]})


def test_every_flipped_bit_is_noticed(folder):
    content = (folder / "meta.json").read_bytes()
    for position in range(len(content)):
        for bit in range(8):
            damaged = bytearray(content)
            damaged[position] ^= 1 << bit
            refuse(folder, bytes(damaged))


@pytest.mark.parametrize("seed", range(20))
def test_lost_doubled_and_exchanged_pieces_are_noticed(folder, seed):
    content = (folder / "meta.json").read_bytes()
    first, last = sorted(np.random.default_rng(seed).choice(len(content), 2, replace=False))
    refuse(folder, content[:first] + content[last:])
    refuse(folder, content[:last] + content[first:])
    refuse(folder, content[:first] + bytes(last - first) + content[last:])


def test_an_edit_of_the_same_content_is_noticed_but_not_other_line_ends(folder):
    content = (folder / "meta.json").read_bytes()
    assert "not as it was written" in refuse(folder, json.dumps(json.loads(content)).encode())
    assert "not as it was written" in refuse(folder, content.replace(b"0.5,", b"0.50,"))
    (folder / "meta.json").write_bytes(content.replace(b"\n", b"\r\n"))  # as a checkout may have them
    assert read_meta(folder) == META


def test_a_file_of_an_older_version_is_told_what_to_do(folder):
    older = (json.dumps(META, indent=2) + "\n").encode()
    message = refuse(folder, older)
    assert f"has no {DIGEST}" in message
    assert "train again" in message


def test_no_file_is_not_damage(tmp_path):
    with pytest.raises(CheckpointError, match="There is no checkpoint in"):
        read_meta(tmp_path)


@pytest.mark.parametrize("value", [float("nan"), float("-inf"), b"bytes", {1, 2}])
def test_what_json_cannot_hold_leaves_the_file_that_is_there(folder, value):
    with pytest.raises((ValueError, TypeError)):
        write_meta(folder, META | {"zone": value})
    assert read_meta(folder) == META
    assert [path.name for path in folder.iterdir()] == ["meta.json"]
