"""Speed and memory beside the package's peers: ``python -m torch_cormorant.bench``.

All formulations run in one process, in turns, after each was compared with ours.
"""

from __future__ import annotations

from torch_cormorant.bench.cli import main
from torch_cormorant.bench.results import Row, Run

__all__ = ["Row", "Run", "main"]
