"""Neighbour lists of other packages, asked a little beyond the cutoff, made exact.

Every backend gets the wrapped atoms of one cell at a time and returns all pairs that
it finds within a slightly larger radius; the rule of the package decides about each.
vesin and matscipy compute on the CPU, nvalchemi where the positions are.
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

Found = tuple[Tensor, Tensor, Tensor]
"""(source, target, shift) of integers; shift as the edges of this package count it."""
NAIVE = 500
"""Up to so many atoms nvalchemi compares all pairs instead of sorting into cells."""
CAPACITY = 64
"""Neighbours of an atom that nvalchemi has room for at first; it counts all of them."""


def _vesin(pos: Tensor, cell: Any, pbc: Any, radius: float) -> Found:
    vesin = load_extension("vesin")
    search = vesin.NeighborList(cutoff=radius, full_list=True)
    points = pos.cpu().numpy()
    # its shift belongs to second minus first, so second is our target
    return _tensors(*search.compute(points, cell, pbc, quantities="ijS"))


def _matscipy(pos: Tensor, cell: Any, pbc: Any, radius: float) -> Found:
    load_extension("matscipy")  # with a helpful error where it is missing
    neighbours = importlib.import_module("matscipy.neighbours")
    points = pos.cpu().numpy()
    return _tensors(
        *neighbours.neighbour_list(
            "ijS", positions=points, cell=cell, pbc=pbc, cutoff=radius
        )
    )


def _tensors(*arrays: Any) -> Found:
    first, second, shift = (torch.from_numpy(a.astype(np.int64)) for a in arrays)
    return first, second, shift


def _nvalchemi(pos: Tensor, cell: Any, pbc: Any, radius: float) -> Found:
    """Every row of its matrix holds the neighbours of an atom, up to a capacity.

    What does not fit is left out, but counted, so the search is repeated with room.
    """
    load_extension("nvalchemiops")
    try:
        neighbours = importlib.import_module("nvalchemiops.torch.neighbors")
    except ImportError as error:
        msg = (
            f"this nvalchemi-toolkit-ops cannot be used ({error}); to get one that "
            'can: pip install --upgrade "nvalchemi-toolkit-ops>=0.5"'
        )
        raise BackendError(msg) from error
    repeats = {
        "cell": torch.from_numpy(cell).to(pos).unsqueeze(0),
        "pbc": torch.tensor(pbc, device=pos.device).unsqueeze(0),
    }
    room = CAPACITY
    while True:
        second, counts, shift = neighbours.neighbor_list(
            pos,
            radius,
            method="naive" if len(pos) <= NAIVE else "cell_list",
            max_neighbors=room,
            **repeats,
        )
        most = int(counts.max())
        if most <= room:
            break
        room = most
    used = torch.arange(room, device=pos.device) < counts.unsqueeze(1)
    first = torch.repeat_interleave(counts.long())
    return first, second[used].long(), shift[used].long()


def _box(cell: Any, pbc: Any, pos: Tensor, radius: float) -> Any:
    """Replace vectors that do not repeat by ones that fit around the atoms."""
    box = np.array(cell, dtype=np.float64)
    lost = [axis for axis in range(3) if not pbc[axis]]
    extent = float(pos.abs().max()) + radius
    for axis in lost:
        done = [box[k] for k in range(3) if k not in lost or k < axis]
        basis, _ = np.linalg.qr(np.array([*done, *np.eye(3)]).T)
        box[axis] = 4 * extent * basis[:, len(done)]
    return box


def _per_graph(
    search: Callable[[Tensor, Any, Any, float], Found], name: str
) -> Callable[[Wrapped, Tensor, float], Edges]:
    """Run a search on every cell of a batch."""

    def run(atoms: Wrapped, pbc: Tensor, radius: float) -> Edges:
        cells, periodic = atoms.cells.cpu().numpy(), pbc.cpu().numpy()
        device = atoms.pos.device
        parts: list[Edges] = []
        for graph in atoms.batch.unique().tolist():
            mine = (atoms.batch == graph).nonzero().squeeze(1)
            own, flags = atoms.pos[mine], periodic[graph]
            box = _box(cells[graph], flags, own, radius)
            try:
                found = search(own, box, flags, radius)
            except (RuntimeError, ValueError) as error:
                msg = (
                    f"{name} failed on graph {graph}: {error}; use "
                    'backend="cells", which takes any cell'
                )
                raise BackendError(msg) from error
            source, target, shift = (part.to(device) for part in found)
            parts.append((mine[source], mine[target], shift.view(-1, 3)))
        source, target, shift = (
            torch.cat(list(column)) for column in zip(*parts, strict=True)
        )
        itself = (source == target) & (shift == 0).all(1)
        return source[~itself], target[~itself], shift[~itself]

    return run


SEARCHES = {
    "vesin": _per_graph(_vesin, "vesin"),
    "matscipy": _per_graph(_matscipy, "matscipy"),
    "nvalchemi": _per_graph(_nvalchemi, "nvalchemi"),
}
