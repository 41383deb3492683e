"""Heads: from the levels of a network to what is predicted."""

from __future__ import annotations

from torch_cormorant.nn.heads.atomwise import AtomwiseHead
from torch_cormorant.nn.heads.base import (
    Head,
    HeadInput,
    LevelSizes,
    SumHead,
    targets_of,
)
from torch_cormorant.nn.heads.cartesian import (
    matrix_from_degree_2,
    vector_from_degree_1,
)
from torch_cormorant.nn.heads.contraction import Contraction
from torch_cormorant.nn.heads.make import HEADS, HeadSpec, make_head, register_head
from torch_cormorant.nn.heads.pooled import PooledHead
from torch_cormorant.nn.heads.scalar import (
    AttentionHead,
    ExtensiveHead,
    LinearHead,
    MeanHead,
    PublishedHead,
)
from torch_cormorant.nn.heads.tensor import (
    DipoleHead,
    HeadList,
    PolarizabilityHead,
    SO3Head,
    SpatialExtentHead,
)

__all__ = [
    "HEADS",
    "AtomwiseHead",
    "AttentionHead",
    "Contraction",
    "DipoleHead",
    "ExtensiveHead",
    "Head",
    "HeadInput",
    "HeadList",
    "HeadSpec",
    "LevelSizes",
    "LinearHead",
    "MeanHead",
    "PolarizabilityHead",
    "PooledHead",
    "PublishedHead",
    "SO3Head",
    "SpatialExtentHead",
    "SumHead",
    "make_head",
    "matrix_from_degree_2",
    "register_head",
    "targets_of",
    "vector_from_degree_1",
]
