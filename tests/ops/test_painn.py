"""PaiNN's message and mixing as operators, beside what they are composed of."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from torch_cormorant import EdgeGeometry
from torch_cormorant.conv import PaiNNConv
from torch_cormorant.errors import DtypeError, EdgeIndexError, ShapeError
from torch_cormorant.graph import radius_graph
from torch_cormorant.ops import build_plan, cpu_kernel, fused
from torch_cormorant.ops.dense import dense
from torch_cormorant.ops.painn_message import OPERATOR as MESSAGE
from torch_cormorant.ops.painn_message import painn_message
from torch_cormorant.ops.painn_mixing import OPERATOR as MIXING
from torch_cormorant.ops.painn_mixing import painn_mixing

pytestmark = pytest.mark.skipif(bool(cpu_kernel.problem()), reason="no CPU kernel")
CUTOFF, NODES = 3.0, 7


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(shape, generator=generator, dtype=dtype).requires_grad_()


def graph(
    pos: Tensor | None = None, dtype: torch.dtype = torch.float64
) -> EdgeGeometry:
    if pos is None:
        pos = draw(NODES, 3, dtype=dtype).detach()
    return EdgeGeometry.from_pos(pos, radius_graph(pos.detach(), CUTOFF))


def message(C: int, wide: int, *, hidden: int = 4) -> tuple[Any, ...]:
    """(x, sh, weights, context) and the plan; without ``hidden`` rows of weights."""
    geometry = graph()
    rows, edges = len(geometry.pair_index[0]), geometry.edge_index.shape[1]
    weights: Any = draw(rows, 3 * C)
    if hidden:
        weights = (draw(rows, hidden), draw(hidden, 3 * C, seed=1))
    context = [draw(C, C), draw(C), draw(3 * C, C), draw(3 * C)]
    return draw(NODES, wide * C), draw(edges, 4), weights, context, geometry.plan


def run_message(plan: Any, *parts: Tensor) -> Tensor:
    x, sh, *weights = parts[:-4]
    given: Any = tuple(weights) if len(weights) == 2 else weights[0]
    return painn_message(x, sh, given, parts[-4:], plan)


def leaves_of(given: tuple[Any, ...]) -> list[Tensor]:
    x, sh, weights, context, _ = given
    return [x, sh, *(weights if isinstance(weights, tuple) else [weights]), *context]


def mixing(C: int, nodes: int = NODES) -> list[Tensor]:
    shapes = [(2 * C, C), (C, 2 * C), (C,), (3 * C, C), (3 * C,)]
    return [draw(nodes, 4 * C), *(draw(*shape) for shape in shapes)]


def run_mixing(x: Tensor, *weights: Tensor) -> Tensor:
    return painn_mixing(x, weights, 1e-3)


@pytest.mark.parametrize(("wide", "hidden"), [(4, 4), (1, 4), (4, 0), (1, 0)])
def test_derivatives_of_the_message(wide: int, hidden: int) -> None:
    given = message(2, wide, hidden=hidden)
    leaves = leaves_of(given)

    def function(*parts: Tensor) -> Tensor:
        return run_message(given[4], *parts)

    assert torch.autograd.gradcheck(function, leaves, fast_mode=True)
    assert torch.autograd.gradgradcheck(function, leaves, fast_mode=True)


def test_derivatives_of_the_mixing() -> None:
    leaves = mixing(3)
    assert torch.autograd.gradcheck(run_mixing, leaves, fast_mode=True)
    assert torch.autograd.gradgradcheck(run_mixing, leaves, fast_mode=True)


def by_conv(
    conv: PaiNNConv, wide: int, pos: Tensor, factors: bool, on: bool
) -> list[Tensor]:
    """Result, gradients and gradients of gradients of a layer."""
    dtype, pos = pos.dtype, pos.clone().requires_grad_()
    x = draw(len(pos), wide * conv.channels, dtype=dtype)
    geometry, weights = graph(pos), None
    if factors:
        assert conv.radial is not None
        weights = conv.radial.halves(geometry.pair_length)
    leaves = [x, pos, *conv.parameters()]
    with fused.enabled(on):
        out = conv(x, geometry, edge_weight=weights)
        energy = (out * draw(*out.shape, dtype=dtype).detach()).sum()
        slopes = torch.autograd.grad(energy, leaves, create_graph=True)
        loss = slopes[0].square().sum() + slopes[1].square().sum()
        seconds = torch.autograd.grad(loss, leaves, allow_unused=True)
    full = [x if part is None else part for part in seconds]
    return [out, *slopes, *full]


@pytest.mark.parametrize("channels", [1, 3, 16, 24, 33])
@pytest.mark.parametrize(("wide", "factors"), [(4, True), (1, True), (4, False)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_layers_are_equal_with_and_without(
    channels: int, wide: int, factors: bool, dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    conv = PaiNNConv(channels, cutoff=CUTOFF).to(dtype).eval()
    pos = draw(9, 3, dtype=dtype).detach()
    fast, slow = (by_conv(conv, wide, pos, factors, on) for on in (True, False))
    for a, b in zip(fast, slow, strict=True):
        scale = float(b.detach().abs().max()) + 1
        torch.testing.assert_close(
            a / scale, b / scale, rtol=0, atol=1e-12 if dtype.itemsize == 8 else 1e-5
        )


@pytest.mark.parametrize("count", [1, 2])
def test_graphs_without_edges(count: int) -> None:
    conv = PaiNNConv(4, cutoff=CUTOFF).double().eval()
    pos = 9 * torch.eye(3, dtype=torch.float64)[:count]
    fast, slow = (by_conv(conv, 4, pos, True, on) for on in (True, False))
    for a, b in zip(fast, slow, strict=True):
        torch.testing.assert_close(a, b)


def test_any_number_of_threads_gives_the_same_bits() -> None:
    torch.manual_seed(0)
    conv = PaiNNConv(48, cutoff=CUTOFF).eval()
    pos = torch.rand(300, 3) * 9
    geometry = graph(pos)
    rows = len(geometry.pair_index[0])
    context = conv.context.fixed_weights()
    vectors, others = (
        part.fixed_weights() for part in (conv.mixing.vectors, conv.mixing.context)
    )
    assert context and vectors and others  # noqa: PT018
    x, sh, hidden, last = (
        draw(*shape, dtype=torch.float32)
        for shape in ((300, 192), (len(geometry.edge_vec), 4), (rows, 21), (21, 144))
    )
    found, before = [], torch.get_num_threads()
    try:
        for count in (1, 2, 3, 1):
            torch.set_num_threads(count)
            out = painn_message(x, sh, (hidden, last), context, geometry.plan)
            out = painn_mixing(out, [*vectors, *others], 1e-8)
            slopes = torch.autograd.grad(out.square().sum(), [x, sh, hidden])
            found.append([out, *slopes])
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            assert torch.equal(a, b)


def test_opcheck() -> None:
    given = message(2, 4)
    plan = (given[4].packed, given[4].header)
    tests = ["test_schema", "test_autograd_registration", "test_faketensor"]
    more = [*tests, "test_aot_dispatch_dynamic"]
    # second derivatives of the message read the numbers of the plan: not for compilers
    for operator, operands, rest, utils in [
        (MESSAGE, leaves_of(given), plan, tests),
        (MIXING, mixing(3), (1e-3,), more),
    ]:
        torch.library.opcheck(operator.op, (operands, *rest))
        out, *kept = (part.detach() for part in operator.op(operands, *rest))
        need = [True] * len(operands)
        gradient = (operands, *rest, kept, torch.randn_like(out).requires_grad_(), need)
        torch.library.opcheck(operator.gradient.op, gradient, test_utils=utils)


def changed(given: tuple[Any, ...], at: int, value: Any) -> tuple[Any, ...]:
    return (*given[:at], value, *given[at + 1 :])


def test_operands_that_do_not_fit_are_refused() -> None:
    given = message(2, 4)
    for at, value, error, text in [
        (0, draw(NODES, 7), ShapeError, "x must have shape"),
        (0, draw(NODES, 8).float(), DtypeError, "sh must be torch.float32"),
        (1, draw(3, 4), ShapeError, "sh must have shape"),
        (2, (draw(2, 4), draw(4, 6)), ShapeError, "hidden must have shape"),
        (2, draw(5, 6), ShapeError, "weights must have shape"),
        (3, given[3][::-1], ShapeError, "weight 0 of the context"),
    ]:
        with pytest.raises(error, match=text):
            painn_message(*changed(given, at, value))
    index = torch.tensor([[0, 1], [1, 0]])
    with pytest.raises(EdgeIndexError, match="one of pairs of edges"):
        painn_message(*changed(given, 4, build_plan(index, NODES, NODES)))
    x, *weights = mixing(2)
    with pytest.raises(ShapeError, match="bias 1 of the context"):
        painn_mixing(x, [*weights[:4], draw(5)], 1e-8)
    with pytest.raises(DtypeError, match="x must be float32 or float64"):
        painn_mixing(x.long(), weights, 1e-8)


def test_a_plan_with_rows_that_do_not_exist_is_refused() -> None:
    given = message(2, 4)
    plan = given[4]
    packed = plan.packed.clone()
    at = int(plan.packed.data_ptr() != plan.csr_source.data_ptr())
    start = (plan.csr_source.data_ptr() - plan.packed.data_ptr()) // 8
    packed[start] = NODES * at + 99
    x, sh, (hidden, last), context, _ = given
    with pytest.raises((EdgeIndexError, ShapeError)):
        MESSAGE([x, sh, hidden, last, *context], packed, plan.header)


def test_who_watches_a_layer_sees_it_called() -> None:
    conv, geometry, seen = PaiNNConv(4, cutoff=CUTOFF).double().eval(), graph(), []
    x = draw(NODES, 16)
    before = conv(x, geometry)
    for part in (conv.context[0], conv.mixing.vectors[0], conv.mixing.context):
        part.register_forward_hook(lambda *args: seen.append(args[0]))
    torch.testing.assert_close(conv(x, geometry), before)
    assert len(seen) == 3


def test_training_goes_layer_by_layer() -> None:
    """Its second derivatives have kernels of their own."""
    conv = PaiNNConv(4, cutoff=CUTOFF)
    assert conv.context.fixed_weights() is None
    with torch.no_grad():
        assert conv.context.fixed_weights() is not None
    assert conv.requires_grad_(requires_grad=False).context.fixed_weights() is not None
    conv.context[1] = torch.nn.Tanh()
    assert conv.eval().context.fixed_weights() is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(0, 3, 16), (1, 1, 32), (67, 21, 48), (9, 5, 7)])
def test_products(shape: tuple[int, int, int], dtype: torch.dtype) -> None:
    rows, steps, cols = shape
    a, b, bias, onto = (
        draw(*size, dtype=dtype).detach()
        for size in ((rows, 2 * steps), (cols, steps), (cols,), (rows, 2 * cols))
    )
    part, whole = a[:, steps:], onto.clone()
    torch.testing.assert_close(dense(part, b.t(), bias), part @ b.t() + bias)
    torch.testing.assert_close(dense(part, b.t()), part @ b.t())
    dense(part, b.t(), onto=whole[:, cols:])
    onto[:, cols:] += part @ b.t()
    torch.testing.assert_close(whole, onto)


def test_one_graph_for_the_compiler() -> None:
    torch._dynamo.reset()
    conv, geometry = PaiNNConv(4, cutoff=CUTOFF).double().eval(), graph()
    conv.requires_grad_(requires_grad=False)
    compiled = torch.compile(conv, backend="aot_eager", fullgraph=True)
    found = []
    for function in (conv, compiled):
        vec = geometry.edge_vec.clone().requires_grad_()
        out = function(draw(NODES, 16).detach(), geometry.moved(vec))
        found.append([out, *torch.autograd.grad(out.square().sum(), vec)])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)
