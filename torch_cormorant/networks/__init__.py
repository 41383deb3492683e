"""Networks: species, graph, levels and head; nothing of forces, cells, units, files."""

from __future__ import annotations

from torch_cormorant.networks.base import Network, register_network
from torch_cormorant.networks.cormorant import CormorantNetwork
from torch_cormorant.networks.facts import CONVENTION
from torch_cormorant.networks.nbody import NBodyNetwork
from torch_cormorant.networks.nequip import NequIP
from torch_cormorant.networks.painn import PaiNN
from torch_cormorant.networks.recognised import network_from_original
from torch_cormorant.networks.schnet import SchNet

__all__ = [
    "CONVENTION",
    "CormorantNetwork",
    "NBodyNetwork",
    "NequIP",
    "Network",
    "PaiNN",
    "SchNet",
    "network_from_original",
    "register_network",
]
