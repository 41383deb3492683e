"""Whole networks."""

from __future__ import annotations

from torch_cormorant.models.cormorant import CONVENTION, Cormorant
from torch_cormorant.models.presets import CormorantMD17, CormorantQM9

__all__ = ["CONVENTION", "Cormorant", "CormorantMD17", "CormorantQM9"]
