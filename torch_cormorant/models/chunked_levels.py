"""Networks whose levels read no edge features of others, chunk by chunk."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from torch_cormorant.models.energy import EnergyModel, atom_energies
from torch_cormorant.networks.radial_weights import WithRadialWeights

__all__ = ["LevelSweep"]

Chunks = Callable[[], Iterable[Any]]
Spans = list[tuple[int, int, int, int]]


class LevelSweep:
    """Forward through the levels of a network and back again, chunk by chunk.

    Args:
        model: The potential.
        network: Its network.
        z: Atomic numbers.
        spans: First and last receiver of every chunk.
        chunks: Makes the chunks, one after the other.
    """

    def __init__(
        self,
        model: EnergyModel,
        network: WithRadialWeights,
        z: Tensor,
        spans: Spans,
        chunks: Chunks,
    ) -> None:
        self.model, self.network, self.z = model, network, z
        self.spans, self.chunks = spans, chunks
        self.levels: list[Tensor] = []
        self.terms: Tensor | None = None

    def run(self) -> Tensor:
        """Energies of the atoms; chunks are handed the gradients of their vectors."""
        count = len(self.network.level_sizes())
        with torch.no_grad():
            self.levels.append(self.network.start(self.z))
            for s in range(count):
                parts = [self._level(s, chunk, first=s == 0) for chunk in self.chunks()]
                self.levels.append(torch.cat(parts) if parts else self.levels[s])
        energies, above, of_terms = self._readout()
        for s in reversed(range(count)):
            above = self._backward(s, above)
        for chunk in self.chunks():
            self._edge_terms(chunk, of_terms, energies)
        return energies

    def _level(self, s: int, chunk: Any, *, first: bool) -> Tensor:
        if first:
            chunk.check_distances()
            terms = self.network.edge_terms(self.z[chunk.nodes], chunk.geometry)
            if terms is not None:
                before = self.terms if self.terms is not None else terms[:0]
                self.terms = torch.cat([before, terms])
        return self._run(s, chunk, self.levels[s].index_select(0, chunk.nodes))

    def _run(self, s: int, chunk: Any, x: Tensor) -> Tensor:
        z, geometry = self.z[chunk.nodes], chunk.geometry
        place = self.network.coordinate(z, geometry)
        (weights,) = self.network.level_weights(place, [s])
        return self.network.level(s, x, z, geometry, weights)

    def _readout(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """Energies of atoms, and their gradients by what the head reads."""
        units, x = self.model.info.normalisation, self.levels.pop()
        references = units.atoms(self.z)[:, 0]
        energies, above = torch.empty_like(references), torch.empty_like(x)
        of_terms = None if self.terms is None else torch.empty_like(self.terms)
        for first, last, *_ in self.spans:
            part = slice(first, last)
            leaves = [x[part].detach().requires_grad_()]
            if self.terms is not None:
                leaves.append(self.terms[part].detach().requires_grad_())
            given = self.network.levels_of(leaves[0], (*leaves, None)[1])
            raw = self.network.atomwise(given, self.z[part]).squeeze(-1)
            atoms = atom_energies(raw, references[part], units)
            found = torch.autograd.grad(atoms.sum(), leaves)
            above[part], energies[part] = found[0], atoms.detach()
            if of_terms is not None:
                of_terms[part] = found[1]
        return energies, above, of_terms

    def _backward(self, s: int, above: Tensor) -> Tensor:
        """Gradient by the features that a level reads from that of its result."""
        features = self.levels.pop()
        below = torch.zeros_like(features)
        for chunk in self.chunks():
            x = features.index_select(0, chunk.nodes).requires_grad_()
            out = self._run(s, chunk, x)
            given = above[chunk.first : chunk.last]
            of_vec, of_x = torch.autograd.grad(
                out, [chunk.vec, x], given, allow_unused=True
            )
            chunk.add_forces(of_vec)
            if of_x is not None:
                below.index_add_(0, chunk.nodes, of_x)
        return below

    def _edge_terms(
        self, chunk: Any, of_terms: Tensor | None, energies: Tensor
    ) -> None:
        """What stands beside the levels, and its forces."""
        z, own = self.z[chunk.nodes], slice(chunk.first, chunk.last)
        extra = self.model.pair_energies(z, chunk.geometry.edge_index, chunk.vec)
        if extra is not None:
            extra = extra[: chunk.last - chunk.first]
            energies[own] += extra.detach()
            chunk.add_forces(torch.autograd.grad(extra.sum(), chunk.vec)[0])
        terms = self.network.edge_terms(z, chunk.geometry)
        if terms is not None and of_terms is not None:
            (gradient,) = torch.autograd.grad(terms, chunk.vec, of_terms[own])
            chunk.add_forces(gradient)
