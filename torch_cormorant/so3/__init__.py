"""Rotations of SO(3)-vectors: layout, harmonics, Wigner matrices, invariants."""

from __future__ import annotations

from torch_cormorant.so3.harmonics import spherical_harmonics

__all__ = ["spherical_harmonics"]
