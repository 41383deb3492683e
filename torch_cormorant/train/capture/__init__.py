"""Training steps of fixed sizes, each one replay of a CUDA graph.

Imports the trainings, which know nothing of it: they hold :class:`.Steps`, and
:class:`CapturedLoop` are those of :class:`PaddedSizes`.
"""

from __future__ import annotations

from torch_cormorant.train.capture.loop import CapturedLoop
from torch_cormorant.train.capture.optimizer import CapturedAdamW
from torch_cormorant.train.capture.padding import PaddedBatch, PaddedSizes, pad_batch
from torch_cormorant.train.capture.step import CapturedStep

__all__ = [
    "CapturedAdamW",
    "CapturedLoop",
    "CapturedStep",
    "PaddedBatch",
    "PaddedSizes",
    "pad_batch",
]
