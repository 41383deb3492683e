"""Plans whose header and shapes depend on chosen sizes only, not on the graph."""

from __future__ import annotations

import torch
from torch import Tensor

from torch_cormorant.errors import EdgeBudgetError, EdgeIndexError
from torch_cormorant.ops.plan import GraphPlan, unpack_plan

__all__ = ["fixed_header", "fixed_plan"]

# Order of the parts in GraphPlan.packed: order, slot_edge, slot_source, slot_weight,
# of_slot, rowptr, csr_edge, csr_source, csr_row, pairs.edge, pairs.of_edge.


def fixed_header(num_nodes: int, num_edges: int, num_pairs: int, width: int) -> Tensor:
    """The header of every plan that :func:`fixed_plan` makes with these sizes.

    One chunk holds all receivers with ``width`` slots each; it is said to be padded
    and to need a permutation, whether it does or not.

    Args:
        num_nodes: Number of nodes N.
        num_edges: Number of edges E.
        num_pairs: Number of undirected pairs P.
        width: Largest number of edges of a receiver.

    Returns:
        The header, on the CPU.

    Example:
        >>> fixed_header(3, 5, 4, 2).tolist()[:6]
        [3, 3, 5, 0, 1, 1]
    """
    slots = num_nodes * width
    parts = [num_nodes, slots, slots, slots, slots, num_nodes + 1]
    parts += [num_edges, num_edges, num_edges, num_pairs, num_edges]
    numbers = [num_nodes, num_nodes, num_edges, 0, 1, 1, *parts]
    numbers += [0, num_nodes, 0, width]
    return torch.tensor(numbers, dtype=torch.long, device="cpu")


def fixed_plan(
    edge_index: Tensor, pair_edge: Tensor, of_edge: Tensor, num_nodes: int, width: int
) -> GraphPlan:
    """A plan with the shapes and the header of its sizes.

    What :func:`~torch_cormorant.ops.build_plan` makes depends on the degrees of a
    graph. With this one two graphs of the same sizes differ in the numbers of
    ``packed`` only, so that a step captured for one computes the other.

    Args:
        edge_index: Edges sorted by target; every node receives at least one.
        pair_edge: The edge that stands for each undirected pair.
        of_edge: The pair of each edge.
        num_nodes: Number of nodes N.
        width: Number of edges that no node exceeds.

    Shapes:
        ``edge_index`` ``[2, E]``, ``pair_edge`` ``[P]``, ``of_edge`` ``[E]``.

    Returns:
        The plan.

    Raises:
        EdgeBudgetError: A node receives more than ``width`` edges, or none.
        EdgeIndexError: The edges are not sorted by target, or name a node or a pair
            that does not exist.

    Example:
        >>> import torch
        >>> index = torch.tensor([[0, 1, 0, 1], [0, 0, 1, 1]])
        >>> plan = fixed_plan(
        ...     index, torch.tensor([0, 1, 3]), torch.tensor([0, 1, 1, 2]), 2, 3
        ... )
        >>> plan.slot_edge.tolist(), plan.slot_weight.long().tolist()
        ([0, 1, 0, 2, 3, 0], [1, 1, 0, 1, 1, 0])
    """
    source, target = edge_index[0], edge_index[1]
    degree = torch.bincount(target, minlength=num_nodes)
    if int(degree.max()) > width or int(degree.min()) < 1:
        msg = (
            f"nodes receive {int(degree.min())} to {int(degree.max())} edges, expected "
            f"1 to {width}; choose a larger width"
        )
        raise EdgeBudgetError(msg)
    if bool((target.diff() < 0).any()):
        msg = "edge_index must be sorted by target (row 1); sort its columns first"
        raise EdgeIndexError(msg)
    rowptr = torch.cat([degree.new_zeros(1), degree.cumsum(0)])
    order = torch.argsort(degree, descending=True, stable=True)
    offset = torch.arange(width, device=degree.device)
    real = offset < degree[order].unsqueeze(1)
    slot = torch.where(real, rowptr[order].unsqueeze(1) + offset, 0).flatten()
    edges = torch.arange(source.numel(), device=degree.device)
    parts = [order, slot, source[slot], real.flatten().long(), of_edge[slot], rowptr]
    parts += [edges, source, of_edge, pair_edge, of_edge]
    header = fixed_header(num_nodes, source.numel(), pair_edge.numel(), width)
    return unpack_plan(torch.cat(parts), header)
