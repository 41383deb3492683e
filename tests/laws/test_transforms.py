"""Transforms of functions: torch.func and forward differentiation are right or refused.

Each is compared with reverse mode, which has tests of its own: on layers, whole
networks and potentials, for every implementation on a CPU.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vmap

from torch_cormorant import (
    Cormorant,
    CormorantConv,
    CormorantMD17,
    EdgeGeometry,
)
from torch_cormorant.errors import BackendError, ConfigError
from torch_cormorant.models import Potential
from torch_cormorant.ops import PathTable, build_plan, folded_square, neighbour_sum

# PyTorch's own forward mode scripts its formulas.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
Function = Callable[[Tensor], Tensor]
Z = torch.tensor([8, 1, 1, 6])
EDGES = torch.tensor([[0, 1, 2, 1, 0, 2], [1, 0, 1, 2, 2, 0]])


def draw(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


POS = draw(4, 3, seed=3) * 1.2


def layer(backend: str, *, complex_: bool, lmax: int = 1) -> CormorantConv:
    torch.manual_seed(0)
    conv = CormorantConv(2, 2, lmax=lmax, backend=backend, complex=complex_)
    return conv.double()


def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"channels": 4, "lmax": 2, "num_levels": 2}
    made = {
        "scalar": lambda: Cormorant(species=[1, 6, 8], **sizes),
        "dipole": lambda: Cormorant(species=[1, 6, 8], head="dipole", **sizes),
        "md17": CormorantMD17,
        "potential": lambda: Cormorant.potential([1, 6, 8], repulsion="zbl", **sizes),
    }
    model: nn.Module = made[name]().double().eval()
    return model


def close(found: Tensor, right: Tensor) -> None:
    torch.testing.assert_close(found, right, rtol=1e-11, atol=1e-11)


def check_all(f: Function, pos: Tensor) -> None:
    """Every transform of a scalar function of positions against reverse mode."""
    v = draw(*pos.shape, seed=9)
    slope = torch.autograd.functional.jacobian(f, pos)
    curvature = torch.autograd.functional.hessian(f, pos)
    close(jvp(f, (pos,), (v,))[1], (slope * v).sum())
    with forward_ad.dual_level():
        dual = forward_ad.unpack_dual(f(forward_ad.make_dual(pos, v)))
    close(dual.tangent, (slope * v).sum())
    for transform in (grad, jacrev, jacfwd):
        close(transform(f)(pos), slope)
    close(hessian(f)(pos), curvature)
    close(jacrev(jacrev(f))(pos), curvature)
    close(jvp(grad(f), (pos,), (v,))[1], torch.einsum("abcd,cd->ab", curvature, v))


@pytest.mark.parametrize("complex_", [True, False])
@pytest.mark.parametrize("backend", ["auto", "portable", "reference"])
def test_the_layer(backend: str, complex_: bool) -> None:
    conv, x = layer(backend, complex_=complex_), draw(3, 2)
    check_all(lambda pos: conv(x, EDGES, pos=pos).square().sum(), POS[:3])


@pytest.mark.parametrize("name", ["scalar", "dipole", "md17", "potential"])
def test_networks(name: str) -> None:
    model = network(name)
    check_all(lambda pos: model(Z, pos).square().sum(), POS)


@pytest.mark.parametrize("name", ["scalar", "potential"])
def test_weights(name: str) -> None:
    """Gradients and directional derivatives with respect to all weights."""
    model = network(name)
    weights = dict(model.named_parameters())

    def f(given: dict[str, Tensor]) -> Tensor:
        out: Tensor = functional_call(model, given, (Z, POS))
        return out.square().sum()

    f(weights).backward()
    right = {k: w.grad for k, w in weights.items() if w.grad is not None}
    found = grad(f)(weights)
    v = {k: draw(*w.shape, seed=len(k)) for k, w in weights.items()}
    for k, part in right.items():
        close(found[k], part)
    whole = sum((part * v[k]).sum() for k, part in right.items())
    assert isinstance(whole, Tensor)
    close(jvp(f, (weights,), (v,))[1], whole)


@pytest.mark.parametrize("lmax", [1, 2, 3])
def test_vmap_over_features_on_a_graph_that_was_made_before(lmax: int) -> None:
    conv = layer("auto", complex_=True, lmax=lmax)
    geometry = EdgeGeometry.from_pos(POS[:3], EDGES)
    rows = draw(5, 3, 2)

    def f(x: Tensor) -> Tensor:
        return conv(x, geometry).square().sum()

    close(vmap(f)(rows), torch.stack([f(x) for x in rows]))
    close(vmap(grad(f))(rows), torch.stack([grad(f)(x) for x in rows]))
    turned = rows.transpose(0, 1)
    close(vmap(f, in_dims=1)(turned), vmap(f)(rows))


def on_edges(model: Any) -> tuple[Any, Tensor]:
    """A network on a graph that was made before, as a function of the vectors."""
    index = model.make_edges(POS, None)
    geometry = model.geometry(index, POS[index[1]] - POS[index[0]], len(POS))

    class OnEdges(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, vec: Tensor) -> Tensor:
            moved = geometry.moved(vec)
            levels = self.model.run_levels(Z, moved)
            out: Tensor = self.model.read_out(levels, moved, None, 1, z=Z, check=False)
            return out.square().sum()

    return OnEdges(), geometry.edge_vec


def test_a_network_on_a_graph_that_was_made_before() -> None:
    f, vec = on_edges(network("scalar"))
    slope = torch.autograd.functional.jacobian(f, vec)
    assert float(slope.abs().max()) > 0
    v = draw(*vec.shape, seed=2)
    close(grad(f)(vec), slope)
    close(jacrev(f)(vec), slope)
    close(jvp(f, (vec,), (v,))[1], (slope * v).sum())
    close(
        jvp(grad(f), (vec,), (v,))[1],
        torch.autograd.functional.vhp(f, vec, v)[1],
    )
    with pytest.raises(ConfigError, match=r"batched by torch\.func\.vmap"):
        vmap(f)(torch.stack([vec, vec + 0.1]))


@pytest.mark.parametrize("backend", ["auto", "portable"])
def test_many_gradients_at_once_are_refused_and_there_is_another_way(
    backend: str,
) -> None:
    conv = layer(backend, complex_=True)
    geometry = EdgeGeometry.from_pos(POS[:3], EDGES)

    def f(x: Tensor) -> Tensor:
        return conv(x, geometry).flatten(1).sum(1)

    x, eye = draw(3, 2).requires_grad_(), torch.eye(3, dtype=torch.float64)
    rows = [torch.autograd.grad(f(x), x, row)[0] for row in eye]
    with pytest.raises(ConfigError, match="is_grads_batched"):
        torch.autograd.grad(f(x), x, eye, is_grads_batched=True)
    slope = torch.autograd.grad(f(x)[0], x, create_graph=True)
    with pytest.raises(ConfigError, match="is_grads_batched"):
        torch.autograd.grad(slope, x, torch.stack([x, x]), is_grads_batched=True)
    close(jacrev(f)(x.detach()), torch.stack(rows))
    (many,) = vmap(torch.func.vjp(f, x.detach())[1])(eye)
    close(many, torch.stack(rows))


def test_layer_and_network_are_exported_on_a_graph_that_was_made_before() -> None:
    f, vec = on_edges(network("scalar"))
    conv, x = layer("auto", complex_=True), draw(3, 2)
    geometry = EdgeGeometry.from_pos(POS[:3], EDGES)

    class OnEdges(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = conv

        def forward(self, vec: Tensor) -> Tensor:
            out: Tensor = self.conv(x, geometry.moved(vec))
            return out

    for module, given in ((f, vec), (OnEdges(), geometry.edge_vec)):
        program = torch.export.export(module, (given,)).module()
        for scale in (1.0, 1.1):
            close(program(scale * given), module(scale * given))


def test_vmap_over_every_operand_of_an_operator() -> None:
    plan, table = build_plan(EDGES, 3, 3), PathTable(1, 1, 1)
    x, g, sh = draw(4, 3, 4, 2), draw(4, 6, 2, 2), draw(6, 4)

    def f(x: Tensor, g: Tensor) -> tuple[Tensor, ...]:
        sums = neighbour_sum(x, g, sh, plan, table)
        return (*sums, *folded_square(x, PathTable(1, 1, 1, folded=True)))

    rows = [f(*pair) for pair in zip(x, g, strict=True)]
    for found, right in zip(vmap(f)(x, g), zip(*rows, strict=True), strict=True):
        close(found, torch.stack(right))


def test_vmap_over_positions_is_refused_by_name() -> None:
    conv, model, x = layer("auto", complex_=True), network("scalar"), draw(3, 2)
    many = torch.stack([POS, POS + 0.1])
    cases: list[Function] = [
        lambda pos: conv(x, EDGES, pos=pos[:3]),
        lambda pos: conv(x, EDGES, pos[EDGES[1]] - pos[EDGES[0]]),
        lambda pos: EdgeGeometry.from_pos(pos[:3], EDGES).edge_length,
        lambda pos: model(Z, pos),
    ]
    for f in cases:
        with pytest.raises(ConfigError, match=r"batched by torch\.func\.vmap"):
            vmap(f)(many)


def test_what_differentiates_inside_is_refused_by_name() -> None:
    model = network("potential")
    assert isinstance(model, Potential)
    for transform in (grad, jacrev, jacfwd):
        with pytest.raises(ConfigError, match="differentiates inside"):
            transform(lambda pos: model.energy_and_forces(Z, pos)[0].sum())(POS)


def test_the_third_derivative_on_a_gpu_says_that_it_has_no_forward_rule() -> None:
    operator = importlib.import_module("torch_cormorant.ops.neighbour_sum")._double
    with pytest.raises(BackendError, match="no forward derivative"):
        operator.derivative([], [])
