"""Covariant layers as PyTorch Geometric operators, one per file."""

from __future__ import annotations

from torch_cormorant.conv.cormorant_conv import CormorantConv
from torch_cormorant.conv.kernel_conv import KernelConv
from torch_cormorant.conv.nequip_conv import NequIPConv
from torch_cormorant.conv.painn_conv import PaiNNConv, PaiNNMixing
from torch_cormorant.conv.so3_conv import SO3Conv, SO3Mixing
from torch_cormorant.conv.tensor_field_conv import TensorFieldConv

__all__ = [
    "CormorantConv",
    "KernelConv",
    "NequIPConv",
    "PaiNNConv",
    "PaiNNMixing",
    "SO3Conv",
    "SO3Mixing",
    "TensorFieldConv",
]
