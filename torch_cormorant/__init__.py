"""Cormorant: covariant molecular networks as PyTorch Geometric layers."""
