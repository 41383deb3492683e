"""Parts of covariant networks: radial functions, cutoffs, mixing, norms, readouts."""

from __future__ import annotations

from torch_cormorant.nn.cutoff import SoftCutoff, envelope
from torch_cormorant.nn.edge_network import EdgeNetwork
from torch_cormorant.nn.inputs import AtomFeatures, LinearInput, MPNNInput
from torch_cormorant.nn.mixing import DegreeWeights
from torch_cormorant.nn.norm import Gate, SO3Norm
from torch_cormorant.nn.radial import Bessel, Gaussian, PowerTrig, make_radial
from torch_cormorant.nn.readout import (
    AtomwiseReadout,
    Invariants,
    LinearReadout,
    MLPReadout,
    scalars,
)
from torch_cormorant.nn.so3_linear import SO3Linear
from torch_cormorant.nn.vertex import VertexMixing

__all__ = [
    "AtomFeatures",
    "AtomwiseReadout",
    "Bessel",
    "DegreeWeights",
    "EdgeNetwork",
    "Gate",
    "Gaussian",
    "Invariants",
    "LinearInput",
    "LinearReadout",
    "MLPReadout",
    "MPNNInput",
    "PowerTrig",
    "SO3Linear",
    "SO3Norm",
    "SoftCutoff",
    "VertexMixing",
    "envelope",
    "make_radial",
    "scalars",
]
