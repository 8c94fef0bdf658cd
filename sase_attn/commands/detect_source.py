"""Flags for a trained detector, and its loading, which the parts of `sase-attn detect` share."""

import argparse
from typing import Any

import torch

from sase_attn.commands.trained_source import naming_imports
from sase_attn.detection.saved import LoadedDetector, detector_file, load_detector, read_detector_record

WEIGHTS = ("best", "last")


def add_source(sub: argparse.ArgumentParser) -> None:
    """Add SOURCE, --weights and --device."""
    sub.add_argument("source", metavar="SOURCE", help="a run's folder, or a file of a detector")
    sub.add_argument(
        "--weights", choices=WEIGHTS, default="best", help="which weights of a folder (default: best, by AP)"
    )
    sub.add_argument("--device", help="cpu, cuda or cuda:N (default: CUDA where there is a device)")


def load_source(args: argparse.Namespace, device: torch.device) -> LoadedDetector:
    """The detector that `args` names, on a device. An error about an unknown name says what its training had imported.

    Raises:
        FileNotFoundError: there is none. ValueError: the file is damaged, or not of a detector.
    """
    with naming_imports(() if hasattr(args, "imports") else recorded_imports(args.source, args.weights)):
        return load_detector(args.source, device, weights=args.weights)


def recorded_imports(source: str, weights: str) -> tuple[str, ...]:
    """The modules that a detector's training had imported."""
    recorded: Any = read_detector_record(detector_file(source, weights)).config.get("imports")
    return tuple(map(str, recorded)) if isinstance(recorded, list | tuple) else ()
