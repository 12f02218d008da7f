"""Which files belong to one study."""

from __future__ import annotations

import pytest

from covid_mm.config import ImageLimits
from covid_mm.errors import DataError, ImageError
from covid_mm.serving.pairing import (
    ImageFile,
    clean_name,
    is_junk,
    list_folder,
    on_disk,
    pair_files,
    split_name,
)


def pair(*names: str):
    return pair_files(ImageFile(name, lambda: b"") for name in names)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("p1_ct.png", ("p1", "ct")),
        ("p1_xray.jpeg", ("p1", "xray")),
        ("p1_CT.DCM", ("p1", "ct")),
        ("p1_ct", ("p1", "ct")),  # DICOM without an ending
        ("p1.2_xray", ("p1.2", "xray")),
        ("a/b/p_1_ct.png", ("a/b/p_1", "ct")),
        ("p1_ct_xray.png", ("p1_ct", "xray")),
        ("p1_xct.png", None),
        ("p1_ct.nii.gz", ("p1", "ct")),
        ("p1.png", None),
        ("_ct.png", None),
        ("folder/_ct.png", None),
        ("ct.png", None),
        ("", None),
    ],
)
def test_the_rule(name, expected):
    assert split_name(name) == expected


def test_pairs_singles_and_what_fits_nothing():
    result = pair("b_xray.png", "a_ct.png", "a_xray.dcm", "notes.txt")
    assert [(study.name, sorted(study.files)) for study in result.studies] == [
        ("a", ["ct", "xray"]),
        ("b", ["xray"]),
    ]
    assert result.studies[0].remark == result.studies[0].error == ""
    assert result.studies[1].remark == "no CT: answered from the X-ray alone"
    assert [one.name for one in result.left_out] == ["notes.txt"]


def test_two_files_for_one_place_are_never_guessed():
    (study,) = pair("a_ct.png", "a_ct.dcm", "a_xray.png").studies
    assert study.files == {}
    assert study.error == "There are 2 CT files for this study (a_ct.dcm and a_ct.png); keep one."


def test_composed_and_decomposed_letters_are_one_study():
    (study,) = pair("Jose\u0301_ct.png", "Jos\u00e9_xray.png").studies
    assert sorted(study.files) == ["ct", "xray"]


def test_names_are_one_line_and_not_endless():
    assert clean_name("a\nb\0c\u202ed") == "a b c d"
    assert len(clean_name("x" * 5000)) == 200


@pytest.mark.parametrize(
    "name", ["__MACOSX/a_ct.png", ".DS_Store", "a/.b_ct.png", "x/Thumbs.db", "._a_ct.png"]
)
def test_junk(name):
    assert is_junk(name)
    assert not is_junk("a/b_ct.png")


def test_a_folder_is_read_without_links_and_junk(tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a_ct.png", "in/b_ct.png", ".hidden_ct.png"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "c_ct.png").symlink_to("/etc/passwd")
    assert sorted(file.name for file in list_folder(tmp_path)) == ["a_ct.png", "in/b_ct.png"]
    with pytest.raises(DataError, match="cannot be read"):
        list_folder(tmp_path / "none")


@pytest.mark.parametrize(
    ("name", "reason"),
    [("none.png", "is not there"), ("folder", "is not there"), ("large.png", "larger than"), ("a\0b", "not")],
)
def test_a_file_that_cannot_be_read_is_a_sentence_without_its_folder(tmp_path, name, reason):
    (tmp_path / "folder").mkdir()
    (tmp_path / "large.png").write_bytes(bytes(20))
    with pytest.raises(ImageError, match=reason) as caught:
        on_disk(name, tmp_path / name, ImageLimits(max_bytes=10)).read()
    assert str(tmp_path) not in str(caught.value)
