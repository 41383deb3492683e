"""Networks: species, graph, levels and head; nothing of forces, cells, units, files."""

from __future__ import annotations

from torch_cormorant.networks.allegro import Allegro
from torch_cormorant.networks.base import Network, register_network
from torch_cormorant.networks.cormorant import CormorantNetwork
from torch_cormorant.networks.facts import CONVENTION
from torch_cormorant.networks.kernel_net import KernelNet
from torch_cormorant.networks.nbody import NBodyNetwork
from torch_cormorant.networks.nequip import NequIP
from torch_cormorant.networks.painn import PaiNN
from torch_cormorant.networks.recognised import network_from_original
from torch_cormorant.networks.schnet import SchNet
from torch_cormorant.networks.se3_bodies import SE3TransformerBodies
from torch_cormorant.networks.se3_transformer import SE3Transformer
from torch_cormorant.networks.segnn import SEGNN
from torch_cormorant.networks.segnn_bodies import SEGNNBodies
from torch_cormorant.networks.so3net import SO3Net
from torch_cormorant.networks.tfn import TFN
from torch_cormorant.networks.thesis import ARandNet, BRandNet, L0Net, L1Net, L2Net

__all__ = [
    "CONVENTION",
    "SEGNN",
    "TFN",
    "ARandNet",
    "Allegro",
    "BRandNet",
    "CormorantNetwork",
    "KernelNet",
    "L0Net",
    "L1Net",
    "L2Net",
    "NBodyNetwork",
    "NequIP",
    "Network",
    "PaiNN",
    "SE3Transformer",
    "SE3TransformerBodies",
    "SEGNNBodies",
    "SO3Net",
    "SchNet",
    "network_from_original",
    "register_network",
]
