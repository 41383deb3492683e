"""Covariant layers as PyTorch Geometric operators, one per file."""

from __future__ import annotations

from torch_cormorant.conv.cormorant_conv import CormorantConv

__all__ = ["CormorantConv"]
