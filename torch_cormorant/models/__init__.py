"""Whole networks."""

from __future__ import annotations

from torch_cormorant.models.by_name import pretrained
from torch_cormorant.models.cormorant import Cormorant
from torch_cormorant.models.cormorant_potential import CormorantPotential
from torch_cormorant.models.energy import Result
from torch_cormorant.models.ensemble import Ensemble, EnsembleResult, Spread
from torch_cormorant.models.files import Model, load_model, save_model
from torch_cormorant.models.info import ModelInfo
from torch_cormorant.models.loading import load_models
from torch_cormorant.models.normalisation import Normalisation
from torch_cormorant.models.potential import Potential
from torch_cormorant.models.potential_vibrations import (
    Vibrations,
    hessian,
    vibrational_frequencies,
)
from torch_cormorant.models.predictor import Predictor
from torch_cormorant.models.presets import CormorantMD17, CormorantQM9
from torch_cormorant.models.recipe import RECIPE, RECIPE_SIZES, recipe
from torch_cormorant.models.selection import with_targets
from torch_cormorant.models.shipped import Shipped, pretrained_models
from torch_cormorant.models.targets import (
    head_for_target,
    reference_for_head,
)
from torch_cormorant.models.together import Together
from torch_cormorant.models.tuning import freeze, with_species
from torch_cormorant.networks.facts import CONVENTION

__all__ = [
    "CONVENTION",
    "RECIPE",
    "RECIPE_SIZES",
    "Cormorant",
    "CormorantMD17",
    "CormorantPotential",
    "CormorantQM9",
    "Ensemble",
    "EnsembleResult",
    "Model",
    "ModelInfo",
    "Normalisation",
    "Potential",
    "Predictor",
    "Result",
    "Shipped",
    "Spread",
    "Together",
    "Vibrations",
    "freeze",
    "head_for_target",
    "hessian",
    "load_model",
    "load_models",
    "pretrained",
    "pretrained_models",
    "recipe",
    "reference_for_head",
    "save_model",
    "vibrational_frequencies",
    "with_species",
    "with_targets",
]
