"""The transform that puts the edges' geometry on ``Data``."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch_geometric.data import Batch, Data
from torch_geometric.loader import DataLoader

from torch_cormorant import Cormorant, CormorantConv, EdgeGeometry, radius_graph
from torch_cormorant.errors import CellError, ConfigError, DataError, ShapeError
from torch_cormorant.graph import (
    AddEdgeGeometry,
    all_pairs,
    edge_vectors,
    neighbour_list,
)
from torch_cormorant.ops.radial_basis import bessel
from torch_cormorant.so3 import spherical_harmonics
from torch_cormorant.testing import random_molecule


def molecules(count: int = 3) -> list[Data]:
    generator = torch.Generator().manual_seed(0)
    graphs = []
    for n in range(4, 4 + count):
        z, pos = random_molecule(n, generator, torch.float64)
        graphs.append(Data(z=z, pos=pos, x=torch.randn(n, 3, dtype=torch.float64)))
    return graphs


def test_attributes_are_the_geometry_of_the_graph() -> None:
    data = AddEdgeGeometry(2.5, lmax=2, radial="bessel", num_basis=6)(molecules()[2])
    index = radius_graph(data.pos, 2.5)
    vec = data.pos[index[1]] - data.pos[index[0]]
    assert torch.equal(data.edge_index, index)
    assert torch.equal(data.edge_vec, vec)
    torch.testing.assert_close(data.edge_length, vec.norm(dim=1), rtol=1e-15, atol=0)
    assert torch.equal(data.edge_sh, spherical_harmonics(vec, 2))
    assert torch.equal(data.edge_radial, bessel(data.edge_length, 6, 2.5))


def test_the_data_given_is_not_changed() -> None:
    given = molecules()[0]
    AddEdgeGeometry(2.5)(given)
    assert given.keys() == molecules()[0].keys()


def test_without_a_cutoff_all_pairs_are_there() -> None:
    data = AddEdgeGeometry(None, harmonics="solid")(molecules()[1])
    assert torch.equal(data.edge_index, all_pairs(num_nodes=5))
    solid = spherical_harmonics(data.edge_vec, 3, normalize=False)
    assert torch.equal(data.edge_sh, solid)


@pytest.mark.parametrize("num_workers", [0])
def test_a_batch_feeds_layers_as_positions_do(num_workers: int) -> None:
    transform = AddEdgeGeometry(2.5, lmax=2)
    graphs = [transform(graph) for graph in molecules()]
    batch = next(iter(DataLoader(graphs, batch_size=3, num_workers=num_workers)))
    torch.manual_seed(0)
    conv = CormorantConv(3, 4, lmax=2).double()
    stored = conv(batch.x, EdgeGeometry.from_data(batch))
    direct = conv(batch.x, radius_graph(batch.pos, 2.5, batch.batch), pos=batch.pos)
    torch.testing.assert_close(stored, direct, rtol=1e-13, atol=1e-14)


def test_harmonics_of_the_data_are_used() -> None:
    data = AddEdgeGeometry(2.5, lmax=2)(molecules()[0])
    geometry = EdgeGeometry.from_data(data)
    assert geometry.sh(2) is data.edge_sh
    assert torch.equal(geometry.sh(1), data.edge_sh[:, :4])
    data.edge_sh = data.edge_sh[1:]
    with pytest.raises(ShapeError, match="edge_sh"):
        EdgeGeometry.from_data(data)


def test_saved_data_is_loaded_as_it_was(tmp_path: Path) -> None:
    data = AddEdgeGeometry(2.5)(molecules()[0])
    torch.save(data.to_dict(), tmp_path / "data.pt")
    loaded = torch.load(tmp_path / "data.pt", weights_only=True)
    assert torch.equal(loaded["edge_sh"], data.edge_sh)


def test_a_model_takes_the_stored_edges() -> None:
    data = AddEdgeGeometry(2.5)(molecules()[2])
    torch.manual_seed(0)
    species = sorted(set(data.z.tolist()))
    model = Cormorant(species, cutoff=2.5, channels=4, num_levels=2, lmax=1).double()
    stored = model.forward_edges(data.z, data.edge_index, data.edge_vec)
    torch.testing.assert_close(stored, model(data.z, data.pos), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cutoff": 2.0, "radial": "sine"}, "radial"),
        ({"cutoff": None, "radial": "bessel"}, "cutoff"),
        ({"cutoff": 2.0, "harmonics": "round"}, "harmonics"),
    ],
)
def test_contradicting_arguments_are_refused(
    arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        AddEdgeGeometry(**arguments)  # type: ignore[arg-type]


def test_missing_attributes_are_named() -> None:
    with pytest.raises(DataError, match="pos"):
        AddEdgeGeometry(2.0)(Data(z=torch.tensor([1])))
    with pytest.raises(ConfigError, match="edge_vec"):
        EdgeGeometry.from_data(molecules()[0])


def test_repr_names_cutoff_and_degree() -> None:
    assert repr(AddEdgeGeometry(5.0)) == "AddEdgeGeometry(cutoff=5.0, lmax=3)"


def test_periodic_data_get_the_edges_between_images() -> None:
    cell = torch.tensor([[4.0, 0, 0], [1.0, 4, 0], [0, 0, 5]])
    crystal = Data(pos=torch.rand(4, 3) * 4, cell=cell[None])
    slab = Data(
        pos=torch.rand(3, 3) * 4,
        cell=cell[None],
        pbc=torch.tensor([[True, True, False]]),
    )
    alone = Data(
        pos=torch.rand(2, 3), cell=torch.zeros(1, 3, 3), pbc=torch.zeros(1, 3).bool()
    )
    crystal.pbc = torch.ones(1, 3).bool()
    transform = AddEdgeGeometry(3.0, lmax=1)
    parts = [transform(data.clone()) for data in (crystal, slab, alone)]
    for data in parts:
        index, shift = neighbour_list(data.pos, 3.0, cell=data.cell, pbc=data.pbc)
        assert torch.equal(data.edge_index, index)
        assert torch.equal(data.edge_shift, shift)
        vec = edge_vectors(data.pos, index, shift, data.cell)
        assert torch.equal(data.edge_vec, vec)
    assert parts[0].edge_shift.any()
    joined = transform(Batch.from_data_list([crystal, slab, alone]))
    stacked = Batch.from_data_list(parts)
    assert torch.equal(joined.edge_index, stacked.edge_index)
    assert torch.equal(joined.edge_vec, stacked.edge_vec)
    with pytest.raises(ConfigError, match="all pairs"):
        AddEdgeGeometry(None)(crystal)
    crystal.cell = torch.zeros(1, 3, 3)
    with pytest.raises(CellError, match="does not span"):
        transform(crystal)
