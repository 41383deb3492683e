"""A PyG transform that puts the edges' geometry on ``Data``."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.transforms import BaseTransform

from torch_cormorant.errors import ConfigError, DataError
from torch_cormorant.graph.all_pairs import all_pairs
from torch_cormorant.graph.lattice import as_cells, edge_vectors
from torch_cormorant.graph.neighbour_list import graphs_of, neighbour_list
from torch_cormorant.graph.radius_graph import radius_graph
from torch_cormorant.ops.geometry import HARMONICS
from torch_cormorant.ops.radial_basis import bessel, gaussian
from torch_cormorant.ops.tensors import safe_norm
from torch_cormorant.so3.harmonics import spherical_harmonics
from torch_cormorant.so3.layout import check_degree

BASES = {"bessel": bessel, "gaussian": gaussian}


class AddEdgeGeometry(BaseTransform):
    """Put edges, vectors, lengths, harmonics and a radial basis on ``Data``.

    Plain tensors, so that they batch, save and move like every other attribute:
    ``edge_index``, ``edge_vec`` (``pos[target] - pos[source]``), ``edge_length``,
    ``edge_sh`` and, when asked, ``edge_radial``. Data with a ``cell`` (and ``pbc``, by
    default all directions) get the edges between periodic images too, and
    ``edge_shift``, the whole numbers of cell vectors.
    ``EdgeGeometry.from_data(batch)`` makes the object that layers share out of them.

    Args:
        cutoff: Radius of the graph in Angstrom; None: all pairs of the molecule. A
            graph that is there already is replaced.
        lmax: Largest degree of the harmonics. Default 3.
        radial: ``"bessel"`` or ``"gaussian"`` (these need a cutoff); None (default).
        num_basis: Number of radial functions. Default 16.
        harmonics: ``"unit"`` (default) or ``"solid"``.

    Shapes:
        ``edge_vec``, ``edge_shift`` ``[E, 3]``, ``edge_length`` ``[E]``, ``edge_sh``
        ``[E, (lmax + 1)^2]``, ``edge_radial`` ``[E, num_basis]``.

    Raises:
        ConfigError: If the arguments contradict each other, or all pairs are asked
            for in a periodic cell.
        DataError: If the data has no ``pos``.
        CellError: If the cell is zero, flat or not finite.

    Example:
        >>> import torch
        >>> from torch_geometric.data import Data
        >>> from torch_cormorant import EdgeGeometry
        >>> from torch_cormorant.graph import AddEdgeGeometry
        >>> data = Data(pos=torch.tensor([[0.0, 0, 0], [0, 0, 1], [0, 1, 0]]))
        >>> data = AddEdgeGeometry(cutoff=3.0, lmax=2, radial="bessel")(data)
        >>> tuple(data.edge_sh.shape), tuple(data.edge_radial.shape)
        ((6, 9), (6, 16))
        >>> EdgeGeometry.from_data(data)
        EdgeGeometry(3 nodes, 6 edges, 3 pairs, unit)

    Note:
        What is stored does not follow ``pos``: no gradient with respect to positions
        goes through it. For forces, build the geometry inside the model.
    """

    def __init__(
        self,
        cutoff: float | None,
        lmax: int = 3,
        radial: str | None = None,
        num_basis: int = 16,
        harmonics: str = "unit",
    ) -> None:
        if radial is not None and radial not in BASES:
            msg = f"radial must be one of {sorted(BASES)} or None, got {radial!r}"
            raise ConfigError(msg)
        if radial is not None and cutoff is None:
            msg = f'radial="{radial}" needs a cutoff in Angstrom'
            raise ConfigError(msg)
        if harmonics not in HARMONICS:
            msg = f'harmonics must be "unit" or "solid", got {harmonics!r}'
            raise ConfigError(msg)
        self.cutoff, self.lmax = cutoff, check_degree(lmax, "lmax")
        self.radial, self.num_basis, self.harmonics = radial, num_basis, harmonics

    def forward(self, data: Data) -> Data:
        """Add the attributes."""
        if data.pos is None:
            msg = "the data has no pos: positions [N, 3] in Angstrom are needed"
            raise DataError(msg)
        pos = data.pos.detach()
        batch = data.get("batch")
        cell, pbc = data.get("cell"), data.get("pbc")
        periodic = as_cells(cell, pbc, graphs_of(batch, cell), pos)
        if periodic is not None:
            self._add_periodic(data, pos, *periodic)
        else:
            if self.cutoff is None:
                index = all_pairs(batch, pos.shape[0], device=pos.device)
            else:
                index = radius_graph(pos, self.cutoff, batch)
            data.edge_index = index
            data.edge_vec = pos[index[1]] - pos[index[0]]
            if cell is not None:  # in a batch, others may be periodic
                data.edge_shift = torch.zeros_like(data.edge_vec)
        data.edge_length = safe_norm(data.edge_vec)
        data.edge_sh = spherical_harmonics(
            data.edge_vec, self.lmax, normalize=self.harmonics == "unit"
        )
        if self.radial is not None and self.cutoff is not None:
            basis = BASES[self.radial]
            data.edge_radial = basis(data.edge_length, self.num_basis, self.cutoff)
        return data

    def _add_periodic(self, data: Data, pos: Tensor, cell: Tensor, pbc: Tensor) -> None:
        """Edges between images; ``cell`` holds zeros where nothing repeats."""
        if self.cutoff is None:
            msg = "all pairs (cutoff=None) know no periodic cells; give cutoff= in A"
            raise ConfigError(msg)
        batch = data.get("batch")
        index, shift = neighbour_list(pos, self.cutoff, batch, cell, pbc)
        data.edge_index, data.edge_shift = index, shift
        data.edge_vec = edge_vectors(pos, index, shift, cell, batch)

    def __repr__(self) -> str:
        return f"AddEdgeGeometry(cutoff={self.cutoff}, lmax={self.lmax})"
