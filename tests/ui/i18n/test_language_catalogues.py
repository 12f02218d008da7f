"""Each language says all that English says: no key missing, no place to fill in lost, nothing left untranslated."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import itertools
import json
import pickle
import re
import types
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from fake_predictor import INFO, META, FakePredictor
from jinja2 import Environment, nodes

from covid_mm.config import CLASS_TITLES, MODALITIES, REFUSAL_TITLES, SHORTCUT_TITLES
from covid_mm.errors import ImageError, Message
from covid_mm.evaluation.local_test import LabelledStudy
from covid_mm.evaluation.results import POSSIBILITY_TITLES
from covid_mm.explain.method_table import METHODS
from covid_mm.imaging import read_grey
from covid_mm.reporting import card_tables, card_words, local_test
from covid_mm.serving import label_meaning, warnings
from covid_mm.serving.batch import Row
from covid_mm.serving.metadata import read_metadata
from covid_mm.serving.pairing import ImageFile, LeftOut, Pairing, Study, remark_on
from covid_mm.serving.prediction import ABSTAINED, DISAGREE, Notice, Prediction
from covid_mm.ui import page
from covid_mm.ui.batch import components as batch_components
from covid_mm.ui.batch import tab as batch_tab
from covid_mm.ui.batch import view as batch_view
from covid_mm.ui.batch.files import BatchLimits
from covid_mm.ui.i18n.language import ENGLISH, Texts, choose_language, find_languages
from covid_mm.ui.i18n.static_translations import StaticTranslations, in_request_language
from covid_mm.ui.model import left_out, sections
from covid_mm.ui.model import tab as model_tab
from covid_mm.ui.report import events
from covid_mm.ui.report import images as report_images
from covid_mm.ui.study import evidence, examples, heatmaps, series, slot
from covid_mm.ui.study.analysis import Analysis, analyse_study, explain_error
from covid_mm.ui.study.examples import Example
from covid_mm.ui.study.images import SLOT_TITLES
from covid_mm.ui.study.result import render_analysis, render_empty, render_error
from covid_mm.ui.study.warnings import word_warning
from covid_mm.ui.templates import read_asset
from covid_mm.ui.viewer.events import VIEWER_TEXTS
from covid_mm.ui.worklist import own_test
from covid_mm.ui.worklist import view as worklist_view

PACKAGE = Path(page.__file__).parents[1]
ROOT = PACKAGE.parent
LANGUAGES = [texts for code, texts in find_languages().items() if code != "en"]
BY_CODE = pytest.mark.parametrize("texts", LANGUAGES, ids=lambda texts: texts.language)
TABLES = [  # whose entries are looked up by name
    CLASS_TITLES,
    {m: one.title for m, one in MODALITIES.items()},
    SLOT_TITLES,
    evidence.LAYER_TITLES,
    evidence.LOCATIONS,
    heatmaps.SCALES,
    heatmaps.ATTENTION_SCALES,
    REFUSAL_TITLES,
    SHORTCUT_TITLES,
    left_out.TARGET_TITLES,
    card_words.HEAD_TITLES,
    POSSIBILITY_TITLES,
    card_words.SPLITS,
    card_words.TUNED,
    sections.PROTOCOLS,
    {name: one.text for name, one in warnings.WARNINGS.items()},
    {m: one.content for m, one in MODALITIES.items()},
    warnings.REASONS,
    warnings.SHORT_FORMS,
    label_meaning.POSITIVES | {"": label_meaning.OTHER_POSITIVES, "meaning": label_meaning.MEANING},
    report_images.LEGENDS,
    batch_components.TEXTS,
    slot.SCRIPT_TEXTS,
    worklist_view.SCRIPT_TEXTS,
    local_test.TEXTS,
    VIEWER_TEXTS,
    evidence.NEVER_SAW,
    series.WORDS,
]
LISTS = [
    batch_view.PAIRING_HEAD,
    batch_view.RESULT_HEAD,
    left_out.HEAT_HEAD,
]
CHOSEN = """
One axial slice, or a whole scan: DICOM files, ZIP, NIfTI|Frontal film
Reasons|Warnings|Threshold|Software|Temperature|Brier score
Expected calibration error|SHA-256|SHA-256 of the weights|actual: {label}|predicted: {label}|they are|in the slot for
not answered|rightly|wrongly|neither|evaluation only|{done} of {total} studies done|{done} of {total} study done
Only the {used} was given; there is no second image to compare it with.
After three wrong passwords each further try has to wait longer, at most 15 minutes.
{mark} stands for one character that this document cannot print.
{mark} stands for {count} characters that this document cannot print.
"""  # picked or passed on by code, so that no lookup names them
SPOKEN = [  # modules whose refusals a visitor can read
    *(
        f"imaging.{name}"
        for name in (
            "dicom",
            "jpeg",
            "nifti",
            "png",
            "raster",
            "scan",
            "series",
            "source",
            "transfer",
            "window",
        )
    ),
    *(f"serving.{name}" for name in ("archive", "manifest", "pairing", "scan_files", "worker_pool")),
    *(
        f"ui.{name}"
        for name in (
            "batch.files",
            "predictors",
            "report.content",
            "study.events",
            "study.heatmaps",
            "study.images",
            "study.scans",
            "worklist.routes",
            "worklist.store",
            "viewer.frames",
        )
    ),
]
UNSPOKEN = (  # of callers' mistakes, the shell's files, or caught on the way
    "Expected a path",
    "The report's date",
    "The folder",
    "too large for a manifest",
)
SPEAKERS = {"ImageError", "UsageError", "DataError", "Message"}
FIELD = re.compile(r"\{(\w+)\}")


LABELLED = [
    LabelledStudy(truth, "1", {"fused": value, "ct": value})
    for truth, value in (("normal", 0.9), ("covid19_pneumonia", 0.1))
]
OWN_TEST = own_test.measure_rows([*LABELLED, LabelledStudy("normal", failed=True)], META, INFO)


def used_texts() -> set[str]:
    """All texts of the page's own that its modules look up."""
    texts = {text for table in TABLES for text in table.values()} | {text for row in LISTS for text in row}
    texts |= set(re.split(r"[|\n]", CHOSEN.strip()))
    for path in (*sorted((PACKAGE / "ui").rglob("*.py")), Path(card_tables.__file__)):
        module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and node.args and _is_lookup(node):
                first = node.args[0]
                for part in (first.body, first.orelse) if isinstance(first, ast.IfExp) else (first,):
                    text = part.value if isinstance(part, ast.Constant) else None
                    if isinstance(part, ast.Name):
                        text = getattr(module, part.id, None)
                    if isinstance(text, str):
                        texts.add(text)
    for path in sorted((PACKAGE / "ui").rglob("*.html")):
        for call in Environment().parse(path.read_text(encoding="utf-8")).find_all(nodes.Call):
            if (
                isinstance(call.node, nodes.Name)
                and call.node.name == "texts"
                and isinstance(call.args[0], nodes.Const)
            ):
                texts.add(call.args[0].value)
    return texts


def _is_lookup(call: ast.Call) -> bool:
    if ast.unparse(call.func) == "Column":  # of a table; what is detail stands on the card alone
        is_detail = any(word.arg == "detail" for word in call.keywords)
        return not is_detail and ast.unparse(call.args[0]) not in ("''", "'AUC'")
    return ast.unparse(call.func) in (
        "texts",
        "translations.label",
        "texts.title",
        "write.word",
        "write.title",
    )


def spoken_templates() -> Iterator[tuple[str, str, set[str]]]:
    """(module, template, names of its values) for each refusal that a visitor can read."""
    for name in SPOKEN:
        module = importlib.import_module(f"covid_mm.{name}")
        for node in ast.walk(ast.parse(Path(module.__file__ or "").read_text(encoding="utf-8"))):
            if not (
                isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in SPEAKERS
            ):
                continue
            first = node.args[0]
            template = getattr(module, first.id, None) if isinstance(first, ast.Name) else None
            template = first.value if isinstance(first, ast.Constant) else template
            finished = isinstance(first, (ast.JoinedStr, ast.BinOp, ast.Call))
            assert not finished or ast.unparse(first)[2:].startswith(UNSPOKEN), (
                f"{name}: give a template and values, not {ast.unparse(first)}"
            )
            if isinstance(template, str) and not template.startswith(UNSPOKEN):
                yield name, template, {one.arg or "**" for one in node.keywords}


@BY_CODE
def test_every_text_of_the_page_is_in_every_language_and_no_other(texts):
    used = used_texts()
    assert len(used) > 250
    assert used - set(texts.texts) == set()
    assert set(texts.texts) - used == set()


@BY_CODE
def test_places_to_fill_in_and_markup_are_the_same(texts):
    tags = re.compile(r"</?\w+>|&\w+;")
    for english, other in [*texts.texts.items(), *texts.sentences.items()]:
        assert sorted(set(FIELD.findall(english))) == sorted(set(FIELD.findall(other))), english
        if english in texts.texts:  # a sentence is escaped before it is drawn
            assert sorted(tags.findall(english)) == sorted(tags.findall(other)), english
        assert other.strip(), english
        assert english.endswith(" ") == other.endswith(" "), english


@BY_CODE
def test_every_refusal_that_a_visitor_can_read_is_translated(texts):
    templates = list(spoken_templates())
    assert len(templates) > 90
    assert {(m, t) for m, t, _ in templates if t not in texts.sentences} == set()
    assert [t for _, t, names in templates if names != set(FIELD.findall(t))] == []


@BY_CODE
def test_no_catalogue_holds_a_sentence_that_nobody_says(texts):
    source = "".join(path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py")))
    # put together of constants: what the committed checkpoint's meta.json says
    meta = read_metadata(ROOT / "checkpoints" / "densenet121-mobilenet").raw
    stored = {one["text"] for one in meta["limits"]} | {
        "validation images of the training collections",
        "validation images of the training collections, and phantoms",
    }
    # templates stand in the code in pieces of one line
    spoken = re.sub(r'"\s*"', "", source).replace('\\"', '"')
    assert [one for one in texts.sentences if one not in spoken and one not in stored] == []


@BY_CODE
@pytest.mark.parametrize("name", sorted(warnings.WARNINGS))
def test_every_warning_is_worded_from_its_template_and_values(texts, name):
    values = {field: "7" for field in FIELD.findall(warnings.WARNINGS[name].text)}
    about = "ct" if values.pop("modality", "") else None
    warning = warnings.warn(name, about, **values)
    worded = word_warning(warning, texts)
    assert worded != warning.message
    assert "{" not in worded + warning.message
    assert word_warning(warning) == warning.message
    foreign = Notice("of_tomorrow", "An English sentence.")
    assert word_warning(foreign, texts) == foreign.message


def test_the_words_in_a_warning_are_translated_too():
    texts = find_languages()["id"]
    warning = warnings.warn("wrong_modality", "ct", kind=MODALITIES["xray"].content, other="X-ray")
    assert warning.code == "wrong_modality_ct"
    assert "looks like a frontal chest X-ray" in warning.message
    assert "tampak seperti foto rontgen toraks frontal" in word_warning(warning, texts)


@pytest.mark.parametrize(
    ("accepted", "code"),
    [
        ("id-ID,id;q=0.9,en;q=0.8", "id"),
        ("id", "id"),
        ("ID;q=0.5", "id"),
        ("en-US,id;q=0.9", "en"),
        ("fr-FR,fr;q=0.9,id;q=0.8", "en"),  # as Gradio: the first alone counts
        ("", "en"),
        (None, "en"),
        ("*;q=, \0", "en"),
    ],
)
def test_the_browsers_first_language_is_chosen_else_english(accepted, code):
    assert choose_language(accepted).language == code


def test_an_events_function_gets_the_language_of_its_request():
    request = types.SimpleNamespace(headers={"accept-language": "id-ID"})

    def answer(context: str, value: str, texts: Texts = ENGLISH) -> str:
        return f"{context} {value} {texts.language}"

    def stream(context: str, value: str, texts: Texts = ENGLISH) -> Iterator[str]:
        yield answer(context, value, texts)

    assert in_request_language(answer, "a")(request, "b") == "a b id"
    assert list(in_request_language(stream, "a")(request, "b")) == ["a b id"]
    assert in_request_language(answer, "a")(None, "b") == "a b en"


def test_a_refusal_keeps_its_slot_and_an_unknown_one_its_words():
    texts = find_languages()["id"]
    with pytest.raises(ImageError) as refused:
        read_grey(b"")
    error = refused.value.about("Chest X-ray")
    assert str(error) == "Chest X-ray: the image is empty (0 bytes); expected a PNG, JPEG or DICOM file."
    assert explain_error(error, texts).startswith("Rontgen toraks: gambar kosong")
    assert texts.sentence("Nobody wrote: this.") == "Nobody wrote: this."
    assert explain_error(ImageError("{what} is odd {")) == "{what} is odd {"
    assert explain_error(ImageError("{what} is odd {"), texts) == "{what} is odd {"


def test_a_value_that_looks_like_a_sentence_or_a_template_changes_nothing():
    """File names are the visitor's: none may reach for another sentence, another value or an attribute."""
    texts = find_languages()["id"]
    template = "{name} is not among the files; add it, or correct the manifest."
    for name in ("{token}", "{name.__class__}", "Line 7 names no study; fill in its first column.", "%s"):
        message = Message(template, name=name)
        assert message == template.replace("{name}", name)
        assert texts.sentence(message) == texts.sentences[template].replace("{name}", name)


def test_a_message_survives_the_way_from_another_process():
    error = ImageError(
        "{what} has {frames} frames; there is no frame {number}.", what="The image", frames=2, number=3
    )
    copy = pickle.loads(pickle.dumps(error.about("CT slice")))
    assert (type(copy), str(copy)) == (ImageError, "CT slice: the image has 2 frames; there is no frame 3.")
    assert copy.message.values == error.message.values
    texts = find_languages()["id"]
    assert explain_error(copy, texts).startswith("Irisan CT: gambar memiliki 2")


def test_sentences_of_meta_json_are_translated_by_what_they_were_made_from():
    meta = read_metadata(ROOT / "checkpoints" / "densenet121-mobilenet")
    texts = find_languages()["id"]
    assert texts.sentence(meta.trained_on).startswith("3161 gambar CT (sarscov2-ct, ")
    card = model_tab.render_model_card(meta.raw, "x", texts)
    assert "MedSeg COVID-19 CT volumes hanya memiliki 8 pasien" in card
    changed = meta.raw | {
        "trained_on": "9 images",
        "limits": [{"title": "Few.", "text": "It has only 8 patients."}],
    }
    card = model_tab.render_model_card(changed, "x", texts)
    assert "9 images" in card
    assert "It has only 8 patients." in card


def test_the_warning_of_the_page_is_said_in_indonesian():
    texts = find_languages()["id"]
    assert texts("Research use only, not for diagnosis.") == "Hanya untuk penelitian, bukan untuk diagnosis."
    assert texts("Not a medical device.") == "Bukan alat kesehatan."


def test_fixed_parts_are_offered_in_every_language_under_the_same_names():
    translations = StaticTranslations()
    assert translations.label("Analyse").key == "Analyse"
    assert '"mm-result"' in translations.draw("mm-result", render_empty)
    offered = translations.i18n.translations
    assert set(offered) == set(find_languages())
    assert {tuple(part) for part in offered.values()} == {("Analyse", "mm-result")}
    assert offered["id"]["Analyse"] == "Analisis"
    assert "No study analysed yet" in offered["en"]["mm-result"]
    assert "{" not in "".join(
        text for part in offered.values() for text in part.values()
    )  # ICU would fill it


class Marked(dict):  # a language of which every word is known by its brackets
    def get(self, key, default=None):
        return f"⟦{key}⟧"

    def __contains__(self, key):
        return True


class Said(HTMLParser):
    """All that a fragment says to a reader: text, and the attributes that are read out."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.named: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.named += [
            v for k, v in attrs if k in ("alt", "aria-label", "title", "data-text", "data-head") and v
        ]

    def handle_data(self, data):
        if data.strip():
            self.texts.append(data)


def outside(text: str) -> str:
    """What no pair of brackets holds."""
    while (shorter := re.sub("⟦[^⟦⟧]*⟧", "", text)) != text:
        text = shorter
    return text


@pytest.fixture(scope="module")
def analyses(tmp_path_factory) -> list[Analysis]:
    """Both images disagreeing, one image, no answer, and an answer in the abstain zone."""
    from made_images import make_png

    folder = tmp_path_factory.mktemp("images")
    for name, level in (("bright", 0.8), ("dark", 0.2), ("between", 0.53)):
        (folder / name).write_bytes(make_png(level, seed=3))
    bright, dark, between = (str(folder / name) for name in ("bright", "dark", "between"))
    both = analyse_study(FakePredictor(), bright, dark)
    alone = analyse_study(FakePredictor(), None, dark)
    reasons = tuple(
        Notice(code if code in ("swapped_inputs", ABSTAINED) else f"{code}_ct", "⟦1⟧")
        for code in warnings.REASONS
        if code != DISAGREE  # the first of the states
    )
    refused = Prediction(
        **{
            **vars(both.prediction),
            "label": "undetermined",
            "probabilities": {},
            "heatmaps": {},
            "warnings": reasons,
        }
    )
    abstaining = analyse_study(FakePredictor(), between, between)
    assert abstaining.prediction.label == "undetermined"
    return [both, alone, Analysis(refused, both.previews, both.thresholds), abstaining]


def render_states(analyses: list[Analysis], texts: Texts) -> Iterator[tuple[str, str]]:
    """(name, HTML) of the page's main states."""
    yield "empty", render_empty(texts)
    yield "error", render_error("1", texts)
    for number, analysis in enumerate(analyses):
        yield f"answer {number}", render_analysis(analysis, texts)
    yield "header", page.render_header(texts)
    yield "help", page.render_help(texts)
    yield "report", events.render_form(texts)
    yield "examples", examples.render_examples((Example("data:,", "data:,", "Normal"),), texts)
    for state in ("loading", "ready", "failed"):
        yield state, page.render_status(state, texts, "1")
    for modality, title in SLOT_TITLES.items():
        yield modality, slot.render_slot(modality, title, "Frontal film", texts)
    yield "drop", batch_components.render_drop(texts)
    yield "panel", batch_components.render_panel(texts)
    yield "batch help", batch_tab.render_help(BatchLimits(), texts)
    yield "worklist", worklist_view.render_panel(texts)
    yield "dropped", worklist_view.render_study(worklist_view.ListedStudy(number=1), None, texts)
    listed = [(worklist_view.list_analysis(one), one) for one in analyses]
    yield "of the list", worklist_view.render_study(*listed[0], texts)
    for pair in itertools.pairwise(listed):
        yield "side by side", worklist_view.render_comparison(list(pair), texts)
    yield "own test tab", own_test.render_tab(texts)
    yield "own test", own_test.render_own_test(OWN_TEST, texts)
    yield (
        "tested answer",
        render_analysis(dataclasses.replace(analyses[0], own_test=OWN_TEST.heads[0]), texts),
    )
    yield "waiting", model_tab.render_waiting(texts)
    yield "card", model_tab.render_model_card(META, "1", texts)
    studies = (Study("1", {}, error="2"), Study("3", {}))
    yield "paired", batch_view.render_pairing(Pairing(studies, (LeftOut("4", "5"),) * 60), texts)
    yield "run", batch_view.render_run_head(2, INFO, texts)
    yield "progress", batch_view.describe_progress(["answered"], 3, 20.0, texts)
    for analysis in analyses:
        yield (
            "row",
            f"<table>{batch_view.render_row(Row('1', analysis.prediction, '', INFO, 1.0), '', texts)}</table>",
        )


def test_no_state_of_the_page_says_anything_that_was_not_looked_up(analyses):
    names = (INFO.name, INFO.pair, INFO.trained_on, INFO.sha256[:12], "AUC", "SHA-256")
    names += tuple(sorted((method.title for method in METHODS.values()), key=len, reverse=True))
    names += tuple(row["collection"] for row in META["left_out"]["heads"][0]["rows"])
    data = re.compile("|".join([*map(re.escape, names), r"\d+ ms", r"\w+_ct", "python -m covid_mm batch"]))
    marked = Texts("xx", Marked())
    for name, html in render_states(analyses, marked):
        said = Said(html)
        left = outside(" ".join(said.texts))
        assert re.findall(r"[A-Za-z]{2,}", data.sub("", left)) == [], name
        for value in said.named:
            assert re.findall(r"[A-Za-z]{2,}", data.sub("", outside(value))) == [], (name, value)


class Quoted(dict):  # a language whose words would end an attribute and open a tag
    def get(self, key, default=None):
        return f'{key}" data-escaped="< '

    def __contains__(self, key):
        return True


class Tags(HTMLParser):
    """The start tags of a fragment, as written and as understood."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.written: list[str] = []
        self.names: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.written.append(self.get_starttag_text() or "")
        self.names |= {name for name, _ in attrs}


def test_no_translation_can_leave_its_attribute(analyses):
    quoted = Texts("xx", Quoted())
    within = 0
    for name, html in render_states(analyses, quoted):
        tags = Tags(html)
        assert "data-escaped" not in tags.names, name
        assert [tag for tag in tags.written if "<" in tag[1:]] == [], name
        within += sum(
            "data-escaped=&#34;&lt; " in tag or "data-escaped=&quot;&lt; " in tag for tag in tags.written
        )
    assert within > 60


@BY_CODE
def test_no_state_of_the_page_is_left_in_english(analyses, texts):
    english = {text for text in texts.texts if not FIELD.search(text)} - set(texts.texts.values())
    for name, html in render_states(analyses, texts):
        said = Said(html)
        assert {text.strip() for text in [*said.texts, *said.named]} & english == set(), name
    assert "⟦" not in read_asset(f"i18n/texts.{texts.language}.json")


@BY_CODE
@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("checkpoints/*/meta.json")), ids=lambda path: path.parent.name
)
def test_no_sentence_of_a_published_card_is_left_in_english(texts, path):
    meta, networks = json.loads(path.read_text(encoding="utf-8")), sections.read_networks()
    cards = [model_tab.render_model_card(meta, "1", each, networks) for each in (ENGLISH, texts)]
    english, other = (Said(re.sub("(?s)<pre.*?</pre>", "", card)).texts for card in cards)
    assert len(english) == len(other)
    named = {str(part.get(key)) for part in meta["data"] for key in ("name", "title", "licence")}
    named |= {row["collection"] for table in meta["left_out"]["heads"] for row in table["rows"]}
    same = set(english) & set(other) - named
    assert [text for text in same if len(re.findall(r"\b[a-z]{2,}\b", text)) > 3] == []


def test_rows_and_pairs_that_cannot_be_answered_say_why_in_indonesian():
    texts = find_languages()["id"]
    error = Message("{what} is larger than {limit} MB; scale it down.", what="foo.png", limit="20")
    row = Row("1", None, error, INFO, 1.0)
    assert "oo.png lebih besar dari 20 MB; perkecil." in batch_view.render_row(row, "", texts)
    pairing = Pairing((Study("1", {}, remark=remark_on({"ct": ImageFile("1_ct.png", bytes)})),), ())
    assert "Tidak ada rontgen: dijawab dari CT saja" in batch_view.render_pairing(pairing, texts)
