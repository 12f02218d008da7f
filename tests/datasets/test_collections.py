"""Collections: what is found where, what is wrong row by row, and groups of scanners."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image
from trees import film_rows, write_coronahack, write_image, write_manifest, write_sarscov2

from covid_mm.config import DataConfig
from covid_mm.datasets import Collection, CollectionImage, find_collections, find_external, site_groups
from covid_mm.datasets.collections import read_collections
from covid_mm.datasets.manifest import COLUMNS, MANIFEST, NotOurManifest, parse_boxes, read_manifest
from covid_mm.errors import DataError


def names(root: Path) -> list[str]:
    return [collection.name for part in find_collections(root).values() for collection in part]


def test_every_layout_is_found_under_one_root(tmp_path: Path) -> None:
    write_sarscov2(tmp_path / "sarscov2-ctscan-dataset", 3, 2)
    write_coronahack(tmp_path / "corona", film_rows(4, 5))
    for modality in ("ct", "xray"):
        for seed, name in enumerate(("normal", "covid19_pneumonia")):
            write_image(tmp_path / "mine" / modality / name / "1.png", seed)
    write_manifest(tmp_path / "hospital-ct", [{"file": "a.png", "label": "normal"}])
    write_manifest(tmp_path / "sources" / "rsna-normal", [{"file": "i/a.png", "label": "normal"}])
    collections = find_collections(tmp_path)
    assert {modality: [(c.name, c.counts) for c in part] for modality, part in collections.items()} == {
        "ct": [("sarscov2-ct", (3, 2, 0)), ("folder-ct", (1, 1, 0)), ("hospital-ct", (1, 0, 0))],
        "xray": [("coronahack", (4, 5, 0)), ("folder-xray", (1, 1, 0)), ("rsna-normal", (1, 0, 0))],
    }
    everything = [
        image for part in collections.values() for collection in part for image in collection.images
    ]
    assert all((tmp_path / image.name).samefile(image.path) for image in everything)
    assert len({image.name for image in everything}) == len(everything)
    corona = collections["xray"][0]
    assert {image.patient for image in corona.images} >= {"IM-0000", "person4"}
    assert (
        find_collections(tmp_path, DataConfig(positives="covid-19", balance=False))["xray"][0].counts[1] == 2
    )
    assert collections["ct"][0].in_order
    assert [c.has_both_classes for c in collections["ct"]] == [True, True, False]
    assert collections["xray"][2].title.startswith("RSNA")


def test_a_manifests_cells(tmp_path: Path) -> None:
    boxes = [[0.1, 0.2, 0.3, 0.4], [-0.001, 0.5, 1.001, 0.75]]
    folder = write_manifest(
        tmp_path / "ward-xray",
        [
            {
                "file": "a/1.png",
                "label": "covid19_pneumonia",
                "patient": "p1",
                "site": "s1",
                "view": "PA",
                "boxes": json.dumps(boxes),
                "lesion_mask": "m/1.png",
                "lung_mask": "m/2.png",
            },
            {"file": "2.png", "label": "other"},
        ],
    )
    collection, problems = read_manifest(folder / MANIFEST, tmp_path)
    assert problems == ()
    assert collection.counts == (0, 1, 1)
    assert collection.images == (
        CollectionImage(
            folder / "a/1.png",
            "ward-xray/a/1.png",
            "xray",
            1,
            "p1",
            "s1",
            "PA",
            ((0.1, 0.2, 0.3, 0.4), (0.0, 0.5, 1.0, 0.75)),
            folder / "m/1.png",
            folder / "m/2.png",
            2,
        ),
        CollectionImage(folder / "2.png", "ward-xray/2.png", "xray", None, row=3),
    )
    assert [record.group for record in collection.to_dataset().records] == ["p1"]


@pytest.mark.parametrize(
    ("cells", "column", "words"),
    [
        ({"file": ""}, "file", "empty"),
        ({"file": "absent.png"}, "file", "is not there"),
        ({"file": "../a.png"}, "file", "inside"),
        ({"file": "/a.png"}, "file", "inside"),
        ({"file": "C:/a.png"}, "file", "inside"),
        ({"file": "b\\a.png"}, "file", "inside"),
        ({"file": "first.png"}, "file", "row 2 already"),
        ({"label": "Normal"}, "label", "'Normal'"),
        ({"label": ""}, "label", "expected normal"),
        ({"boxes": "0.1 0.2"}, "boxes", "JSON"),
        ({"boxes": "[" * 100_000}, "boxes", "JSON"),
        ({"boxes": '{"x": 1}'}, "boxes", "list of boxes"),
        ({"boxes": "[0.1, 0.2, 0.3, 0.4]"}, "boxes", "four numbers"),
        ({"boxes": "[[0.1, 0.2, true, 0.4]]"}, "boxes", "four numbers"),
        ({"boxes": "[[10, 20, 30, 40]]"}, "boxes", "divide pixels"),
        ({"boxes": "[[NaN, 0.1, 0.2, 0.3]]"}, "boxes", "fractions"),
        ({"boxes": "[[0.5, 0.2, 0.5, 0.4]]"}, "boxes", "x0 < x1"),
        ({"lesion_mask": "no.png"}, "lesion_mask", "is not there"),
        ({"lung_mask": "no.png"}, "lung_mask", "is not there"),
        ({"modality": "mr"}, "modality", "ct or xray"),
        ({"modality": "xray"}, "modality", "a manifest each"),
    ],
)
def test_what_is_wrong_is_said_by_row_and_column(
    cells: dict[str, str], column: str, words: str, tmp_path: Path
) -> None:
    row = {"label": "normal", "modality": "ct"}
    rows = [row | {"file": "first.png"}, row | {"file": "second.png"} | cells]
    folder = write_manifest(tmp_path / "a-ct", rows, absent=("absent.png", "no.png"))
    collection, problems = read_manifest(folder / MANIFEST)
    assert [(problem.row, problem.column) for problem in problems] == [(3, column)]
    assert words in problems[0].message
    assert len(problems[0].message) < 220
    assert [image.name for image in collection.images] == ["first.png"]
    with pytest.raises(DataError, match=f"a-ct/manifest.csv, row 3, {column}: ") as caught:
        find_collections(tmp_path)
    assert "check-data" in str(caught.value)


def test_rows_are_numbered_as_a_spreadsheet_does(tmp_path: Path) -> None:
    folder = write_manifest(tmp_path / "a-ct", [])
    write_image(folder / "1.png", 1)
    text = '\ufefffile,label,patient\n1.png,normal,"two\nlines"\n\n ,,\nno.png,normal,\n1.png,normal,a,b\n'
    (folder / MANIFEST).write_text(text, encoding="utf-8")
    collection, problems = read_manifest(folder / MANIFEST)
    assert len(collection.images) == 1
    assert [(problem.row, problem.column) for problem in problems] == [(5, "file"), (6, ""), (6, "file")]


def test_the_first_twenty_problems_are_named(tmp_path: Path) -> None:
    rows = [{"file": f"{number}.png", "label": "flu"} for number in range(25)]
    write_manifest(tmp_path / "a-ct", rows)
    with pytest.raises(DataError, match="25 problems") as caught:
        find_collections(tmp_path)
    assert str(caught.value).count("\n  a-ct/manifest.csv, row") == 20
    assert str(caught.value).endswith("and 5 more")


def test_an_unknown_column_is_a_problem(tmp_path: Path) -> None:
    folder = write_manifest(tmp_path / "a-ct", [])
    write_image(folder / "1.png", 1)
    (folder / MANIFEST).write_text("File,Label,pateint,site,site\n1.png,normal,a,b,c\n")
    problems = read_manifest(folder / MANIFEST)[1]
    assert [(problem.row, problem.column) for problem in problems] == [(1, "pateint"), (1, "site")]


@pytest.mark.parametrize(
    ("folder", "column", "expected"),
    [
        ("siim-covid19", "", "xray"),
        ("medseg-ct", "", "ct"),
        ("iq-othnccd", "", "ct"),
        ("ward-xray", "", "xray"),
        ("ward", "xray", "xray"),
        ("ward-ct", "xray", "xray"),
        ("ward", "", None),
    ],
)
def test_what_says_the_modality(folder: str, column: str, expected: str | None, tmp_path: Path) -> None:
    path = write_manifest(tmp_path / folder, [{"file": "1.png", "label": "normal", "modality": column}])
    if expected is None:
        with pytest.raises(DataError, match="add a column modality"):
            read_manifest(path / MANIFEST)
    else:
        assert read_manifest(path / MANIFEST)[0].modality == expected


def test_manifests_of_others_and_external_sets_are_left_alone(tmp_path: Path) -> None:
    write_manifest(tmp_path / "a-ct", [{"file": "1.png", "label": "normal"}])
    for name, text in (("batch", "study,ct,xray\n1,,\n"), ("empty", "")):
        (tmp_path / name).mkdir()
        (tmp_path / name / MANIFEST).write_text(text)
        with pytest.raises(NotOurManifest, match="no column file and label"):
            read_manifest(tmp_path / name / MANIFEST)
    external = tmp_path / "external-xray"
    external.mkdir()
    (external / MANIFEST).write_text("file,label,patient,view,source,licence,doi\nx.jpg,covid-19,,,,,\n")
    write_sarscov2(tmp_path / "external-ct", 2, 2)
    assert names(tmp_path) == ["a-ct"]
    skipped = [reading.file for reading in read_collections(tmp_path) if reading.skipped]
    assert skipped == ["batch/manifest.csv", "empty/manifest.csv", "external-ct", "external-xray"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("file;label\n1.png;normal\n", "separated by commas"),
        ("file,patient\n1.png,a\n", "no column label"),
        ("file,label\n", "lists no image"),
        (b"\xff\xfe\x00", "UTF-8"),
    ],
)
def test_a_manifest_that_is_ours_but_wrong_is_an_error(text: str | bytes, words: str, tmp_path: Path) -> None:
    folder = write_manifest(tmp_path / "a-ct", [])
    (folder / MANIFEST).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=words):
        find_collections(tmp_path)


def test_a_collection_alone_and_one_with_class_folders_in_it(tmp_path: Path) -> None:
    rows = [{"file": f"ct/{name}/1.png", "label": name} for name in ("normal", "covid19_pneumonia")]
    folder = write_manifest(tmp_path / "ward-ct", rows)
    assert names(tmp_path) == ["ward-ct"]
    assert [image.name for image in find_collections(folder)["ct"][-1].images] == [
        row["file"] for row in rows
    ]


def test_a_folder_to_measure_on_is_a_collection_or_class_folders(tmp_path: Path) -> None:
    rows = [{"file": f"{label}.png", "label": label} for label in ("normal", "covid19_pneumonia", "other")]
    hospital = write_manifest(tmp_path / "hospital-xray", rows)
    assert find_external(hospital, "xray").counts == (1, 1)
    for seed, name in enumerate(
        ("normal", "covid-19")
    ):  # somebody's table beside class folders is left alone
        write_image(tmp_path / "films" / name / "1.png", seed)
    (tmp_path / "films" / MANIFEST).write_text("file,licence\nnormal/1.png,free\n")
    assert find_external(tmp_path / "films", "xray").counts == (1, 1)
    one_class = write_manifest(tmp_path / "rsna-normal", rows[:1])
    for folder, modality in ((one_class, "xray"), (hospital, "ct")):
        with pytest.raises(DataError, match=r"no collection of .* images with both classes; name a folder"):
            find_external(folder, modality)


def test_two_of_one_name_no_folder_and_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No collection was found"):
        find_collections(tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        find_collections(tmp_path / "absent")
    for parent in (".", "sources"):
        write_manifest(tmp_path / parent / "a-ct", [{"file": "1.png", "label": "normal"}])
    with pytest.raises(DataError, match=r"sources/a-ct/manifest.csv: .* named a-ct already"):
        find_collections(tmp_path)


def test_boxes_without_any_are_known_to_be_none() -> None:
    assert parse_boxes("[]") == ()
    assert "modality" in COLUMNS


def of_sites(*sites: tuple[str, int, int]) -> Collection:
    """A collection of `normal` and `positive` images a site."""
    images = [
        CollectionImage(Path("x"), f"{site}-{label}-{number}", "xray", label, site=site)
        for site, *counts in sites
        for label, count in enumerate(counts)
        for number in range(count)
    ]
    return Collection("made", "xray", tuple(images), "", "", "")


def test_sites_are_dealt_into_balanced_groups() -> None:
    sites = [(f"s{number}", 1 + number % 7, 1 + number % 4) for number in range(40)]
    collection = of_sites(*sites, ("", 3, 5))
    groups = site_groups(collection)
    assert groups == site_groups(of_sites(("", 3, 5), *sites[::-1]))
    assert groups[""] == 2
    loads = Counter(groups[image.site] for image in collection.images)
    assert max(loads.values()) - min(loads.values()) <= 2
    assert {(groups[image.site], image.label) for image in collection.images} == {
        (group, label) for group in range(3) for label in (0, 1)
    }


def test_each_group_gets_both_classes() -> None:
    groups = site_groups(of_sites(("a", 50, 0), ("b", 0, 40), ("c", 30, 2), ("d", 1, 1), ("e", 4, 0)), 2)
    for group in (0, 1):
        members = {site for site, own in groups.items() if own == group}
        assert members & {"b", "c", "d"}
        assert members & {"a", "c", "d", "e"}


@pytest.mark.parametrize(
    "sites", [[("a", 3, 3), ("", 3, 3)], [("a", 3, 0), ("b", 3, 3)], [("a", 3, 0), ("b", 3, 0)]]
)
def test_too_few_sites_are_an_error(sites: list[tuple[str, int, int]]) -> None:
    with pytest.raises(DataError, match="can't be dealt into 2 groups"):
        site_groups(of_sites(*sites), 2)


def test_manifests_may_list_dicom_files(tmp_path: Path) -> None:
    folder = write_manifest(tmp_path / "a-xray", [])
    (folder / "1.dcm").write_bytes(b"not looked into here")
    (folder / MANIFEST).write_text("file,label\n1.dcm,normal\n")
    assert names(tmp_path) == ["a-xray"]


@pytest.mark.real_data
def test_the_seven_collections(real_data: Path) -> None:
    collections = find_collections(real_data)
    assert {c.name: (modality, c.counts) for modality, part in collections.items() for c in part} == {
        "sarscov2-ct": ("ct", (1229, 1252, 0)),
        "medseg-ct": ("ct", (265, 356, 0)),
        "lung-ct": ("ct", (267, 0, 0)),
        "iq-othnccd": ("ct", (536, 0, 120)),
        "coronahack": ("xray", (1342, 3937, 0)),
        "siim-covid19": ("xray", (1465, 2616, 1328)),
        "rsna-normal": ("xray", (1000, 0, 0)),
    }
    siim = next(c for c in collections["xray"] if c.name == "siim-covid19")
    groups = site_groups(siim)
    loads = Counter(groups[image.site] for image in siim.images if image.label is not None)
    assert max(loads.values()) - min(loads.values()) < 20
    medseg = next(c for c in collections["ct"] if c.name == "medseg-ct")
    first = next(image for image in medseg.images if image.lesion_mask is not None)
    assert first.lesion_mask is not None
    assert Image.open(first.lesion_mask).size == Image.open(first.path).size
