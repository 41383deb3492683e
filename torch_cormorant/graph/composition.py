"""Composition schemes: which atoms make which part, and which parts the whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from torch_cormorant.errors import ConfigError, EdgeIndexError, ShapeError
from torch_cormorant.graph.checks import check_batch, check_positions
from torch_cormorant.graph.radius_graph import radius_graph

__all__ = ["Composition", "PartLevel", "composition_scheme"]

PLACES = ("centroid", "mass", "centre")


@dataclass(frozen=True)
class PartLevel:
    """Parts of one level, and what they are made of. Parts may overlap.

    Attributes:
        edge_index: ``[2, E]``: child in the level below (the atoms, below the first)
            and part.
        atoms: ``[2, M]``: atom and part that holds it, each once.
        batch: Molecule of every part ``[T]``.
        centre: Atom that a part is drawn around ``[T]``; None where there is none.
    """

    edge_index: Tensor
    atoms: Tensor
    batch: Tensor
    centre: Tensor | None = None

    @property
    def num_parts(self) -> int:
        """Number of parts T."""
        return int(self.batch.shape[0])


@dataclass(frozen=True)
class Composition:
    """A composition scheme: levels of parts over the atoms of molecules.

    Kondor 2018, section 2: a directed acyclic graph, not always a tree.

    Attributes:
        levels: The levels, from the smallest parts on.
        num_atoms: Number of atoms.
    """

    levels: tuple[PartLevel, ...]
    num_atoms: int

    def positions(
        self, pos: Tensor, place: str = "centroid", masses: Tensor | None = None
    ) -> list[Tensor]:
        """Positions of the parts of all levels; gradients go through them.

        Args:
            pos: Positions of the atoms ``[N, 3]``.
            place: ``"centroid"`` of the atoms (default), their centre of ``"mass"``, or
                ``"centre"``: the atom that the part is drawn around.
            masses: ``[N]``, for the centre of mass.

        Returns:
            ``[T, 3]`` of every level.

        Raises:
            ConfigError: The place is unknown, masses are missing, or parts have no
                centre.
            ShapeError: A tensor has another length.
        """
        if place not in PLACES:
            raise ConfigError(f"place must be one of {PLACES}, got {place!r}")
        if (place == "mass") != (masses is not None):
            raise ConfigError('give masses= for place="mass", and only there')
        weight = pos.new_ones(self.num_atoms) if masses is None else masses
        if len(pos) != self.num_atoms or weight.shape != (self.num_atoms,):
            msg = (
                f"pos and masses must have {self.num_atoms} rows, got {len(pos)} and "
                f"{list(weight.shape)}"
            )
            raise ShapeError(msg)
        if place == "centre":
            return [pos[self._centre(level)] for level in self.levels]
        return [_mean(pos, weight.to(pos), level) for level in self.levels]

    def _centre(self, level: PartLevel) -> Tensor:
        if level.centre is None:
            msg = (
                'place="centre" needs parts drawn around atoms (radii or bonds), '
                'without a root; take "centroid"'
            )
            raise ConfigError(msg)
        return level.centre

    def to_data(self, **atoms: Tensor) -> HeteroData:
        """The scheme as PyG's ``HeteroData``, which collates into batches.

        Node types are ``"atom"``, ``"part0"``, ``"part1"``, ...; edges of type ``in``
        lead from children to parts, edges ``of`` from atoms to the parts that hold
        them.

        Args:
            **atoms: Attributes of the atoms, such as ``z`` and ``pos``.
        """
        data = HeteroData()
        data["atom"].num_nodes = self.num_atoms
        for name, value in atoms.items():
            data["atom"][name] = value
        below = "atom"
        for s, level in enumerate(self.levels):
            here = f"part{s}"
            data[here].num_nodes = level.num_parts
            if level.centre is not None:
                data["atom", "around", here].edge_index = torch.stack(
                    [level.centre, torch.arange(level.num_parts).to(level.centre)]
                )
            data[below, "in", here].edge_index = level.edge_index
            data["atom", "of", here].edge_index = level.atoms
            below = here
        return data

    @classmethod
    def from_data(cls, data: Any) -> Composition:
        """The scheme of such data, or of a batch of them."""
        levels, below = [], "atom"
        for s in range(sum(str(kind).startswith("part") for kind in data.node_types)):
            here = f"part{s}"
            batch = data[here].get("batch")
            if batch is None:
                batch = torch.zeros(int(data[here].num_nodes), dtype=torch.int64)
            around = ("atom", "around", here)
            drawn = around in data.edge_types
            levels.append(
                PartLevel(
                    data[below, "in", here].edge_index,
                    data["atom", "of", here].edge_index,
                    batch,
                    data[around].edge_index[0] if drawn else None,
                )
            )
            below = here
        return cls(tuple(levels), int(data["atom"].num_nodes))


def composition_scheme(
    pos: Tensor,
    batch: Tensor | None = None,
    *,
    radii: Sequence[float] = (),
    bonds: Any = None,
    fragments: Sequence[Sequence[int]] | Tensor | None = None,
    root: bool = True,
) -> Composition:
    """Parts of molecules, by radii, bonds or names, and the whole above them.

    Kondor 2018, section 2, leaves the scheme open. Parts by names or bonds are the
    first level, balls the ones above them, or the first where there are none.

    Args:
        pos: Positions ``[N, 3]`` in Angstrom.
        batch: Molecule of each atom ``[N]``; None: one molecule.
        radii: Radii of balls around every atom in Angstrom, rising. A ball is made of
            those of the level below that lie inside of it: of the atoms nearer than
            the first radius, then of balls with centres nearer than the difference of
            the radii.
        bonds: ``[2, B]``, each bond once or both ways; or a molecule of RDKit. A part
            is an atom with those bonded to it.
        fragments: Atoms of every part, as lists that may overlap; or the number of the
            part of every atom ``[N]``. Each part lies in one molecule.
        root: Add one part of everything for each molecule. Default True.

    Returns:
        The scheme; an atom that no part holds is in none of the levels above either.

    Raises:
        ConfigError: Radii do not rise, several kinds of first parts are given, or none
            at all.
        EdgeIndexError: A bond or a fragment names an atom that does not exist, or
            joins two molecules.
        ShapeError, DtypeError, NonFiniteError: ``pos`` or ``batch`` does not fit.

    Example:
        >>> import torch
        >>> pos = torch.tensor([[0.0, 0, 0], [0, 0, 1], [0, 0, 2.5], [0, 0, 3.5]])
        >>> scheme = composition_scheme(pos, fragments=[[0, 1], [2, 3]])
        >>> [level.num_parts for level in scheme.levels]
        [2, 1]
        >>> scheme.positions(pos)[0][:, 2].tolist()
        [0.5, 3.0]
    """
    check_positions(pos)
    count = pos.shape[0]
    here = torch.zeros(count, dtype=torch.int64, device=pos.device)
    if batch is not None:
        here = check_batch(batch, count, pos.device)
    if bonds is not None and fragments is not None:
        raise ConfigError("give bonds or fragments, not both")
    if fragments is not None and radii:
        raise ConfigError(
            "give fragments or radii, not both: named parts have no centre"
        )
    steps = [float(r) for r in radii]
    if any(b <= a for a, b in zip([0.0, *steps], steps, strict=False)):
        msg = f"radii must be positive and rise from level to level, got {list(radii)}"
        raise ConfigError(msg)
    levels: list[PartLevel] = []
    if fragments is not None:
        levels.append(_first(_named(fragments, count), here))
    if bonds is not None:
        levels.append(_first(_bonded(bonds, count, pos.device), here, drawn=True))
    inner = 0.0
    for radius in steps:
        index = radius_graph(pos, radius - inner, batch, loop=True)
        levels.append(_above(levels, index, here, drawn=True))
        inner = radius
    if root:
        levels.append(_root(levels, here))
    if not levels:
        raise ConfigError("give radii, bonds or fragments, or root=True")
    return Composition(tuple(levels), count)


def _first(index: Tensor, batch: Tensor, *, drawn: bool = False) -> PartLevel:
    """Parts made of atoms."""
    number = int(index[1].max()) + 1 if index.numel() else 0
    number = max(number, len(batch)) if drawn else number
    of = batch.new_full((number,), -1)
    of[index[1]] = batch[index[0]]
    if bool((of[index[1]] != batch[index[0]]).any()):
        edge = int((of[index[1]] != batch[index[0]]).nonzero()[0])
        msg = f"part {int(index[1, edge])} holds atoms of two molecules; see batch"
        raise EdgeIndexError(msg)
    centre = torch.arange(number, device=batch.device) if drawn else None
    return PartLevel(index, index, of, centre)


def _above(
    levels: Sequence[PartLevel], index: Tensor, batch: Tensor, *, drawn: bool
) -> PartLevel:
    """Parts made of the parts of the last level, or of atoms where there is none."""
    if not levels:
        return _first(index, batch, drawn=drawn)
    below = levels[-1]
    number = torch.bincount(below.atoms[1], minlength=below.num_parts)
    order = torch.argsort(below.atoms[1], stable=True)
    start = number.cumsum(0) - number
    repeats = number[index[0]]
    part = index[1].repeat_interleave(repeats)
    first = (start[index[0]] - (repeats.cumsum(0) - repeats)).repeat_interleave(repeats)
    place = torch.arange(len(part), device=index.device) + first
    held = torch.stack([part, below.atoms[0][order[place]]]).unique(dim=1).flip(0)
    count = int(batch.max()) + 1 if not drawn and len(batch) else len(batch)
    own = torch.arange(count, device=batch.device)
    return PartLevel(index, held, batch if drawn else own, own if drawn else None)


def _root(levels: Sequence[PartLevel], batch: Tensor) -> PartLevel:
    """One part for each molecule."""
    of = levels[-1].batch if levels else batch
    index = torch.stack([torch.arange(len(of), device=of.device), of])
    if levels:
        return _above(levels, index, batch, drawn=False)
    count = int(batch.max()) + 1 if len(batch) else 0
    return PartLevel(index, index, torch.arange(count, device=batch.device))


def _named(fragments: Sequence[Sequence[int]] | Tensor, count: int) -> Tensor:
    """Edges from atoms to named parts, sorted by part."""
    if isinstance(fragments, Tensor):
        if fragments.shape != (count,):
            msg = f"fragments must have shape [{count}], got {list(fragments.shape)}"
            raise ShapeError(msg)
        part = fragments.long()
        atom = torch.arange(count, device=part.device)
        index = torch.stack([atom, part])[:, torch.argsort(part, stable=True)]
    else:
        pairs = [(a, k) for k, atoms in enumerate(fragments) for a in sorted({*atoms})]
        index = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).T.contiguous()
    _check_atoms(index[0], count, "fragments name")
    if index.numel() and int(index[1].min()) < 0:
        raise EdgeIndexError("fragments must number parts from 0 on")
    return index


def _bonded(bonds: Any, count: int, device: torch.device) -> Tensor:
    """Edges from atoms to the parts around the atoms that they are bonded to."""
    if hasattr(bonds, "GetBonds"):
        pairs = [(b.GetBeginAtomIdx(), b.GetEndAtomIdx()) for b in bonds.GetBonds()]
        bonds = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).T
    if bonds.ndim != 2 or bonds.shape[0] != 2:
        msg = f"bonds must have shape [2, B], got {list(bonds.shape)}"
        raise ShapeError(msg)
    bonds = bonds.to(device)
    _check_atoms(bonds, count, "bonds name")
    own = torch.arange(count, device=device).expand(2, -1)
    every = torch.cat([bonds, bonds.flip(0), own], dim=1)
    found: Tensor = every.flip(0).unique(dim=1).flip(0)  # sorted by part, each once
    return found


def _check_atoms(atoms: Tensor, count: int, what: str) -> None:
    bad = (atoms < 0) | (atoms >= count)
    if bool(bad.any()):
        msg = f"{what} atom {int(atoms[bad][0])}, atoms are numbered 0 to {count - 1}"
        raise EdgeIndexError(msg)


def _mean(pos: Tensor, weight: Tensor, level: PartLevel) -> Tensor:
    """Weighted mean of the atoms of every part."""
    atom, part = level.atoms
    rows = torch.cat([pos * weight.unsqueeze(1), weight.unsqueeze(1)], dim=1)
    sums = rows.new_zeros(level.num_parts, 4).index_add(0, part, rows[atom])
    return sums[:, :3] / sums[:, 3:]
