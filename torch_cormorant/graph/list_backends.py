"""Neighbour lists of other packages, asked a little beyond the cutoff, made exact.

Every backend gets the wrapped atoms of one cell at a time and returns all pairs that
it finds within a slightly larger radius; the rule of the package decides about each.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torch_cormorant.backends import load_extension
from torch_cormorant.errors import BackendError
from torch_cormorant.graph.periodic import Edges, Wrapped

__all__ = ["SEARCHES"]

Found = tuple[Any, Any, Any]
"""(source, target, shift) as arrays; shift as the edges of this package count it."""


def _vesin(pos: Any, cell: Any, pbc: Any, radius: float) -> Found:
    vesin = load_extension("vesin")
    search = vesin.NeighborList(cutoff=radius, full_list=True)
    first, second, shift = search.compute(pos, cell, pbc, quantities="ijS")
    # its shift belongs to second minus first, so second is our target
    return first, second, shift


def _matscipy(pos: Any, cell: Any, pbc: Any, radius: float) -> Found:
    load_extension("matscipy")  # with a helpful error where it is missing
    neighbours = importlib.import_module("matscipy.neighbours")
    first, second, shift = neighbours.neighbour_list(
        "ijS", positions=pos, cell=cell, pbc=pbc, cutoff=radius
    )
    return first, second, shift


def _box(cell: Any, pbc: Any, pos: Any, radius: float) -> Any:
    """Replace vectors that do not repeat by ones that fit around the atoms."""
    box = np.array(cell, dtype=np.float64)
    lost = [axis for axis in range(3) if not pbc[axis]]
    extent = float(np.abs(pos).max(initial=0.0)) + radius
    for axis in lost:
        done = [box[k] for k in range(3) if k not in lost or k < axis]
        basis, _ = np.linalg.qr(np.array([*done, *np.eye(3)]).T)
        box[axis] = 4 * extent * basis[:, len(done)]
    return box


def _per_graph(
    search: Callable[[Any, Any, Any, float], Found], name: str
) -> Callable[[Wrapped, Tensor, float], Edges]:
    """Run a search on every cell of a batch."""

    def run(atoms: Wrapped, pbc: Tensor, radius: float) -> Edges:
        pos, cells = atoms.pos.cpu().numpy(), atoms.cells.cpu().numpy()
        periodic, batch = pbc.cpu().numpy(), atoms.batch.cpu().numpy()
        parts: list[Edges] = []
        for graph in np.unique(batch):
            mine = np.flatnonzero(batch == graph)
            own, flags = pos[mine], periodic[graph]
            box = _box(cells[graph], flags, own, radius)
            try:
                source, target, shift = search(own, box, flags, radius)
            except (RuntimeError, ValueError) as error:
                msg = (
                    f"{name} failed on graph {graph}: {error}; use "
                    'backend="cells", which takes any cell'
                )
                raise BackendError(msg) from error
            parts.append(
                (
                    torch.from_numpy(mine[source.astype(np.int64)]),
                    torch.from_numpy(mine[target.astype(np.int64)]),
                    torch.from_numpy(shift.astype(np.int64).reshape(-1, 3)),
                )
            )
        device = atoms.pos.device
        source, target, shift = (
            torch.cat(list(column)).to(device) for column in zip(*parts, strict=True)
        )
        itself = (source == target) & (shift == 0).all(1)
        return source[~itself], target[~itself], shift[~itself]

    return run


SEARCHES = {
    "vesin": _per_graph(_vesin, "vesin"),
    "matscipy": _per_graph(_matscipy, "matscipy"),
}
