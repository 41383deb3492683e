"""Parts of molecules and their positions, from the edges of all pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from torch_cormorant.errors import ConfigError, EdgeIndexError
from torch_cormorant.graph import composition_scheme
from torch_cormorant.ops import EdgeGeometry
from torch_cormorant.ops.segment import scatter_sum

__all__ = ["SCHEMES", "Parts", "parts_of"]

SCHEMES = ("balls", "hydrogens", "root")
"""Schemes that have a name."""


class Parts(NamedTuple):
    """Parts of one level.

    Attributes:
        edge_index: Child and part ``[2, E]``.
        below: Positions of the children.
        pos: Positions of the parts.
        atoms: Atom and part that holds it ``[2, M]``.
        num_atoms: Number of atoms.
    """

    edge_index: Tensor
    below: Tensor
    pos: Tensor
    atoms: Tensor
    num_atoms: int


def parts_of(
    scheme: str,
    named: Sequence[Sequence[int]] | None,
    z: Tensor,
    geometry: EdgeGeometry,
) -> list[Parts]:
    """The levels of a scheme, positions differentiable by the vectors of the edges.

    Args:
        scheme: ``"hydrogens"``, ``"root"`` or ``"fragments"``.
        named: Atoms of the fragments of one molecule.
        z: Atomic numbers.
        geometry: All pairs of all molecules, self edges included.

    Raises:
        EdgeIndexError: A pair of a molecule is missing.
        ConfigError: A molecule has no heavy atom, or other atoms than the fragments.
    """
    pos, batch = molecules_of(geometry)
    fragments: list[list[int]] | Tensor | None = None
    if scheme == "hydrogens":
        fragments = with_hydrogens(z, pos.detach(), batch)
    elif scheme == "fragments" and named is not None:
        fragments = _everywhere(named, batch)
    made = composition_scheme(pos.detach(), batch, fragments=fragments)
    found, below = [], pos
    for level, place in zip(made.levels, made.positions(pos), strict=True):
        found.append(Parts(level.edge_index, below, place, level.atoms, len(z)))
        below = place
    return found


def molecules_of(geometry: EdgeGeometry) -> tuple[Tensor, Tensor]:
    """Positions from the centroid of the molecule, and its number, for every atom.

    The mean of the vectors from all atoms of a molecule, itself included, to an atom.
    """
    count = geometry.num_targets
    source, target = geometry.edge_index
    number = torch.bincount(target, minlength=count)
    first = torch.arange(count, device=target.device)
    first = first.scatter_reduce(0, target, source, "amin")
    kinds, batch = first.unique(return_inverse=True)
    size = torch.bincount(batch, minlength=len(kinds))
    if bool((size[batch] != number).any()):
        atom = int((size[batch] != number).nonzero()[0])
        msg = (
            f"parts of molecules need every pair of a molecule: atom {atom} has "
            f"{int(number[atom])} edges for {int(size[batch][atom])} atoms; leave the "
            "search for edges to the network"
        )
        raise EdgeIndexError(msg)
    sums = scatter_sum(geometry.edge_vec, target, count, validate=False)
    return sums / number.clamp_min(1).unsqueeze(1).to(sums.dtype), batch


def with_hydrogens(z: Tensor, pos: Tensor, batch: Tensor) -> Tensor:
    """Number of the part of every atom: its heavy atom, of hydrogens the nearest one.

    Where a molecule has none, every atom is a part.
    """
    heavy = (z > 1).nonzero().flatten()
    light = (z == 1).nonzero().flatten()
    part = torch.arange(len(z), device=z.device)
    if len(heavy) and len(light):
        distance = torch.cdist(pos[light], pos[heavy])
        other = batch[light].unsqueeze(1) != batch[heavy]
        distance = distance.masked_fill(other, torch.inf)
        near = distance.argmin(1)
        alone = ~distance.isfinite().any(1)
        part[light] = torch.where(alone, light, heavy[near])
    number: Tensor = part.unique(return_inverse=True)[1]
    return number


def _everywhere(named: Sequence[Sequence[int]], batch: Tensor) -> list[list[int]]:
    """The fragments of one molecule in every molecule of a batch."""
    sizes = torch.bincount(batch).tolist()
    atoms = {a for part in named for a in part}
    wanted = max(atoms) + 1 if atoms else 0
    if any(size != wanted for size in sizes) or len(atoms) != wanted:
        msg = (
            f"the fragments name {len(atoms)} atoms from 0 to {wanted - 1}, molecules "
            f"have {sorted(set(sizes))}; every atom needs a part"
        )
        raise ConfigError(msg)
    order = torch.argsort(batch, stable=True).tolist()
    found, start = [], 0
    for size in sizes:
        found += [[order[start + a] for a in part] for part in named]
        start += size
    return found
