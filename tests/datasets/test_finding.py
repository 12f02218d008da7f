from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from trees import COLUMNS, film_rows, make_dataset, write_coronahack, write_image, write_sarscov2

from covid_mm.config import DataConfig, TableI
from covid_mm.datasets import find_class_folders, find_datasets
from covid_mm.datasets.coronahack import read_patient, read_source
from covid_mm.datasets.index import choose_balanced, count_labels, natural_key
from covid_mm.errors import DataError, UsageError

CONFIG = DataConfig()
LAYOUTS = [".", "sarscov2-ctscan-dataset", "sarscov2-ctscan-dataset/sarscov2-ctscan-dataset", "a/b/c"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_sarscov2_wherever_it_was_unzipped(layout: str, tmp_path: Path) -> None:
    write_sarscov2(tmp_path / layout)
    datasets = find_datasets(tmp_path, CONFIG)
    assert list(datasets) == ["ct"]
    dataset = datasets["ct"]
    assert dataset.counts == (12, 11)
    assert dataset.in_order
    assert dataset.caveats
    assert dataset.licence.startswith("CC BY-NC-SA")
    names = [record.name for record in dataset.records]
    assert names[0] == "non-COVID/Non-Covid (1).png"
    assert names[8:10] == ["non-COVID/Non-Covid (9).png", "non-COVID/Non-Covid (10).png"]
    assert names[-1] == "COVID/Covid (11).png"
    assert all(record.path.is_file() and record.group is None for record in dataset.records)


@pytest.mark.parametrize(
    ("layout", "nested"),
    [
        (".", "Coronahack-Chest-XRay-Dataset/Coronahack-Chest-XRay-Dataset"),
        (".", "Coronahack-Chest-XRay-Dataset"),
        (".", "."),
        ("coronahack-chest-xraydataset", "Coronahack-Chest-XRay-Dataset/Coronahack-Chest-XRay-Dataset"),
        ("x/x", "Coronahack-Chest-XRay-Dataset"),
    ],
)
def test_coronahack_wherever_it_was_unzipped(layout: str, nested: str, tmp_path: Path) -> None:
    rows = [*film_rows(8, 8), ("IM-0900-0001.jpeg", "Normal", "TEST", "")]
    write_coronahack(tmp_path / layout, rows, nested)
    dataset = find_datasets(tmp_path, DataConfig(balance=False))["xray"]
    assert dataset.counts == (9, 8)
    assert [record.name for record in dataset.records] == [f"{row[2].lower()}/{row[0]}" for row in rows]
    assert dataset.records[0].group == "IM-0000"
    assert dataset.records[8].group == "person0"
    assert any("children" in caveat for caveat in dataset.caveats)


def test_positives_can_be_only_covid19(tmp_path: Path) -> None:
    write_coronahack(tmp_path, film_rows(8, 8))
    config = DataConfig(positives="covid-19", balance=False)
    dataset = find_datasets(tmp_path, config)["xray"]
    assert dataset.counts == (8, 2)
    assert [r.name for r in dataset.records if r.label] == [
        "train/person0_virus_0.jpeg",
        "train/person4_virus_4.jpeg",
    ]


def test_other_positives_are_refused(tmp_path: Path) -> None:
    write_coronahack(tmp_path, film_rows(8, 8))
    with pytest.raises(UsageError, match="pneumonia or covid-19"):
        find_datasets(tmp_path, DataConfig(positives="virus", balance=False))  # type: ignore[arg-type]


def test_a_balanced_choice_is_seeded_and_keeps_the_order(tmp_path: Path) -> None:
    write_coronahack(tmp_path, film_rows(24, 8))
    choices = {}
    for seed in (0, 0, 1):
        records = find_datasets(tmp_path, DataConfig(seed=seed))["xray"].records
        names = [record.name for record in records]
        assert count_labels(records) == (8, 8)
        assert choices.setdefault(seed, names) == names
        assert names == sorted(names, key=natural_key)
    assert choices[0] != choices[1]


def test_the_choice_matches_table_1() -> None:
    table = TableI()
    plenty = make_dataset((1342, 3937)).records
    assert count_labels(choose_balanced(plenty, 0, proportional=True)) == table.totals
    as_kaggle = make_dataset((1229, 1252)).records
    assert choose_balanced(as_kaggle, 0, proportional=False) == as_kaggle
    assert count_labels(choose_balanced(make_dataset((1300, 9)).records, 0, proportional=False)) == (1243, 9)


def test_plain_folders(tmp_path: Path) -> None:
    for modality in ("ct", "xray"):
        for seed, name in enumerate(("normal", "covid19_pneumonia", "tuberculosis")):
            for number in range(3):
                write_image(tmp_path / modality / name / f"{number}.PNG", 10 * seed + number)
    datasets = find_datasets(tmp_path, CONFIG)
    assert list(datasets) == ["ct", "xray"]
    assert [dataset.counts for dataset in datasets.values()] == [(3, 3), (3, 3)]
    assert datasets["xray"].records[0].name == "normal/0.PNG"
    assert all(record.group is None for record in datasets["ct"].records)


@pytest.mark.parametrize(
    ("names", "title"),
    [
        (("non-covid", "covid-19"), "external"),
        (("normal", "covid-19"), "external"),
        (("normal", "covid19_pneumonia"), "X-ray folders"),
        (("non-COVID", "COVID"), "external"),
    ],
)
def test_class_folders_to_measure_on(names: tuple[str, str], title: str, tmp_path: Path) -> None:
    for seed, name in enumerate(names):
        write_image(tmp_path / "external" / name / "1.png", seed)
    write_image(tmp_path / "external" / "lung_boxes" / "1.png", 5)
    dataset = find_class_folders(tmp_path / "external", "xray")
    assert dataset.name == title
    assert [(record.name, record.label) for record in dataset.records] == [
        (f"{names[0]}/1.png", 0),
        (f"{names[1]}/1.png", 1),
    ]


def test_class_folders_of_a_known_set_keep_its_name(tmp_path: Path) -> None:
    write_sarscov2(tmp_path)
    assert find_class_folders(tmp_path, "ct") == find_datasets(tmp_path, CONFIG)["ct"]


def test_a_missing_class_folder_is_an_error(tmp_path: Path) -> None:
    write_image(tmp_path / "normal" / "1.png", 1)
    with pytest.raises(DataError, match="expected normal/, non-covid/ or non-COVID/ and covid19_pneumonia/"):
        find_class_folders(tmp_path, "ct")
    (tmp_path / "covid-19").mkdir()
    with pytest.raises(DataError, match="no image of the class covid19_pneumonia"):
        find_class_folders(tmp_path, "ct")


def test_what_is_no_class_and_no_image(tmp_path: Path) -> None:
    write_sarscov2(tmp_path / "set", 3, 3)
    write_sarscov2(tmp_path / "__MACOSX" / "set", 2, 2)
    write_sarscov2(tmp_path / ".hidden", 2, 2)
    write_image(tmp_path / "set" / "pneumonia" / "1.png", 1)
    write_image(tmp_path / "set" / "COVID" / ".hidden.png", 1)
    write_image(tmp_path / "set" / "COVID" / "._Covid (1).png", 1)
    (tmp_path / "set" / "COVID" / "empty.png").touch()
    (tmp_path / "set" / "COVID" / "notes.txt").write_text("no image")
    (tmp_path / "set" / "COVID" / "folder.png").mkdir()
    (tmp_path / "empty" / "COVID").mkdir(parents=True)
    (tmp_path / "empty" / "non-COVID").mkdir()
    assert find_datasets(tmp_path, CONFIG)["ct"].counts == (3, 3)


def test_folders_of_other_spelling_are_not_taken(tmp_path: Path) -> None:
    for name in ("covid-19", "non-covid"):
        write_image(tmp_path / "external-ct" / name / "1.png", 1)
    with pytest.raises(DataError, match="No data set was found"):
        find_datasets(tmp_path, CONFIG)


def test_no_folder_and_two_sets_of_one_modality_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        find_datasets(tmp_path / "absent", CONFIG)
    write_sarscov2(tmp_path / "one", 2, 2)
    write_sarscov2(tmp_path / "two", 2, 2)
    with pytest.raises(DataError, match="More than one CT"):
        find_datasets(tmp_path, CONFIG)


def test_a_class_without_images_is_an_error(tmp_path: Path) -> None:
    write_image(tmp_path / "ct" / "normal" / "1.png", 1)
    with pytest.raises(DataError, match="covid19_pneumonia"):
        find_datasets(tmp_path, CONFIG)


def test_an_absent_subset_is_counted_and_missing_films_are_an_error(tmp_path: Path) -> None:
    rows = film_rows() + film_rows(3, 2, "TEST")
    write_coronahack(tmp_path, rows)
    nested = tmp_path / "Coronahack-Chest-XRay-Dataset" / "Coronahack-Chest-XRay-Dataset"
    assert find_datasets(tmp_path, DataConfig(balance=False))["xray"].counts == (11, 10)
    shutil.rmtree(nested / "test")
    dataset = find_datasets(tmp_path, DataConfig(balance=False))["xray"]
    assert dataset.counts == (8, 8)
    assert any(caveat.startswith("5 films of the folder test/") for caveat in dataset.caveats)
    (nested / "train" / "person3_virus_3.jpeg").unlink()
    (nested / "train" / "IM-0002-0001.jpeg").unlink()
    with pytest.raises(DataError, match="2 films") as caught:
        find_datasets(tmp_path, DataConfig(balance=False))
    assert "train/person3_virus_3.jpeg" in str(caught.value)
    assert "train/IM-0002-0001.jpeg" in str(caught.value)
    shutil.rmtree(nested / "train")
    with pytest.raises(DataError, match="but not the films"):
        find_datasets(tmp_path, DataConfig(balance=False))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\n1,2\n", "no column X_ray_image_name"),
        ("", "no column"),
        (",".join(COLUMNS) + "\n0,a.png,Flu,TRAIN,,\n", "line 2"),
        (",".join(COLUMNS) + "\n0,a.png,Normal,DEV,,\n", "'DEV'"),
        (",".join(COLUMNS) + "\n0,../a.png,Normal,TRAIN,,\n", "not a file name"),
        (",".join(COLUMNS) + "\n0,,Normal,TRAIN,,\n", "not a file name"),
        (",".join(COLUMNS) + "\n0,a.png,Normal,TRAIN,,\n1,a.png,Pnemonia,TRAIN,,\n", "twice"),
    ],
)
def test_malformed_metadata(text: str, words: str, tmp_path: Path) -> None:
    write_image(tmp_path / "train" / "a.png", 1)
    (tmp_path / "Chest_xray_Corona_Metadata.csv").write_text(text)
    with pytest.raises(DataError, match=words):
        find_datasets(tmp_path, CONFIG)


def test_metadata_that_is_no_text(tmp_path: Path) -> None:
    write_image(tmp_path / "train" / "a.png", 1)
    (tmp_path / "Chest_xray_Corona_Metadata.csv").write_bytes(b"\xff\xfe\x00\x81" * 20)
    with pytest.raises(DataError, match="UTF-8"):
        find_datasets(tmp_path, CONFIG)


@pytest.mark.parametrize(
    ("file", "patient"),
    [
        ("person1000_bacteria_2931.jpeg", "person1000"),
        ("person1000_virus_1.jpeg", "person1000"),
        ("person1_bacteria_1.jpeg", "person1"),
        ("IM-0115-0001.jpeg", "IM-0115"),
        ("IM-0430-0001-0002.jpeg", "IM-0430"),
        ("NORMAL2-IM-0115-0001.jpeg", "NORMAL2-IM-0115"),
        ("streptococcus-temporal-1-day3.jpg", "streptococcus-temporal-1"),
        ("gr1_lrg-b.jpg", "gr1_lrg"),
        ("1-s2.0-S0929664620300449-gr2_lrg-d.jpg", "1-s2.0-S0929664620300449"),
        ("SARS-10.1148rg.242035193-g04mr34g09c-Fig9c-day27.jpeg", "SARS-10.1148rg.242035193"),
        ("F4341CE7-73C9-45C6-99C8-8567A5484B63.jpeg", None),
        ("personal.jpeg", None),
    ],
)
def test_patients_in_film_names(file: str, patient: str | None) -> None:
    assert read_patient(file) == patient


def test_sources_in_film_names() -> None:
    assert read_source("person1_virus_2.jpeg") == read_source("NORMAL2-IM-0115-0001.jpeg")
    assert read_source("gr1_lrg-b.jpg") != read_source("IM-0115-0001.jpeg")
