"""The model card: Markdown drawn from meta.json alone, with the bad news beside the good."""

from __future__ import annotations

from typing import Any

from covid_mm.config import CLASS_TITLES, CLASSES, MODALITY_TITLES, RESEARCH_USE
from covid_mm.evaluation.intervals import Proportion
from covid_mm.evaluation.report import BinaryReport
from covid_mm.evaluation.results import POSSIBILITY_TITLES, Possibility
from covid_mm.evaluation.tables import (
    confusion_table,
    format_proportion,
    format_table,
    metrics_table,
    paper_comparison_table,
)

PAIRING = (
    "A CT slice and an X-ray were paired because they bear the same label, not because they are of one"
    " patient: two independent looks at the label, which flatters the fused figure."
)


JUDGED = {
    "other_modality": "the other modality",
    "not_a_chest_image": "not a chest image",
    "unlike_training": "unlike the training images",
}


def render_card(meta: dict[str, Any], name: str) -> str:
    """The card of a checkpoint. meta: the object of meta.json."""
    sections = [
        f"# {name}",
        f"{RESEARCH_USE} This is research software, not a medical device.",
        *(
            ["**Trained on synthetic phantoms, not on patients: it means nothing for a person.**"]
            if meta["synthetic"]
            else []
        ),
        _what(meta),
        "## Data",
        _data(meta),
        f"## Results on the validation images, {meta['split']['protocol']} split",
        _results(meta["metrics"]["validation"], meta),
        *_possibilities(meta),
        *_judge(meta),
        *_comparisons(meta),
        "## Limits",
        _limits(meta),
        "## How it was made",
        _making(meta),
    ]
    return "\n\n".join(sections) + "\n"


def title_head(head: str) -> str:
    """A head's name for people."""
    return "CT and X-ray together" if head == "fused" else f"{MODALITY_TITLES[head]} alone"


def read_reports(metrics: dict[str, Any]) -> dict[str, BinaryReport]:
    """Reports by head, from the JSON that keeps them."""
    return {head: BinaryReport.from_dict(values) for head, values in metrics.items()}


def _what(meta: dict[str, Any]) -> str:
    branches = " and ".join(
        f"{backbone} for {MODALITY_TITLES[m]}" for m, backbone in meta["network"]["branches"]
    )
    width = meta["network"]["head_width"]
    return (
        f"Normal or COVID-19 pneumonia, from {branches}; pooled features"
        f"{' concatenated' if len(meta['network']['branches']) > 1 else ''}, {width} ReLU units, two logits."
        f" Trained {meta['trained_at']} on {meta['trained_on']}."
    )


def _data(meta: dict[str, Any]) -> str:
    rows = []
    for part in meta["data"]:
        train, validation = part["counts"]["train"], part["counts"]["validation"]
        rows.append(
            [
                MODALITY_TITLES[part["modality"]],
                part["name"],
                *(f"{train[c]} / {validation[c]}" for c in CLASSES),
                part["licence"],
            ]
        )
    header = ["", "data set", *(f"{CLASS_TITLES[c]}: training / validation" for c in CLASSES), "licence"]
    sources = "\n".join(f"- {part['name']}: {part['source']}" for part in meta["data"])
    return f"{format_table(header, rows)}\n\n{sources}"


def _results(metrics: dict[str, Any], meta: dict[str, Any]) -> str:
    reports = read_reports(metrics)
    named = {title_head(head): report for head, report in reports.items()}
    parts = [metrics_table(named)]
    parts += [f"{title}:\n\n{confusion_table(report.counts)}" for title, report in named.items()]
    networks = {
        (
            meta["pair"]
            if head == "fused"
            else f"{head}-{dict(map(tuple, meta['network']['branches']))[head]}"
        ): r
        for head, r in reports.items()
    }
    if not meta["synthetic"] and meta["split"]["protocol"] == "paper":
        parts.append(
            "Beside the paper's Table III (its single networks were trained alone; ours are the branches of the"
            f" pair with a small head of their own):\n\n{paper_comparison_table(networks)}"
        )
    calibration = format_table(
        ["", "temperature", "threshold", "calibration error", "Brier score"],
        [
            [
                title_head(head),
                f"{meta['temperature'][head]:.3f}",
                f"{report.threshold:g}",
                f"{report.calibration_error:.4f}",
                f"{report.brier:.4f}",
            ]
            for head, report in reports.items()
        ],
    )
    parts.append(
        "Temperatures and the best epoch were chosen on these same validation images, so the figures are somewhat"
        f" flattering; the threshold was not tuned.\n\n{calibration}"
    )
    return "\n\n".join(parts)


def _possibilities(meta: dict[str, Any]) -> list[str]:
    """The paper's four possibilities of a pair; nothing for a single network or an older checkpoint."""
    found = [Possibility.from_dict(values) for values in meta.get("possibilities", [])]
    if not found:
        return []
    rows = [
        [
            POSSIBILITY_TITLES[part.kind],
            str(part.studies),
            *(
                format_proportion(share)
                for share in (part.called_positive, part.ct_called_positive, part.xray_called_positive)
            ),
        ]
        for part in found
    ]
    header = ["true labels", "pairs", "called positive together", "by the CT alone", "by the X-ray alone"]
    return [
        "## The four possibilities",
        "Validation images paired anew, each at most once a row, and the share called"
        f" {CLASS_TITLES[CLASSES[1]]} (95 % interval). Training pairs always agreed, so the last two rows are"
        " untaught; in a patient they would be one lung seen in two ways.",
        format_table(header, rows),
    ]


def judge_table(measured: list[dict[str, Any]]) -> str:
    """What became of images in each slot: a row each, shares with their intervals."""
    rows = []
    for row in measured:
        outcomes, total = row["outcomes"], row["total"]
        refused = total - outcomes["answered"]
        reasons = ", ".join(
            f"{JUDGED[name]} {count}" for name, count in outcomes.items() if count and name in JUDGED
        )
        rows.append(
            [
                row["images"],
                MODALITY_TITLES.get(row["kind"], row["kind"]),
                MODALITY_TITLES[row["slot"]],
                format_proportion(Proportion.of(refused, total)),
                reasons or "-",
            ]
        )
    return format_table(
        ["images", "truly", "in the slot for", "not answered (95 % interval)", "because"], rows
    )


def _judge(meta: dict[str, Any]) -> list[str]:
    """The judge of image content; nothing for a checkpoint without one."""
    judge = meta.get("judge")
    if not judge:
        return []
    counts = ", ".join(
        f"{count} {'negatives' if kind == 'neither' else MODALITY_TITLES[kind] + ' images'}"
        for kind, count in judge["trained_on"].items()
    )
    limits = ", ".join(f"{MODALITY_TITLES[m]} {value:.2f}" for m, value in judge["distance_limit"].items())
    return [
        "## The judge of image content",
        "Before an answer a small judge names what each image shows: a chest CT slice, a frontal chest X-ray, or"
        f" neither. It reads what the {judge['backbone']} backbone's last block is fed with (`{judge['layer']}`),"
        f" through a linear classifier trained on {counts}. `neither` is said from a probability of"
        f" {judge['refusal']:g} on; an image further from the training images than {limits} (1 is ordinary) is too"
        " unlike them. Backbone and limits were chosen on validation images.",
        judge_table(judge["measured"]),
        "Rows where the slot is the true one count wrong refusals, all others count what it is there for.",
    ]


def _comparisons(meta: dict[str, Any]) -> list[str]:
    sections: list[str] = []
    for entry in meta["comparisons"]:
        reports = read_reports(entry["metrics"])
        named = {title_head(head): report for head, report in reports.items()}
        matrices = [f"{title}:\n\n{confusion_table(report.counts)}" for title, report in named.items()]
        commands = "\n".join(entry["commands"])
        sections += [
            f"## {entry['title']}",
            entry["text"],
            metrics_table(named),
            *matrices,
            f"```\n{commands}\n```",
        ]
    return sections


def _limits(meta: dict[str, Any]) -> str:
    caveats = list(dict.fromkeys(c for part in meta["data"] for c in part["caveats"]))
    if len(meta["data"]) > 1 and not any("pair" in c.lower() for c in caveats):
        caveats.append(PAIRING)
    if meta["split"]["protocol"] == "paper" and not meta["synthetic"]:
        caveats.append(
            "The paper's random split puts images of one patient on both sides, so its figures are those of a"
            " network that has met the patient."
        )
    caveats += [
        f"The {MODALITY_TITLES[m]} backbone started from weights that had learned from another division of these"
        " images: some validation images were training images before."
        for m in meta["validation_seen_before"]
    ]
    caveats.append(
        "Pairs in training always agreed; what the network says where CT and X-ray disagree is untaught."
    )
    return "\n".join(f"- {caveat}" for caveat in caveats)


def _making(meta: dict[str, Any]) -> str:
    starts = "\n".join(
        f"- {MODALITY_TITLES[m]} backbone: {weights['origin']}"
        for m, weights in meta["initial_weights"].items()
    )
    commands = dict.fromkeys(c for w in meta["initial_weights"].values() for c in w["commands"])
    lines = "\n".join([*commands, meta["command"]])
    training = meta["training"]
    epochs = "; ".join(
        f"{title_head(head)}: best epoch {e['best']} of {e['of']}" for head, e in meta["epochs_run"].items()
    )
    change = "; ".join(
        f"{title_head(head)}: greatest change of a probability {c['greatest_probability_change']:.5f},"
        f" {c['labels_changed']} of {c['studies']} labels changed"
        for head, c in meta["float16_changes"].items()
    )
    packages = ", ".join(f"{name} {version}" for name, version in meta["packages"].items())
    return "\n\n".join(
        [
            f"Initial weights:\n\n{starts}",
            f"Fine-tuning `{training['fine_tune']}`, Adam {training['learning_rate']:g} to"
            f" {training['final_learning_rate']:g}, batch {training['batch_size']}, {training['steps_per_epoch']}"
            f" steps an epoch, seed {meta['seed']}. {epochs}.",
            f"Commands, oldest first:\n\n```\n{lines}\n```",
            f"Kernels are stored as float16. {change}.",
            f"Heatmap scale: {meta['heatmap_scale_is']}.",
            f"Made with {packages}.",
        ]
    )
