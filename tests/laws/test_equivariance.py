"""Rotations: layers turn with their input, networks do not see them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from torch_cormorant import Cormorant, CormorantConv, radius_graph, wigner_D
from torch_cormorant.so3 import (
    cube_rotations,
    random_rotation,
    rotation_from_axis_angle,
)
from torch_cormorant.testing import assert_equivariant, random_molecule

Make = Callable[..., Any]


def rotations(count: int) -> Tensor:
    """The 24 of the cube and random ones."""
    generator = torch.Generator().manual_seed(0)
    return torch.cat([cube_rotations(), random_rotation(count, generator)])


def layer_case(
    lmax: int, lmax_in: int, dtype: torch.dtype, **options: Any
) -> tuple[Callable[[Tensor, Tensor], Tensor], Tensor, Tensor]:
    """A layer as a function of features and edge vectors, and its arguments."""
    torch.manual_seed(lmax)
    _, pos = random_molecule(6, torch.Generator().manual_seed(lmax))
    index = radius_graph(pos, 2.6, loop=True)
    conv = CormorantConv(2, 2, lmax=lmax, lmax_in=lmax_in, **options).to(dtype)
    planes = conv.planes
    shape = (6, (lmax_in + 1) ** 2, planes, 2) if lmax_in else (6, 2)
    x = torch.randn(shape, dtype=torch.float64).to(dtype)

    def function(x: Tensor, vec: Tensor) -> Tensor:
        out = conv(x, index, vec)
        assert isinstance(out, Tensor)
        return out.detach()

    return function, x, (pos[index[1]] - pos[index[0]]).to(dtype)


@pytest.mark.parametrize("lmax", [1, 2, 3, 4, 5, 6])
def test_layer_in_float64(lmax: int) -> None:
    case = layer_case(lmax, lmax, torch.float64)
    turns = rotations(100 if lmax < 4 else 10)
    assert_equivariant(*case, rotations=turns, tolerance=1e-13)


@pytest.mark.parametrize(
    "options",
    [
        {"lmax_in": 0},
        {"lmax_in": 1, "lmax_sh": 4},
        {"harmonics": "solid"},
        {"paths": "even"},
        {"complex": False},
        {"backend": "reference"},
        {"radial": "bessel", "cutoff": 3.0},
        {"gaussian_mask": True},
        {"init": "published", "gain": 5.0},
    ],
    ids=str,
)
def test_layer_in_float64_with_options(options: dict[str, Any]) -> None:
    case = layer_case(3, **{"lmax_in": 3, "dtype": torch.float64, **options})
    assert_equivariant(*case, rotations=rotations(10), tolerance=1e-13)


@pytest.mark.parametrize("lmax", [1, 2, 3, 4, 5, 6])
def test_layer_in_float32(lmax: int) -> None:
    options = {"radial": "bessel", "cutoff": 3.0}
    case = layer_case(lmax, lmax, torch.float32, **options)
    assert_equivariant(*case, rotations=rotations(10), tolerance=2e-6)


@pytest.mark.parametrize("lmax", [1, 3, 6])
def test_layer_in_float32_under_rotations_without_rounding(lmax: int) -> None:
    """Published radial functions amplify the rounding of turned vectors."""
    case = layer_case(lmax, lmax, torch.float32)
    assert_equivariant(*case, rotations=cube_rotations(), tolerance=2e-6)


COORDINATE = st.floats(-1, 1, allow_nan=False, width=32)


@settings(max_examples=50)
@given(
    axis=st.tuples(COORDINATE, COORDINATE, COORDINATE).filter(any),
    angle=st.floats(-7, 7, allow_nan=False),
    seed=st.integers(0, 2**31),
)
def test_any_rotation_of_any_graph(
    axis: tuple[float, float, float], angle: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    _, pos = random_molecule(5, generator)
    index = radius_graph(pos, 2.6)
    torch.manual_seed(0)
    conv = CormorantConv(2, 2, lmax=2, lmax_in=1).double()
    x = torch.randn(5, 4, 2, 2, generator=generator, dtype=torch.float64)
    direction = torch.tensor(axis, dtype=torch.float64)
    direction = direction / direction.abs().max()
    turn = rotation_from_axis_angle(direction, torch.tensor(angle).double())
    assert_equivariant(
        lambda x, pos: conv(x, index, pos=pos),
        x,
        pos,
        rotations=turn[None],
        tolerance=1e-13,
    )


@pytest.mark.parametrize("lmax", [2])
def test_trained_layers_in_float64(lmax: int) -> None:
    torch.manual_seed(0)
    _, pos = random_molecule(6)
    index = radius_graph(pos, 2.6, loop=True)
    convs = [
        CormorantConv(2, 3, lmax=lmax).double(),
        CormorantConv(3, 2, lmax=lmax, lmax_in=lmax, edge_state_channels=2).double(),
    ]
    x, target = torch.randn(6, 2).double(), torch.randn(6, 2).double()

    def function(x: Tensor, pos: Tensor) -> Tensor:
        y, g = convs[0](x, index, pos=pos, return_edge_state=True)
        out = convs[1](y, index, pos=pos, edge_state=g)
        assert isinstance(out, Tensor)
        return out

    parameters = [p for conv in convs for p in conv.parameters()]
    adam = torch.optim.Adam(parameters, lr=1e-2)
    losses = []
    for _ in range(20):
        loss = (function(x, pos)[:, 0, 0] - target).square().mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]
    assert_equivariant(function, x, pos, rotations=rotations(20), tolerance=1e-12)


def deviations(
    model: Cormorant,
    several: tuple[Tensor, Tensor, Tensor],
    turns: Tensor,
    dtype: torch.dtype,
) -> list[float]:
    """Largest relative errors of energies, levels and forces."""
    # Several molecules: the energy of a single one may happen to be close to zero.
    z, pos, batch = several
    pos = pos.to(dtype)

    def run(pos: Tensor) -> tuple[Tensor, list[Tensor], Tensor]:
        leaf = pos.detach().clone().requires_grad_()
        out, levels = model(z, leaf, batch, return_levels=True)
        (slope,) = torch.autograd.grad(out.sum(), leaf)
        return out.detach(), [level.detach().double() for level in levels], slope

    energy, levels, slope = run(pos)
    sizes = [float(part.abs().max()) for part in (energy, *levels, slope)]
    assert min(sizes[:-1]) > 1e-3
    worst = [0.0] * len(sizes)
    for turn in turns:
        found, others, other = run((pos.double() @ turn.T).to(dtype))
        D = wigner_D(turn, 3)
        errors = [found - energy]
        for a, b in zip(others, levels, strict=True):
            size = b.shape[1]
            errors.append(a - torch.einsum("mk,nkpc->nmpc", D[:size, :size], b))
        errors.append(other.double() - slope.double() @ turn.T)
        for k, error in enumerate(errors):
            worst[k] = max(worst[k], float(error.abs().max()) / sizes[k])
    return worst


@pytest.mark.parametrize("trained", [False, True])
def test_networks_in_float64(
    name: str, trained: bool, network: Make, molecules: Make
) -> None:
    model = network(name, trained=trained)
    turns = rotations(8)[::2]
    assert max(deviations(model, molecules(5, 3, 6), turns, torch.float64)) <= 1e-12


@pytest.mark.parametrize("trained", [False, True])
def test_networks_in_float32(
    name: str, trained: bool, network: Make, molecules: Make
) -> None:
    model = network(name, torch.float32, trained=trained)
    turns = rotations(6)[::3]
    worst = deviations(model, molecules(5, 3, 6), turns, torch.float32)
    # Measured: energies and levels at most 2.4e-6, forces at most 4.9e-6.
    assert max(worst) <= 1e-5
