"""Speed and memory beside the package's peers: ``python -m benchmarks.speed``.

All formulations run in one process, in turns, after each was compared with ours.
"""

from __future__ import annotations

from benchmarks.speed.cli import main
from benchmarks.speed.results import Row, Run

__all__ = ["Row", "Run", "main"]
