"""A compiled graph cannot look before it computes: what is wrong must not look right.

Layers return NaN, where nothing can be raised; networks raise when they return.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from torch_cormorant import Cormorant, CormorantConv, EdgeGeometry
from torch_cormorant.errors import CoincidentAtomsError, NonFiniteError

EDGES = torch.tensor([[0, 1, 2, 1, 0, 2, 3, 4], [1, 0, 1, 2, 2, 0, 4, 4]])
Z = torch.tensor([8, 1, 1, 6, 6])


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    """Forget what other tests have compiled."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def positions(*, coincident: bool) -> Tensor:
    pos = torch.randn(5, 3, generator=torch.Generator().manual_seed(1)) * 1.5
    if coincident:
        pos[1] = pos[0]
    return pos


def compiled(module: nn.Module) -> Callable[..., Any]:
    made: Callable[..., Any] = torch.compile(module, backend="eager")
    return made


def rows_with_nan(x: Tensor) -> list[int]:
    return x.isnan().flatten(1).any(1).nonzero().flatten().tolist()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("lmax", "options"),
    [
        (2, {}),
        (0, {"cutoff": 5.0, "radial": "bessel"}),
        (0, {"cutoff": 5.0, "radial": "gaussian"}),
        (1, {"cutoff": 5.0, "cutoff_type": ("learn", "hard")}),
    ],
)
def test_a_layer_gives_nan_for_atoms_at_one_place(
    lmax: int, options: dict[str, Any]
) -> None:
    torch.manual_seed(0)
    conv, x = CormorantConv(2, 2, lmax=lmax, **options), torch.randn(5, 2)
    pos = positions(coincident=True).requires_grad_()
    with pytest.raises(CoincidentAtomsError):
        conv(x, EDGES, pos=pos)
    out = compiled(conv)(x, EDGES, pos=pos)
    assert rows_with_nan(out) == [0, 1]
    out.nan_to_num().sum().backward()
    assert pos.grad is not None
    assert rows_with_nan(pos.grad) == [0, 1]


@pytest.mark.filterwarnings("ignore")
def test_a_layer_gives_nan_for_nan_and_numbers_for_numbers() -> None:
    torch.manual_seed(0)
    conv, x = CormorantConv(2, 2, lmax=1), torch.randn(5, 2)
    pos, fast = positions(coincident=False), compiled(conv)
    assert torch.equal(fast(x, EDGES, pos=pos), conv(x, EDGES, pos=pos))
    x[3, 0] = torch.nan
    assert rows_with_nan(fast(x, EDGES, pos=pos)) == [3, 4]
    pos[0, 1] = torch.nan
    assert rows_with_nan(fast(x.nan_to_num(), EDGES, pos=pos)) == [0, 1, 2]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("potential", [False, True])
def test_networks_refuse_what_came_out_as_nan(*, potential: bool) -> None:
    sizes: dict[str, Any] = {"channels": 4, "lmax": 1, "num_levels": 2}
    species = [1, 6, 8]
    model = (
        Cormorant.potential(species, **sizes)
        if potential
        else Cormorant(species=species, **sizes)
    )
    fast = compiled(model)
    good = positions(coincident=False)
    torch.testing.assert_close(fast(Z, good), model(Z, good))
    with pytest.raises(NonFiniteError, match="molecule 0 is not finite"):
        fast(Z, positions(coincident=True))


@pytest.mark.filterwarnings("ignore")
def test_without_the_check_energy_and_forces_are_nan() -> None:
    model = Cormorant(species=[1, 6, 8], channels=4, lmax=1, num_levels=2)
    pos = positions(coincident=True).requires_grad_()

    def energy(pos: Tensor) -> Tensor:
        vec = pos[EDGES[1]] - pos[EDGES[0]]
        geometry = EdgeGeometry(EDGES, vec, 5)
        features = model.features(Z, model.dtype)
        out, _ = model.forward_features(features, geometry, None, 1, check=False)
        return out.sum()

    fast = torch.compile(energy, backend="eager")
    total = fast(pos)
    total.backward()
    assert total.isnan()
    assert pos.grad is not None
    assert pos.grad[:2].isnan().all()
