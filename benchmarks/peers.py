"""Whole networks of other packages behind one signature, for comparisons.

Every peer is called as ``peer(z, pos, batch, num_graphs) -> [num_graphs, 1]`` and
gets the edges of our own search, so that no comparison depends on a neighbour search.
Those that know periodic cells take ``cell`` and ``pbc`` of our ``neighbour_list`` too.
"""

from __future__ import annotations

import contextlib
import importlib
import warnings
from collections.abc import Iterator, Sequence
from importlib import metadata, util
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.mace_peer import mace_input, make_mace
from torch_cormorant.errors import ConfigError
from torch_cormorant.graph import neighbour_list, radius_graph
from torch_cormorant.graph.lattice import edge_vectors

SPECIES = (1, 6, 7, 8, 9)
MEAN_NEIGHBOURS = 14.0
"""Neighbours within 5 Angstrom in QM9, which NequIP and MACE divide their sums by."""


class PeerMissingError(ConfigError):
    """A package that a comparison needs is not installed."""


def version_of(package: str) -> str | None:
    """Version of an installed package, or None."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


class InCell(nn.Module):
    """A network that can be given cell vectors."""

    cutoff: float

    def edges(
        self, pos: Tensor, batch: Tensor, cell: Tensor | None, pbc: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Edges, and the whole numbers of cell vectors ``[E, 3]`` that they cross."""
        if cell is None:
            index = radius_graph(pos, self.cutoff, batch)
            return index, index.new_zeros(index.shape[1], 3)
        return neighbour_list(pos.detach(), self.cutoff, batch, cell, pbc)


class SchNetPeer(InCell):
    """PyG's SchNet (Schuett et al. 2017), its default sizes.

    Args:
        cutoff: Radius of the graph in Angstrom. Default 10, as in PyG.
        mean: Average over atoms instead of a sum. Default False.
        dipole: Norm of a dipole moment, as PyG offers it. Default False.
        **sizes: More arguments of ``torch_geometric.nn.models.SchNet``.
    """

    def __init__(
        self,
        cutoff: float = 10.0,
        *,
        mean: bool = False,
        dipole: bool = False,
        **sizes: Any,
    ) -> None:
        from torch_geometric.nn.models import SchNet

        super().__init__()
        self.cutoff = cutoff
        self.cell: tuple[Tensor | None, Tensor | None] = (None, None)
        self.net = SchNet(
            cutoff=cutoff,
            interaction_graph=self._graph,
            readout="mean" if mean else "add",
            dipole=dipole,
            **sizes,
        )

    def _graph(self, pos: Tensor, batch: Tensor) -> tuple[Tensor, Tensor]:
        edge_index, shift = self.edges(pos, batch, *self.cell)
        if self.cell[0] is None:
            return edge_index, edge_vectors(pos, edge_index).norm(dim=-1)
        vec = edge_vectors(pos, edge_index, shift, self.cell[0], batch)
        return edge_index, vec.norm(dim=-1)

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
        del num_graphs  # PyG counts the molecules itself
        self.cell = (cell, pbc)  # PyG asks for the graph with positions and batch only
        out: Tensor = self.net(z, pos, batch)
        return out


@contextlib.contextmanager
def _our_graph_in_visnet() -> Iterator[None]:
    """PyG's ViSNet looks up ``radius_graph``, which wants pyg-lib: lend it ours."""
    from torch_geometric.nn.models import visnet

    def graph(
        pos: Tensor, r: float, batch: Tensor, loop: bool, max_num_neighbors: int
    ) -> Tensor:
        del max_num_neighbors  # never truncated
        return radius_graph(pos, r, batch, loop=loop)

    theirs = visnet.radius_graph
    visnet.radius_graph = graph
    try:
        yield
    finally:
        visnet.radius_graph = theirs


class ViSNetPeer(nn.Module):
    """PyG's ViSNet (Wang et al. 2024), its default sizes.

    Args:
        cutoff: Radius of the graph in Angstrom. Default 5, as in PyG.
        mean: Average over atoms instead of a sum. Default False.
        **sizes: More arguments of ``torch_geometric.nn.models.ViSNet``.
    """

    def __init__(
        self, cutoff: float = 5.0, *, mean: bool = False, **sizes: Any
    ) -> None:
        from torch_geometric.nn.models import ViSNet

        super().__init__()
        self.net = ViSNet(cutoff=cutoff, reduce_op="mean" if mean else "sum", **sizes)

    def forward(self, z: Tensor, pos: Tensor, batch: Tensor, num_graphs: int) -> Tensor:
        """One number per molecule ``[num_graphs, 1]``."""
        del num_graphs
        with _our_graph_in_visnet():
            out: Tensor = self.net(z, pos, batch)[0]
        return out.view(-1, 1)


class Given(NamedTuple):
    """Structures as those networks are told of them."""

    kinds: Tensor
    pos: Tensor
    batch: Tensor
    edge_index: Tensor
    shift: Tensor
    cell: Tensor | None


class OfKinds(InCell):
    """What NequIP and MACE share: kinds of atoms, numbers of atoms, sums over them.

    Args:
        species: Atomic numbers that may occur.
        cutoff: Radius of the graph in Angstrom. Default 5.
        mean: Average over atoms instead of a sum. Default False.
        **sizes: More arguments of the network.

    Raises:
        PeerMissingError: The package is not installed.
    """

    module: str
    package: str
    kinds: Tensor

    def __init__(
        self,
        species: Sequence[int] = SPECIES,
        cutoff: float = 5.0,
        *,
        mean: bool = False,
        **sizes: Any,
    ) -> None:
        super().__init__()
        if util.find_spec(self.module) is None:
            msg = f"{self.package} is not installed: pip install {self.package}"
            raise PeerMissingError(msg)
        self.species, self.cutoff, self.mean = tuple(species), cutoff, mean
        with warnings.catch_warnings(), _torch_state_kept():
            warnings.simplefilter("ignore")
            self.net = self._make(**sizes)
        table = torch.zeros(max(species) + 1, dtype=torch.long)
        table[torch.tensor(self.species)] = torch.arange(len(self.species))
        self.register_buffer("kinds", table, persistent=False)

    def _make(self, **sizes: Any) -> Any:
        raise NotImplementedError

    def _atoms(self, data: Given, num_graphs: int) -> Tensor:
        raise NotImplementedError

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
        edge_index, shift = self.edges(pos, batch, cell, pbc)
        given = Given(self.kinds[z], pos, batch, edge_index, shift.to(pos), cell)
        atoms = self._atoms(given, num_graphs).to(pos).view(-1, 1)
        total = atoms.new_zeros(num_graphs, 1).index_add(0, batch, atoms)
        if not self.mean:
            return total
        return total / torch.bincount(batch, minlength=num_graphs).clamp(min=1)[:, None]


class NequIPPeer(OfKinds):
    """NequIP (Batzner et al. 2022) on e3nn's tensor products, without compilation.

    Four layers, degree 2 and 32 channels of every degree, as in NequIP, where sizes
    (arguments of ``nequip.model.NequIPGNNModel``) do not say otherwise.
    """

    module = package = "nequip"

    def _make(self, **sizes: Any) -> Any:
        importlib.import_module("nequip.utils.global_state").set_global_state()
        return importlib.import_module("nequip.model").NequIPGNNModel(
            seed=0,
            model_dtype="float32",
            r_max=self.cutoff,
            type_names=[f"Z{number}" for number in self.species],
            parity=False,
            avg_num_neighbors=MEAN_NEIGHBOURS,
            do_derivatives=False,
            **{"num_layers": 4, "l_max": 2, "num_features": 32, **sizes},
        )

    def _atoms(self, data: Given, num_graphs: int) -> Tensor:
        given = {
            "pos": data.pos,
            # NequIP's first row is the atom that receives.
            "edge_index": data.edge_index.flip(0),
            "atom_types": data.kinds,
            "batch": data.batch,
            "num_atoms": torch.bincount(data.batch, minlength=num_graphs),
        }
        if data.cell is not None:
            given |= {"cell": data.cell.view(-1, 3, 3), "edge_cell_shift": -data.shift}
        out: Tensor = self.net(given)["atomic_energy"]
        return out


class MACEPeer(OfKinds):
    """MACE (Batatia et al. 2022), without compilation.

    Sizes are arguments of :func:`.make_mace`.
    """

    module, package = "mace", "mace-torch"

    def _make(self, **sizes: Any) -> Any:
        return make_mace(self.species, self.cutoff, neighbours=MEAN_NEIGHBOURS, **sizes)

    def _atoms(self, data: Given, num_graphs: int) -> Tensor:
        cell = data.pos.new_zeros(1, 3, 3) if data.cell is None else data.cell
        given = mace_input(
            data.kinds,
            len(self.species),
            data.pos,
            data.batch,
            data.edge_index,
            data.shift,
            cell.to(data.pos).expand(num_graphs, 3, 3),
        )
        out: Tensor = self.net(given, compute_force=False)["node_energy"]
        return out


@contextlib.contextmanager
def _torch_state_kept() -> Iterator[None]:
    """NequIP sets the default dtype and seeds everything; undo both."""
    dtype = torch.get_default_dtype()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.set_default_dtype(dtype)
