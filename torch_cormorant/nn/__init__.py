"""Parts of covariant networks: radial functions, cutoffs, mixing, norms, heads."""

from __future__ import annotations

from torch_cormorant.nn.cutoff import SoftCutoff, envelope
from torch_cormorant.nn.edge_network import EdgeNetwork
from torch_cormorant.nn.gated import (
    GatedBlock,
    NormActivation,
    second_moment_factor,
)
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
from torch_cormorant.nn.irreps_linear import IrrepsLinear, SpeciesLinear
from torch_cormorant.nn.mixing import DegreeWeights
from torch_cormorant.nn.norm import Gate, Norm, SO3Norm, register_norm
from torch_cormorant.nn.parts import Part
from torch_cormorant.nn.radial import (
    Bessel,
    Gaussian,
    PowerTrig,
    Radial,
    make_radial,
    register_radial,
)
from torch_cormorant.nn.radial_mlp import RadialMLP
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
    "GatedBlock",
    "Gaussian",
    "Head",
    "HeadInput",
    "HeadList",
    "HeadSpec",
    "Invariants",
    "IrrepsLinear",
    "LevelSizes",
    "LinearHead",
    "LinearInput",
    "MPNNInput",
    "MeanHead",
    "Norm",
    "NormActivation",
    "Part",
    "PolarizabilityHead",
    "PowerTrig",
    "PublishedHead",
    "Radial",
    "RadialMLP",
    "SO3Head",
    "SO3Linear",
    "SO3Norm",
    "SoftCutoff",
    "SpatialExtentHead",
    "SpeciesLinear",
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
    "second_moment_factor",
    "vector_from_degree_1",
    "zbl_energy",
]
