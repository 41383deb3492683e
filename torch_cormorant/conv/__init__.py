"""Covariant layers as PyTorch Geometric operators, one per file."""

from __future__ import annotations

from torch_cormorant.conv.allegro_block import AllegroBlock
from torch_cormorant.conv.cormorant_conv import CormorantConv
from torch_cormorant.conv.kernel_conv import KernelConv
from torch_cormorant.conv.nbody_conv import NBodyConv
from torch_cormorant.conv.nequip_conv import NequIPConv
from torch_cormorant.conv.painn_conv import PaiNNConv, PaiNNMixing
from torch_cormorant.conv.se3_transformer_conv import SE3KernelConv, SE3TransformerConv
from torch_cormorant.conv.se_conv import SEConv
from torch_cormorant.conv.segnn_conv import SEGNNConv
from torch_cormorant.conv.so3_conv import SO3Conv, SO3Mixing
from torch_cormorant.conv.tensor_field_conv import TensorFieldConv

__all__ = [
    "AllegroBlock",
    "CormorantConv",
    "KernelConv",
    "NBodyConv",
    "NequIPConv",
    "PaiNNConv",
    "PaiNNMixing",
    "SE3KernelConv",
    "SE3TransformerConv",
    "SEConv",
    "SEGNNConv",
    "SO3Conv",
    "SO3Mixing",
    "TensorFieldConv",
]
