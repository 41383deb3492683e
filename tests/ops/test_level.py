"""A layer with its norm as one node of the graph, against its parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from torch_cormorant import Cormorant, CormorantConv, EdgeGeometry
from torch_cormorant.errors import ShapeError
from torch_cormorant.nn import SO3Norm
from torch_cormorant.ops import cpu_kernel, fused, level

pytestmark = pytest.mark.skipif(
    bool(cpu_kernel.problem()), reason="the CPU kernel is not there"
)

Tower = Callable[..., list[Tensor]]
Agree = Callable[..., None]
EXACT = {torch.float64: 1e-10, torch.float32: 1e-3}
# channels in and out, lmax, lmax_in, lmax_sh, channels of the state
SIZES = [
    (1, 1, 0, 0, 0, 1),
    (3, 5, 2, 1, 2, 3),
    (2, 2, 4, 2, 3, 2),
    (16, 24, 1, 1, 1, 4),
]
SMALL = (2, 2, 1, 1, 1, 1)


class Layer(nn.Module):
    """A layer and a norm as a function of features, state, positions and weights."""

    def __init__(
        self,
        sizes: tuple[int, ...] = (3, 4, 2, 1, 1, 2),
        *,
        normed: bool = True,
        pairs: bool = True,
        nodes: int = 4,
        index: Tensor | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        channels, outs, lmax, lmax_in, lmax_sh, self.state = sizes
        torch.manual_seed(5)
        given = {"cutoff": 4.0, "radial": "bessel", "num_basis": 4, **options}
        self.conv = CormorantConv(
            channels,
            outs,
            lmax=lmax,
            lmax_in=lmax_in,
            lmax_sh=lmax_sh,
            edge_state_channels=self.state,
            **given,
        ).double()
        self.norm = SO3Norm(outs, lmax).double() if normed else None
        self.nodes, self.pairs = nodes, pairs
        grid = torch.cartesian_prod(torch.arange(nodes), torch.arange(nodes))
        self.index = grid.t().contiguous() if index is None else index

    def forward(self, x: Tensor, state: Tensor, pos: Tensor) -> list[Tensor]:
        geometry = EdgeGeometry.from_pos(pos, self.index, pairs=self.pairs)
        out, g = self.conv.levels(x, x, geometry, state, None, self.norm)
        return [out, g]

    def operands(self, dtype: torch.dtype = torch.float64) -> list[Tensor]:
        """Features, state, positions and weights."""
        draw, conv = torch.Generator().manual_seed(2), self.conv
        pos = torch.randn(self.nodes, 3, generator=draw, dtype=dtype)
        geometry = EdgeGeometry.from_pos(pos, self.index, pairs=self.pairs)
        rows = geometry.pair_index[0].shape[0]
        kind = dtype.to_complex() if conv.planes == 2 else dtype
        shapes = [
            (self.nodes, (conv.lmax_in + 1) ** 2, conv.in_channels),
            (rows, conv.edge_state_lmax + 1, self.state),
        ]
        found = [torch.randn(s, generator=draw, dtype=kind) for s in shapes]
        self.to(dtype)
        return [*found, pos, *(p.detach() for p in self.parameters())]

    def on(
        self, x: Tensor, state: Tensor, pos: Tensor, *weights: Tensor
    ) -> list[Tensor]:
        """The same with given weights."""
        names = [name for name, _ in self.named_parameters()]
        given = dict(zip(names, weights, strict=True))
        found: list[Tensor] = torch.func.functional_call(self, given, (x, state, pos))
        return found


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A list that grows whenever a layer is computed as one node."""
    calls: list[str] = []
    real = level.level

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append("level")
        return real(*args, **kwargs)

    monkeypatch.setattr("torch_cormorant.conv.whole.level", counted)
    return calls


def edges_of(pos: Tensor) -> tuple[Tensor, Tensor]:
    """All edges, self edges included, and their vectors."""
    grid = torch.cartesian_prod(torch.arange(len(pos)), torch.arange(len(pos)))
    index = grid.t().contiguous()
    return index, pos[index[1]] - pos[index[0]]


def derivatives(
    function: Callable[..., list[Tensor]], given: list[Tensor]
) -> list[Tensor]:
    """Values, gradients, and derivatives of these that end there."""
    draw = torch.Generator().manual_seed(7)

    def pulled(outs: list[Tensor], leaves: list[Tensor], *, more: bool) -> list[Tensor]:
        rows = [torch.randn(o.shape, generator=draw, dtype=o.dtype) for o in outs]
        rows = [row.requires_grad_(more) for row in rows]
        found = torch.autograd.grad(
            outs, leaves, rows, create_graph=more, materialize_grads=True
        )
        leaves += rows
        return [*found]

    leaves = [part.detach().requires_grad_() for part in given]
    outs = list(function(*leaves))
    first = pulled(outs, leaves, more=True)
    second = pulled(first, leaves, more=False)
    return [part.detach() for part in (*outs, *first, *second)]


def both(layer: Layer, operands: list[Tensor]) -> list[list[Tensor]]:
    """Derivatives to the second order as one node, and by composition."""
    found = derivatives(layer.on, operands)
    with fused.enabled(False):
        return [found, derivatives(layer.on, operands)]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("complex_", [True, False])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_all_derivatives_of_first_and_second_order(
    sizes: tuple[int, ...],
    complex_: bool,
    dtype: torch.dtype,
    agree: Agree,
    taken: list[str],
) -> None:
    layer = Layer(sizes, complex=complex_)
    found, expected = both(layer, layer.operands(dtype))
    assert taken == ["level"]
    agree(found, expected, EXACT[dtype])


@pytest.mark.parametrize(
    "options",
    [
        {"normed": False},
        {"pairs": False},
        {"radial": "power_trig", "basis_set": (1, 1)},
        {"paths": "even"},
        {"cutoff_type": ("learn_rad",), "gaussian_mask": True, "envelope": False},
        {"cutoff_type": ("soft", "hard"), "cutoff": 2.0},
        {"index": torch.tensor([[1, 3], [0, 0]])},
        {"index": torch.zeros(2, 0, dtype=torch.long)},
        {"index": torch.zeros(2, 0, dtype=torch.long), "nodes": 0},
    ],
    ids=str,
)
def test_options_and_graphs(
    options: dict[str, Any], agree: Agree, taken: list[str]
) -> None:
    layer = Layer(**options)
    found, expected = both(layer, layer.operands())
    assert taken == ["level"]
    agree(found, expected, 1e-10)


@pytest.mark.parametrize("normed", [True, False])
@pytest.mark.parametrize("given", [[0], [1], [2], [3], [0, 2], [-1]], ids=str)
def test_second_order_of_some_operands(
    given: list[int], normed: bool, agree: Agree
) -> None:
    layer, found = Layer(SMALL, normed=normed), []
    for on in (True, False):
        with fused.enabled(on):
            leaves = [part.requires_grad_() for part in layer.operands()]
            out, g = layer.on(*leaves)
            value = out.pow(3).sum() + g.abs().square().sum()
            some = [leaves[k] for k in given]
            first = torch.autograd.grad(value, some, create_graph=True)
            loss = sum(part.abs().square().sum() for part in first)
            found.append(torch.autograd.grad(loss, leaves, materialize_grads=True))
    agree(*found, 1e-10)


@pytest.mark.parametrize("normed", [True, False])
def test_third_derivatives(normed: bool, tower: Tower, agree: Agree) -> None:
    layer = Layer(SMALL, normed=normed, nodes=2)
    operands = layer.operands()
    found = tower(layer.on, operands, 3)
    with fused.enabled(False):
        agree(found, tower(layer.on, operands, 3), 1e-8)


def test_hooks_on_layers_of_networks_see_what_they_return() -> None:
    torch.manual_seed(0)
    model = Cormorant.potential([1, 8], channels=3, num_levels=2).double()
    z, pos = torch.tensor([8, 1, 1]), torch.eye(3, dtype=torch.float64)
    expected, seen = model.evaluate(z, pos), []
    hook = model.convs[0].register_forward_hook(lambda _m, _i, out: seen.append(out[0]))
    found = model.evaluate(z, pos)
    hook.remove()
    torch.testing.assert_close(found.forces, expected.forces)
    normed = model.norms[0](seen[0])
    levels = model.run_levels(z, model.geometry(*edges_of(pos), 3))
    torch.testing.assert_close(levels[0], normed)


@pytest.mark.parametrize("complex_", [True, False])
def test_gradcheck_and_gradgradcheck(complex_: bool) -> None:
    layer = Layer(SMALL, complex=complex_, nodes=2)
    leaves = [part.requires_grad_() for part in layer.operands()]
    assert torch.autograd.gradcheck(layer.on, leaves)
    assert torch.autograd.gradgradcheck(layer.on, leaves)


def test_gradients_of_an_own_class_take_the_parts() -> None:
    class Own(Tensor):
        pass

    layer = Layer(SMALL)
    leaves = [part.requires_grad_() for part in layer.operands()]
    out, _ = layer.on(*leaves)
    row = torch.randn(out.shape, dtype=torch.float64)
    found = torch.autograd.grad(
        out, leaves, row.as_subclass(Own), retain_graph=True, materialize_grads=True
    )
    expected = torch.autograd.grad(out, leaves, row, materialize_grads=True)
    for part, like in zip(found, expected, strict=True):
        torch.testing.assert_close(part.as_subclass(Tensor), like)


def test_any_number_of_threads_gives_equal_bits() -> None:
    layer = Layer((16, 16, 2, 2, 2, 16), nodes=40)
    operands, before, found = layer.operands(torch.float32), torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 1):
            torch.set_num_threads(threads)
            found.append(derivatives(layer.on, operands))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(map(torch.equal, found[0], other))


def test_parts_that_someone_watches_are_called(taken: list[str]) -> None:
    layer = Layer(SMALL)
    operands = layer.operands()
    expected = layer.on(*operands)
    assert layer.norm is not None
    for part in (layer.conv.edge_network, layer.conv.vertex, layer.norm):
        taken.clear()
        seen: list[Tensor] = []
        hook = part.register_forward_hook(lambda _m, _i, out: seen.append(out))  # noqa: B023
        found = layer.on(*operands)
        hook.remove()
        assert (len(seen), taken) == (1, [])
        torch.testing.assert_close(found, expected)


def test_memory_that_is_freed_before_the_backward_pass_is_refused() -> None:
    layer = Layer(SMALL)
    operands = layer.operands()
    operands[0].requires_grad_()
    out, _ = layer.on(*operands)
    operands[3].untyped_storage().resize_(0)
    with pytest.raises(ShapeError, match="was freed"):
        out.sum().backward()


def test_other_tensors_out_of_saved_tensor_hooks_are_refused() -> None:
    layer = Layer(SMALL)
    operands = layer.operands()
    operands[0].requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda a: a, lambda a: a[:1]):
        out, _ = layer.on(*operands)
    with pytest.raises(ShapeError, match="must have shape"):
        out.sum().backward()


def test_operands_of_any_layout() -> None:
    layer = Layer()
    operands = layer.operands()
    expected = layer.on(*operands)
    turned = [x.transpose(0, -1).contiguous().transpose(0, -1) for x in operands]
    turned[1] = turned[1].conj().resolve_conj().conj()
    leaves = [part.requires_grad_() for part in turned]
    found = layer.on(*leaves)
    assert all(map(torch.equal, found, expected))
    plain = [part.requires_grad_() for part in operands]
    torch.testing.assert_close(
        torch.autograd.grad(found[0].sum(), leaves[0]),
        torch.autograd.grad(layer.on(*plain)[0].sum(), plain[0]),
    )
