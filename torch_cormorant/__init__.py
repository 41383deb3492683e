"""Cormorant: covariant molecular networks as PyTorch Geometric layers."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from torch_cormorant.version import __version__

if TYPE_CHECKING:
    from torch_cormorant.backends import show_backends
    from torch_cormorant.cg import clebsch_gordan
    from torch_cormorant.conv import CormorantConv
    from torch_cormorant.graph import radius_graph
    from torch_cormorant.models import (
        Cormorant,
        CormorantMD17,
        CormorantQM9,
        load_model,
        pretrained,
        save_model,
    )
    from torch_cormorant.nn import Gate, Invariants, SO3Linear, SO3Norm
    from torch_cormorant.ops import EdgeGeometry, cg_product
    from torch_cormorant.so3 import spherical_harmonics, wigner_D
else:
    # Loaded when first asked for: importing PyTorch and PyG takes seconds, which
    # `cormorant --help` and a mistyped command need not wait for.
    _PLACES = {
        "backends": ["show_backends"],
        "cg": ["clebsch_gordan"],
        "conv": ["CormorantConv"],
        "graph": ["radius_graph"],
        "models": [
            "Cormorant",
            "CormorantMD17",
            "CormorantQM9",
            "load_model",
            "pretrained",
            "save_model",
        ],
        "nn": ["Gate", "Invariants", "SO3Linear", "SO3Norm"],
        "ops": ["EdgeGeometry", "cg_product"],
        "so3": ["spherical_harmonics", "wigner_D"],
    }
    _HOME = {name: part for part, names in _PLACES.items() for name in names}
    _PARTS = {*_PLACES, "data", "errors", "explain", "interfaces", "testing"}

    def __getattr__(name: str) -> object:
        if name in _PARTS:
            return import_module(f"torch_cormorant.{name}")
        if name not in _HOME:
            msg = f"module {__name__!r} has no attribute {name!r}"
            raise AttributeError(msg)
        value = getattr(import_module(f"torch_cormorant.{_HOME[name]}"), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *_HOME, *_PARTS})


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
    "pretrained",
    "radius_graph",
    "save_model",
    "show_backends",
    "spherical_harmonics",
    "wigner_D",
]
