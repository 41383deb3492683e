"""Whole networks and potentials: with fused stages and without, the same numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from torch_cormorant import Cormorant, EdgeGeometry
from torch_cormorant.errors import ShapeError
from torch_cormorant.ops import cpu_kernel, fused
from torch_cormorant.ops.norm import so3_norm

pytestmark = pytest.mark.skipif(
    bool(cpu_kernel.problem()), reason="the CPU kernel is not there"
)

Agree = Callable[..., None]
Z = torch.tensor([8, 1, 1, 6, 1, 1, 1, 1])
BATCH = torch.tensor([0, 0, 0, 1, 1, 1, 1, 1])


def positions() -> Tensor:
    generator = torch.Generator().manual_seed(4)
    return 1.5 * torch.randn(8, 3, generator=generator, dtype=torch.float64)


def potential(**options: Any) -> Cormorant:
    torch.manual_seed(0)
    made: Cormorant = Cormorant.potential([1, 6, 8], channels=3, **options)
    return made.double()


def forces_and_gradients(model: Cormorant) -> list[Tensor]:
    """Energies, forces, and the gradients of a loss on both."""
    out = model.evaluate(Z, positions(), BATCH)
    loss = out.energy.square().sum() + out.forces.square().sum()
    learned = [weight for weight in model.parameters() if weight.requires_grad]
    grads = torch.autograd.grad(loss, learned, materialize_grads=True)
    return [out.energy.detach(), out.forces.detach(), *grads]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"complex": False},
        {"radial": "gaussian", "cutoff": 3.0},
        {"lmax": 3, "num_levels": 2},
    ],
    ids=str,
)
def test_losses_on_forces(options: dict[str, Any], agree: Agree) -> None:
    model = potential(**options)
    found = forces_and_gradients(model)
    with fused.enabled(False):
        expected = forces_and_gradients(model)
    agree(found, expected, 1e-9)
    assert sum(bool(part.any()) for part in found) > len(found) // 2


def test_properties_with_the_published_radial_functions(agree: Agree) -> None:
    torch.manual_seed(1)
    model = Cormorant(species=[1, 6, 8], channels=3, num_levels=2, lmax=2).double()
    learned = [weight for weight in model.parameters() if weight.requires_grad]

    def run() -> list[Tensor]:
        out = model(Z, positions(), BATCH)
        grads = torch.autograd.grad(out.sum(), learned, materialize_grads=True)
        return [out.detach(), *grads]

    found = run()
    with fused.enabled(False):
        expected = run()
    agree(found, expected, 1e-9)


def losses(steps: int) -> list[float]:
    """A short training in float32."""
    model = potential().float()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    pos, found = positions().float(), []
    for _ in range(steps):
        optimiser.zero_grad()
        out = model.evaluate(Z, pos, BATCH)
        loss = (out.energy + 1).square().sum() + out.forces.square().mean()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        found.append(float(loss.detach()))
    return found


def test_a_training_takes_the_same_course() -> None:
    found = losses(15)
    with fused.enabled(False):
        expected = losses(15)
    assert found == pytest.approx(expected, rel=1e-4)
    assert found[-1] < found[0]


def test_hessians_are_those_of_the_composition(agree: Agree) -> None:
    model = potential()

    def energy(pos: Tensor) -> Tensor:
        return model.atomwise(model.run_levels(Z[:3], geometry(pos))).sum()

    def geometry(pos: Tensor) -> EdgeGeometry:
        index = torch.cartesian_prod(torch.arange(3), torch.arange(3)).t()
        return EdgeGeometry.from_pos(pos, index)

    pos = positions()[:3]
    found = torch.autograd.functional.hessian(energy, pos)
    with fused.enabled(False):
        expected = torch.autograd.functional.hessian(energy, pos)
    agree([found], [expected], 1e-10)


def test_memory_that_is_freed_before_the_backward_pass_is_refused() -> None:
    x, weight = torch.randn(3, 4, 2, 5, requires_grad=True), torch.ones(2, 5)
    out = so3_norm(x, weight, 1e-6)
    weight.untyped_storage().resize_(0)
    with pytest.raises(ShapeError, match="memory of weight was freed"):
        out.sum().backward()


def test_other_tensors_out_of_saved_tensor_hooks_are_refused() -> None:
    x, weight = torch.randn(3, 4, 2, 5, requires_grad=True), torch.ones(2, 5)
    with torch.autograd.graph.saved_tensors_hooks(lambda a: a, lambda a: a[:1]):
        out = so3_norm(x, weight, 1e-6)
    with pytest.raises(ShapeError, match="weight must have shape"):
        out.sum().backward()
