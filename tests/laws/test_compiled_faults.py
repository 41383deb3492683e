"""What is wrong does not look right in a compiled graph either.

Graphs are checked and sorted outside of what is compiled, and refused as ever. What
comes out of it is checked where it is returned; a layer gives NaN for NaN.
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
def test_a_layer_refuses_atoms_at_one_place_and_positions_that_are_none() -> None:
    torch.manual_seed(0)
    conv, x = CormorantConv(2, 2, lmax=1), torch.randn(5, 2)
    fast, pos = compiled(conv), positions(coincident=False)
    assert torch.equal(fast(x, EDGES, pos=pos), conv(x, EDGES, pos=pos))
    with pytest.raises(CoincidentAtomsError, match="nodes 0 and 1"):
        fast(x, EDGES, pos=positions(coincident=True))
    pos[0, 1] = torch.nan
    with pytest.raises(NonFiniteError, match="not finite"):
        fast(x, EDGES, pos=pos)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"cutoff": 5.0, "radial": "bessel"},
        {"cutoff": 5.0, "radial": "gaussian"},
        {"cutoff": 5.0, "cutoff_type": ("learn", "hard")},
    ],
)
def test_a_layer_gives_nan_for_nan(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    conv, x = CormorantConv(2, 2, lmax=0, **options), torch.randn(5, 2)
    geometry = EdgeGeometry.from_pos(positions(coincident=False), EDGES)
    fast = compiled(conv)
    broken = x.clone()
    broken[3, 0] = torch.nan
    assert rows_with_nan(fast(broken, geometry)) == [3, 4]
    vec = geometry.edge_vec.clone()
    vec[6] = torch.nan  # from 3 to 4
    odd = EdgeGeometry(EDGES, vec, 5, validate=False)
    assert rows_with_nan(fast(x, odd)) == [4]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("potential", [False, True])
def test_networks(*, potential: bool) -> None:
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
    with pytest.raises(CoincidentAtomsError, match="less than 1e-06 Angstrom"):
        fast(Z, positions(coincident=True))


@pytest.mark.parametrize("check", [True, False])
def test_what_a_network_returns_is_checked_where_it_is_asked_for(
    *, check: bool
) -> None:
    model = Cormorant(species=[1, 6, 8], channels=4, lmax=1, num_levels=2)
    geometry = EdgeGeometry.from_pos(positions(coincident=False), EDGES)
    features = model.features(Z, model.dtype)

    def energy(features: Tensor) -> Tensor:
        return model.forward_features(features, geometry, None, 1, check=check)[0]

    fast = torch.compile(energy, backend="eager", fullgraph=True)
    torch.testing.assert_close(fast(features), energy(features))
    features[0, 0] = torch.nan
    if check:
        with pytest.raises(NonFiniteError, match="molecule 0 is not finite"):
            fast(features)
    else:
        assert fast(features).isnan().all()
