"""Parts of covariant networks: radial functions, cutoffs, mixing, norms, heads."""

from __future__ import annotations

from torch_cormorant.nn.cutoff import SoftCutoff, envelope
from torch_cormorant.nn.edge_network import EdgeNetwork
from torch_cormorant.nn.heads import (
    HEADS,
    AttentionHead,
    Contraction,
    DipoleHead,
    ExtensiveHead,
    Head,
    HeadInput,
    HeadList,
    HeadSpec,
    LevelSizes,
    LinearHead,
    MeanHead,
    PolarizabilityHead,
    PublishedHead,
    SO3Head,
    SpatialExtentHead,
    SumHead,
    make_head,
    matrix_from_degree_2,
    register_head,
    vector_from_degree_1,
)
from torch_cormorant.nn.inputs import AtomFeatures, LinearInput, MPNNInput
from torch_cormorant.nn.mixing import DegreeWeights
from torch_cormorant.nn.norm import Gate, Norm, SO3Norm, register_norm
from torch_cormorant.nn.pairs import Pair
from torch_cormorant.nn.parts import Part
from torch_cormorant.nn.radial import (
    Bessel,
    Gaussian,
    PowerTrig,
    Radial,
    make_radial,
    register_radial,
)
from torch_cormorant.nn.readout import Invariants, scalars
from torch_cormorant.nn.so3_linear import SO3Linear
from torch_cormorant.nn.vertex import VertexMixing
from torch_cormorant.nn.zbl import ZBL, zbl_energy

__all__ = [
    "HEADS",
    "ZBL",
    "AtomFeatures",
    "AttentionHead",
    "Bessel",
    "Contraction",
    "DegreeWeights",
    "DipoleHead",
    "EdgeNetwork",
    "ExtensiveHead",
    "Gate",
    "Gaussian",
    "Head",
    "HeadInput",
    "HeadList",
    "HeadSpec",
    "Invariants",
    "LevelSizes",
    "LinearHead",
    "LinearInput",
    "MPNNInput",
    "MeanHead",
    "Norm",
    "Pair",
    "Part",
    "PolarizabilityHead",
    "PowerTrig",
    "PublishedHead",
    "Radial",
    "SO3Head",
    "SO3Linear",
    "SO3Norm",
    "SoftCutoff",
    "SpatialExtentHead",
    "SumHead",
    "VertexMixing",
    "envelope",
    "make_head",
    "make_radial",
    "matrix_from_degree_2",
    "register_head",
    "register_norm",
    "register_radial",
    "scalars",
    "vector_from_degree_1",
    "zbl_energy",
]
