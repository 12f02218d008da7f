"""`train.py --pair all` on toy networks: a row each, nothing done twice, a kill changes nothing.

All nine networks are trained by the slow test alone; the others make `all` mean three of them.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from toy_networks import toy_backbones

from covid_mm.commands import exit_with
from covid_mm.commands.train import run
from covid_mm.config import NetworkConfig

ROOT = Path(__file__).resolve().parents[2]
NAMES = [config.name for config in NetworkConfig.paper_networks()]
QUICK = [
    *("--pair", "all", "--weights", "none", "--image-size", "75"),
    *("--epochs", "2", "--steps-per-epoch", "3", "--batch-size", "4", "--augmented-copies", "2"),
]
ONE_PAIR = (0, 3, 4)  # a pair and its two single networks
THREE = [NAMES[number] for number in ONE_PAIR]
RUNNER = """
import sys
sys.path[:0] = [{root!r}, {tests!r}, {here!r}]
from test_reproduction import ONE_PAIR, choose_networks, leave_out_figures
from toy_networks import toy_backbones
from covid_mm.commands import exit_with
from covid_mm.commands.train import run
import pytest
with toy_backbones(), pytest.MonkeyPatch.context() as patch:
    if not {figures!r}:
        leave_out_figures(patch)
    if not {nine!r}:
        choose_networks(patch, ONE_PAIR)
    sys.exit(exit_with(lambda: run(sys.argv[1:])))
"""


def command(data: Path, folder: Path, *more: str) -> list[str]:
    return [
        *QUICK,
        *("--data", str(data), "--runs", str(folder / "runs"), "--run-name", "all"),
        *("--output", str(folder / "results"), "--checkpoints", str(folder / "checkpoints"), *more),
    ]


def leave_out_figures(patch: pytest.MonkeyPatch) -> None:
    """No pictures and few timed rounds: what the first run has shown."""
    from covid_mm.evaluation import costs
    from covid_mm.reporting import results_folder

    patch.setattr(results_folder, "draw_results", lambda *arguments, **options: None)
    patch.setattr(costs, "ROUNDS", 1)


def choose_networks(patch: pytest.MonkeyPatch, numbers: tuple[int, ...]) -> None:
    """Make `all` mean these of the nine."""
    every = NetworkConfig.paper_networks
    patch.setattr(
        NetworkConfig, "paper_networks", lambda **options: tuple(every(**options)[n] for n in numbers)
    )


@pytest.fixture
def three_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs in this process train the three and draw nothing."""
    leave_out_figures(monkeypatch)
    choose_networks(monkeypatch, ONE_PAIR)


def read_results(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results" / "results.json").read_text())


def without_times(value: Any) -> Any:
    """The same without what differs between two runs of one thing: seconds, places, what was reused."""
    if isinstance(value, dict):
        skipped = {"seconds", "steps", "costs", "reused", "command"}
        return {key: without_times(part) for key, part in value.items() if key not in skipped}
    return [without_times(part) for part in value] if isinstance(value, list) else value


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory, phantoms) -> Path:
    """An uninterrupted run of the three with their figures."""
    folder = tmp_path_factory.mktemp("reproduced")
    with toy_backbones(), pytest.MonkeyPatch.context() as patch, (folder / "out.txt").open("w") as out:
        choose_networks(patch, ONE_PAIR)
        with contextlib.redirect_stdout(out):
            assert exit_with(lambda: run(command(phantoms, folder))) == 0
    return folder


def start_line(data: Path, folder: Path, *, figures: bool = False, nine: bool = False) -> list[str]:
    """What trains in a process of its own."""
    paths = {"root": str(ROOT), "tests": str(ROOT / "tests"), "here": str(Path(__file__).parent)}
    script = RUNNER.format(**paths, figures=figures, nine=nine)
    return [sys.executable, "-c", script, *command(data, folder)]


def test_the_networks_are_tabled(reproduced):
    check_table(reproduced, THREE)
    out = (reproduced / "out.txt").read_text()
    assert "[3/3]" in out
    assert "overall" in out
    features = find_features(reproduced)
    assert len(features) == 4  # two in the pair, one in each single network
    assert sum(not step["reused"] for step in features) == 2


@pytest.mark.slow
def test_nine_networks_are_tabled(phantoms, tmp_path):
    line = start_line(phantoms, tmp_path, figures=True, nine=True)
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    check_table(tmp_path, NAMES)
    text = (tmp_path / "results" / "README.md").read_text()
    assert "DenseNet121 and MobileNet" in text
    assert "[9/9]" in done.stdout
    features = find_features(tmp_path)
    assert len(features) == 12  # two in each pair, one in each single network
    assert sum(not step["reused"] for step in features) == 6  # each backbone is run once for all that use it


def find_features(folder: Path) -> list[dict[str, Any]]:
    """The steps that computed or reused a backbone's features."""
    return [step for step in read_results(folder)["steps"] if step["name"].endswith("features")]


def check_table(folder: Path, names: list[str]) -> None:
    """Every network has its row with all that belongs to it, and the folder its page and pictures."""
    results = read_results(folder)
    assert [network["name"] for network in results["networks"]] == names
    for network in results["networks"]:
        counts = network["report"]["counts"]
        assert sum(counts.values()) == sum(network["report"]["images"].values()) == 4
        assert len(network["history"]) == 2
        is_pair = len(network["branches"]) == 2
        assert len(network["possibilities"]) == (4 if is_pair else 0)
        assert set(network["branch_reports"]) == ({"ct", "xray"} if is_pair else set())
        assert network["initial_weights"]
    text = (folder / "results" / "README.md").read_text()
    assert "ResNet50 and VGG16" in text
    assert "99.87" in text  # the paper's own
    pictures = {path.suffix for path in (folder / "results").rglob("*.*")}
    assert pictures >= {".png", ".svg"}
    assert str(folder) not in json.dumps(results) + text


def test_a_second_start_has_nothing_to_do(reproduced, phantoms, train, three_networks):
    before = read_results(reproduced)
    done = train(*command(phantoms, reproduced))
    assert done.code == 0, done.err
    assert done.out.count("up to date") == 3
    assert without_times(read_results(reproduced)) == without_times(before)


def test_only_what_is_missing_or_no_longer_true_is_trained(
    reproduced, phantoms, train, three_networks, tmp_path
):
    shutil.copytree(reproduced / "runs", tmp_path / "runs")
    run = tmp_path / "runs" / "all"
    shutil.rmtree(run / "xray-vgg16")
    stale = json.loads((run / "ct-resnet50" / "outcome.json").read_text()) | {"inputs": "others"}
    (run / "ct-resnet50" / "outcome.json").write_text(json.dumps(stale))
    (run / "ct-resnet50" / "inputs.json").write_text('{"inputs": "others"}')
    done = train(*command(phantoms, tmp_path))
    assert done.code == 0, done.err
    assert done.out.count("up to date") == 1
    assert "ct-resnet50: begun with other inputs" in done.out
    assert without_times(read_results(tmp_path)) == without_times(read_results(reproduced))


def test_an_outcome_depends_on_settings_weights_and_images(tmp_path):
    from covid_mm.commands.reproduction import hash_inputs
    from covid_mm.training.plan import build_parser, make_plan

    contents = {"train ct": "a", "train xray": "b"}

    def inputs(*words: str, images: dict[str, str] = contents) -> str:
        return hash_inputs(make_plan(build_parser().parse_args(words), "command"), images)

    file = tmp_path / "some.weights.h5"
    file.write_bytes(b"one")
    single = ("--single", "resnet50", "--modality", "ct", "--data", "d", "--weights", str(file))
    first = inputs(*single)
    assert inputs(*single) == first
    assert inputs(*single, images=contents | {"train xray": "c"}) == first  # not its modality
    others = [
        inputs(*single, "--learning-rate", "1e-4"),
        inputs(*single, images=contents | {"train ct": "c"}),
    ]
    file.write_bytes(b"two")
    others += [inputs(*single), inputs(*single, "--split", "grouped")]
    assert len({first, *others}) == 5


@pytest.mark.slow
def test_killed_twice_it_ends_with_the_same_table(reproduced, phantoms, tmp_path):
    """A pair is done and a single network half trained at the first kill; another has just begun at the second."""
    line = start_line(phantoms, tmp_path)
    run = tmp_path / "runs" / "all"
    names = THREE
    for mark in (run / names[1] / "last.npz", run / names[2] / "config.json"):
        process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 600  # of a busy machine; idle it is ten seconds
        while not mark.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert not (tmp_path / "results").exists()
    assert (run / names[0] / "outcome.json").exists()
    assert not (run / names[2] / "outcome.json").exists()
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("up to date") == 2
    assert without_times(read_results(tmp_path)) == without_times(read_results(reproduced))


def test_the_other_split_stands_beside_and_other_sources_below(
    reproduced, phantoms, train, three_networks, tmp_path
):
    shutil.copytree(reproduced / "results", tmp_path / "results")
    elsewhere = {}
    for modality in ("ct", "xray"):
        for source, name in (("normal", "normal"), ("covid19_pneumonia", "covid-19")):
            elsewhere[modality] = tmp_path / f"other-{modality}"
            shutil.copytree(phantoms / modality / source, elsewhere[modality] / name)
    labels = ((f"{k}.png", ("normal", "covid19_pneumonia")[k % 2]) for k in range(8))
    collection = tmp_path / "hospital"
    collection.mkdir()
    rows = ["file,label,modality"]
    for (name, label), picture in zip(
        labels, sorted((phantoms / "xray" / "normal").iterdir()) * 8, strict=False
    ):
        shutil.copy(picture, collection / name)
        rows.append(f"{name},{label},xray")
    (collection / "manifest.csv").write_text("\n".join(rows) + "\n")
    more = ["--split", "grouped", "--external-ct", elsewhere["ct"], "--external-xray", elsewhere["xray"]]
    more += ["--external-ct", elsewhere["ct"], "--external-xray", collection, "--external-most", "3"]
    done = train(*command(phantoms, tmp_path, *map(str, more)))
    assert done.code == 0, done.err
    networks = read_results(tmp_path)["networks"]
    assert [(n["protocol"], n["name"]) for n in networks] == [
        *(("paper", name) for name in THREE),
        *(("grouped", name) for name in THREE),
    ]
    external = {n["name"]: n["external"] for n in networks if n["protocol"] == "grouped"}
    assert set(external["ct-resnet50"]) == {"other-ct"}
    assert set(external["resnet50-vgg16"]) == {"other-ct with other-xray", "other-ct with hospital"}
    assert set(external["xray-vgg16"]) == {"other-xray", "hospital"}
    for name in ("other-xray", "hospital"):  # at most three of a class, of a collection too
        assert external["xray-vgg16"][name]["images"] == {"normal": 3, "covid19_pneumonia": 3}


def test_contradictions_are_one_sentence(train, phantoms, tmp_path):
    for words in (
        ["--pair", "all", "--single", "vgg16", "--modality", "xray"],
        ["--external-ct", str(phantoms), "--pair", "densenet121-mobilenet"],
        ["--pair", "all", "--data", str(phantoms), "--weights", "resnet50=none"],
        [*command(phantoms, tmp_path), "--external-ct", str(phantoms / "ct")],
    ):
        done = train(*words, "--runs", tmp_path / "runs")
        assert done.code == 2, words
        assert done.err.count("error: ") == 1
        assert "Traceback" not in done.err


def test_a_damaged_results_folder_is_told_before_training(train, phantoms, tmp_path):
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "results.json").write_text("{")
    done = train(*command(phantoms, tmp_path))
    assert done.code == 2
    assert "holds no results.json that can be read" in done.err
    assert not (tmp_path / "runs").exists()
    assert (tmp_path / "results" / "results.json").read_text() == "{"
