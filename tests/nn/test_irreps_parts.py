"""Linear maps and gates of irreps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from torch_cormorant.errors import ConfigError, ShapeError
from torch_cormorant.irreps import Irreps
from torch_cormorant.nn import (
    GatedBlock,
    IrrepsLinear,
    NormActivation,
    SpeciesLinear,
    moment_factor,
)
from torch_cormorant.so3 import random_rotation

Turn = Callable[[Tensor, object, Tensor], Tensor]
O3 = "3x0e + 2x1o + 2x0o + 4x0e + 2x2e + 1x1e + 2x2o"
SO3 = "3x0 + 2x1 + 4x0 + 2x2"
OUT = {O3: "2x1e + 2x0e + 3x1o + 1x0o + 2x0e + 1x3o", SO3: "2x1 + 5x0 + 1x3 + 1x0"}


def woken(module: nn.Module) -> nn.Module:
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    return module.double()


def linear(irreps: str) -> nn.Module:
    return woken(IrrepsLinear(irreps, OUT[irreps], bias=True))


def species(irreps: str) -> nn.Module:
    made = woken(SpeciesLinear(irreps, OUT[irreps], 3))
    table = torch.randn(2, 3, dtype=torch.float64)
    index = torch.tensor([0, 1, 1, 0, 1])

    class Bound(nn.Module):
        irreps_in, irreps_out = made.irreps_in, made.irreps_out

        def forward(self, x: Tensor) -> Any:
            return made(x, table, index[: len(x)])

    return Bound()


def gated(irreps: str) -> nn.Module:
    return GatedBlock(irreps)


def normed(irreps: str) -> nn.Module:
    return woken(NormActivation(irreps))


MAKERS = [linear, species, gated, normed]


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("irreps", [O3, SO3])
def test_parts_turn_with_their_input(make: Any, irreps: str, turned: Turn) -> None:
    part = make(irreps)
    x = torch.randn(5, part.irreps_in.dim, dtype=torch.float64)
    R = random_rotation()
    for turn in [R, -R] if irreps == O3 else [R]:
        expected = turned(part(x), part.irreps_out, turn)
        found = part(turned(x, part.irreps_in, turn))
        assert (found - expected).abs().max() < 1e-13


@pytest.mark.parametrize("make", MAKERS)
def test_second_derivatives_are_exact(make: Any) -> None:
    part = make(O3)
    x = torch.randn(1, part.irreps_in.dim, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(part, x)
    assert torch.autograd.gradgradcheck(part, x)


def test_blocks_of_one_irrep_are_mixed_together() -> None:
    part = IrrepsLinear("2x0e + 1x1o + 1x0e", "1x0e + 1x2e + 1x0e")
    weight = torch.tensor([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]])
    part.load_state_dict({"weights.0e": weight})
    x = torch.tensor([[1.0, 1.0, 9.0, 9.0, 9.0, 2.0]])
    assert part(x).tolist() == [[9.0, 0, 0, 0, 0, 0, 90.0]]


def test_species_choose_their_matrix() -> None:
    part = SpeciesLinear(O3, OUT[O3], 3)
    x, table = torch.randn(4, Irreps(O3).dim), torch.randn(2, 3)
    index = torch.tensor([0, 1, 1, 0])
    dense, chosen = part(x, table[index]), part(x, table, index)
    assert torch.allclose(dense, chosen, atol=1e-5)
    assert torch.allclose(part(x[:1], table[:1]), dense[:1], atol=1e-5)
    assert not torch.allclose(part(x, table[1 - index]), dense, atol=1e-2)
    with pytest.raises(ShapeError, match=r"attr \[4, 3\], got .* \[4, 2\]"):
        part(x, torch.randn(4, 2))


def test_weights_keep_the_size_of_what_passes() -> None:
    x = torch.randn(4000, Irreps("16x0e + 8x1o").dim)
    for y in (
        IrrepsLinear("16x0e + 8x1o", "16x0e + 8x1o")(x),
        SpeciesLinear("16x0e + 8x1o", "16x0e + 8x1o", 4)(x, torch.randn(4000, 4)),
        GatedBlock("200x0e")(torch.randn(4000, 200)),
    ):
        assert 0.7 < float(y.detach().square().mean()) < 1.4


def test_gates_multiply_the_copies_in_order() -> None:
    part = GatedBlock("1x0e + 1x1e + 2x1o + 1x0o", constants=None)
    assert str(part.irreps_in) == "1x0o + 4x0e + 2x1o + 1x1e"
    x = torch.tensor([[0.5, 3.0, 0.7, -0.2, 0.1, *[1.0] * 6, *[2.0] * 3]])
    silu, odd = nn.functional.silu, torch.tensor(0.5).tanh()
    g = silu(torch.tensor([0.7, -0.2, 0.1]))
    vectors = [*[2 * g[0]] * 3, *[g[1], g[2]] * 3]
    expected = torch.stack([silu(torch.tensor(3.0)), *vectors, odd])
    assert torch.allclose(part(x)[0], expected)


def test_scalars_alone_have_no_gates() -> None:
    assert GatedBlock("4x0e").irreps_in == Irreps("4x0e")


def test_constants_are_those_that_are_asked_for() -> None:
    z = torch.linspace(-12, 12, 4801, dtype=torch.float64)
    density = torch.exp(-z * z / 2) / torch.exp(-z * z / 2).sum()
    for name in ("silu", "tanh", "sigmoid"):
        function = getattr(torch, name, None) or nn.functional.silu
        moment = (function(z).square() * density).sum()
        assert abs(moment_factor(name) * moment**0.5 - 1) < 1e-13
        assert 2e-4 < abs(moment_factor(name) / moment_factor(name, "e3nn") - 1) < 2e-3
    with pytest.raises(ConfigError, match="constants must be one of"):
        moment_factor("leaky_relu")


def test_an_even_function_of_odd_scalars_is_refused() -> None:
    with pytest.raises(ConfigError, match="odd function"):
        GatedBlock("1x0o", odd_act="silu")
