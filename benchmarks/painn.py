"""PaiNN (Schuett, Unke and Gastegger 2021), written from its equations, as a peer."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.peers import InCell
from torch_cormorant.graph.lattice import edge_vectors


class Message(nn.Module):
    """Equations 7 and 8: scalars and vectors of neighbours through radial filters."""

    def __init__(self, features: int, num_basis: int) -> None:
        super().__init__()
        self.phi = nn.Sequential(
            nn.Linear(features, features),
            nn.SiLU(),
            nn.Linear(features, 3 * features),
        )
        self.filters = nn.Linear(num_basis, 3 * features)

    def forward(
        self,
        s: Tensor,
        v: Tensor,
        index: Tensor,
        basis: Tensor,
        near: Tensor,
        unit: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """New scalars ``[N, F]`` and vectors ``[N, 3, F]``."""
        source, target = index
        weights = self.phi(s)[source] * (self.filters(basis) * near)
        scalar, along, kept = weights.chunk(3, dim=-1)
        vector = v[source] * kept[:, None] + unit[:, :, None] * along[:, None]
        return s.index_add(0, target, scalar), v.index_add(0, target, vector)


class Update(nn.Module):
    """Equations 9 and 10: scalars and vectors of one atom mix."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.mixes = nn.Linear(features, 2 * features, bias=False)
        self.gates = nn.Sequential(
            nn.Linear(2 * features, features),
            nn.SiLU(),
            nn.Linear(features, 3 * features),
        )

    def forward(self, s: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """As :class:`Message`."""
        right, left = self.mixes(v).chunk(2, dim=-1)
        length = (right.square().sum(1) + 1e-8).sqrt()
        ss, vv, sv = self.gates(torch.cat([s, length], dim=-1)).chunk(3, dim=-1)
        return s + ss + sv * (left * right).sum(1), v + vv[:, None] * left


class PaiNNPeer(InCell):
    """The network of the paper: three blocks, 128 features, 20 radial functions.

    Args:
        cutoff: Radius of the graph in Angstrom. Default 5.
        features: Scalars and vectors of an atom. Default 128.
        blocks: Messages and updates. Default 3.
        num_basis: Radial functions. Default 20.
    """

    def __init__(
        self,
        cutoff: float = 5.0,
        features: int = 128,
        blocks: int = 3,
        num_basis: int = 20,
    ) -> None:
        super().__init__()
        self.cutoff, self.features, self.num_basis = cutoff, features, num_basis
        self.atoms = nn.Embedding(100, features)
        self.messages = nn.ModuleList(
            Message(features, num_basis) for _ in range(blocks)
        )
        self.updates = nn.ModuleList(Update(features) for _ in range(blocks))
        half = features // 2
        self.head = nn.Sequential(
            nn.Linear(features, half), nn.SiLU(), nn.Linear(half, 1)
        )

    def forward(
        self,
        z: Tensor,
        pos: Tensor,
        batch: Tensor,
        num_graphs: int,
        cell: Tensor | None = None,
        pbc: Tensor | None = None,
    ) -> Tensor:
        """One number per molecule ``[num_graphs, 1]``."""
        index, shift = self.edges(pos, batch, cell, pbc)
        vec = edge_vectors(pos, index, shift if cell is not None else None, cell, batch)
        rows = self.energies(z, index, vec)
        return rows.new_zeros(num_graphs, 1).index_add(0, batch, rows)

    def energies(self, z: Tensor, index: Tensor, vec: Tensor) -> Tensor:
        """One number per atom ``[N, 1]``, from edges and their vectors."""
        length = vec.norm(dim=-1, keepdim=True)
        number = torch.arange(1, self.num_basis + 1, device=vec.device)
        waves = torch.sin(number * math.pi / self.cutoff * length) / length
        near = 0.5 * (torch.cos(math.pi / self.cutoff * length) + 1)
        s = self.atoms(z)
        v = s.new_zeros(len(s), 3, self.features)
        unit = vec / length
        for message, update in zip(self.messages, self.updates, strict=True):
            s, v = message(s, v, index, waves, near, unit)
            s, v = update(s, v)
        rows: Tensor = self.head(s)
        return rows

    def to_original(self) -> dict[str, Tensor]:
        """The weights by the names of SchNetPack."""
        rc, body = self.cutoff, "representation"
        number = torch.arange(1, self.num_basis + 1)
        found = {
            f"{body}.embedding.weight": self.atoms.weight,
            f"{body}.radial_basis.freqs": number * math.pi / rc,
            f"{body}.cutoff_fn.cutoff": torch.tensor([rc]),
        }
        for kind in ("weight", "bias"):
            filters = [getattr(part.filters, kind) for part in self.messages]
            found[f"{body}.filter_net.{kind}"] = torch.cat(filters)
        names: dict[str, Any] = {"output_modules.0.outnet.": self.head}
        levels: Any = zip(self.messages, self.updates, strict=True)
        for k, (message, update) in enumerate(levels):
            context = "interatomic_context_net."
            names[f"{body}.interactions.{k}.{context}"] = message.phi
            names[f"{body}.mixing.{k}.intraatomic_context_net."] = update.gates
            found[f"{body}.mixing.{k}.mu_channel_mix.weight"] = update.mixes.weight
        for name, layers in names.items():
            for k, layer in ((0, layers[0]), (1, layers[2])):
                found[f"{name}{k}.weight"] = layer.weight
                found[f"{name}{k}.bias"] = layer.bias
        return found
