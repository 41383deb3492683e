"""Cormorant: covariant molecular networks as PyTorch Geometric layers."""

from __future__ import annotations

from torch_cormorant.backends import show_backends
from torch_cormorant.cg import clebsch_gordan
from torch_cormorant.conv import CormorantConv
from torch_cormorant.graph import radius_graph
from torch_cormorant.models import (
    Cormorant,
    CormorantMD17,
    CormorantQM9,
    load_model,
    save_model,
)
from torch_cormorant.nn import Gate, Invariants, SO3Linear, SO3Norm
from torch_cormorant.ops import EdgeGeometry, cg_product
from torch_cormorant.so3 import spherical_harmonics, wigner_D
from torch_cormorant.version import __version__

__all__ = [
    "Cormorant",
    "CormorantConv",
    "CormorantMD17",
    "CormorantQM9",
    "EdgeGeometry",
    "Gate",
    "Invariants",
    "SO3Linear",
    "SO3Norm",
    "__version__",
    "cg_product",
    "clebsch_gordan",
    "load_model",
    "radius_graph",
    "save_model",
    "show_backends",
    "spherical_harmonics",
    "wigner_D",
]
