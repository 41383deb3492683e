"""Parts of covariant networks: radial functions, cutoffs, mixing, norms, heads."""

from __future__ import annotations

from torch_cormorant.nn.activations import (
    ShiftedSoftplus,
    Softplus,
    activation,
    moment_factor,
)
from torch_cormorant.nn.bases import (
    BesselBasis,
    CosineBasis,
    CutBesselBasis,
    GaussianBasis,
)
from torch_cormorant.nn.cutoff import Mask, SoftCutoff, envelope, register_mask
from torch_cormorant.nn.e3nn_bases import E3NNBasis
from torch_cormorant.nn.edge_kernel import EdgeKernel
from torch_cormorant.nn.edge_network import EdgeNetwork
from torch_cormorant.nn.envelopes import (
    Envelope,
    cosine_cutoff,
    mollifier,
    polynomial_cutoff,
)
from torch_cormorant.nn.gated import GatedBlock, NormActivation
from torch_cormorant.nn.heads import (
    HEADS,
    AtomwiseHead,
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
    PooledHead,
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
from torch_cormorant.nn.instance_norm import IrrepsInstanceNorm
from torch_cormorant.nn.irreps_linear import IrrepsLinear, SpeciesLinear
from torch_cormorant.nn.mixing import DegreeWeights
from torch_cormorant.nn.mlp import MLP, RadialMLP
from torch_cormorant.nn.norm import Gate, Norm, SO3Norm, register_norm
from torch_cormorant.nn.norm_network import AttentiveMixing, NormNetwork
from torch_cormorant.nn.pairs import Pair
from torch_cormorant.nn.parts import Part
from torch_cormorant.nn.powers import InversePowers
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
from torch_cormorant.nn.species import SpeciesIndex
from torch_cormorant.nn.species_radial import SpeciesRadial
from torch_cormorant.nn.species_scale import SpeciesScale
from torch_cormorant.nn.steerable_linear import SteerableGate, SteerableLinear
from torch_cormorant.nn.two_body import BesselTwoBody, SplineTwoBody
from torch_cormorant.nn.vertex import VertexMixing
from torch_cormorant.nn.zbl import ZBL, zbl_energy

__all__ = [
    "HEADS",
    "MLP",
    "ZBL",
    "AtomFeatures",
    "AtomwiseHead",
    "AttentionHead",
    "AttentiveMixing",
    "Bessel",
    "BesselBasis",
    "BesselTwoBody",
    "Contraction",
    "CosineBasis",
    "CutBesselBasis",
    "DegreeWeights",
    "DipoleHead",
    "E3NNBasis",
    "EdgeKernel",
    "EdgeNetwork",
    "Envelope",
    "ExtensiveHead",
    "Gate",
    "GatedBlock",
    "Gaussian",
    "GaussianBasis",
    "Head",
    "HeadInput",
    "HeadList",
    "HeadSpec",
    "Invariants",
    "InversePowers",
    "IrrepsInstanceNorm",
    "IrrepsLinear",
    "LevelSizes",
    "LinearHead",
    "LinearInput",
    "MPNNInput",
    "Mask",
    "MeanHead",
    "Norm",
    "NormActivation",
    "NormNetwork",
    "Pair",
    "Part",
    "PolarizabilityHead",
    "PooledHead",
    "PowerTrig",
    "PublishedHead",
    "Radial",
    "RadialMLP",
    "SO3Head",
    "SO3Linear",
    "SO3Norm",
    "ShiftedSoftplus",
    "SoftCutoff",
    "Softplus",
    "SpatialExtentHead",
    "SpeciesIndex",
    "SpeciesLinear",
    "SpeciesRadial",
    "SpeciesScale",
    "SplineTwoBody",
    "SteerableGate",
    "SteerableLinear",
    "SumHead",
    "VertexMixing",
    "activation",
    "cosine_cutoff",
    "envelope",
    "make_head",
    "make_radial",
    "matrix_from_degree_2",
    "mollifier",
    "moment_factor",
    "polynomial_cutoff",
    "register_head",
    "register_mask",
    "register_norm",
    "register_radial",
    "scalars",
    "vector_from_degree_1",
    "zbl_energy",
]
