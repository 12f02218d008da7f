"""Whole CT scans answered: each slice as by itself, one answer for all, its heatmap, its files, its refusals."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
from made_lungs import make_lungs_predictor
from scan_files import CORONAL, chest_hu, nifti_file, series_files, zip_files
from toy_networks import PAIR, count_passes, grey_images, make_network, toy_backbones

from covid_mm.config import CLASSES, POSITIVE, ImageLimits
from covid_mm.errors import Cancelled, ImageError, UsageError
from covid_mm.imaging import CtScan, read_scan
from covid_mm.models.content_classifier import Content, ContentReader
from covid_mm.serving.predictor import Predictor
from covid_mm.serving.scan_files import open_scan
from covid_mm.serving.scan_rule import ScanRule

pytestmark = pytest.mark.usefixtures("small_backbones")
POSITIVE_CLASS = CLASSES[POSITIVE]
SCAN = {
    "share": 0.25,
    "heads": {
        head: {
            "temperature": 2.0,
            "offset": -0.3,
            "threshold": 0.5,
            "abstain_zone": None,
            "supported_probability": 0.9,
            "evidence": None,
        }
        for head in ("ct", "fused")
    },
}


@pytest.fixture(scope="module")
def network() -> Any:
    with toy_backbones():
        return make_network(PAIR, head_width=16, seed=1)


@pytest.fixture(scope="module")
def predictor(network) -> Predictor:
    with toy_backbones():
        return make_lungs_predictor(network, scan=SCAN)


@pytest.fixture(scope="module")
def volume() -> np.ndarray:
    """20 slices of 64 pixels with patterns of their own; the first and the last show air only."""
    greys = grey_images(20, 64, seed=3)
    volume = (greys * 1500 / 255 - 1350).astype(np.int16)
    volume[[0, -1]] = -1000 - 400
    return volume


@pytest.fixture(scope="module")
def files(volume) -> list[bytes]:
    return series_files(volume)


@pytest.fixture(scope="module")
def film() -> np.ndarray:
    return grey_images(1, 120, seed=9)[0].astype(np.uint8)


@pytest.fixture(scope="module")
def answer(predictor, files):
    return predictor.predict(files)


def test_each_slice_says_what_it_says_alone(predictor, files, answer):
    assert [one.lung for one in answer.slices] == [False, *[True] * 18, False]
    assert [one.position_mm for one in answer.slices[:2]] == [-200.0, -195.0]
    for index in (1, 7, 18):
        alone = predictor.predict(files[index])
        assert alone.scan is None
        assert answer.slices[index].probability == pytest.approx(
            alone.probabilities[POSITIVE_CLASS], abs=1e-5
        )
        chosen = predictor.predict(files, frames={"ct": index})
        assert chosen.probabilities == alone.probabilities  # to the last digit
        np.testing.assert_array_equal(chosen.heatmaps["ct"], alone.heatmaps["ct"])


def test_one_answer_for_the_scan_with_a_calibration_of_its_own(predictor, answer):
    logits = [np.log(s.probability / (1 - s.probability)) for s in answer.slices if s.lung]
    pooled = np.mean(sorted(logits)[-5:])  # a quarter of 18 slices
    assert answer.probabilities[POSITIVE_CLASS] == pytest.approx(
        min(max(1 / (1 + np.exp(-(pooled + 0.3) / 2)), 0.1), 0.9), abs=1e-5
    )
    assert answer.probabilities == answer.branches["ct"].probabilities
    assert not answer.has_warning("scan_not_calibrated")
    most = max((s for s in answer.slices if s.lung), key=lambda one: one.probability)
    assert answer.slice == most.index
    positive = [s for s in answer.slices if s.lung and s.probability >= 0.5]
    assert answer.scan.extent == len(positive) / 18
    assert [s.index for s in answer.slices if s.positive] == [s.index for s in positive]


def test_the_heatmap_is_of_the_most_suspicious_slice_and_of_any_on_demand(predictor, files, answer):
    label = {"heatmap_class": answer.heatmap_class}
    alone = predictor.predict(files[answer.slice], **label)
    np.testing.assert_allclose(answer.heatmaps["ct"], alone.heatmaps["ct"], atol=1e-6)
    np.testing.assert_array_equal(answer.images["ct"], alone.images["ct"])
    shown = predictor.explain(files, frames={"ct": 4}, **label)
    np.testing.assert_array_equal(shown.heatmaps["ct"], predictor.explain(files[4], **label).heatmaps["ct"])


def test_with_an_x_ray_the_head_reads_the_features_of_the_suspicious_slices(predictor, network, files, film):
    import keras

    from covid_mm.imaging import read_grey, to_network_input
    from covid_mm.serving.reading import prepare_studies

    both = predictor.predict(files, film)
    assert both.modalities == ("ct", "xray")
    assert both.branches["xray"].probabilities == pytest.approx(
        predictor.predict(None, film).probabilities, abs=1e-5
    )
    greys = [{"ct": read_grey(data), "xray": film.astype(np.float32)} for data in files[1:-1]]
    studies = prepare_studies(greys, 150, predictor.segmenter)
    inputs = [network.image_input(m) for m in ("ct", "xray")]
    model = keras.Model(inputs, [network.features("ct"), network.features("xray"), network.logits("ct")])
    ct, xray, logits = model.predict_on_batch(
        [to_network_input(np.stack([s[m].pixels for s in studies])) for m in ("ct", "xray")]
    )
    top = np.argsort(logits[:, 0] - logits[:, 1])[:5]
    head = keras.Model([network.features("ct"), network.features("xray")], network.logits())
    expected = head.predict_on_batch([ct[top].mean(0, keepdims=True), xray[:1]])[0]
    margin = (expected[1] - expected[0] + 0.3) / 2
    assert both.probabilities[POSITIVE_CLASS] == pytest.approx(
        min(max(1 / (1 + np.exp(-margin)), 0.1), 0.9), abs=1e-5
    )


def test_json_of_a_scan(answer, predictor, files):
    values = json.loads(json.dumps(answer.to_dict()))
    assert values["slices"][3] == {
        "index": 3,
        "position_mm": -185.0,
        "lung": True,
        "probability": round(answer.slices[3].probability, 2),
    }
    assert values["slice"] == answer.slice
    assert values["window"] == {"level": -600.0, "width": 1500.0}
    assert values["extent"]["lung_slices"] == 18
    assert "not a severity score" in values["extent"]["meaning"]
    assert not {"slices", "slice", "window", "extent"} & set(predictor.predict(files[3]).to_dict())
    wide = predictor.predict(files, windows={"ct": "mediastinum"})
    assert wide.to_dict()["window"] == {"level": 40.0, "width": 400.0}


def test_an_older_checkpoint_answers_scans_and_says_that_they_were_not_measured(network, files):
    old = make_lungs_predictor(network)
    answer = old.predict(files)
    assert answer.has_warning("scan_not_calibrated")
    assert answer.probabilities[POSITIVE_CLASS] >= 0.5 or answer.label == CLASSES[0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"share": 0.0}, r"scan\.share is '0.0', at least 0.01 is expected"),
        ({"heads": {"mr": SCAN["heads"]["ct"]}}, "not one of"),
        ({"heads": {"ct": SCAN["heads"]["ct"] | {"threshold": 0.95}}}, "scan threshold of ct"),
        ({"heads": {"ct": {}}}, r"scan\.heads\.ct lacks 'temperature'"),
    ],
)
def test_metadata_of_scans_is_checked(network, change, words):
    with pytest.raises(Exception, match=words):
        make_lungs_predictor(network, scan=SCAN | change)


def test_slices_without_lung_are_not_run_and_scans_without_any_are_refused(files, volume):
    with toy_backbones():
        network = make_network(PAIR, head_width=16, seed=1)
        passes = count_passes(network)
        predictor = make_lungs_predictor(network, scan=SCAN)
        predictor.predict(files)
    assert passes == {"ct": 3, "xray": 0}  # two batches, and the pass that makes the heatmap
    none = predictor.predict(series_files(np.full_like(volume[:4], -1400)))
    assert (none.label, none.reason, none.probabilities) == ("undetermined", "lungs_not_found_ct", {})
    assert passes["ct"] == 3


class Classifier:
    """Takes the given slices, in the order asked, for something else."""

    reader = ContentReader("ct")

    def __init__(self, wrong: set[int]) -> None:
        self.wrong, self.asked = wrong, 0

    def check(self, modality: str, features: Any) -> list[Content]:
        kinds = ["neither" if self.asked + row in self.wrong else modality for row in range(len(features))]
        self.asked += len(features)
        return [Content(kind, {}, 1.0, False) for kind in kinds]


@pytest.mark.parametrize(("wrong", "answered"), [(range(4), 14), (range(14), 0)])
def test_slices_of_belly_and_head_are_left_out_and_a_scan_of_them_refused(network, files, wrong, answered):
    predictor = make_lungs_predictor(network, Classifier(set(wrong)), scan=SCAN)
    answer = predictor.predict(files)
    if answered:
        assert answer.scan.lung_slices == answered
    else:
        assert (answer.label, answer.reason) == ("undetermined", "not_a_chest_image_ct")


def test_progress_and_cancel(predictor, files):
    shares: list[float] = []
    predictor.predict(files, progress=shares.append)
    assert shares[-1] == 1.0
    assert shares == sorted(shares)
    with pytest.raises(Cancelled):
        predictor.predict(files, cancelled=lambda: True)


def test_the_same_scan_from_a_folder_a_zip_a_volume_and_one_file(predictor, files, answer, volume, tmp_path):
    from dicom_files import make_dataset, write

    folder = tmp_path / "study" / "ser1"
    folder.mkdir(parents=True)
    scout = series_files(chest_hu(3), "1.9", ImageOrientationPatient=CORONAL)
    for number, data in enumerate([*files[::-1], *scout]):
        (folder / f"I{number:03d}").write_bytes(data)
    (folder / "notes.txt").write_text("beside")
    packed = tmp_path / "study.zip"
    packed.write_bytes(zip_files({f"a/b/{number}": data for number, data in enumerate([*files, *scout])}))
    nii = tmp_path / "ct.nii.gz"
    nii.write_bytes(nifti_file(volume))
    packed_nii = tmp_path / "packed.zip"
    packed_nii.write_bytes(zip_files({"x/ct.nii.gz": nii.read_bytes()}))
    multi = tmp_path / "multi.dcm"
    multi.write_bytes(write(make_dataset(volume)))
    folder_answer = predictor.predict(str(tmp_path / "study"))
    assert [w.code for w in folder_answer.warnings].count("slices_left_out") == 2
    for source in (
        packed,
        nii,
        nii.read_bytes(),
        packed_nii,
        multi,
        [multi],
        [str(p) for p in folder.glob("I00?")],
    ):
        other = predictor.predict(source)
        if isinstance(source, list) and len(source) > 1:
            assert len(other.slices) == 10
            continue
        assert other.probabilities == pytest.approx(folder_answer.probabilities, abs=1e-6), source
    assert folder_answer.probabilities == answer.probabilities


def test_batches_hold_scans_too(predictor, files, film, answer):
    scan, single = predictor.predict_batch([(files, None), (files[3], film)])
    assert scan.probabilities == answer.probabilities
    assert single.scan is None


def test_a_list_of_one_file_is_that_file_and_no_file_is_refused(predictor, files):
    assert predictor.predict(files[2:3]).probabilities == predictor.predict(files[2]).probabilities
    with pytest.raises(UsageError, match="empty list"):
        predictor.predict([])
    with pytest.raises(ImageError, match="There are 20 slices; there is no slice 21"):
        predictor.predict(files, frames={"ct": 20})
    with pytest.raises(ImageError, match="file 2 of 3 is not DICOM"):
        predictor.predict([files[0], b"text", files[1]])


def test_limits_of_a_scan(files, tmp_path):
    limits = dataclasses.replace(ImageLimits(), max_series_bytes=5000)
    with pytest.raises(ImageError, match="more than"):
        open_scan(files, limits)
    packed = tmp_path / "large.zip"
    packed.write_bytes(zip_files({str(n): data for n, data in enumerate(files)}))
    with pytest.raises(ImageError, match="larger than"):
        open_scan(packed, limits)
    bomb = tmp_path / "bomb.zip"
    bomb.write_bytes(zip_files({"zeros": bytes(40_000_000)}))
    with pytest.raises(ImageError, match="would unpack to"):
        open_scan(bomb)


def test_a_scan_in_memory_and_an_x_ray_series_in_its_slot(predictor, files):
    from dicom_files import film as film_file

    scan = read_scan(files)
    assert isinstance(scan, CtScan)
    assert len(predictor.predict(scan).slices) == 20
    pixels = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    films = [film_file(pixels + step, SeriesInstanceUID="1.2.9", InstanceNumber=step) for step in range(2)]
    answer = predictor.predict(films)
    assert answer.reason == "modality_mismatch_ct"


def test_pooling():
    rule = ScanRule(0.2)
    assert rule.pool([1.0]) == 1.0
    assert rule.pool([0.0, 5.0, 1.0, 4.0, 2.0, 3.0]) == 4.5
    assert rule.choose_slices([0.0, 5.0, 1.0, 4.0, 2.0]).tolist() == [1]
