"""The tables of a checkpoint's card, each described once: columns over the rows that meta.json keeps.

The card is drawn from them in Markdown, the Model tab in HTML; card_writer.py says how words and figures are written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from covid_mm.config import CLASS_TITLES, CLASSES, MODALITIES, POSITIVE, REFUSAL_TITLES, SHORTCUT_TITLES
from covid_mm.errors import UsageError
from covid_mm.evaluation.intervals import Proportion
from covid_mm.evaluation.report import BinaryReport
from covid_mm.evaluation.results import POSSIBILITY_TITLES
from covid_mm.reporting.card_words import HEAD_TITLES
from covid_mm.reporting.card_writer import CARD, Column, Row, Table, Writer, make_table
from covid_mm.reporting.tables import format_table

REFUSAL_REASONS = {
    "other_modality": "the other modality",
    "not_a_chest_image": "not a chest image",
    "unlike_training": "unlike the training images",
}


def _data(name: str) -> Callable[[Row, Writer], str]:
    return lambda row, write: write.data(row[name])


def _number(name: str, decimals: int = 0, rounded: int | None = None) -> Callable[[Row, Writer], str]:
    return lambda row, write: write.number(row[name], decimals, rounded)


def _percent(name: str) -> Callable[[Row, Writer], str]:
    return lambda row, write: write.percent(row.get(name))


def _rate(name: str) -> Callable[[Row, Writer], str]:
    return lambda row, write: write.rate(row.get(name))


def _share(name: str) -> Callable[[Row, Writer], str]:
    return lambda row, write: write.share(row[name])


def _count_or_unknown(name: str) -> Callable[[Row, Writer], str]:
    return lambda row, write: write.number(row[name]) if row[name] else write.word("not known")


def _modality(row: Row, write: Writer) -> str:
    return write.title(MODALITIES[row["modality"]].title)


def _class_count(name: str) -> Callable[[Row, Writer], str]:
    return lambda row, write: write.number(row["counts"].get(name, 0))


def _head_title(row: Row, write: Writer) -> str:
    head: str = row["head"]
    return write.word(HEAD_TITLES.get(head, head))


# --- what it learned from


def _collection_title(part: Row, write: Writer) -> str:
    if part["title"] == part["name"] or not write.detailed:
        return write.data(part["title"])
    return f"{write.data(part['title'])} (`{write.data(part['name']).replace('`', '')}`)"


def _use(part: Row, write: Writer) -> str:
    if part["use"] != "training" or "trained" not in part:
        return write.sentence(part["use"])
    return write.word("training ({count} images)", count=write.number(part["trained"]))


COLLECTIONS = (  # of `data`, as the recipe served writes it
    Column("", _modality),
    Column("Collection", _collection_title),
    Column("Used for", _use),
    *(Column(CLASS_TITLES[name], _class_count(name)) for name in CLASSES),
    Column("Other", _class_count("other")),
    Column("Patients", _count_or_unknown("patients")),
    Column("Sites", _count_or_unknown("sites"), detail=True),
    Column("Annotations", lambda part, write: write.data(part["annotations"] or "none"), detail=True),
    Column("Licence", _data("licence")),
)


def tabulate_data(data: Iterable[Row], write: Writer) -> Table:
    """`data` of the paper's recipe: images per class on both sides of the split."""
    heads = [write.word("{label}: training / validation", label=write.word(CLASS_TITLES[c])) for c in CLASSES]
    rows = []
    for part in data:
        train, validation = part["counts"]["train"], part["counts"]["validation"]
        counts = (f"{train[name]} / {validation[name]}" for name in CLASSES)
        title = write.title(MODALITIES[part["modality"]].title)
        rows.append([title, write.data(part["name"]), *counts, write.data(part["licence"])])
    return Table(["", write.word("Data set"), *heads, write.word("Licence")], rows)


def _refused(kind: str) -> Callable[[Row, Writer], str]:
    def cell(row: Row, write: Writer) -> str:
        count = row.get(kind)
        if count is None or not row["images"]:
            return write.share(None)
        return (
            write.share(Proportion.of(count, row["images"]).to_dict())
            if write.detailed
            else write.number(count)
        )

    return cell


def tabulate_refusals(refusals: Sequence[Row], write: Writer) -> Table:
    """`refusals`: of how many images of each collection there is no answer, and why."""
    kinds = [kind for kind in REFUSAL_TITLES if any(kind in row for row in refusals)]
    columns = [
        Column("", _modality),
        Column("Collection", _data("collection")),
        Column("Images", _number("images")),
        *(Column(REFUSAL_TITLES[kind], _refused(kind)) for kind in kinds),
    ]
    return make_table(columns, refusals, write)


# --- what it is worth on images never seen


def _false_alarms(row: Row, write: Writer) -> str:
    right = row.get("specificity")
    if not isinstance(right, Mapping):
        return "" if "mean" in row else write.rate(None)
    wrong = {"value": 1 - right["value"], "low": 1 - right["high"], "high": 1 - right["low"]}
    if "total" in right:
        wrong |= {"successes": right["total"] - right["successes"], "total": right["total"]}
    return write.rate(wrong)


def _left_out_name(row: Row, write: Writer) -> str:
    if "mean" in row:
        if not write.detailed:
            return write.word("mean of the two-class collections")
        return f"mean of {row['mean']} (worst: {write.data(row['worst'])})"
    if not row.get("is_own_calibration"):
        return write.data(row["collection"])
    return write.data(row["collection"]) + (" (calibrated on itself)" if write.detailed else " *")


def _unless_mean(cell: Callable[[Row, Writer], str]) -> Callable[[Row, Writer], str]:
    return lambda row, write: "" if "mean" in row else cell(row, write)


def _zone(row: Row, write: Writer) -> str:
    low, high = row["zone"]
    return f"{low:.2f} to {high:.2f}"


HEAD = Column("Head", _head_title, detail=True)
NAME = Column("Collection", _left_out_name)
FALSE_ALARMS = Column("False alarms", _false_alarms)
OVER_99 = Column("Normal, yet over 99 %", _unless_mean(_rate("over_99")))
ANSWERED = Column("Answered", _unless_mean(_rate("coverage")))
ACCURACY = (  # of a head's `rows`, and of their mean
    HEAD,
    NAME,
    Column(
        "Normal / positive",
        _unless_mean(lambda row, write: f"{write.number(row['normal'])} / {write.number(row['positive'])}"),
    ),
    Column("Patients", _unless_mean(_number("patients")), detail=True),
    Column("AUC", lambda row, write: write.estimate(row.get("auc"))),
    Column("Sensitivity", _rate("sensitivity")),
    Column("Specificity", _rate("specificity")),
    Column("Brier score", _unless_mean(_number("brier", 3)), detail=True),
    Column("Calibration error", _percent("ece")),
    Column("Calibration error of the positive class", _unless_mean(_percent("positive_ece")), detail=True),
)
CONFIDENCE = (
    HEAD,
    NAME,
    FALSE_ALARMS,
    OVER_99,
    Column("At least the supported probability", _rate("over_supported"), detail=True),
    Column("Of these right", _rate("right_over_supported"), detail=True),
    Column("Abstain zone (from the others)", _zone, detail=True),
    ANSWERED,
    Column("Wrong outside the zone", _percent("error_outside"), detail=True),
    Column("Wrong inside", _percent("error_inside"), detail=True),
)


def tabulate_left_out(head: Row, write: Writer, *, title: str) -> Table:
    """The page's table of one of `left_out["heads"]`: accuracy and confidence together, below the head's title."""
    columns = (*ACCURACY, ANSWERED, FALSE_ALARMS, OVER_99)
    rows = [*head["rows"]]
    if head.get("auc"):
        evidence = {key: head.get("evidence", {}).get(key) for key in ("sensitivity", "specificity", "ece")}
        rows.append({"mean": len(rows), "auc": head["auc"]} | evidence)
    table = make_table(columns, rows, write)
    return Table([title, *table.header[1:]], table.rows)


HEAT = (  # of `left_out["heatmaps"]`
    Column("Collection", _data("collection")),
    Column("Method", lambda row, write: write.name("method", row["method"])),
    Column("Layer", lambda row, write: write.name("layer", row["layer"])),
    Column("Images", _number("images")),
    Column(
        "Hottest point on it",
        lambda row, write: write.rate({"value": row["hit"], "low": row["hit_low"], "high": row["hit_high"]}),
    ),
    Column("Chance", _percent("chance")),
    Column("Share of heat on it", _percent("heat_share")),
    Column("Hottest point in the lungs", _percent("in_lungs_hit")),
    Column("Share of heat in the lungs", _percent("in_lungs_share"), detail=True),
)
FAITHFULNESS = (  # of `left_out["faithfulness"]`
    *HEAT[:4],
    Column("Deletion", _number("deletion", 3), detail=True),
    Column("Insertion", _number("insertion", 3), detail=True),
    Column(
        "Like random weights",
        lambda row, write: write.number(row["random_weights"]["correlation"], 3),
        detail=True,
    ),
)
SHORTCUTS = (  # of `left_out["shortcuts"]`
    Column("Collection", _data("collection")),
    Column(
        "What is left of the image",
        lambda row, write: write.title(SHORTCUT_TITLES.get(row["test"], row["test"])),
    ),
    Column("Images", _number("images")),
    Column(
        "AUC",
        lambda row, write: write.estimate({"value": row["auc"], "low": row["low"], "high": row["high"]}, 3),
    ),
)


# --- inside the training collections


METRICS = (  # of reports, each with its `head` or title
    Column("", _head_title),
    Column(
        "Normal + positive",
        lambda row, write: f"{row['images'][CLASSES[0]]} + {row['images'][CLASSES[1]]}",
        detail=True,
    ),
    *(Column(name, _share(name.lower())) for name in ("Accuracy", "Sensitivity", "Specificity")),
    Column("AUC", lambda row, write: write.estimate(row["auc"], rounded=2)),
)
CALIBRATION = (  # of reports with their `head` and its `temperature`
    Column("", _head_title),
    Column("Temperature", _number("temperature", 3, 2)),
    Column("Threshold", lambda row, write: f"{row['threshold']:g}"),
    Column("Expected calibration error", _number("calibration_error", 4, 2)),
    Column("Brier score", _number("brier", 4, 2)),
)


def metrics_table(reports: Mapping[str, BinaryReport]) -> str:
    """Markdown: one row per report, by title or head: images, the paper's three measures with counts, AUC.

    The intervals' confidence stands in the header. Raises UsageError where it is not one for all.
    """
    levels = {report.accuracy.confidence for report in reports.values()}
    if len(levels) != 1:
        raise UsageError(
            "A metrics table needs at least one report and one confidence for all of them, but the"
            f" confidences are {sorted(levels)}."
        )
    table = make_table(METRICS, list_reports({title: r.to_dict() for title, r in reports.items()}), CARD)
    interval = f" ({levels.pop() * 100:g} % interval)"
    return format_table(
        ["network", table.header[1], *(name + interval for name in table.header[2:])], table.rows
    )


def list_reports(metrics: Row) -> list[Row]:
    """`metrics["validation"]` as rows: each report with its head."""
    return [{**report, "head": head} for head, report in metrics.items()]


def tabulate_calibration(metrics: Row, temperature: Row, write: Writer) -> Table:
    """Each head's temperature, and how far its probabilities were off."""
    rows = [
        {**row, "temperature": temperature[row["head"]]}
        for row in list_reports(metrics)
        if row["head"] in temperature
    ]
    return make_table(CALIBRATION, rows, write)


def tabulate_confusion(counts: Row, write: Writer, title: str = "") -> Table:
    """The confusion matrix: a row for each actual class, a column for each predicted one."""
    normal, positive = (write.word(CLASS_TITLES[name]) for name in CLASSES)
    actual, predicted = "actual: {label}", "predicted: {label}"
    return Table(
        [title, write.word(predicted, label=normal), write.word(predicted, label=positive)],
        [
            [write.word(actual, label=normal), str(counts["true_negative"]), str(counts["false_positive"])],
            [write.word(actual, label=positive), str(counts["false_negative"]), str(counts["true_positive"])],
        ],
    )


def tabulate_possibilities(possibilities: Iterable[Row], write: Writer) -> Table:
    """The paper's four possibilities of a pair: what is called positive, by whom."""
    columns = [
        Column(
            "True labels",
            lambda row, write: write.word(POSSIBILITY_TITLES.get(row["kind"], str(row["kind"]))),
        ),
        Column("Pairs", _number("studies"), detail=True),
        Column("", _share("called_positive")),
        Column("by the CT alone", _share("ct_called_positive")),
        Column("by the X-ray alone", _share("xray_called_positive")),
    ]
    table = make_table(columns, possibilities, write)
    combined = write.word("Predicted {label}, combined", label=write.word(CLASS_TITLES[CLASSES[POSITIVE]]))
    return Table([cell or combined for cell in table.header], table.rows)


# --- the content check


def _shown_kind(row: Row, write: Writer) -> str:
    return write.word(MODALITIES[row["kind"]].title) if row["kind"] in MODALITIES else write.word(row["kind"])


def _not_answered(row: Row, write: Writer) -> str:
    refused = row["total"] - row["outcomes"]["answered"]
    share = f"{refused}/{row['total']} = {write.percent(refused / row['total'])}"
    if write.detailed:
        share = write.share(Proportion.of(refused, row["total"]).to_dict())
    return f"{share} {write.word('wrongly' if row['kind'] == row['slot'] else 'rightly')}"


def _reasons(row: Row, write: Writer) -> str:
    counts = row["outcomes"].items()
    named = (
        f"{REFUSAL_REASONS[kind]} {count}" for kind, count in counts if count and kind in REFUSAL_REASONS
    )
    return ", ".join(named) or "-"


CONTENT_CHECK = (  # of `content_check["measured"]`
    Column("Images", lambda row, write: write.sentence(row["images"])),
    Column("they are", _shown_kind),
    Column("in the slot for", lambda row, write: write.word(MODALITIES[row["slot"]].title)),
    Column("not answered", _not_answered),
    Column("because", _reasons, detail=True),
)
