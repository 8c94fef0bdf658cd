"""Paths in the checkout."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
REFERENCE_FILES = ROOT / "tests" / "reference"
BENCHMARKS = ROOT / "benchmarks"
EXAMPLES = ROOT / "examples"
