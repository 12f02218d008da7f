"""Write a checkpoint for ONNX Runtime, its heatmaps included, checked against TensorFlow."""

from __future__ import annotations

import argparse
from pathlib import Path

from covid_mm.commands import load_tensorflow
from covid_mm.config import DEFAULT_CHECKPOINT


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `export`."""
    parser.add_argument(
        "--checkpoint",
        metavar="DIR",
        default=DEFAULT_CHECKPOINT,
        type=Path,
        help="checkpoint folder; its onnx/ is written (default: the default pair's)",
    )
    parser.add_argument("--format", choices=("onnx",), default="onnx", help="default: %(default)s")


def run(options: argparse.Namespace) -> int:
    """Export and print the differences. Returns the exit code."""
    load_tensorflow()
    from covid_mm.publishing.onnx_export import export_onnx

    differences = export_onnx(options.checkpoint, progress=lambda name: print(f"  {name}", flush=True))
    print("greatest difference to TensorFlow (logits; maps and features as a share of their highest value):")
    for name, value in differences.items():
        print(f"  {name:24s} {value:.1e}")
    return 0
