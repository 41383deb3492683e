"""Own atoms of a process of LAMMPS and their ghosts: who is needed, who lacks."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from torch_cormorant.graph import edge_vectors, neighbour_list

__all__ = ["missing_ghosts", "reachable"]


def reachable(index: Tensor, count: int, own: int, hops: int) -> tuple[Tensor, Tensor]:
    """Only atoms within some hops of the first ``own`` ones, which stay first.

    Args:
        index: Edges ``[2, E]``.
        count: Number of atoms.
        own: How many of them belong to this process.
        hops: Number of hops.

    Returns:
        The edges between them, renumbered, and the atoms that are kept.
    """
    seen = torch.zeros(count, dtype=torch.bool, device=index.device)
    seen[:own] = True
    for _ in range(hops):
        seen[index[0][seen[index[1]]]] = True
    keep = seen.nonzero().squeeze(-1)
    number = seen.cumsum(0) - 1
    both = seen[index[0]] & seen[index[1]]
    return number[index[:, both]], keep


def missing_ghosts(
    tags: NDArray[np.int64],
    x: NDArray[np.float64],
    own: int,
    cutoff: float,
    hops: int,
    comm: Any,
) -> int | None:
    """An atom that has fewer neighbours somewhere than it must have.

    Two things are compared, over all processes: how often own atoms see an atom with
    how often it sees them, and images of an atom with the atom itself.

    Args:
        tags: LAMMPS's numbers of own atoms and ghosts ``[N]``.
        x: Their places in Angstrom ``[N, 3]``.
        own: Number of own atoms, which come first.
        cutoff: Cutoff of the potential in Angstrom.
        hops: Hops from own atoms within which all neighbours are needed.
        comm: The communicator, or None for one process.

    Returns:
        LAMMPS's number of the atom, or None.
    """
    pos = torch.from_numpy(x)
    index, _ = neighbour_list(pos, cutoff)
    # pairs at the cutoff are within it or not by rounding
    surely = (edge_vectors(pos, index).norm(dim=1) < cutoff * (1 - 1e-9)).numpy()
    inner = reachable(index, len(x), own, hops)[1].numpy()
    source, target = index.numpy()
    mine = target < own
    last = int(tags.max(initial=0))
    last = last if comm is None else max(comm.allgather(last))
    has = tags[target[mine]]
    sees, has_surely = tags[source[mine & surely]], tags[target[mine & surely]]
    sums = np.stack(
        [np.bincount(part, minlength=last + 1) for part in (has, sees, has_surely)]
    )
    if comm is not None:
        sums = comm.allreduce(sums)
    lacking = sums[1] > sums[0]
    degree = np.bincount(target, minlength=len(x))[inner]
    lacking[tags[inner][degree < sums[2][tags[inner]]]] = True
    return int(lacking.argmax()) if lacking.any() else None
