"""Covariant layers as PyTorch Geometric operators, one per file."""

from __future__ import annotations

from torch_cormorant.conv.cormorant_conv import CormorantConv
from torch_cormorant.conv.nbody_conv import NBodyConv
from torch_cormorant.conv.nequip_conv import NequIPConv
from torch_cormorant.conv.painn_conv import PaiNNConv, PaiNNMixing
from torch_cormorant.conv.tensor_field_conv import TensorFieldConv

__all__ = [
    "CormorantConv",
    "NBodyConv",
    "NequIPConv",
    "PaiNNConv",
    "PaiNNMixing",
    "TensorFieldConv",
]
