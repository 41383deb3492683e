"""The fused edge network against the composition that it replaces."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from torch_cormorant import EdgeGeometry
from torch_cormorant.errors import (
    ConfigError,
    DtypeError,
    EdgeIndexError,
    ShapeError,
)
from torch_cormorant.nn import EdgeNetwork, SoftCutoff
from torch_cormorant.nn.radial import Bessel, Gaussian, PowerTrig, Radial
from torch_cormorant.ops import cpu_kernel, fused, use_backend

pytestmark = pytest.mark.skipif(
    bool(cpu_kernel.problem()), reason="the CPU kernel is not there"
)

Tower = Callable[..., list[Tensor]]
Agree = Callable[..., None]
EXACT = {torch.float64: 1e-11, torch.float32: 2e-4}
# channels, lmax, dots_lmax, channels and degree of the state (0: none)
SIZES = [
    (1, 0, 0, 0, 0),
    (16, 2, 2, 16, 2),
    (3, 2, 0, 0, 1),
    (5, 1, 3, 2, 3),
    (24, 3, 1, 24, 1),
    (33, 1, 1, 1, 0),
    (2, 4, 4, 3, 4),
]
MASKS: dict[str, dict[str, Any]] = {
    "soft": {"cutoff_type": ("learn",)},
    "gaussian": {"cutoff_type": ("learn_rad",), "gaussian": True},
    "fixed": {"cutoff_type": ("soft", "hard"), "hard_radius": 2.0},
    "hard": {"cutoff_type": ("hard",), "hard_radius": 2.0},
}


class Own(Radial):
    """A basis that the kernel does not know."""

    kind = "own"

    def forward(self, length: Tensor) -> Tensor:
        powers = torch.arange(1, self.planes * self.out_channels + 1)
        return torch.exp(-length.unsqueeze(-1) * powers.to(length.dtype))


RADIALS: dict[str, Callable[[bool], Radial]] = {
    "bessel": lambda cx: Bessel(4, 5.0, complex=cx),
    "gaussian": lambda cx: Gaussian(6, 5.0, complex=cx),
    "power_trig": lambda cx: PowerTrig((1, 2), complex=cx),
    "own": lambda cx: Own(4, complex=cx),
}


def network(
    sizes: tuple[int, ...] = (3, 1, 1, 2, 1),
    *,
    cx: bool = True,
    mask: str = "soft",
    radial: str = "bessel",
    envelope: float | None = 4.0,
    edge_dim: int = 0,
) -> EdgeNetwork:
    """A network in float64 with weights away from their start."""
    channels, lmax, dots_lmax, state, state_lmax = sizes
    made = EdgeNetwork(
        channels,
        lmax=lmax,
        dots_lmax=dots_lmax,
        state_channels=state,
        state_lmax=state_lmax,
        radial=RADIALS[radial](cx),
        cutoff=SoftCutoff(channels, **MASKS[mask]),
        edge_dim=edge_dim,
        envelope_cutoff=envelope,
        complex=cx,
    ).double()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in made.parameters():
            noise = torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
            weight.add_(noise, alpha=0.2)
    return made


def edges(pairs: bool, nodes: int = 5) -> tuple[Tensor, Tensor]:
    """All edges with self edges, and their vectors; or half of them, without."""
    generator = torch.Generator().manual_seed(nodes)
    pos = 1.3 * torch.randn(nodes, 3, generator=generator, dtype=torch.float64)
    index = torch.cartesian_prod(torch.arange(nodes), torch.arange(nodes)).t()
    if not pairs:
        index = index[:, index[0] < index[1]]
    return index, pos[index[1]] - pos[index[0]]


def operands(
    net: EdgeNetwork, dtype: torch.dtype, *, pairs: bool, two: bool = False
) -> tuple[Callable[..., list[Tensor]], list[Tensor]]:
    """The network as a function of vectors, features, state and weights."""
    index, vec = edges(pairs)
    generator = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> Tensor:
        wide = torch.complex128 if net.planes == 2 else torch.float64
        drawn = torch.randn(shape, generator=generator, dtype=wide)
        return drawn.to(dtype.to_complex() if net.planes == 2 else dtype)

    count = EdgeGeometry(index, vec, 5, pairs=pairs).pair_index[0].shape[0]
    side, state = (net.dots_lmax + 1) ** 2, net.state_channels or 0
    named = dict(net.to(dtype).named_parameters())
    parts = [vec.to(dtype), draw(5, side, net.channels or 0)]
    parts += [draw(5, side, net.channels or 0)] if two else []
    parts += [draw(count, net.state_lmax + 1, state)] if state else []
    fixed = {k: v.detach() for k, v in named.items() if not v.requires_grad}
    learned = [k for k, v in named.items() if v.requires_grad]

    def run(*given: Tensor) -> list[Tensor]:
        rest = list(given)
        geometry = EdgeGeometry(index, rest.pop(0), 5, pairs=pairs)
        x = rest.pop(0)
        y = rest.pop(0) if two else x
        rows = rest.pop(0) if state else None
        weights = {**fixed, **dict(zip(learned, rest, strict=True))}
        call = torch.func.functional_call
        return [call(net, weights, (x, y, geometry, rows))]

    return run, [*parts, *(named[k].detach() for k in learned)]


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Count the calls of the fused operator's kernel."""
    calls: list[int] = []
    call = cpu_kernel.call

    def counted(name: str, struct: Any) -> None:
        calls.extend([1] * (name == "cormorant_edge"))
        call(name, struct)

    monkeypatch.setattr(cpu_kernel, "call", counted)
    return calls


def compare(
    made: tuple[Callable[..., list[Tensor]], list[Tensor]],
    tower: Tower,
    agree: Agree,
    rtol: float,
) -> None:
    """Values and gradients of both orders, fused and composed."""
    found = tower(*made, 2)
    with fused.enabled(False):
        expected = tower(*made, 2)
    agree(found, expected, rtol)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("cx", [True, False])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_every_size(
    sizes: tuple[int, ...],
    cx: bool,
    dtype: torch.dtype,
    tower: Tower,
    agree: Agree,
    taken: list[int],
) -> None:
    made = operands(network(sizes, cx=cx), dtype, pairs=True)
    compare(made, tower, agree, EXACT[dtype])
    assert len(taken) == 4


@pytest.mark.parametrize("envelope", [None, 3.0])
@pytest.mark.parametrize("radial", list(RADIALS))
@pytest.mark.parametrize("mask", list(MASKS))
def test_every_mask_and_basis(
    mask: str,
    radial: str,
    envelope: float | None,
    tower: Tower,
    agree: Agree,
    taken: list[int],
) -> None:
    net = network(mask=mask, radial=radial, envelope=envelope)
    compare(operands(net, torch.float64, pairs=True), tower, agree, 1e-11)
    assert taken


@pytest.mark.parametrize("two", [False, True])
@pytest.mark.parametrize("pairs", [False, True])
def test_directed_edges_and_two_tensors_of_nodes(
    pairs: bool, two: bool, tower: Tower, agree: Agree, taken: list[int]
) -> None:
    made = operands(network((5, 2, 1, 3, 2)), torch.float64, pairs=pairs, two=two)
    compare(made, tower, agree, 1e-11)
    assert len(taken) == 4


@pytest.mark.parametrize("cx", [True, False])
def test_gradcheck_and_gradgradcheck(cx: bool) -> None:
    run, parts = operands(network((2, 1, 1, 1, 1), cx=cx), torch.float64, pairs=False)
    inputs = [part.clone().requires_grad_() for part in parts]

    def function(*given: Tensor) -> Tensor:
        return run(*given)[0]

    assert torch.autograd.gradcheck(function, inputs, atol=1e-7, rtol=1e-5)
    fast = {"atol": 1e-6, "rtol": 1e-4, "fast_mode": True}
    assert torch.autograd.gradgradcheck(function, inputs, **fast)


@pytest.mark.parametrize("moving", range(4))
def test_one_tangent_at_a_time(moving: int, agree: Agree) -> None:
    """Second derivatives along one operand: absent tangents are zeros."""
    run, parts = operands(network((4, 2, 1, 3, 2)), torch.float64, pairs=True)
    found = []
    for on in (True, False):
        with fused.enabled(on):
            leaves = [part.clone().requires_grad_() for part in parts]
            (out,) = run(*leaves)
            loss = out.abs().square().sum()
            (first,) = torch.autograd.grad(loss, leaves[moving], create_graph=True)
            second = first.abs().square().sum()
            found.append(torch.autograd.grad(second, leaves, materialize_grads=True))
    agree(*found, 1e-11)


def test_graphs_without_edges_or_nodes() -> None:
    net = network()
    for nodes in (0, 3):
        index = torch.zeros(2, 0, dtype=torch.long)
        vec = torch.zeros(0, 3, dtype=torch.float64, requires_grad=True)
        x = torch.randn(nodes, 4, 3, dtype=torch.complex128, requires_grad=True)
        geometry = EdgeGeometry(index, vec, nodes)
        state = torch.zeros(0, 2, 2, dtype=torch.complex128)
        out = net(x, x, geometry, state)
        assert out.shape == (0, 2, 3)
        weights = list(net.parameters())
        grads = torch.autograd.grad(out.abs().sum(), [x, *weights], allow_unused=True)
        assert all(grad is not None and not grad.any() for grad in grads)


def test_bits_do_not_depend_on_threads(taken: list[int]) -> None:
    """Many pairs, so that there are several blocks of them."""
    net = network((16, 2, 2, 4, 2))
    index, vec = edges(True, 60)
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.complex128)

    x, state = draw(60, 9, 16), draw(1830, 3, 4)
    results = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3, 1):
            torch.set_num_threads(threads)
            leaves = [vec.clone(), x.clone(), state.clone()]
            leaves = [leaf.requires_grad_() for leaf in leaves] + [*net.parameters()]
            geometry = EdgeGeometry(index, leaves[0], 60)
            out = net(leaves[1], leaves[1], geometry, leaves[2])
            first = torch.autograd.grad(
                out.abs().square().sum(), leaves, create_graph=True
            )
            loss = torch.stack([part.abs().square().sum() for part in first]).sum()
            second = torch.autograd.grad(loss, leaves)
            results.append([out, *first, *second])
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(map(torch.equal, results[0], other))
    assert taken


def test_who_takes_the_composition(taken: list[int]) -> None:
    run, parts = operands(network(), torch.float64, pairs=True)
    with use_backend("portable"):
        expected = run(*parts)
    assert not taken
    with fused.enabled(False):
        run(*parts)
    assert not taken
    found = torch.func.vmap(lambda x: run(parts[0], x, *parts[2:])[0])(parts[1][None])
    assert not taken
    torch.testing.assert_close(found[0], expected[0], rtol=1e-12, atol=1e-13)
    run(*parts)
    assert taken


def test_hooks_on_inner_modules_are_heard(taken: list[int]) -> None:
    net = network(radial="gaussian")
    run, parts = operands(net, torch.float64, pairs=True)
    plain = run(*parts)[0]
    handles = [
        part.register_forward_hook(lambda _, __, out: 2 * out)
        for part in (net.radial, net.cutoff)
    ]
    found = run(*parts)[0]
    for handle in handles:
        handle.remove()
    with fused.enabled(False):
        handles = [
            part.register_forward_hook(lambda _, __, out: 2 * out)
            for part in (net.radial, net.cutoff)
        ]
        expected = run(*parts)[0]
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13)
    assert not torch.allclose(found, 2 * plain)
    assert taken


@pytest.mark.parametrize("mask", MASKS)
def test_third_derivatives_are_those_of_the_composition(mask: str) -> None:
    run, parts = operands(network(mask=mask), torch.float64, pairs=True)
    found = []
    for on in (True, False):
        with fused.enabled(on):
            x = parts[1].clone().requires_grad_()
            out = torch.view_as_real(run(parts[0], x, *parts[2:])[0])
            scalar = out.pow(4).sum()
            for _ in range(3):
                (grad,) = torch.autograd.grad(scalar, x, create_graph=True)
                scalar = torch.view_as_real(grad).square().sum()
            found.append(grad.detach())
    torch.testing.assert_close(*found, rtol=1e-8, atol=1e-8)


def arguments(dtype: torch.dtype = torch.float64) -> list[Any]:
    """Arguments of the operator itself; a state, a soft mask."""
    generator = torch.Generator().manual_seed(0)
    rows = dtype.to_complex()

    def draw(*shape: int, kind: torch.dtype = dtype) -> Tensor:
        drawn = torch.randn(shape, generator=generator, dtype=kind)
        return drawn.requires_grad_()

    tensors = [
        draw(3, 4, 2, kind=rows),
        draw(4, 2, 3, kind=rows),
        draw(4, 4),
        draw(4).detach().abs().requires_grad_(),
        draw(2),
        draw(2),
        draw(2, 2, 9),
        draw(2, 2, 9),
    ]
    index = [torch.tensor([0, 1, 2, 2]), torch.tensor([0, 0, 1, 2])]
    return [tensors, index, [1, 1, 1, *[3, 4, 2, 0] * 2], [4.0, 0.0]]


def test_opcheck() -> None:
    ops = torch.ops.torch_cormorant
    tensors, index, sizes, numbers = arguments()
    torch.library.opcheck(ops.edge_network, (tensors, index, sizes, numbers))
    grad = torch.randn(4, 2, 2, dtype=torch.complex128, requires_grad=True)
    first = (tensors, index, sizes, numbers, [grad], [True])
    torch.library.opcheck(ops.edge_network_backward, (*first, [True] * 8))
    fixed = [part.detach() for part in tensors]
    second = (fixed, index, sizes, numbers, [grad.detach()], [True])
    marks = ([True] * 8, [True] * 8, [True])
    torch.library.opcheck(ops.edge_network_double_backward, (*second, fixed, *marks))


@pytest.mark.parametrize(
    ("place", "value", "error", "words"),
    [
        (0, torch.zeros(3, 4, dtype=torch.complex128), ShapeError, "target"),
        (0, torch.zeros(3, 9, 2, dtype=torch.complex128), ShapeError, "target"),
        (0, torch.zeros(3, 4, 2, dtype=torch.long), DtypeError, "target"),
        (1, torch.zeros(5, 2, 3, dtype=torch.complex128), ShapeError, "state"),
        (1, torch.zeros(4, 2, 3, dtype=torch.complex64), DtypeError, "state"),
        (2, torch.zeros(4, 3, dtype=torch.float64), ShapeError, "radial"),
        (3, torch.zeros(4), DtypeError, "length"),
        (4, torch.zeros(3, dtype=torch.float64), ShapeError, "radius"),
        (7, torch.zeros(2, 2, 8, dtype=torch.float64), ShapeError, r"weights\[1\]"),
    ],
)
def test_operands_are_checked(
    place: int, value: Tensor, error: type[Exception], words: str
) -> None:
    tensors, *rest = arguments()
    tensors[place] = value
    with pytest.raises(error, match=words):
        torch.ops.torch_cormorant.edge_network(tensors, *rest)


@pytest.mark.parametrize(
    "sizes", [[], [1, 1, 1], [3, 1, 1, 3, 4, 2, 0], [1, 1, 9, *[1] * 4]]
)
def test_sizes_are_checked(sizes: list[int]) -> None:
    tensors, index, _, numbers = arguments()
    with pytest.raises(ConfigError, match="sizes"):
        torch.ops.torch_cormorant.edge_network(tensors, index, sizes, numbers)


@pytest.mark.parametrize("bad", [-1, 3])
def test_indices_are_checked(bad: int) -> None:
    tensors, index, *rest = arguments()
    index[1] = torch.tensor([0, 0, bad, 2])
    with pytest.raises(EdgeIndexError, match="index_b"):
        torch.ops.torch_cormorant.edge_network(tensors, index, *rest)
