"""Nothing happens suddenly when atoms pass the cutoff."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

Make = Callable[..., Any]
CUTOFF = 3.0
# Masks that still let through much near the cutoff, so that there is something to see.
OPEN = {"soft_radius": 2.8, "soft_width": 0.5, "gain": 2.0}
STEPS = [10.0**-k for k in range(3, 10)]


def along(model: Any, length: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Energy of two atoms and its two derivatives by their distance."""
    r = length.clone().requires_grad_()
    ends = torch.stack([0 * r, 0.6 * r, 0.8 * r], dim=-1)
    pos = torch.stack([torch.zeros_like(ends), ends], dim=1).flatten(0, 1)
    batch = torch.arange(len(r)).repeat_interleave(2)
    z = torch.tensor([6, 8]).repeat(len(r))
    energy = model(z, pos, batch).squeeze(1)
    (slope,) = torch.autograd.grad(energy.sum(), r, create_graph=True)
    curvature = torch.zeros_like(r)
    if slope.requires_grad:
        (curvature,) = torch.autograd.grad(slope.sum(), r, materialize_grads=True)
    return energy.detach(), slope.detach(), curvature


@pytest.mark.parametrize("radial", ["bessel", "gaussian", "power_trig"])
@pytest.mark.parametrize(
    "options",
    [{}, {"paths": "even"}, {"input": "mpnn"}, {"input": "mpnn", "num_mpnn_layers": 2}],
    ids=str,
)
def test_energy_and_two_derivatives_vanish_at_the_cutoff(
    radial: str, options: dict[str, Any], network: Make
) -> None:
    """One K bounds value, slope and curvature by K h^3, K h^2, K h."""
    model = network("gated", cutoff=CUTOFF, radial=radial, **options, **OPEN)
    apart = model(torch.tensor([6, 8]), torch.tensor([[0.0, 0, 0], [9, 9, 9]]).double(),
                  torch.tensor([0, 1])[[0, 0]])  # fmt: skip
    h = torch.tensor(STEPS, dtype=torch.float64)
    energy, slope, curvature = along(model, CUTOFF - h)
    K = 2 * float((curvature[0] / h[0]).abs())
    assert K > 1e-3
    noise = 1e-14
    assert bool(((energy - apart[0, 0]).abs() <= K * h**3 + noise).all())
    assert bool((slope.abs() <= K * h**2 + noise).all())
    # rounding of 1 - r / r_c is seen directly in the curvature
    assert bool((curvature.abs() <= K * (h + 1e-15) + noise).all())


def test_energy_does_not_change_beyond_the_cutoff(network: Make) -> None:
    model = network("gated", cutoff=CUTOFF, **OPEN)
    beyond = torch.tensor([CUTOFF, CUTOFF + 1e-9, 3.1, 10, 1e4], dtype=torch.float64)
    energy, slope, curvature = along(model, beyond)
    # rows of one batch may be rounded differently
    assert float((energy - energy[-1]).abs().max()) < 1e-15
    assert not slope.any()
    assert not curvature.any()


def test_edge_scalars_at_and_beyond_the_cutoff_are_exactly_zero(network: Make) -> None:
    model = network("gated", cutoff=CUTOFF, **OPEN)
    index = torch.tensor([[0, 1], [1, 0]])
    z = torch.tensor([6, 8])
    for length in (CUTOFF, torch.nextafter(torch.tensor(CUTOFF).double(),
                   torch.tensor(9.0).double()).item(), 7.0):  # fmt: skip
        vec = torch.tensor([[0, 0, length], [0, 0, -length]], dtype=torch.float64)
        found = model.forward_edges(z, index, vec)
        alone = model.forward_edges(z, index[:, :0], vec[:0])
        assert torch.equal(found, alone)


def test_forces_are_smooth_as_a_third_atom_leaves(network: Make) -> None:
    model = network("gated", cutoff=CUTOFF, **OPEN)
    z = torch.tensor([6, 8, 1])

    def forces(length: float) -> Tensor:
        pos = torch.tensor([[0.0, 0, 0], [1.2, 0, 0], [0, length, 0]]).double()
        found = model.energy_and_forces(z, pos)[1]
        assert isinstance(found, Tensor)
        return found

    for h in (1e-3, 1e-5, 1e-7):
        jump = float((forces(CUTOFF - h) - forces(CUTOFF + h)).abs().max())
        assert jump <= 50 * h**2 + 1e-14


def test_hard_cutoffs_jump_as_published(network: Make) -> None:
    """The opposite of the above, so that the measure is known to see it."""
    model = network("gated", cutoff=2.0, cutoff_type=("hard", "learn"))
    energy, _, _ = along(model, torch.tensor([2 - 1e-9, 2 + 1e-9], dtype=torch.float64))
    assert float((energy[0] - energy[1]).abs()) > 1e-6


def test_the_message_passing_input_has_no_step_at_its_published_radius(
    network: Make,
) -> None:
    around = torch.tensor([1.73 - 1e-9, 1.73 + 1e-9], dtype=torch.float64)
    for kind, steps in (("even", False), ("qm9", True)):
        energy, _, _ = along(network(kind), around)
        assert (float((energy[0] - energy[1]).abs()) > 1e-6) is steps
