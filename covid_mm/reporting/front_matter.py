"""The YAML head of a model card, as Hugging Face's Hub reads it."""

from __future__ import annotations

import re
from typing import Any

import yaml

from covid_mm.evaluation.intervals import Estimate
from covid_mm.evaluation.left_out import LeftOutTable

_TAGS = ["medical", "chest-ct", "chest-x-ray", "covid-19", "multimodal", "grad-cam", "research-use-only"]
_NON_COMMERCIAL = re.compile(r"\bnc\b|non-?commercial", re.IGNORECASE)


def is_non_commercial(licence: str) -> bool:
    """Whether a licence's words forbid commercial use."""
    return _NON_COMMERCIAL.search(licence) is not None


def front_matter(meta: dict[str, Any], name: str, tables: list[LeftOutTable]) -> str:
    """The block between two lines of `---`; figures in it are those of left-out collections alone."""
    used = [part for part in meta["data"] if part.get("use", "training") == "training"]
    licensed = any(is_non_commercial(part["licence"]) for part in used)
    head: dict[str, Any] = {
        "license": "other",
        "license_name": "non-commercial-research" if licensed else "as-the-training-data",
        "library_name": "keras",
        "pipeline_tag": "image-classification",
        "tags": _TAGS,
        "datasets": list(dict.fromkeys(_slug(part["name"]) for part in used)),
        "metrics": ["roc_auc", "recall", "brier_score"],
    }
    results = [
        result for table in tables for row in table.two_class_rows for result in [_result(table.head, row)]
    ]
    if results:
        head["model-index"] = [{"name": _line(name), "results": results}]
    text = yaml.safe_dump(head, sort_keys=False, allow_unicode=True, width=1000)
    return f"---\n{text}---"


def _result(head: str, row: Any) -> dict[str, Any]:
    measured: list[tuple[str, str, Estimate | None]] = [
        ("roc_auc", "AUC", row.auc),
        ("recall", "sensitivity", row.sensitivity),
        ("specificity", "specificity", row.specificity),
    ]
    return {
        "task": {"type": "image-classification", "name": f"Normal or COVID-19 pneumonia ({head})"},
        "dataset": {"type": _slug(row.collection), "name": f"{_line(row.collection)}, left out of training"},
        "metrics": [
            {"type": kind, "name": title, "value": round(estimate.value, 4)}
            for kind, title, estimate in measured
            if estimate is not None
        ],
    }


def _line(text: str) -> str:
    return " ".join(text.split())


def _slug(text: str) -> str:
    """A name of the letters that the Hub takes."""
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-.") or "unnamed"
