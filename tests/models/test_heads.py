"""Whole networks with every head."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from torch_cormorant import Cormorant, CormorantMD17, CormorantQM9, wigner_D
from torch_cormorant.errors import ConfigError, DtypeError, ShapeError
from torch_cormorant.nn import HEADS, scalars
from torch_cormorant.so3 import random_rotation

Molecules = Callable[..., tuple[Tensor, Tensor, Tensor]]
Spec = Any

SPECS: dict[str, Spec] = {
    **{name: name for name in HEADS},
    "degree 2": {"kind": "so3", "degree": 2},
    "atoms, degree 2": {"kind": "so3", "degree": 2, "per_atom": True},
    "two dipoles": {"kind": "dipole", "num_targets": 2},
    "list": ["extensive", "dipole"],
}
READ_POSITIONS = {
    "dipole",
    "dipole_norm",
    "spatial_extent",
    "polarizability",
    "polarizability_trace",
    "two dipoles",
    "list",
}


def small(head: Spec, **options: Any) -> Cormorant:
    torch.manual_seed(0)
    defaults = {"channels": 4, "num_levels": 2, "lmax": 2, "hidden": 16, "norm": "norm"}
    chosen = {"activation": "silu", **defaults, **options}
    return Cormorant(head=head, **chosen).double().requires_grad_(False)


def turned(out: Tensor, name: str, matrix: Tensor) -> Tensor:
    """What a rotation (or reflection) of the molecule makes of a prediction."""
    if name in {"dipole", "vector", "atom_vector", "so3", "two dipoles"}:
        return out @ matrix.T
    if name == "polarizability":
        return matrix @ out @ matrix.T
    if "degree 2" in name:  # even: a reflection acts as the rotation -R
        rotation = matrix * matrix.det().sign()
        return out @ wigner_D(rotation, 2)[4:, 4:].T
    if name == "list":
        return torch.cat([out[:, :1], out[:, 1:] @ matrix.T], dim=1)
    return out


def close(found: Tensor, expected: Tensor, tolerance: float = 1e-11) -> None:
    assert float(expected.abs().max()) > 1e-6
    error = float((found - expected).abs().max())
    assert error <= tolerance * max(1.0, float(expected.abs().max()))


@pytest.mark.parametrize("name", list(SPECS))
def test_predictions_turn_with_the_molecule(name: str, molecules: Molecules) -> None:
    model = small(SPECS[name])
    z, pos, batch = molecules(6, 1, 5)
    out = model(z, pos, batch)
    for rotation in random_rotation(3, generator=torch.Generator().manual_seed(2)):
        close(model(z, pos @ rotation.T, batch), turned(out, name, rotation))


@pytest.mark.parametrize("name", list(SPECS))
def test_with_even_paths_reflections_turn_them_too(
    name: str, molecules: Molecules
) -> None:
    model = small(SPECS[name], paths="even")
    z, pos, batch = molecules(6, 5)
    out = model(z, pos, batch)
    rotation = random_rotation(1, generator=torch.Generator().manual_seed(4))[0]
    mirror = rotation @ torch.diag(torch.tensor([1.0, 1, -1], dtype=torch.float64))
    close(model(z, pos @ mirror.T, batch), turned(out, name, mirror))
    close(model(z, -pos, batch), turned(out, name, -torch.eye(3).double()))


@pytest.mark.parametrize("name", list(SPECS))
def test_predictions_do_not_know_the_origin(name: str, molecules: Molecules) -> None:
    model = small(SPECS[name])
    z, pos, batch = molecules(6, 5)
    shift = torch.tensor([[3.0, -4.0, 12.0], [-7.0, 1.0, 0.5]]).double()
    close(model(z, pos + shift[batch], batch), model(z, pos, batch))


@pytest.mark.parametrize("name", list(SPECS))
def test_order_of_atoms_and_molecules(name: str, molecules: Molecules) -> None:
    model = small(SPECS[name])
    z, pos, batch = molecules(6, 1, 5)
    out = model(z, pos, batch)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(1))
    found = model(z[order], pos[order], batch[order])
    per_atom = model.head.per_atom
    close(found, out[order] if per_atom else out)
    for molecule in range(3):
        own = batch == molecule
        alone = model(z[own], pos[own])
        expected = out[own] if per_atom else out[molecule : molecule + 1]
        torch.testing.assert_close(alone, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", list(SPECS))
def test_gradients_in_float64(name: str, molecules: Molecules) -> None:
    model = small(SPECS[name])
    z, pos, _ = molecules(3)
    leaf = pos.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda p: model(z, p), (leaf,), fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda p: model(z, p), (leaf,), fast_mode=True)


@pytest.mark.parametrize("name", list(SPECS))
def test_molecules_without_atoms_and_single_atoms(name: str) -> None:
    model = small(SPECS[name])
    rows = 0 if model.head.per_atom else 2
    z, pos = torch.empty(0, dtype=torch.long), torch.empty(0, 3, dtype=torch.float64)
    found = model(z, pos, z, num_graphs=2)
    assert found.shape == (rows, *model.head.shape)
    assert bool(found.isfinite().all())
    z = torch.tensor([6])
    leaf = torch.randn(1, 3, dtype=torch.float64, requires_grad=True)
    one = model(z, leaf)
    assert one.shape == (1, *model.head.shape)
    one.sum().backward()
    assert not leaf.grad.any()  # alone in space, nothing points anywhere
    if name in {"dipole", "dipole_norm", "vector", "atom_vector", "two dipoles"}:
        assert float(one.detach().abs().max()) < 1e-15


def test_a_dipole_is_charges_times_positions_and_atomic_dipoles(
    molecules: Molecules,
) -> None:
    model = small("dipole")
    z, pos, _ = molecules(6)
    model.head.contraction.last.weight[1:].zero_()  # no atomic dipoles
    model.head.contraction.last.bias[1:].zero_()
    _, levels = model(z, pos, return_levels=True)
    values = 0.1 * model.head.contraction.mlp(scalars(levels))
    charge = values[:, 0] - values[:, 0].mean()
    assert float(charge.sum().abs()) < 1e-14
    close(model(z, pos)[0], (charge[:, None] * pos).sum(0))
    close(model(z, pos)[0], (charge[:, None] * (pos + 100)).sum(0))


def weights_alone(model: Cormorant) -> dict[str, Tensor]:
    """Weights that go into another head, on purpose."""
    return {name: value.detach() for name, value in model.named_parameters()}


def test_a_norm_is_the_length_of_its_dipole(molecules: Molecules) -> None:
    z, pos, batch = molecules(6, 5)
    vector, length = small("dipole"), small("dipole_norm")
    length.load_state_dict(weights_alone(vector))
    expected = vector(z, pos, batch).norm(dim=1, keepdim=True)
    torch.testing.assert_close(length(z, pos, batch), expected)


def test_a_trace_is_that_of_its_tensor(molecules: Molecules) -> None:
    z, pos, batch = molecules(6, 5)
    tensor, trace = small("polarizability"), small("polarizability_trace")
    weights = weights_alone(tensor)
    count = trace.head.contraction.last.out_features
    for name, value in weights.items():
        if name.startswith("head.contraction.mlp.2"):
            weights[name] = value[:count]
    trace.load_state_dict(weights)
    out = tensor(z, pos, batch)
    torch.testing.assert_close(out, out.mT)
    expected = out.diagonal(dim1=1, dim2=2).sum(1, keepdim=True)
    torch.testing.assert_close(trace(z, pos, batch), expected)


def test_contributions_add_up_to_the_prediction(molecules: Molecules) -> None:
    model = small("extensive", num_targets=2)
    z, pos, batch = molecules(6, 5)
    out, levels = model(z, pos, batch, return_levels=True)
    atoms = model.atom_contributions(z, pos, batch)
    assert torch.equal(atoms, model.atomwise(levels))
    total = torch.zeros(2, 2).double().index_add(0, batch, atoms)
    torch.testing.assert_close(total, out)
    with pytest.raises(ConfigError, match="this model has 'published'"):
        small("published").atom_contributions(z, pos, batch)


@pytest.mark.parametrize("name", list(SPECS))
def test_edges_need_positions_where_the_head_reads_them(
    name: str, molecules: Molecules
) -> None:
    model = small(SPECS[name])
    z, pos, batch = molecules(4, 3)
    index = model.make_edges(pos, batch)
    vec = pos[index[1]] - pos[index[0]]
    expected = model(z, pos, batch)
    found = model.forward_edges(z, index, vec, batch=batch, pos=pos)
    torch.testing.assert_close(found, expected)
    if name in READ_POSITIONS:
        with pytest.raises(ConfigError, match="give pos= to forward_edges"):
            model.forward_edges(z, index, vec, batch=batch)
    else:
        found = model.forward_edges(z, index, vec, batch=batch)
        torch.testing.assert_close(found, expected)


def test_positions_beside_edges_are_checked(molecules: Molecules) -> None:
    model = small("dipole")
    z, pos, batch = molecules(4, 3)
    index = model.make_edges(pos, batch)
    vec = pos[index[1]] - pos[index[0]]

    def call(given: Any) -> None:
        model.forward_edges(z, index, vec, batch=batch, pos=given)

    with pytest.raises(ShapeError, match=r"row of pos \(4, 3\)"):
        call(pos[:4])
    with pytest.raises(DtypeError, match="pos must be a floating point tensor"):
        call(pos.long())
    with pytest.raises(DtypeError, match="pos must be a tensor, got list"):
        call(pos.tolist())


def test_a_mapping_without_a_name_is_answered() -> None:
    with pytest.raises(ConfigError, match="needs its name as 'kind'"):
        Cormorant(head={"degree": 2})


def test_the_heads_of_networks_without_one() -> None:
    assert Cormorant().head.kind == "published"
    assert CormorantQM9().head.kind == "published"
    assert CormorantMD17().head.kind == "linear"
    assert CormorantQM9(head="dipole").head.kind == "dipole"


@pytest.mark.parametrize("name", list(SPECS))
def test_a_configuration_makes_the_same_head_again(name: str) -> None:
    model = small(SPECS[name])
    again = Cormorant(**model.config).double()
    again.load_state_dict(model.state_dict())
    assert again.head.shape == model.head.shape
    assert again.config == model.config


def test_number_of_targets_counts_columns() -> None:
    assert small("extensive", num_targets=3).num_targets == 3
    assert small("dipole").num_targets == 1
    model = small(["extensive", "dipole_norm", "dipole"])
    assert model.num_targets == 5
    assert model.info.normalisation.num_targets == 5


def test_forces_need_one_number_per_molecule(molecules: Molecules) -> None:
    z, pos, _ = molecules(3)
    small("extensive").energy_and_forces(z, pos)
    for head in ("vector", "dipole", ["extensive", "mean"]):
        with pytest.raises(ConfigError, match="one target"):
            small(head).energy_and_forces(z, pos)


def test_high_precision_positions_with_single_precision_weights(
    molecules: Molecules,
) -> None:
    z, pos, batch = molecules(6, 5)
    for name, shift in itertools.product(READ_POSITIONS, (0.0, 1e6)):
        model = small(SPECS[name]).float()
        out = model(z, pos, batch)
        assert out.dtype == torch.float32
        torch.testing.assert_close(
            model(z, pos + shift, batch), out, rtol=1e-4, atol=1e-4
        )
