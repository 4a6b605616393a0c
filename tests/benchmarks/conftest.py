"""Benchmarks are scripts: what they import from each other lies in their folder."""

import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).parents[2] / "benchmarks"))
