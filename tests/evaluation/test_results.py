"""results.json: what is written is read back, and anything else is refused in one sentence."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from made_results import ERRORS, NORMAL, POSITIVE, make_results

from covid_mm.config import NetworkConfig
from covid_mm.errors import DataError
from covid_mm.evaluation.results import Results, read_results
from covid_mm.reporting.results_tables import render_results, summarise_results


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """A whole document as it comes out of JSON."""
    return json.loads(json.dumps(make_results().to_dict(), allow_nan=False))


def replace(document: dict[str, Any], position: tuple[Any, ...], *value: Any) -> dict[str, Any]:
    """A copy with one part exchanged, or deleted without a value."""
    changed = copy.deepcopy(document)
    part: Any = changed
    for key in position[:-1]:
        part = part[key]
    if value:
        part[position[-1]] = value[0]
    else:
        del part[position[-1]]
    return changed


def list_places(part: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every key, and the first of every list."""
    keys = part if isinstance(part, dict) else range(min(len(part), 1)) if isinstance(part, list) else ()
    return [result for key in keys for result in ((*path, key), *list_places(part[key], (*path, key)))]


def test_what_is_written_is_read_back(document, tmp_path):
    assert Results.from_dict(document) == make_results()
    assert Results.from_dict(document).to_dict() == make_results().to_dict()
    (tmp_path / "results.json").write_text(json.dumps(document))
    assert read_results(tmp_path) == make_results()


def test_networks_are_found_by_name_and_split():
    results = make_results()
    assert results.protocols == ("paper", "grouped")
    assert [network.name for network in results.networks[:9]] == list(ERRORS)
    for index, protocol in enumerate(results.protocols):
        for config in NetworkConfig.paper_networks():
            result = results.find(config.name, protocol)
            assert result is not None
            assert result.is_concatenated == config.is_concatenated
            missed, false_alarms = ERRORS[config.name][index]
            assert result.report.counts.correct == NORMAL + POSITIVE - missed - false_alarms
    assert results.find("ct-vgg16", "paper") is None
    assert make_results("paper").find("ct-resnet50", "grouped") is None


@pytest.mark.parametrize("foreign", [[], "text", 3, None, {}, {"format_version": 2}, {"pair": "a-b"}])
def test_foreign_documents_are_refused(foreign):
    with pytest.raises(DataError, match=r"format .* and format 1 is expected; make them again"):
        Results.from_dict(foreign)


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        (("costs",), None, "results.costs is 'None', an object is expected"),
        (("notes",), "a text", "notes is 'a text', a list is expected"),
        (("seed",), True, "results.seed is 'True', int is expected"),
        (
            ("networks", 3, "report", "counts", "true_positive"),
            "7",
            "results.networks[3].report.counts.true_positive is '7', int is expected",
        ),
        (("networks", 0, "protocol"), "random", "results.networks[0].protocol is 'random', paper or grouped"),
        (("networks", 0, "possibilities", 1, "kind"), "both", "both_negative or both_positive"),
        (("networks", 0, "history", 2), {"epoch": 3.0, "loss": 0.1, "accuracy": 1.0}, "no val_loss and no"),
        (("networks", 0, "roc", "true_positive_rate"), [0.0, 1.0], "as many false as true positive rates"),
        (
            ("networks", 0, "initial_weights", "ct"),
            {"kind": "none"},
            "results.networks[0].initial_weights.ct lacks 'origin'",
        ),
        (("data", 0, "train"), [884], "results.data[0].train lacks 1"),
        (("data", 0, "mean_histograms", "normal"), [1.0], "has not 64 bins"),
        (("costs", "training", 0), {"pair": "a-b", "pair_seconds": 1.0}, "lacks 'features_seconds'"),
        (("steps", 0, "extra"), 1, "extra"),
    ],
    ids=lambda value: ".".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_damage_is_named(document, path, value, named):
    with pytest.raises(DataError) as caught:
        Results.from_dict(replace(document, path, value))
    message = str(caught.value)
    assert message.startswith("The results are damaged or of another version of this project (")
    assert message.endswith("; make them again with train.py --pair all.")
    assert named in message


def test_no_damage_is_a_traceback():
    """Each part deleted, then replaced by values of other kinds: refused, or drawn without an error."""
    pair, single = (make_results("paper").networks[number] for number in (0, 4))
    document = json.loads(json.dumps(make_results("paper", networks=(pair, single)).to_dict()))
    positions = list_places(document)
    refused = 0
    for position in positions:
        for value in ((), (None,), ("x",), ({},)):
            changed = replace(document, position, *value)
            try:
                results = Results.from_dict(changed)
            except DataError:
                refused += 1
            else:
                render_results(results)
                summarise_results(results)
    assert refused > 3 * len(positions)


@pytest.mark.parametrize("text", [None, "", "{", "nonsense", "\udcff"])
def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path, text):
    if text is not None:
        (tmp_path / "results.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(DataError, match=r"holds no results\.json that can be read; name the folder"):
        read_results(tmp_path)
