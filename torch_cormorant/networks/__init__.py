"""Networks: species, graph, levels and head; nothing of forces, cells, units, files."""

from __future__ import annotations

from torch_cormorant.networks.base import Network, register_network
from torch_cormorant.networks.cormorant import CormorantNetwork
from torch_cormorant.networks.facts import CONVENTION

__all__ = ["CONVENTION", "CormorantNetwork", "Network", "register_network"]
