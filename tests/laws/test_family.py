"""Laws that every network of the family obeys, in a potential or on its own."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ase import Atoms
from torch import Tensor, nn

from torch_cormorant import load_model, save_model
from torch_cormorant.errors import SpeciesError, WeightsError
from torch_cormorant.interfaces.ase import CormorantCalculator
from torch_cormorant.interfaces.engine import Engine
from torch_cormorant.interfaces.traced import TracedPotential
from torch_cormorant.models import Potential
from torch_cormorant.networks import (
    SEGNN,
    TFN,
    Allegro,
    ARandNet,
    BRandNet,
    L0Net,
    L2Net,
    NBodyNetwork,
    NequIP,
    Network,
    PaiNN,
    SchNet,
    SE3Transformer,
    SO3Net,
)
from torch_cormorant.ops import EdgeGeometry
from torch_cormorant.so3 import random_rotation
from torch_cormorant.testing import random_molecule

CUTOFF = 2.5
KERNELS = {
    "embedding": 5,
    "num_levels": 2,
    "num_basis": 8,
    "radius": CUTOFF,
    "avg_num_atoms": 4.0,
}
NETWORKS: dict[str, tuple[Callable[..., Network], dict[str, Any]]] = {
    "allegro": (Allegro, {"channels": 4, "scalars": 6, "num_levels": 3, "lmax": 2}),
    "allegro_spline": (
        Allegro,
        {
            "channels": 3,
            "scalars": 5,
            "embedding": {"kind": "spline", "num_splines": 6, "span": 3},
            "parity": False,
            "shared_weights": True,
            "readout": [],
            "acts": ["identity", "silu", "silu"],
            "avg_num_neighbors": [3.0, 4.0, 2.0, 5.0, 1.0],
            "edge_cutoffs": [[2.5, 2.4, 2.3, 2.2, 2.1]] * 5,
            "zbl": "metal",
        },
    ),
    "nequip": (NequIP, {"channels": 4, "num_levels": 3, "lmax": 2, "radial": [8]}),
    "nequip_even": (
        NequIP,
        {
            "channels": [4, 3],
            "parity": False,
            "num_levels": 3,
            "radial": [8],
            "trainable_basis": True,
            "avg_num_neighbors": [3.0, 4.0, 2.0, 5.0, 1.0],
            "edge_cutoffs": [[2.5, 2.4, 2.3, 2.2, 2.1]] * 5,
            "zbl": "metal",
            "embedding": 3,
        },
    ),
    "painn": (PaiNN, {"channels": 6, "num_levels": 2}),
    "painn_shared": (
        PaiNN,
        {
            "channels": 6,
            "num_levels": 2,
            "basis": "bessel_basis",
            "envelope": {"kind": "mollifier", "eps": 1e-6},
            "shared_levels": True,
            "shared_filters": True,
            "head": {"kind": "atomwise", "scale": "species", "shift": "species"},
        },
    ),
    "se3": (SE3Transformer, {"channels": 4, "heads": 2, "num_levels": 2}),
    "segnn": (SEGNN, {"channels": [4, 3, 2], "lmax": 2, "num_levels": 2}),
    "segnn_linear": (
        SEGNN,
        {"channels": 4, "lmax_attr": 2, "num_levels": 2, "layer": "linear"},
    ),
    "schnet": (SchNet, {"channels": 6, "filters": 5, "num_levels": 2}),
    "so3net": (SO3Net, {"channels": 3, "num_levels": 2}),
    "so3net_shared": (
        SO3Net,
        {
            "channels": 4,
            "lmax": 1,
            "num_levels": 2,
            "basis": "bessel_basis",
            "envelope": "mollifier",
            "shared_levels": True,
        },
    ),
    "tfn": (TFN, {"irreps": "4x0e + 3x1o + 2x2e", "radial": [8]}),
    "tfn_so3": (
        TFN,
        {
            "irreps": "5x0 + 4x1",
            "lmax_sh": 2,
            "num_levels": 3,
            "avg_num_neighbors": 3.0,
            "envelope": {"kind": "mollifier", "eps": 1e-6},
            "basis": {"kind": "e3nn_basis", "shape": "smooth_finite"},
            "head": "extensive",
        },
    ),
    "l0net": (L0Net, {**KERNELS, "irreps": "5x0", "radial": [6, 6]}),
    "l2net": (L2Net, {**KERNELS, "irreps": "4x0 + 3x1 + 2x2", "radial": [6]}),
    "brandnet": (
        BRandNet,
        {
            **KERNELS,
            "irreps": "4x0 + 2x1",
            "radial": [],
            "out_irreps": "3x0 + 2x1",
            "out_levels": 2,
            "out_channels": 4,
        },
    ),
    "nbody": (
        NBodyNetwork,
        {
            "channels": 3,
            "num_levels": 2,
            "norm": None,
            "gates": "relative",
            "product": "full",
        },
    ),
    "nbody_sums": (
        NBodyNetwork,
        {
            "channels": 3,
            "num_levels": 2,
            "lmax": 2,
            "gates": ["single", "pairs"],
            "complex": True,
            "product": "channelwise",
            "gate": True,
        },
    ),
    "extensive": (PaiNN, {"channels": 6, "num_levels": 2, "head": "extensive"}),
}
CHIRAL = {"tfn_so3", "l2net", "brandnet", "se3"}
"""Without parities: they see a molecule in a mirror as another one."""
Batch = tuple[Tensor, Tensor, Tensor]


def make(name: str) -> Potential:
    kind, options = NETWORKS[name]
    torch.manual_seed(2)
    network = kind([1, 6, 7, 8, 9], cutoff=CUTOFF, **options).double()
    for part in network.head.buffers():
        if part.is_floating_point():
            nn.init.normal_(part)
    return Potential(network).eval()


@pytest.fixture(params=list(NETWORKS))
def potential(request: pytest.FixtureRequest) -> Potential:
    return make(request.param)


def molecules(*sizes: int) -> Batch:
    generator = torch.Generator().manual_seed(5)
    z, pos = zip(*(random_molecule(n, generator) for n in sizes), strict=True)
    batch = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    return torch.cat(z), torch.cat(pos), batch


def close(found: Tensor, expected: Tensor, tolerance: float = 1e-12) -> bool:
    found, expected = found.detach(), expected.detach()
    scale = max(1.0, float(expected.abs().max())) if expected.numel() else 1.0
    return found.shape == expected.shape and bool(
        ((found - expected).abs() <= tolerance * scale).all()
    )


@pytest.mark.parametrize("sign", [1, -1])
def test_turned_and_moved_molecules(
    potential: Potential, sign: int, request: pytest.FixtureRequest
) -> None:
    z, pos, batch = molecules(7, 5)
    energy, forces = potential.energy_and_forces(z, pos, batch)
    assert float(forces.abs().max()) > 1e-4
    R, step = sign * random_rotation(), torch.tensor([3.0, -2.0, 1.0])
    turned, pulled = potential.energy_and_forces(z, pos @ R.T + step, batch)
    if sign < 0 and request.node.callspec.params["potential"] in CHIRAL:
        assert not close(turned, energy, 1e-6)
        return
    assert close(turned, energy, 1e-11)
    assert close(pulled, forces @ R.T, 1e-11)


def test_order_of_atoms(potential: Potential) -> None:
    z, pos, _ = molecules(8)
    energy, forces = potential.energy_and_forces(z, pos)
    order = torch.randperm(8)
    again, moved = potential.energy_and_forces(z[order], pos[order])
    assert close(again, energy)
    assert close(moved, forces[order])


def test_molecules_do_not_see_each_other(potential: Potential) -> None:
    z, pos, batch = molecules(7, 5, 6)
    energy, forces = potential.energy_and_forces(z, pos, batch)
    for k in range(3):
        mine = batch == k
        alone, own = potential.energy_and_forces(z[mine], pos[mine])
        assert close(alone, energy[k : k + 1])
        assert close(own, forces[mine])


def test_an_atom_alone_and_no_atom_at_all(potential: Potential) -> None:
    z, pos, _ = molecules(6)
    far = torch.cat([pos, pos.new_tensor([[90.0, 0, 0]])])
    result = potential.evaluate(torch.cat([z, z[:1]]), far)
    alone = potential.evaluate(z[:1], pos[:1])
    assert close(result.energies[-1:], alone.energies)
    assert not result.forces[-1].any()
    assert close(result.energy, potential.evaluate(z, pos).energy + alone.energy)
    nothing = potential.evaluate(z[:0], pos[:0], num_graphs=2)
    assert nothing.energy.tolist() == [0, 0]
    assert tuple(nothing.forces.shape) == (0, 3)


def test_without_neighbours_nequip_has_no_energy() -> None:
    network = NequIP([1, 8], channels=4, lmax=1, num_levels=2, radial=[8])
    out = network(torch.tensor([8]), torch.zeros(1, 3))
    assert out.tolist() == [[0.0]]


def test_forces_are_the_slope(potential: Potential) -> None:
    z, pos, _ = molecules(4)
    given = pos.requires_grad_()

    def energy(pos: Tensor) -> Tensor:
        out: Tensor = potential.network(z, pos).sum()
        return out

    assert torch.autograd.gradcheck(energy, given, atol=1e-7)
    assert torch.autograd.gradgradcheck(energy, given, atol=1e-6, fast_mode=True)
    (slope,) = torch.autograd.grad(energy(given), given)
    _, forces = potential.energy_and_forces(z, pos.detach())
    assert close(forces, -slope)


def test_energies_of_atoms_add_up_and_the_cell_repeats(potential: Potential) -> None:
    z, pos, _ = molecules(5)
    out = potential.evaluate(z, pos, cell=7 * torch.eye(3).double(), stress=True)
    assert close(out.energies.sum()[None], out.energy)
    twice = potential.evaluate(
        z.repeat(2),
        torch.cat([pos, pos + pos.new_tensor([7.0, 0, 0])]),
        cell=torch.diag(torch.tensor([14.0, 7, 7], dtype=torch.float64)),
        stress=True,
    )
    assert close(twice.energy, 2 * out.energy)
    assert close(twice.stress, out.stress)


def test_repeats_are_equal_bit_by_bit(potential: Potential) -> None:
    z, pos, batch = molecules(7, 5)
    first = potential.energy_and_forces(z, pos, batch)
    for found, expected in zip(
        potential.energy_and_forces(z, pos, batch), first, strict=True
    ):
        assert torch.equal(found, expected)


@pytest.mark.parametrize(
    "kind", [Allegro, NequIP, SE3Transformer, SEGNN, SchNet, SO3Net, TFN]
)
def test_one_compiled_graph(kind: Callable[..., Network]) -> None:
    own: dict[str, Any] = {"channels": 3}
    if kind is TFN:
        own = {"irreps": "3x0e + 2x1o"}
    if kind is ARandNet:
        own = {"irreps": "3x0 + 1x1", "radial": [5], "num_levels": 1}
    network = kind(cutoff=CUTOFF, **{"num_levels": 2, **own}).double()
    z, pos, _ = molecules(6)
    index = network.make_edges(pos, None)
    geometry = network.geometry(index, pos[index[1]] - pos[index[0]], len(z))
    geometry.sh(2)

    def energy(z: Tensor, geometry: EdgeGeometry) -> Tensor:
        return network.atomwise(network.run_levels(z, geometry), z).sum(0)

    torch.compiler.reset()
    compiled = torch.compile(energy, fullgraph=True, backend="eager")
    assert close(compiled(z, geometry), energy(z, geometry))


def boxed() -> tuple[Tensor, Tensor, Tensor, Atoms]:
    z, pos, _ = molecules(5)
    box = Atoms(z.numpy(), pos.numpy(), cell=[7.0] * 3, pbc=True)
    return z, pos, 7 * torch.eye(3, dtype=torch.float64), box


def test_ase_gives_the_same(potential: Potential) -> None:
    z, pos, cell, box = boxed()
    out = potential.evaluate(z, pos, cell=cell, stress=True)
    box.calc = CormorantCalculator(potential)
    energy = torch.tensor([box.get_potential_energy()], dtype=torch.float64)
    assert close(energy, out.energy)
    assert close(torch.tensor(box.get_forces()), out.forces)
    assert close(torch.tensor(box.get_stress(voigt=False)), out.stress[0])


def test_torch_sim_gives_the_same(potential: Potential) -> None:
    torch_sim = pytest.importorskip("torch_sim")
    sim_model = pytest.importorskip("torch_cormorant.interfaces.torch_sim")
    z, pos, cell, box = boxed()
    out = potential.evaluate(z, pos, cell=cell, stress=True)
    state = torch_sim.io.atoms_to_state([box], torch.device("cpu"), torch.float64)
    found = sim_model.CormorantSimModel(potential)(state)
    assert close(found["energy"], out.energy)
    assert close(found["forces"], out.forces)
    assert close(found["stress"][0], out.stress[0])


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
@pytest.mark.parametrize(
    "kind", [SEGNN, Allegro, NequIP, PaiNN, SchNet, SE3Transformer]
)
def test_functional_derivatives(kind: Callable[..., Network]) -> None:
    network = kind(cutoff=CUTOFF, channels=4, num_levels=1).double()
    z, pos, _ = molecules(4)
    index = network.make_edges(pos, None)
    source, target = index
    plan = network.geometry(index, pos[target] - pos[source], len(z)).plan

    def energy(pos: Tensor) -> Tensor:
        vec = pos[target] - pos[source]
        geometry = EdgeGeometry.from_plan(index, vec, plan)
        return network.atomwise(network.run_levels(z, geometry), z).sum()

    given = pos.clone().requires_grad_()
    (slope,) = torch.autograd.grad(energy(given), given)
    assert close(torch.func.grad(energy)(pos), slope)
    v = torch.randn_like(pos)
    hessian = torch.func.jacrev(torch.func.grad(energy))(pos)
    _, along = torch.func.jvp(torch.func.grad(energy), (pos,), (v,))
    assert close(torch.einsum("iajb,jb->ia", hessian, v), along, 1e-11)


@pytest.mark.parametrize("name", ["painn", "tfn", "l2net"])
def test_a_traced_graph_gives_the_same(name: str) -> None:
    potential, (z, pos, _) = make(name), molecules(5)
    traced = TracedPotential(Engine(potential, dtype=pos.dtype), z, pos)
    expected = potential.evaluate(z, pos)
    found = traced(pos)
    assert close(found.energy.view(1), expected.energy)
    assert close(found.forces.view_as(pos), expected.forces)


def test_weights_of_other_settings_are_refused() -> None:
    state = NequIP(channels=4, num_levels=2).state_dict()
    with pytest.raises(WeightsError, match=r"avg_num_neighbors=3\.0"):
        NequIP(channels=4, num_levels=2, avg_num_neighbors=3.0).load_state_dict(state)
    with pytest.raises(WeightsError, match="power is 5"):
        NequIP(channels=4, num_levels=2, power=5.0).load_state_dict(state)
    state = PaiNN(channels=4, num_levels=2).state_dict()
    other = PaiNN(channels=4, num_levels=2, envelope="polynomial")
    with pytest.raises(WeightsError, match="envelope is"):
        other.load_state_dict(state)


def test_smooth_where_a_neighbour_comes_in(potential: Potential) -> None:
    z = torch.tensor([6, 8])
    values = []
    for r in (CUTOFF - 1e-5, CUTOFF + 1e-5):
        pos = torch.tensor([[0.0, 0, 0], [0, 0, r]], dtype=torch.float64)
        values.append(potential.energy_and_forces(z, pos))
    (e1, f1), (e2, f2) = values
    assert abs(float(e1 - e2)) < 1e-7
    assert float((f1 - f2).abs().max()) < 1e-3


def test_files_keep_the_network(potential: Potential, tmp_path: Path) -> None:
    z, pos, batch = molecules(7, 5)
    save_model(tmp_path / "model.safetensors", potential)
    again = load_model(tmp_path / "model.safetensors")
    assert type(again.network) is type(potential.network)
    expected = potential.energy_and_forces(z, pos, batch)
    for found, value in zip(
        again.energy_and_forces(z, pos, batch), expected, strict=True
    ):
        assert torch.equal(found, value)


def test_training_steps_lower_the_loss(potential: Potential) -> None:
    network, (z, pos, batch) = copy.deepcopy(potential.network), molecules(6, 6, 6)
    target = torch.tensor([[1.0], [-1.0], [0.3]], dtype=torch.float64)
    adam = torch.optim.Adam(network.parameters(), lr=1e-2)
    losses = []
    for _ in range(30):
        loss = (network(z, pos, batch) - target).square().mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(loss.detach())
    assert losses[-1] < 0.5 * losses[0]


def test_unknown_elements_are_refused(potential: Potential) -> None:
    with pytest.raises(SpeciesError, match="knows"):
        potential.evaluate(torch.tensor([35]), torch.zeros(1, 3))


@pytest.mark.parametrize("kind", [PaiNN, SO3Net])
def test_vectors_make_dipoles(kind: Callable[..., Network]) -> None:
    network = kind([1, 6, 7, 8, 9], channels=6, num_levels=2, head="dipole").double()
    z, pos, batch = molecules(6, 5)
    R = random_rotation()
    out = network(z, pos, batch)
    assert close(network(z, pos @ R.T, batch), out @ R.T)
    assert float(out.detach().abs().max()) > 1e-4
