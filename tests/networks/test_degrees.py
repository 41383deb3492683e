"""The degree of a Cormorant network as a polynomial of its input features."""

from __future__ import annotations

import math

import pytest
import torch

from torch_cormorant.networks import CormorantNetwork
from torch_cormorant.nn.init import writable
from torch_cormorant.testing import random_molecule


@pytest.mark.parametrize(("dots", "base"), [(False, 2), (True, 3)])
def test_degree_of_the_output_polynomial(dots: bool, base: int) -> None:
    """16 for four levels by products of vertices; 81 with dot products of edges."""
    options = {"channels": 2, "num_levels": 4, "lmax": 1, "cutoff": None}
    network = CormorantNetwork([1, 6, 7, 8, 9], input="linear", **options).double()
    z, pos = random_molecule(4)
    index = network.make_edges(pos, None)
    geometry = network.geometry(index, pos[index[1]] - pos[index[0]], len(z))
    for conv in network.convs if not dots else ():
        edge = conv.edge_network
        for l in range(edge.lmax + 1):
            state, columns = edge.widths(l)[:2]
            weight = writable(edge.weights, f"weight_l{l}")
            weight.data[..., state : state + columns] = 0
    start = torch.randn(len(z), 4, dtype=torch.float64)
    with torch.no_grad():
        low, high = (network._run_levels(t * start, geometry) for t in (1e3, 2e3))
    for s, (a, b) in enumerate(zip(low, high, strict=True)):
        degree = math.log2(float(b.abs().max() / a.abs().max()))
        assert abs(degree - base ** (s + 1)) < 0.1
