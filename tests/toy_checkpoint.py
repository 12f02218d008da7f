"""A published checkpoint of a toy pair, with a meta.json made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from toy_networks import PAIR, make_network

CARD = "# toy\n"
HEADS = ("fused", "ct", "xray")


def make_meta(network: Any, **changes: Any) -> dict[str, Any]:
    """What serving reads of meta.json, as `publish_checkpoint` takes it."""
    modalities = network.config.modalities
    heads = ("fused", *modalities) if network.config.is_concatenated else modalities
    meta = {
        "format_version": 3,
        "pair": network.config.name,
        "network": {
            "branches": [list(branch) for branch in network.config.branches],
            "head_width": network.config.head_width,
            "dropout": network.config.dropout,
            "image_size": network.config.image_size,
            "pooling": network.config.pooling,
            "output_stride": network.config.output_stride,
        },
        "preprocessing": {"name": "paper", "pixels": "made-up images"},
        "classes": ["normal", "covid19_pneumonia"],
        "temperature": dict.fromkeys(heads, 1.0),
        "decision_threshold": dict.fromkeys(heads, 0.5),
        "heatmap_scale": {
            head: dict.fromkeys(modalities if head == "fused" else [head], 1e-4) for head in heads
        },
        "trained_on": "made-up images",
        "trained_at": "2020-01-02",
        "synthetic": False,
        "seed": 0,
        "split": {"protocol": "paper", "seed": 0, "hashes": {}},
        "data": [],
    }
    return meta | changes


def publish_toy(path: Path, *, seed: int = 0, half: bool = True, **changes: Any) -> Any:
    """Publish a toy pair (inside `toy_backbones`); gives its network."""
    from covid_mm.serving.checkpoint import publish_checkpoint

    network = make_network(PAIR, seed=seed, head_width=16)
    publish_checkpoint(path, network, make_meta(network, **changes), CARD, half=half)
    return network
