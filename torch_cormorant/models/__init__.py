"""Whole networks."""

from __future__ import annotations

from torch_cormorant.models.cormorant import CONVENTION, Cormorant
from torch_cormorant.models.files import load_model, save_model
from torch_cormorant.models.info import ModelInfo
from torch_cormorant.models.normalisation import Normalisation
from torch_cormorant.models.presets import CormorantMD17, CormorantQM9

__all__ = [
    "CONVENTION",
    "Cormorant",
    "CormorantMD17",
    "CormorantQM9",
    "ModelInfo",
    "Normalisation",
    "load_model",
    "save_model",
]
