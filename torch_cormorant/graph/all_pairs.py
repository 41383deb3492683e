"""The graph of all pairs of a molecule, which the published networks work on."""

from __future__ import annotations

import torch
from torch import Tensor

from torch_cormorant.errors import ConfigError, EdgeBudgetError
from torch_cormorant.graph.checks import check_batch
from torch_cormorant.graph.pairs import molecule_ranges, pair_ranges, sort_edges

__all__ = ["MAX_EDGES", "all_pairs"]

# One molecule of 1,400 atoms, or 6,000 molecules of QM9; a layer of 16 channels with
# L = 3 keeps about 1 kB an edge and level for the backward pass.
MAX_EDGES = 2_000_000


def _molecules(
    batch: Tensor | None, num_nodes: int | None
) -> tuple[Tensor | None, Tensor | None, int]:
    """Check the arguments; return the sorted batch, its order and the atom count."""
    if batch is None:
        if num_nodes is None:
            message = "all_pairs needs batch= (molecule of each atom) or num_nodes="
            raise ConfigError(message)
        if num_nodes < 0:
            message = f"num_nodes must not be negative, got {num_nodes}"
            raise ConfigError(message)
        return None, None, num_nodes
    batch = check_batch(batch, num_nodes)
    if bool((batch[1:] < batch[:-1]).any()):
        values, order = torch.sort(batch, stable=True)
        return values, order, len(batch)
    return batch, None, len(batch)


def all_pairs(
    batch: Tensor | None = None,
    num_nodes: int | None = None,
    loop: bool = False,
    max_edges: int = MAX_EDGES,
    device: torch.device | str | None = None,
) -> Tensor:
    """Connect every atom of a molecule with every other one.

    Args:
        batch: Molecule number of each atom, not negative, in any order.
            Default: one molecule of ``num_nodes`` atoms.
        num_nodes: Number of atoms; needed without ``batch`` only.
        loop: Connect each atom with itself too. Default False.
        max_edges: Refuse to build more edges than this. Default 2,000,000.
        device: Where the result is built without ``batch``. Default: the CPU.

    Shapes:
        ``batch``: ``[N]``.

    Returns:
        ``edge_index`` ``[2, E]``, ``int64``, row 0 = source j, row 1 = target i,
        sorted by target, then by source.

    Raises:
        EdgeBudgetError: More than ``max_edges`` edges.
        ConfigError: Neither ``batch`` nor ``num_nodes``, or a negative number.
        ShapeError, DtypeError: ``batch`` is not an ``int64`` tensor ``[N]``.

    Example:
        >>> import torch
        >>> all_pairs(torch.tensor([0, 0, 1, 1])).tolist()
        [[1, 0, 3, 2], [0, 1, 2, 3]]
        >>> all_pairs(num_nodes=2, loop=True).tolist()
        [[0, 1, 0, 1], [0, 0, 1, 1]]
    """
    batch, order, num_nodes = _molecules(batch, num_nodes)
    first, last = molecule_ranges(batch, num_nodes)
    if batch is None:
        first, last = first.to(device), last.to(device)
    counts = last - first
    num_edges = int(counts.sum()) - (0 if loop else num_nodes)
    if num_edges > max_edges:
        message = (
            f"all pairs of {num_nodes} atoms make {num_edges} edges, more than "
            f"max_edges={max_edges}; give a cutoff= in Angstrom (5 to 6 for organic "
            "molecules) for a graph that grows linearly, or raise max_edges"
        )
        raise EdgeBudgetError(message)
    target, source = pair_ranges(first, counts)
    edge_index = torch.stack((source, target))
    if not loop:
        edge_index = edge_index[:, source != target]
    if order is None:
        return edge_index
    return sort_edges(order[edge_index[0]], order[edge_index[1]], num_nodes)
