"""A network that knows nothing of forces, units and files becomes a potential."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ase import Atoms
from torch import Tensor, nn
from torch_geometric.data import Batch, Data
from torch_geometric.nn.models.schnet import CFConv

from torch_cormorant import load_model, save_model
from torch_cormorant.errors import (
    ConfigError,
    ModelFileError,
    SpeciesError,
    WeightsError,
)
from torch_cormorant.interfaces.ase import CormorantCalculator
from torch_cormorant.interfaces.engine import Engine
from torch_cormorant.interfaces.traced import TracedPotential
from torch_cormorant.models import ModelInfo, Normalisation, Potential, Predictor
from torch_cormorant.networks import CormorantNetwork, Network
from torch_cormorant.networks.base import NETWORK_PARTS
from torch_cormorant.nn import ZBL, LevelSizes, envelope
from torch_cormorant.nn.parts import path_of
from torch_cormorant.ops import EdgeGeometry
from torch_cormorant.testing import (
    assert_forces_match_differences,
    stress_difference_error,
)
from torch_cormorant.train import PotentialRegression

Z = torch.tensor([8, 1, 1, 6])
POS = torch.tensor(
    [[0.0, 0, 0], [0, 0, 0.96], [0, 0.93, -0.24], [1.3, 0.1, 0.2]], dtype=torch.float64
)
CELL = torch.diag(torch.tensor([3.5, 4.0, 4.5], dtype=torch.float64))


class Neighbours(Network):
    """Ten lines: every atom looks at its neighbours once."""

    self_edges, hops, smooth_cutoff = False, 1, True

    def __init__(
        self,
        species: Any,
        cutoff: float | None = 3.0,
        width: int = 8,
        head: Any = "extensive",
    ) -> None:
        super().__init__(species, cutoff)
        self.start = nn.Linear(self.features.out_features, width)
        self.pair = nn.Linear(width, width)
        self.set_head(head, LevelSizes.of_scalars(width), hidden=8)

    def run_levels(self, z: Tensor, geometry: EdgeGeometry) -> list[Tensor]:
        source, target = geometry.edge_index
        h = self.start(self.features(z, self.dtype))
        w = envelope(geometry.edge_length, self.cutoff or 9.0)
        return [h.index_add(0, target, w[:, None] * self.pair(h)[source]).tanh()]


class Continuous(Network):
    """A continuous-filter convolution of PyG between two linear maps."""

    self_edges = False

    def __init__(self, species: Any, cutoff: float = 3.0, width: int = 8) -> None:
        super().__init__(species, cutoff)
        self.start = nn.Linear(self.features.out_features, width)
        filters = nn.Sequential(nn.Linear(6, width), nn.SiLU(), nn.Linear(width, width))
        self.conv = CFConv(width, width, width, filters, cutoff)
        self.set_head("extensive", LevelSizes.of_scalars(width, width), hidden=8)

    def run_levels(self, z: Tensor, geometry: EdgeGeometry) -> list[Tensor]:
        h = self.start(self.features(z, self.dtype))
        length = geometry.edge_length
        waves = torch.stack([torch.sin(k * length) for k in range(1, 7)], dim=1)
        return [h, self.conv(h, geometry.edge_index, length, waves)]


KINDS = [Neighbours, Continuous]


def potential(kind: Callable[..., Network] = Neighbours, **options: Any) -> Potential:
    torch.manual_seed(0)
    made = Potential(kind([1, 6, 8]), **options).double().eval()
    return made.set_units({1: -1.0, 6: -2.0, 8: -3.0}, scale=1.5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pair", [None, "zbl"])
def test_forces_and_stress_are_slopes(kind: Any, pair: str | None) -> None:
    model = potential(kind, pair=pair)
    found = model.evaluate(Z, POS, cell=CELL, stress=True)
    assert found.forces is not None
    assert float(found.forces.abs().max()) > 1e-3
    assert found.unit == "eV"
    assert_forces_match_differences(model, Z, POS, CELL)
    error, _ = stress_difference_error(model, Z, POS, CELL)
    assert float(error.abs().max()) < 1e-7
    raw = model(Z, POS).double().sum() * 1.5 - 7.0
    free = model.evaluate(Z, POS)
    repulsion = 0 if model.pair is None else model.pair_energies(Z, *edges(model)).sum()
    torch.testing.assert_close(free.energy[0], raw + repulsion)


def edges(model: Potential) -> tuple[Tensor, Tensor]:
    index = model.network.make_edges(POS, None)
    return index, POS[index[1]] - POS[index[0]]


@pytest.mark.parametrize("kind", KINDS)
def test_batches_and_given_edges_give_the_same(kind: Any) -> None:
    model = potential(kind)
    whole = model.evaluate(Z, POS)
    twice = model.evaluate(Z.repeat(2), POS.repeat(2, 1), torch.arange(8) // 4)
    torch.testing.assert_close(twice.energy, whole.energy.repeat(2))
    index, vec = edges(model)
    assert not bool((index[0] == index[1]).any())
    loops = torch.arange(4).expand(2, 4)
    given = model.evaluate(Z, POS, edge_index=torch.cat([index, loops], 1))
    torch.testing.assert_close(given.forces, whole.forces)
    out = model.network.forward_edges(Z, index, vec)
    torch.testing.assert_close(out, model.network(Z, POS))


def test_it_runs_in_ase_and_traced() -> None:
    model = potential(pair="zbl")
    expected = model.evaluate(Z, POS)
    atoms = Atoms(Z.numpy(), POS.numpy())
    atoms.calc = CormorantCalculator(model)
    assert expected.forces is not None
    torch.testing.assert_close(torch.from_numpy(atoms.get_forces()), expected.forces)
    assert "Neighbours, elements H, C, O" in repr(atoms.calc)
    found = TracedPotential(Engine(model), Z, POS)(POS)
    torch.testing.assert_close(found.forces, expected.forces)


def test_it_is_trained_and_its_weights_come_back() -> None:
    network = Neighbours([1, 6, 8]).double()
    module = PotentialRegression(network, Normalisation((0.0,), (2.0,)))
    data = Data(z=Z, pos=POS, energy=torch.tensor([1.0]), forces=torch.ones(4, 3))
    batch: Any = Batch.from_data_list([data, data])
    loss, _ = module.terms(batch)
    loss.backward()
    assert all(p.grad is not None for p in network.parameters())
    again = Potential(Neighbours([1, 6, 8]).double())
    again.load_state_dict(module.model.state_dict())
    torch.testing.assert_close(
        again.evaluate(Z, POS).energy, module.model.evaluate(Z, POS).energy
    )
    with pytest.raises(WeightsError, match="cutoff is"):
        Potential(Neighbours([1, 6, 8], 4.0)).load_state_dict(again.state_dict())


@pytest.mark.parametrize("wrap", [Potential, Predictor])
def test_a_file_names_the_class_and_loading_asks_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrap: Any
) -> None:
    model = wrap(Neighbours([1, 6, 8], width=4))
    model.info = ModelInfo(("energy",), ("eV",), Normalisation((1.0,), (2.0,)))
    path = tmp_path / "own.safetensors"
    save_model(path, model)
    found = load_model(path, parts=[Neighbours])
    assert type(found) is wrap
    assert found.start.out_features == 4
    assert found.info.units == ("eV",)
    assert torch.equal(found.predict(Z, POS), model.predict(Z, POS))
    monkeypatch.delitem(NETWORK_PARTS.classes, path_of(Neighbours))
    with pytest.raises(ModelFileError, match=r"no class .*Neighbours.*parts="):
        load_model(path)
    with pytest.raises(ConfigError, match="Potential or a Predictor"):
        save_model(path, Neighbours([1]))  # type: ignore[arg-type]


def test_what_cannot_be_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="Neighbours cannot be cut into levels"):
        potential().evaluate(Z, POS, memory="1GiB")
    with pytest.raises(ConfigError, match=r"one target per molecule.*dipole"):
        Potential(CormorantNetwork(head="dipole", channels=2, num_levels=1))
    with pytest.raises(ConfigError, match="network must be"):
        Potential(nn.Linear(1, 1))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="in 'kcal/mol'"):
        Potential(Neighbours([1]), ZBL([1], "kcal/mol"))
    with pytest.raises(ConfigError, match=r"cutoff is 0.5 .* reaches"):
        Potential(Neighbours([1, 6], 0.5), "zbl")
    with pytest.raises(ConfigError, match="parsec"):
        Potential(Neighbours([1]), energy_unit="parsec")


def test_what_is_not_its_own_is_asked_of_the_network() -> None:
    model = potential()
    assert (model.cutoff, model.hops, model.num_targets) == (3.0, 1, 1)
    assert model.head is model.network.head
    model.start = nn.Linear(9, 8).double()
    assert model.network.start.in_features == 9
    assert "start" not in dict(model.named_children())
    with pytest.raises(AttributeError, match="no attribute 'colour'"):
        _ = model.colour


def test_predictions_of_structures_are_those_of_tensors() -> None:
    network = Neighbours([1, 6, 8]).double()
    info = ModelInfo(("gap",), ("eV",), Normalisation((5.0,), (2.0,), {1: (1.0,)}))
    model = Predictor(network, info)
    data = [Data(z=Z[:n], pos=POS[:n], gap=torch.ones(1)) for n in (1, 4, 3)]
    expected = torch.cat([model.predict(one.z, one.pos) for one in data])
    for given in (data, Batch.from_data_list(data), tuple(data)):
        torch.testing.assert_close(model.predict(given, batch_size=2), expected)
    torch.testing.assert_close(model.predict(data[1]), expected[1:2])
    data[2].z = torch.tensor([8, 1, 92])
    with pytest.raises(SpeciesError, match="structure 2: z holds atomic number 92"):
        model.predict(data, batch_size=2)
    with pytest.raises(ConfigError, match="at least one"):
        model.predict([])
    with pytest.raises(ConfigError, match="pbc: properties are of molecules"):
        model.predict(Data(z=Z, pos=POS, cell=CELL, pbc=torch.ones(3).bool()))


def test_a_potential_evaluates_lists_of_cells() -> None:
    model = potential()
    pbc = torch.ones(3, dtype=torch.bool)
    data = [Data(z=Z, pos=POS, cell=k * CELL, pbc=pbc) for k in (1.0, 1.2)]
    found = model.evaluate_all(data, stress=True, batch_size=1)
    one = model.evaluate(Z, POS, cell=1.2 * CELL, stress=True)
    torch.testing.assert_close(found.energy[1:], one.energy)
    assert found.stress is not None
    assert one.stress is not None
    torch.testing.assert_close(found.stress[1:], one.stress)
    torch.testing.assert_close(model.predict(data), found.energy[:, None])
