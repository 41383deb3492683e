"""Neighbour search: one function in front of several backends."""

from __future__ import annotations

import torch
from torch import Tensor

from torch_cormorant.backends import NEIGHBOUR_SEARCH, choose_backend
from torch_cormorant.graph.brute_force import brute_force_graph
from torch_cormorant.graph.cells import cell_graph
from torch_cormorant.graph.checks import check_batch, check_positions, rounded_cutoff
from torch_cormorant.graph.pairs import molecule_ranges, sort_edges
from torch_cormorant.graph.torch_cluster_backend import torch_cluster_graph

__all__ = ["radius_graph"]

# Below either, looking at every pair beats sorting into cells (measured on one core:
# equal at 200 atoms in one molecule, and at 100 atoms a molecule in large batches).
BRUTE_FORCE_PAIRS = 40_000
BRUTE_FORCE_PAIRS_PER_ATOM = 100

_SEARCHES = {
    "brute_force": brute_force_graph,
    "cells": cell_graph,
    "torch_cluster": torch_cluster_graph,
}


def _fastest(batch: Tensor | None, num_nodes: int) -> str:
    """Choose between the searches that need torch only; ``batch`` is sorted."""
    if batch is None:
        pairs = num_nodes**2
    else:
        first, last = molecule_ranges(batch, num_nodes)
        pairs = int((last - first).sum())
    few = pairs <= max(BRUTE_FORCE_PAIRS, BRUTE_FORCE_PAIRS_PER_ATOM * num_nodes)
    return "brute_force" if few else "cells"


@torch.no_grad()
def radius_graph(
    pos: Tensor,
    cutoff: float,
    batch: Tensor | None = None,
    loop: bool = False,
    backend: str = "auto",
) -> Tensor:
    r"""Connect all atoms of a molecule that are closer than a cutoff.

    .. math:: \{(j, i) : r_{ij} < r_c\}, \quad
        r_{ij} = \sqrt{(d_x^2 + d_y^2) + d_z^2}, \quad d = r_i - r_j

    The rule is exact and the same for every backend: computed in the type of ``pos``,
    every operation rounded on its own, from left to right; the cutoff rounded to that
    type; strictly smaller. A pair at exactly the cutoff is not connected. Nothing is
    ever truncated, and both directions of a pair are always present.

    Args:
        pos: Positions in Angstrom, ``float32`` or ``float64``. No gradient flows
            through the result; compute edge vectors from it.
        cutoff: Cutoff in Angstrom.
        batch: Molecule number of each atom, not negative. Sorted is
            fastest; any order and gaps are allowed. Default: one molecule.
        loop: Connect each atom with itself too. Default False.
        backend: ``"brute_force"`` (every pair of a molecule), ``"cells"`` (linear in
            the number of atoms), ``"torch_cluster"`` (the extension), or ``"auto"``
            (default): the faster of the first two.

    Shapes:
        ``pos``: ``[N, 3]``; ``batch``: ``[N]``.

    Returns:
        ``edge_index`` ``[2, E]``, ``int64``, row 0 = source j, row 1 = target i,
        sorted by target, then by source.

    Raises:
        ConfigError: The cutoff is not positive and finite, or ``batch`` is negative.
        NonFiniteError: ``pos`` holds NaN or infinity.
        ShapeError: ``pos`` is not ``[N, 3]`` or ``batch`` not ``[N]``.
        DtypeError: Wrong type of ``pos``, ``batch`` or ``cutoff``.
        DeviceError: ``batch`` lies on another device than ``pos``.
        BackendError: The backend is unknown, missing or broken.

    Note:
        Deterministic. Memory is linear in atoms and edges for all backends.

    Example:
        >>> import torch
        >>> pos = torch.tensor([[0.0, 0, 0], [1.0, 0, 0], [3.0, 0, 0]])
        >>> radius_graph(pos, cutoff=2.5).tolist()
        [[1, 0, 2, 1], [0, 1, 1, 2]]
    """
    check_positions(pos)
    cutoff = rounded_cutoff(cutoff, pos.dtype)
    choose_backend(NEIGHBOUR_SEARCH, backend)
    num_nodes = pos.shape[0]
    order = None
    if batch is not None:
        batch = check_batch(batch, num_nodes, pos.device)
        if bool((batch[1:] < batch[:-1]).any()):
            batch, order = torch.sort(batch, stable=True)
            pos = pos[order]
    name = _fastest(batch, num_nodes) if backend == "auto" else backend
    edge_index = _SEARCHES[name](pos, cutoff, batch, loop=loop)
    if order is None:
        return edge_index
    return sort_edges(order[edge_index[0]], order[edge_index[1]], num_nodes)
